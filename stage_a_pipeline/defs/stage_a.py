"""stage_a_summaries: a graph of one planning op, one pinned op per device, and one that merges."""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import outcomes_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.engines import InputTrace, engine_hash
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import check_failure_budget, order_outcomes, rejected_groups
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker, list_workers
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.inference.scheduler import Listeners
from stage_a_pipeline.inference.shard import mission_recipe, run_shard
from stage_a_pipeline.jsonl import output_paths, write_rejections
from stage_a_pipeline.records import Outcome, Rejection
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output, prune_folders
from stage_a_pipeline.tables import (
    groups_from_table,
    outcomes_from_table,
    outcomes_to_table,
    shard_from_table,
    shard_to_table,
    table_metadata,
    with_metadata,
)

SCRATCH_DAYS = 7
"""How long the tables between shards stay, so that a failed run can be continued by Dagster."""


@dg.op(out=dg.DynamicOut(pa.Table, io_manager_key="scratch_io"))
def plan_shards(
    context: dg.OpExecutionContext, settings: SettingsResource, sampled_groups: pa.Table
) -> Iterator[dg.DynamicOutput[pa.Table]]:
    """Deal the mission's photos out to the devices; an unusable checkpoint stops the run here."""
    loaded = settings.load()
    for removed in prune_folders(loaded.output.work_dir / "scratch", older_than_days=SCRATCH_DAYS):
        context.log.info(f"removed the scratch tables of run {removed.name}")
    workers = list_workers(loaded.engine.devices)
    groups = groups_from_table(sampled_groups)
    dealt = deal_out(enumerate(groups), shards=len(workers), mode=loaded.inference.sharding_mode)
    engine = engine_hash(loaded.engine)
    for worker, refs in zip(workers, dealt, strict=True):
        context.log.info(f"{worker.key}: {len(refs)} photos")
        if refs:
            plan = {"device": worker.device, "ordinal": str(worker.ordinal), "engine_hash": engine}
            yield dg.DynamicOutput(shard_to_table(refs, plan), mapping_key=worker.key)


@dg.op(out=dg.Out(io_manager_key="scratch_io"))
def summarise_shard(
    context: dg.OpExecutionContext,
    settings: SettingsResource,
    progress: dg.ResourceParam[LogProgress],
    sampled_groups: pa.Table,
    shard: pa.Table,
) -> pa.Table:
    """Summarise one device's photos; what an earlier run finished is taken from the journal."""
    plan = table_metadata(shard)
    worker = Worker(plan["device"], int(plan["ordinal"]))
    loaded = settings.load()
    recipe = mission_recipe(MISSIONS[context.partition_key], loaded, engine=plan["engine_hash"])
    result = run_shard(
        shard_from_table(shard, groups_from_table(sampled_groups)),
        worker,
        recipe=recipe,
        settings=loaded,
        run_id=context.run_id,
        listeners=Listeners(
            progress=progress.listener(context.log, f"{context.partition_key} on {worker.key}"),
            warning=partial(progress.notice, context.log),
            inputs=_input_log(context) if loaded.engine.verify_inputs else None,
        ),
        log=context.log.info,
    )
    context.add_output_metadata({worker.key: dg.MetadataValue.json(result.metrics.to_mapping())})
    metrics = json.dumps(result.metrics.to_mapping())
    return with_metadata(
        outcomes_to_table(result.outcomes), {"metrics": metrics, "fingerprint": recipe.fingerprint}
    )


@dg.op
def merge_shards(
    context: dg.OpExecutionContext,
    settings: SettingsResource,
    sampled_groups: pa.Table,
    shards: list[pa.Table],
) -> pa.Table:
    """All outcomes in discovery order; fails when more groups were lost than the settings allow."""
    loaded = settings.load()
    groups = groups_from_table(sampled_groups)
    outcomes = order_outcomes(
        groups, (outcome for shard in shards for outcome in outcomes_from_table(shard, groups))
    )
    metrics = merge_metrics(ShardMetrics(**json.loads(table_metadata(shard)["metrics"])) for shard in shards)
    lost = rejected_groups(outcomes)
    fraction = loaded.inference.max_failed_fraction
    try:
        check_failure_budget(groups=len(groups), rejected=lost, max_failed_fraction=fraction)
    except FailureBudgetError as error:
        raise FailureBudgetError(f"{error}; {_keep_rejections(context, loaded, outcomes)}") from None
    context.add_output_metadata(
        {
            "groups": len(groups),
            "groups_rejected": lost,
            "images_per_second": round(metrics.images_per_second, 2),
            "batch_fill": round(metrics.batch_fill, 3),
            **{name: round(count, 2) for name, count in metrics.to_mapping().items()},
            "outcomes": outcomes_preview(outcomes),
        }
    )
    fingerprint = table_metadata(shards[0])["fingerprint"]
    return with_metadata(outcomes_to_table(outcomes), {"fingerprint": fingerprint})


@dg.graph_asset(
    partitions_def=mission_partitions,
    group_name="stage_a",
    kinds={"huggingface", "pytorch"},
    description="One outcome per photo: the engine's raw answer, or a rejection with its reason.",
    code_version="1",
)
def stage_a_summaries(sampled_groups: pa.Table) -> pa.Table:
    """See the ops."""
    shards = plan_shards(sampled_groups).map(lambda shard: summarise_shard(sampled_groups, shard))
    return merge_shards(sampled_groups, shards.collect())


def _keep_rejections(context: dg.OpExecutionContext, settings: Settings, outcomes: list[Outcome]) -> str:
    """Write why photos were lost, beside the JSONL of the last good run, which stays as it is."""
    mission = context.partition_key
    paths = output_paths(settings.output.output_dir, mission)
    lost = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    locks = settings.output.work_dir / "locks"
    with claim_output(locks, mission, run_id=context.run_id, purpose="write rejections"):
        write_rejections(paths.rejected, lost)
    kept = f"{paths.jsonl} stays as it was" if paths.jsonl.exists() else "no JSONL is written"
    return f"each is listed with its reason in {paths.rejected}, {kept}"


def _input_log(context: dg.OpExecutionContext) -> Callable[[Sequence[InputTrace]], None]:
    def tell(traces: Sequence[InputTrace]) -> None:
        for trace in traces:
            context.log.info(f"verified input: {trace}")

    return tell
