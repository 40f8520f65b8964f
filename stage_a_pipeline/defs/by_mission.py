"""One run over one mission or several: assets hand over a table per mission, under its name.

A mission of several that has nothing to do, or that lost too much, does not keep the others from being
published. It goes through the assets as an empty table that carries its problem, and the asset that
publishes says in the end which missions were left out, and why.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import dagster as dg

from stage_a_pipeline.defs.run_tags import may_lack_folders
from stage_a_pipeline.errors import DiscoveryError, NoMissionFolderError, StageAError, UnpublishedError
from stage_a_pipeline.settings import Settings
from stage_a_pipeline.table_files import Table
from stage_a_pipeline.tables import table_metadata, with_metadata

T = TypeVar("T")
Tables = dict[str, Table]
"""A table per mission of the run."""

ONE_RUN: Final = dg.BackfillPolicy.single_run()
"""Several missions in one run load one model per device, and share its batches."""

_PROBLEM: Final = "problem"
_ABSENT: Final = "absent"


@dataclass(frozen=True, slots=True)
class Made:
    """What an asset made for one mission; the version is that of the data, where the asset tells one."""

    table: Table
    metadata: Mapping[str, Any] = field(default_factory=dict)
    data_version: str | None = None


class _LeftOutError(DiscoveryError):
    """A mission that an asset further up has left out, and has told so."""


class AbsentError(_LeftOutError):
    """A mission without a folder, in a run of whichever missions have one: nothing is wrong with it."""


def make_tables(context: dg.AssetExecutionContext, make: Callable[[str], Made]) -> Tables:
    """The tables of the run's missions, each with metadata of its own.

    `make` may raise DiscoveryError: its mission is left out, unless none is left then.
    """
    made, problems = attempt(context.partition_keys, make, DiscoveryError)
    if not made:
        refuse({mission: _with_remedy(error) for mission, error in problems.items()})
    empty = next(iter(made.values())).table.schema.empty_table()
    for mission, error in problems.items():
        kind = _ABSENT if _is_absent(context, error) else _PROBLEM
        if not isinstance(error, _LeftOutError):
            say = context.log.info if kind == _ABSENT else context.log.warning
            say(f"{mission} is left out of this run: {error}")
        made[mission] = Made(with_metadata(empty, {kind: str(error)}), {kind: str(error)})
    for mission, one in made.items():
        metadata = {"dagster/row_count": one.table.num_rows, **one.metadata}
        context.add_asset_metadata(metadata, partition_key=mission)
    versions = [one.data_version for one in made.values() if one.data_version is not None]
    if versions:
        context.set_data_version(context.asset_key, joint_version(versions))
    return {mission: made[mission].table for mission in context.partition_keys}


def _is_absent(context: dg.AssetExecutionContext, error: StageAError) -> bool:
    has_no_folder = isinstance(error, NoMissionFolderError) and may_lack_folders(context.run.tags)
    return has_no_folder or isinstance(error, AbsentError)


def _with_remedy(error: StageAError) -> StageAError:
    """What an asset further up has found, perhaps in another run, needs that asset to be looked at again."""
    if not isinstance(error, _LeftOutError):
        return error
    return DiscoveryError(f"{error}; once that is mended, materialise image_groups and what follows it again")


def scratch_folder(settings: Settings, run_id: str) -> Path:
    """Where a run's tables lie until they are stored."""
    return settings.output.work_dir / "scratch" / run_id


def sound(tables: Tables, mission: str) -> Table:
    """The mission's table; DiscoveryError with its problem where the mission is left out."""
    told = table_metadata(tables[mission])
    if (absent := told.get(_ABSENT)) is not None:
        raise AbsentError(absent)
    if (problem := told.get(_PROBLEM)) is not None:
        raise _LeftOutError(problem)
    return tables[mission]


def attempt(
    missions: Sequence[str], do: Callable[[str], T], *forgiven: type[StageAError]
) -> tuple[dict[str, T], dict[str, StageAError]]:
    """What was done for each mission, and the forgiven error of each for which it could not be done."""
    done: dict[str, T] = {}
    failed: dict[str, StageAError] = {}
    for mission in missions:
        try:
            done[mission] = do(mission)
        except forgiven as error:
            failed[mission] = error
    return done, failed


def refuse(problems: Mapping[str, StageAError], *, published: Sequence[str] = ()) -> NoReturn:
    """Raise the only error of a run of one mission, or an UnpublishedError that lists those of several."""
    if len(problems) == 1 and not published:
        raise next(iter(problems.values()))
    told = "; ".join(f"{mission}: {error}" for mission, error in problems.items())
    others = f"; published: {', '.join(published)}" if published else ""
    raise UnpublishedError(
        f"{len(problems)} of {len(problems) + len(published)} missions are not published: {told}{others}"
    )


def joint_version(versions: Sequence[str]) -> dg.DataVersion:
    """One version for all partitions of a run, which is all that Dagster takes from one."""
    joined = versions[0] if len(versions) == 1 else sha256("\n".join(versions).encode()).hexdigest()
    return dg.DataVersion(joined)


def judge_missions(
    context: dg.AssetCheckExecutionContext, judge: Callable[[str], dg.AssetCheckResult]
) -> dg.AssetCheckResult:
    """The result of a check for the only mission of a run, or for all of several, told one by one too.

    Of a mission that is left out, nothing is said.
    """
    (spec,) = context.check_specs
    found, left_out = attempt(context.partition_keys, judge, DiscoveryError)
    if not found:
        refuse(left_out)
    return joint_result(context.op_execution_context, spec, found)


def joint_result(
    context: dg.OpExecutionContext, spec: dg.AssetCheckSpec, found: Mapping[str, dg.AssetCheckResult]
) -> dg.AssetCheckResult:
    """One result over all missions, which is all that a step may give; each is recorded before it.

    It fails as severely as the worst of them.
    """
    if len(context.partition_keys) == 1:
        return next(iter(found.values()))
    for mission, result in found.items():
        context.log_event(
            # It takes these as well, though its signature does not say so.
            dg.AssetCheckEvaluation(  # type: ignore[arg-type]
                asset_key=spec.asset_key,
                check_name=spec.name,
                passed=result.passed,
                metadata=result.metadata,
                severity=result.severity,
                description=result.description,
                blocking=spec.blocking,
                partition=mission,
            )
        )
    failed = {mission: result for mission, result in found.items() if not result.passed}
    severities = [result.severity for result in failed.values()]
    error = dg.AssetCheckSeverity.ERROR
    return dg.AssetCheckResult(
        check_name=spec.name,
        passed=not failed,
        severity=error if error in severities or not failed else dg.AssetCheckSeverity.WARN,
        description=f"{len(found) - len(failed)} of {len(found)} missions pass"
        + "".join(f"; {mission}: {result.description}" for mission, result in failed.items()),
    )
