"""An evaluation from settings to scores: the tree's photos through the pipeline's own parts.

Answers go to the journal of the settings' work folder, as in any run: an interrupted evaluation goes on
there, and what the pipeline has answered is not asked again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from stage_a_pipeline.discovery import Discovery, discover_groups
from stage_a_pipeline.evaluation.asked import Audience, ask_photos
from stage_a_pipeline.evaluation.document import Evaluation, Subject, read_outcomes, summarise_readings
from stage_a_pipeline.evaluation.mission import checkpoint_name
from stage_a_pipeline.evaluation.scores import Reading
from stage_a_pipeline.evaluation.truth import (
    MissionTruth,
    Sidecar,
    count_unmatched,
    find_sidecar,
    match_truth,
    read_sidecar,
    require_truths,
    tree_root,
)
from stage_a_pipeline.evaluation.verdicts import (
    Verdicts,
    list_tickets,
    score_verdicts,
)
from stage_a_pipeline.inference.asking import Recipe
from stage_a_pipeline.inference.devices import leased, list_workers
from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.inference.shard import mission_recipes
from stage_a_pipeline.input_root import TRUTH_NAME
from stage_a_pipeline.missions import MissionTable, load_missions
from stage_a_pipeline.places import absolute
from stage_a_pipeline.records import ImageRef, Outcome
from stage_a_pipeline.settings import BUILTIN_CHECKPOINT, Settings
from stage_a_pipeline.stage_b.answers import require_model, text_answers


def evaluate_tree(
    settings: Settings, names: Sequence[str], audience: Audience, *, verdicts: bool = False
) -> Evaluation:
    """Evaluate the named missions of the input root, or all that have a folder there.

    Every photo with a true summary is asked, whatever the sampling. Raises ConfigurationError,
    DiscoveryError, InputError and RecordError for the sidecar, and what run_shard raises.
    """
    if verdicts:
        require_model(settings.engine, remedy="leave out --verdicts, or ")
    _tell_of_ignored_settings(settings, audience)
    missions = load_missions(settings.discovery.missions_file)
    found = _discover(settings, names, missions, audience)
    root = tree_root(found.groups)
    sidecar = read_sidecar(find_sidecar(settings.evaluation, root) or root / TRUTH_NAME)
    matched = _match(found, missions, sidecar)
    unmatched = count_unmatched(matched, sidecar)
    require_truths(matched, sidecar, unmatched)
    recipes = mission_recipes((truth.mission for truth in matched if truth.truths), settings)
    readings = _read(matched, recipes, settings, audience)
    judged = _judge(matched, readings, sidecar, settings, audience) if verdicts else None
    fingerprints = {name: recipe.fingerprint for name, recipe in recipes.items()}
    subject = Subject(checkpoint_name(settings.engine), fingerprints, root, absolute(sidecar.path))
    return summarise_readings(subject, readings, unmatched, judged)


def _tell_of_ignored_settings(settings: Settings, audience: Audience) -> None:
    if settings.sampling.pass_count is not None or settings.sampling.fail_count is not None:
        audience.notice("sampling does not apply: every photo with a true summary is evaluated")
    engine = settings.engine
    if engine.engine == "fake" and engine.checkpoint != BUILTIN_CHECKPOINT:
        audience.notice(
            f"checkpoint {engine.checkpoint} does not apply: engine 'fake' has no model; set engine.engine"
        )


def _discover(
    settings: Settings, names: Sequence[str], missions: MissionTable, audience: Audience
) -> Discovery:
    wanted: list[str | None] = list(dict.fromkeys(missions.require(name).name for name in names))
    found = [
        discover_groups(
            settings.require_input_root(),
            name,
            missions=missions,
            allow_external_symlinks=settings.discovery.allow_external_symlinks,
        )
        for name in wanted or [None]
    ]
    for one in found:
        for sentence in one.sentences():
            audience.notice(sentence)
        one.require_groups()
    return Discovery(
        root=found[0].root,
        folders=tuple(folder for one in found for folder in one.folders),
        groups=tuple(group for one in found for group in one.groups),
        skipped=tuple(entry for one in found for entry in one.skipped),
        warnings=tuple(warning for one in found for warning in one.warnings),
    )


def _match(found: Discovery, missions: MissionTable, sidecar: Sidecar) -> list[MissionTruth]:
    names = sorted({group.mission for group in found.groups})
    return [
        match_truth(missions[name], [group for group in found.groups if group.mission == name], sidecar)
        for name in names
    ]


def _read(
    matched: Sequence[MissionTruth], recipes: Mapping[str, Recipe], settings: Settings, audience: Audience
) -> dict[str, list[Reading]]:
    """What all devices answer, together, to the photos of all missions with a truth."""
    told = [truth for truth in matched if truth.truths]
    groups = [group for truth in told for group in truth.groups]
    sizes = accumulate((len(truth.groups) for truth in told), initial=0)
    first = {truth.mission.name: place for truth, place in zip(told, sizes, strict=False)}
    truths = {truth.mission.name: truth for truth in told}

    def wanted(ref: ImageRef) -> bool:
        name = ref.group.mission
        return truths[name].of(replace(ref, group_index=ref.group_index - first[name])) is not None

    name = told[0].mission.name if len(told) == 1 else f"{len(told)} missions"
    outcomes = ask_photos(groups, recipes, settings, audience, name=name, wanted=wanted)
    return {
        truth.mission.name: read_outcomes(
            truth,
            [
                _counted_from(first[truth.mission.name], outcome)
                for outcome in outcomes
                if outcome.ref.group.mission == truth.mission.name
            ],
        )
        for truth in matched
    }


def _counted_from(first: int, outcome: Outcome) -> Outcome:
    """The outcome with its group's place counted from `first`."""
    return replace(outcome, ref=replace(outcome.ref, group_index=outcome.ref.group_index - first))


def _judge(
    matched: Sequence[MissionTruth],
    readings: dict[str, list[Reading]],
    sidecar: Sidecar,
    settings: Settings,
    audience: Audience,
) -> Verdicts:
    tickets = [
        ticket
        for truth in matched
        for ticket in list_tickets(truth, readings[truth.mission.name], source=sidecar.path)
    ]
    worker = list_workers(settings.engine.devices)[0]
    with leased(worker, settings.inference.lease_dir, on_wait=audience.notice):
        return score_verdicts(
            tickets,
            text_answers(
                settings.engine, progress=counted(audience.bar(f"verdicts on {worker.key}", "prompts"))
            ),
        )
