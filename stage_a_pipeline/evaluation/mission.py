"""The answers of a mission's own run beside the truth, and the two files this leaves."""

from __future__ import annotations

from collections.abc import Iterable

from stage_a_pipeline.evaluation.document import (
    Evaluation,
    EvaluationPaths,
    Subject,
    read_outcomes,
    summarise_readings,
    write_document,
    write_picture,
)
from stage_a_pipeline.evaluation.truth import (
    count_unmatched,
    find_sidecar,
    match_truth,
    read_sidecar,
    require_truths,
    tree_root,
)
from stage_a_pipeline.inference.shard import RunPlan
from stage_a_pipeline.input_root import TRUTH_NAME
from stage_a_pipeline.missions import Mission
from stage_a_pipeline.places import absolute
from stage_a_pipeline.records import Group, Outcome
from stage_a_pipeline.settings import EngineSettings, EvaluationSettings
from stage_a_pipeline.storage import output_errors, remove_file


def checkpoint_name(engine: EngineSettings) -> str:
    """The checkpoint as it is set, with its adapter; the fake engine has none."""
    if engine.engine == "fake":
        return "engine fake"
    return engine.checkpoint if engine.adapter is None else f"{engine.checkpoint} + {engine.adapter}"


def evaluate_outcomes(
    mission: Mission,
    groups: Iterable[Group],
    outcomes: Iterable[Outcome],
    *,
    plan: RunPlan,
    settings: EvaluationSettings,
) -> Evaluation | str:
    """The evaluation of a run's cleaned outcomes; a sentence why where there is nothing to compare.

    Without a truth, no more than one group is taken from `groups`. Raises InputError and RecordError for a
    sidecar that is configured and missing, or wrong.
    """
    rest = iter(groups)
    first = next(rest)
    root = tree_root([first])
    path = find_sidecar(settings, root)
    if path is None:
        return f"no truth sidecar {root / TRUTH_NAME}; nothing to compare"
    sidecar = read_sidecar(path)
    truth = match_truth(mission, [first, *rest], sidecar)
    unmatched = count_unmatched([truth], sidecar)
    if not truth.truths:
        # Lines that lead nowhere are a mistake in the sidecar; a mission that it leaves out is not.
        if truth.unmatched.truth_lines_without_photo:
            require_truths([truth], sidecar, unmatched)
        return f"truth sidecar {path} has no summary for the mission's sampled photos; nothing to compare"
    engine = EngineSettings.model_validate(plan.settings["engine"])
    subject = Subject(checkpoint_name(engine), {mission.name: plan.fingerprint}, root, absolute(path))
    readings = {mission.name: read_outcomes(truth, outcomes)}
    return summarise_readings(subject, readings, unmatched)


def write_files(paths: EvaluationPaths, evaluation: Evaluation) -> None:
    """Write both files. OutputError when that fails."""
    write_document(paths.document, evaluation)
    write_picture(paths.picture, evaluation)


def remove_files(paths: EvaluationPaths) -> None:
    """Remove the files of an earlier evaluation, if any. OutputError when that fails."""
    for path in (paths.document, paths.picture):
        with output_errors(path):
            remove_file(path)
