"""The assets of a data set: the object of each model's patches, and the models compared with the true one."""

from functools import partial

import dagster as dg

from stage_a_pipeline.adapters.reassembly import compare_stitched, stitch_on_device
from stage_a_pipeline.defs.kubernetes import reassembly_tags
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import SETTINGS_AT_LOAD, data_set_partitions
from stage_a_pipeline.defs.reassembly_checks import OBJECT_CHECKS, check_objects
from stage_a_pipeline.defs.reassembly_previews import comparison_metadata, objects_metadata
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.defs.run_tags import reassembly_engine_tags, tag_run
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.reassembly.comparison import ComparisonAudience
from stage_a_pipeline.reassembly.data_set import content_version


@dg.asset(
    **page("reassembled_object"),
    partitions_def=data_set_partitions,
    check_specs=OBJECT_CHECKS,
    op_tags=reassembly_tags(SETTINGS_AT_LOAD),
)
def reassembled_object(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult:  # type: ignore[type-arg]  # Dagster refuses [None] beside check outputs
    """One object per model of the data set, stitched from its overlapping patches."""
    loaded = settings.load()
    tag_run(context, reassembly_engine_tags(loaded))
    audience = _audience(context, progress)
    objects = stitch_on_device(loaded, context.partition_key, audience, run_id=context.run.run_id)
    return dg.MaterializeResult(
        metadata=objects_metadata(objects),
        data_version=dg.DataVersion(content_version([one.path for one in objects])),
        check_results=list(check_objects(objects, loaded.reassembly)),
    )


@dg.asset(**page("model_comparison"), partitions_def=data_set_partitions, deps=[reassembled_object])
def model_comparison(
    context: dg.AssetExecutionContext, settings: SettingsResource, progress: dg.ResourceParam[LogProgress]
) -> dg.MaterializeResult[None]:
    """How near the objects of the two models are to the true one, and in which of its details."""
    audience = _audience(context, progress)
    compared = compare_stitched(settings.load(), context.partition_key, audience, run_id=context.run.run_id)
    return dg.MaterializeResult(metadata=comparison_metadata(compared))


def _audience(context: dg.AssetExecutionContext, progress: LogProgress) -> ComparisonAudience:
    return ComparisonAudience(
        notice=partial(progress.notice, context.log),
        progress=lambda name: counted(progress.listener(context.log, name, "patches")),
    )
