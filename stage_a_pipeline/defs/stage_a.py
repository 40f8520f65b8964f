"""stage_a_summaries: a graph of one planning op, one pinned op per device, and one that merges."""

import json
from collections.abc import Iterator
from functools import partial

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import outcomes_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.delivery import keep_rejections
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import check_failure_budget, order_outcomes, rejected_groups
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker, list_workers
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.inference.shard import RunPlan, ShardTask, mission_recipe, plan_run, require_fingerprint
from stage_a_pipeline.inference.supervision import Audience, run_task
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.storage import claim_output, prune_folders
from stage_a_pipeline.tables import (
    groups_from_table,
    of_groups,
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
    plan = plan_run(MISSIONS[context.partition_key], loaded).to_metadata()
    for worker, refs in zip(workers, dealt, strict=True):
        context.log.info(f"{worker.key}: {len(refs)} photos")
        if refs:
            place = {"device": worker.device, "ordinal": str(worker.ordinal)}
            yield dg.DynamicOutput(shard_to_table(refs, groups, plan | place), mapping_key=worker.key)


@dg.op(out=dg.Out(io_manager_key="scratch_io"))
def summarise_shard(
    context: dg.OpExecutionContext,
    settings: SettingsResource,
    progress: dg.ResourceParam[LogProgress],
    sampled_groups: pa.Table,
    shard: pa.Table,
) -> pa.Table:
    """Summarise one device's photos; what an earlier run finished is taken from the journal."""
    told = table_metadata(shard)
    worker = Worker(told["device"], int(told["ordinal"]))
    loaded, mission = settings.load(), context.partition_key
    plan = RunPlan.from_metadata(told)
    recipe = mission_recipe(MISSIONS[mission], loaded)
    require_fingerprint(recipe, plan.fingerprint)
    groups = groups_from_table(sampled_groups)
    refs = shard_from_table(shard, groups)
    task = Task(ShardTask(worker.key, refs, worker, {mission: recipe}, loaded, context.run_id), groups)
    outcomes, metrics = run_task(
        task,
        [other for other in list_workers(loaded.engine.devices) if other != worker],
        loaded.output.work_dir / "scratch" / context.run_id / f"task-{worker.key}",
        Audience(
            progress=progress.listener(context.log, f"{mission} on {worker.key}"),
            warning=partial(progress.notice, context.log),
            log=context.log.info,
        ),
    )
    context.add_output_metadata({worker.key: dg.MetadataValue.json(metrics.to_mapping())})
    told_on = plan.to_metadata() | {"metrics": json.dumps(metrics.to_mapping())}
    return with_metadata(of_groups(outcomes, groups), told_on)


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
        with claim_output(
            loaded.output.work_dir / "locks",
            context.partition_key,
            run_id=context.run_id,
            purpose="write rejections",
        ):
            kept = keep_rejections(loaded.output.output_dir, context.partition_key, outcomes)
        raise FailureBudgetError(f"{error}; {kept}") from None
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
    plan = RunPlan.from_metadata(table_metadata(shards[0]))
    return with_metadata(outcomes_to_table(outcomes, groups), plan.to_metadata())


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
