"""stage_a_summaries: a graph of one planning op, one pinned op per device, and one that merges."""

import json
from collections.abc import Iterator, Mapping

import dagster as dg
import pyarrow as pa

from stage_a_pipeline.defs.by_mission import ONE_RUN, Made, Tables, attempt, make_tables, refuse, sound
from stage_a_pipeline.defs.partitions import MISSIONS, mission_partitions
from stage_a_pipeline.defs.previews import outcomes_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.delivery import keep_rejections
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import (
    MissionOutcomes,
    check_failure_budget,
    order_outcomes,
    rejected_groups,
    split_by_mission,
)
from stage_a_pipeline.inference.batching import deal_out
from stage_a_pipeline.inference.devices import Worker, list_workers
from stage_a_pipeline.inference.metrics import ShardMetrics, merge_metrics
from stage_a_pipeline.inference.shard import (
    RunPlan,
    ShardTask,
    mission_recipes,
    plan_run,
    require_fingerprint,
)
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.records import Group
from stage_a_pipeline.settings import Settings
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
    context: dg.OpExecutionContext, settings: SettingsResource, sampled_groups: Tables
) -> Iterator[dg.DynamicOutput[pa.Table]]:
    """Deal the photos out to the devices; an unusable checkpoint stops the run here."""
    loaded = settings.load()
    for removed in prune_folders(loaded.output.work_dir / "scratch", older_than_days=SCRATCH_DAYS):
        context.log.info(f"removed the scratch tables of run {removed.name}")
    workers = list_workers(loaded.engine.devices)
    groups = _all_groups(sampled_groups)
    dealt = deal_out(enumerate(groups), shards=len(workers), mode=loaded.inference.sharding_mode)
    missions = dict.fromkeys(group.mission for group in groups)
    recipes = mission_recipes((MISSIONS[name] for name in missions), loaded)
    plans = _plans_to_metadata({name: plan_run(recipe, loaded) for name, recipe in recipes.items()})
    for worker, refs in zip(workers, dealt, strict=True):
        context.log.info(f"{worker.key}: {len(refs)} photos of {len(missions)} missions")
        if refs:
            place = {"device": worker.device, "ordinal": str(worker.ordinal)}
            yield dg.DynamicOutput(shard_to_table(refs, groups, plans | place), mapping_key=worker.key)


@dg.op(out=dg.Out(io_manager_key="scratch_io"))
def summarise_shard(
    context: dg.OpExecutionContext,
    settings: SettingsResource,
    progress: dg.ResourceParam[LogProgress],
    sampled_groups: Tables,
    shard: pa.Table,
) -> pa.Table:
    """Summarise one device's photos; what an earlier run finished is taken from the journal."""
    told, loaded = table_metadata(shard), settings.load()
    worker = Worker(told["device"], int(told["ordinal"]))
    plans = _plans_from_metadata(told)
    recipes = mission_recipes((MISSIONS[name] for name in plans), loaded)
    for name, plan in plans.items():
        require_fingerprint(recipes[name], plan.fingerprint)
    groups = _all_groups(sampled_groups)
    refs = shard_from_table(shard, groups)
    task = Task(ShardTask(worker.key, refs, worker, recipes, loaded, context.run_id), groups)
    outcomes, metrics = progress.run_task(
        context.log,
        task,
        [other for other in list_workers(loaded.engine.devices) if other != worker],
        loaded.output.work_dir / "scratch" / context.run_id / f"task-{worker.key}",
        name=f"{', '.join(plans)} on {worker.key}",
    )
    context.add_output_metadata({worker.key: dg.MetadataValue.json(metrics.to_mapping())})
    told_on = _plans_to_metadata(plans) | {"metrics": json.dumps(metrics.to_mapping())}
    return with_metadata(of_groups(outcomes, groups), told_on)


@dg.op
def merge_shards(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    shards: list[pa.Table],
) -> Tables:
    """All outcomes in discovery order; fails when every mission lost more groups than the settings allow."""
    loaded = settings.load()
    groups = _all_groups(sampled_groups)
    outcomes = order_outcomes(
        groups, (outcome for shard in shards for outcome in outcomes_from_table(shard, groups))
    )
    by_mission = split_by_mission(groups, outcomes)
    plans = _plans_from_metadata(table_metadata(shards[0]))
    metrics = merge_metrics(ShardMetrics(**json.loads(table_metadata(shard)["metrics"])) for shard in shards)
    # Rates and counts are those of the devices, which all missions of the run shared.
    together = {"asked_together": ", ".join(by_mission)} if len(by_mission) > 1 else {}
    context.add_output_metadata({**together, **metrics.to_metadata()})

    def check(mission: str) -> None:
        _check_budget(mission, by_mission[mission], loaded, run_id=context.run.run_id)

    within, over = attempt(list(by_mission), check, FailureBudgetError)
    if not within:
        refuse(over)
    for mission, error in over.items():
        context.log.warning(f"{mission} will not be published: {error}")

    def merge(mission: str) -> Made:
        sound(sampled_groups, mission)
        own = by_mission[mission]
        table = outcomes_to_table(own.outcomes, own.groups)
        metadata = {
            "groups": len(own.groups),
            "groups_rejected": rejected_groups(own.outcomes),
            "outcomes": outcomes_preview(own.outcomes),
        }
        return Made(with_metadata(table, plans[mission].to_metadata()), metadata)

    return make_tables(context, merge)


@dg.graph_asset(
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    group_name="stage_a",
    kinds={"huggingface", "pytorch"},
    description="One outcome per photo: the engine's raw answer, or a rejection with its reason.",
    code_version="1",
)
def stage_a_summaries(sampled_groups: Tables) -> Tables:
    """See the ops."""
    shards = plan_shards(sampled_groups).map(lambda shard: summarise_shard(sampled_groups, shard))
    merged: Tables = merge_shards(sampled_groups, shards.collect())
    return merged


def _all_groups(sampled_groups: Tables) -> tuple[Group, ...]:
    """The groups of all missions of the run, one mission after the other."""
    return tuple(group for table in sampled_groups.values() for group in groups_from_table(table))


def _check_budget(mission: str, found: MissionOutcomes, settings: Settings, *, run_id: str) -> None:
    """FailureBudgetError for a mission that lost too much, once its rejections are written."""
    fraction, lost = settings.inference.max_failed_fraction, rejected_groups(found.outcomes)
    try:
        check_failure_budget(groups=len(found.groups), rejected=lost, max_failed_fraction=fraction)
    except FailureBudgetError as error:
        locks = settings.output.work_dir / "locks"
        with claim_output(locks, mission, run_id=run_id, purpose="write rejections"):
            kept = keep_rejections(settings.output.output_dir, mission, found.outcomes)
        raise FailureBudgetError(f"{error}; {kept}") from None


def _plans_to_metadata(plans: Mapping[str, RunPlan]) -> dict[str, str]:
    told = {mission: plan.to_metadata() for mission, plan in plans.items()}
    return {"plans": json.dumps(told, ensure_ascii=False)}


def _plans_from_metadata(metadata: Mapping[str, str]) -> dict[str, RunPlan]:
    told: dict[str, dict[str, str]] = json.loads(metadata["plans"])
    return {mission: RunPlan.from_metadata(plan) for mission, plan in told.items()}
