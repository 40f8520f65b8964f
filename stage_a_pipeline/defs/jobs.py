"""The jobs: one mission, all missions with a folder, Stage-B, the reassembly."""

from typing import Final

import dagster as dg

from stage_a_pipeline.defs import delivery, evaluation, ingest, reassembly, report, stage_a, stage_b
from stage_a_pipeline.defs.kubernetes import reassembly_run_tags, run_tags
from stage_a_pipeline.defs.partitions import MISSIONS, SETTINGS_AT_LOAD
from stage_a_pipeline.defs.run_tags import engine_tags, reassembly_engine_tags, span_tags

ASSETS: Final = [
    ingest.image_groups,
    ingest.sampled_groups,
    ingest.fail_reasons,
    stage_a.stage_a_summaries,
    delivery.clean_summaries,
    delivery.enriched_records,
    delivery.stage_a_jsonl,
    report.stage_a_report,
    evaluation.stage_a_evaluation,
]
STAGE_B_ASSETS: Final = [stage_b.stage_b_dataset, stage_b.stage_b_adapter, stage_b.stage_b_evaluation]
REASSEMBLY_ASSETS: Final = [reassembly.reassembled_object, reassembly.model_comparison]

_TAGS: Final = {**run_tags(SETTINGS_AT_LOAD), **engine_tags(SETTINGS_AT_LOAD)}

MISSION_JOB: Final = dg.define_asset_job(
    "stage_a_mission",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="Everything from one mission's photos to its delivered file, its report, and how true it is.",
    tags=_TAGS,
)
ALL_JOB: Final = dg.define_asset_job(
    "stage_a_all",
    selection=dg.AssetSelection.assets(*ASSETS),
    description="The same for **all missions that have a folder in the input root, in one run**: each device "
    "loads one model, and batches are filled across missions. A mission without a folder is left out; what "
    "was answered before is not asked again. For one mission there is `stage_a_mission`.",
    tags={**_TAGS, **span_tags(list(MISSIONS))},
)
STAGE_B_JOB: Final = dg.define_asset_job(
    "stage_b",
    selection=dg.AssetSelection.assets(*STAGE_B_ASSETS),
    description="An adapter for verdicts, trained on all that was delivered, and how well it judges.",
    tags=_TAGS,
)
REASSEMBLY_JOB: Final = dg.define_asset_job(
    "reassembly",
    selection=dg.AssetSelection.assets(*REASSEMBLY_ASSETS),
    description="A data set's patches to one object per model, and the models compared with the true one.",
    tags={**reassembly_run_tags(SETTINGS_AT_LOAD), **reassembly_engine_tags(SETTINGS_AT_LOAD)},
)
JOBS: Final = [MISSION_JOB, ALL_JOB, STAGE_B_JOB, REASSEMBLY_JOB]
