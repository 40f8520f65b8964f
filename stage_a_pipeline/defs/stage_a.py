"""stage_a_summaries: a graph of one planning op, one pinned op per device, and one that merges."""

import json
from collections.abc import Iterator, Mapping
from itertools import chain, groupby, islice
from pathlib import Path

import dagster as dg

from stage_a_pipeline.defs.by_mission import (
    ONE_RUN,
    Made,
    Tables,
    attempt,
    make_tables,
    refuse,
    scratch_folder,
    sound,
)
from stage_a_pipeline.defs.conditions import WHEN_DEPS_CHANGE
from stage_a_pipeline.defs.kubernetes import shard_tags
from stage_a_pipeline.defs.pages import page
from stage_a_pipeline.defs.partitions import MISSIONS, SETTINGS_AT_LOAD, mission_partitions
from stage_a_pipeline.defs.previews import OUTCOME_ROWS, outcomes_preview
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.defs.run_tags import engine_tags, tag_run
from stage_a_pipeline.defs.summary_pictures import time_spent, what_became
from stage_a_pipeline.delivery import keep_rejections
from stage_a_pipeline.errors import FailureBudgetError
from stage_a_pipeline.inference.assembly import (
    check_failure_budget,
    count_outcomes,
    counted_from,
    group_sizes,
    order_outcomes,
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
from stage_a_pipeline.inference.shared_journals import journal_folders
from stage_a_pipeline.inference.task_files import Task
from stage_a_pipeline.photo_source import photo_source
from stage_a_pipeline.records import Group, Outcome
from stage_a_pipeline.report.figures import KEY as FIGURES
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.storage import claim_output, prune_folders, prune_leftovers
from stage_a_pipeline.table_files import Table, scratch_table
from stage_a_pipeline.table_schemas import OUTCOMES
from stage_a_pipeline.tables import (
    groups_from_table,
    of_groups,
    outcomes_from_table,
    rejections_from_table,
    require_groups,
    shard_from_table,
    shard_to_table,
    table_metadata,
    with_metadata,
)

SCRATCH_DAYS = 7
"""How long the tables between shards stay, so that a failed run can be continued by Dagster."""


@dg.op(out=dg.DynamicOut(Table, io_manager_key="scratch_io"))
def plan_shards(
    context: dg.OpExecutionContext, settings: SettingsResource, sampled_groups: Tables
) -> Iterator[dg.DynamicOutput[Table]]:
    """Deal the photos out to the devices; an unusable checkpoint stops the run here."""
    loaded = settings.load()
    for removed in prune_folders(loaded.output.work_dir / "scratch", older_than_days=SCRATCH_DAYS):
        context.log.info(f"removed the scratch tables of run {removed.name}")
    groups = _all_groups(sampled_groups)
    missions = dict.fromkeys(group.mission for group in groups)
    for folder in (loaded.output.output_dir, *journal_folders(loaded.output, missions)):
        for leftover in prune_leftovers(folder, older_than_days=SCRATCH_DAYS):
            context.log.info(f"removed {leftover}, which a killed run had not finished")
    tag_run(context, engine_tags(loaded))
    workers = list_workers(loaded.engine.devices)
    dealt = deal_out(enumerate(groups), shards=len(workers), mode=loaded.inference.sharding_mode)
    recipes = mission_recipes((MISSIONS[name] for name in missions), loaded)
    plans = _plans_to_metadata({name: plan_run(recipe, loaded) for name, recipe in recipes.items()})
    for worker, refs in zip(workers, dealt, strict=True):
        context.log.info(f"{worker.key}: {len(refs)} photos of {len(missions)} missions")
        if refs:
            place = {"device": worker.device, "ordinal": str(worker.ordinal)}
            shard = with_metadata(shard_to_table(refs, *sampled_groups.values()), plans | place)
            yield dg.DynamicOutput(shard, mapping_key=worker.key)


@dg.op(out=dg.Out(io_manager_key="scratch_io"), tags=shard_tags(SETTINGS_AT_LOAD))
def summarise_shard(
    context: dg.OpExecutionContext,
    settings: SettingsResource,
    progress: dg.ResourceParam[LogProgress],
    sampled_groups: Tables,
    shard: Table,
) -> Table:
    """Summarise one device's photos; what an earlier run finished is taken from the journal."""
    told, loaded = table_metadata(shard), settings.load()
    worker = Worker(told["device"], int(told["ordinal"]))
    plans = _plans_from_metadata(told)
    recipes = mission_recipes((MISSIONS[name] for name in plans), loaded)
    for name, plan in plans.items():
        require_fingerprint(recipes[name], plan.fingerprint)
    require_groups(shard, *sampled_groups.values())
    groups = _all_groups(sampled_groups)
    refs = shard_from_table(shard, groups)
    task = Task(ShardTask(worker.key, refs, worker, recipes, loaded, context.run_id), groups)
    outcomes, metrics = progress.run_task(
        context.log,
        task,
        [other for other in list_workers(loaded.engine.devices) if other != worker],
        scratch_folder(loaded, context.run_id) / f"task-{worker.key}",
        name=f"{', '.join(plans)} on {worker.key}",
    )
    context.add_output_metadata({worker.key: dg.MetadataValue.json(metrics.to_mapping())})
    told_on = _plans_to_metadata(plans) | {"metrics": json.dumps(metrics.to_mapping())}
    return with_metadata(of_groups(outcomes, *sampled_groups.values()), told_on)


@dg.op
def merge_shards(
    context: dg.AssetExecutionContext,
    settings: SettingsResource,
    sampled_groups: Tables,
    shards: list[Table],
) -> Tables:
    """All outcomes in discovery order; fails when every mission lost more groups than the settings allow."""
    loaded = settings.load()
    outcomes = _outcomes_by_mission(shards, sampled_groups, scratch_folder(loaded, context.run.run_id))
    plans = _plans_from_metadata(table_metadata(shards[0]))
    metrics = merge_metrics(ShardMetrics(**json.loads(table_metadata(shard)["metrics"])) for shard in shards)
    figures = {FIGURES: json.dumps(metrics.to_metadata())}
    # Rates and counts are those of the devices, which all missions of the run shared.
    together = {"asked_together": ", ".join(outcomes)} if len(outcomes) > 1 else {}
    told = {**together, **metrics.to_metadata(), "time_spent": time_spent(metrics)}
    context.add_output_metadata(told)

    def check(mission: str) -> None:
        _check_budget(mission, sampled_groups[mission], outcomes[mission], loaded, context.run.run_id)

    within, over = attempt(list(outcomes), check, FailureBudgetError)
    if not within:
        refuse(over)
    for mission, error in over.items():
        context.log.warning(f"{mission} will not be published: {error}")

    def merge(mission: str) -> Made:
        groups = sound(sampled_groups, mission)
        own = outcomes[mission]
        metadata = {
            "groups": groups.num_rows,
            "groups_rejected": count_outcomes(own).groups_rejected,
            "what_became": what_became(mission, own),
            "outcomes": outcomes_preview(
                _some_outcomes(own, groups), photo_source(loaded), covered=loaded.report.covered
            ),
        }
        return Made(with_metadata(own, plans[mission].to_metadata() | figures), metadata)

    return make_tables(context, merge)


@dg.graph_asset(
    **page("stage_a_summaries"),
    partitions_def=mission_partitions,
    backfill_policy=ONE_RUN,
    automation_condition=WHEN_DEPS_CHANGE,
)
def stage_a_summaries(sampled_groups: Tables) -> Tables:
    """See the ops."""
    shards = plan_shards(sampled_groups).map(lambda shard: summarise_shard(sampled_groups, shard))
    merged: Tables = merge_shards(sampled_groups, shards.collect())
    return merged


def _all_groups(sampled_groups: Tables) -> tuple[Group, ...]:
    """The groups of all missions of the run, one mission after the other."""
    return tuple(chain.from_iterable(map(groups_from_table, sampled_groups.values())))


def _outcomes_by_mission(shards: list[Table], sampled_groups: Tables, folder: Path) -> Tables:
    """The outcomes of each mission in the order of its groups, whose places they count."""
    for shard in shards:
        require_groups(shard, *sampled_groups.values())
    ordered = order_outcomes(shards, group_sizes(sampled_groups.values()))
    split: Tables = {}
    first = 0
    for mission, batches in groupby(ordered, key=lambda batch: batch.column("mission")[0].as_py()):
        assert mission not in split, "the groups of a mission stand together"
        own = (counted_from(first, batch) for batch in batches)
        split[mission] = of_groups(scratch_table(OUTCOMES, own, folder), sampled_groups[mission])
        first += sampled_groups[mission].num_rows
    return split


def _some_outcomes(outcomes: Table, groups: Table) -> list[Outcome]:
    """As many of either kind as a preview shows."""
    rejected = outcomes_from_table(outcomes, groups, status="rejected")
    summarised = outcomes_from_table(outcomes, groups, status="summarised")
    return [*islice(rejected, OUTCOME_ROWS), *islice(summarised, OUTCOME_ROWS)]


def _check_budget(mission: str, groups: Table, outcomes: Table, settings: Settings, run_id: str) -> None:
    """FailureBudgetError for a mission that lost too much, once its rejections are written."""
    lost = count_outcomes(outcomes).groups_rejected
    try:
        check_failure_budget(
            groups=groups.num_rows,
            rejected=lost,
            max_failed_fraction=settings.inference.max_failed_fraction,
        )
    except FailureBudgetError as error:
        with claim_output(
            settings.output.work_dir / "locks", mission, run_id=run_id, purpose="write rejections"
        ):
            rejections = rejections_from_table(outcomes, groups)
            kept = keep_rejections(settings.output.output_dir, mission, rejections)
        raise FailureBudgetError(f"{error}; {kept}") from None


def _plans_to_metadata(plans: Mapping[str, RunPlan]) -> dict[str, str]:
    told = {mission: plan.to_metadata() for mission, plan in plans.items()}
    return {"plans": json.dumps(told, ensure_ascii=False)}


def _plans_from_metadata(metadata: Mapping[str, str]) -> dict[str, RunPlan]:
    told: dict[str, dict[str, str]] = json.loads(metadata["plans"])
    return {mission: RunPlan.from_metadata(plan) for mission, plan in told.items()}
