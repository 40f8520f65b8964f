"""Stage-A with an adapter beside Stage-A without it, on the same photos: training must not cost quality."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Final

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.errors import DiscoveryError
from stage_a_pipeline.evaluation.asked import Audience, ask_photos
from stage_a_pipeline.evaluation.truth import Sidecar, find_sidecar, match_truth, read_sidecar, tree_root
from stage_a_pipeline.inference.shard import mission_recipes
from stage_a_pipeline.missions import MissionTable
from stage_a_pipeline.records import Group, Outcome, Summary
from stage_a_pipeline.settings import EngineSettings, Settings
from stage_a_pipeline.stage_b.summary_quality import PhotoAnswers, SummaryQuality, compare_summaries
from stage_a_pipeline.stage_b.tickets import Ticket

_HERE: Final = "refill"
"""The engine where the settings' own cannot merge an adapter."""


def compare_with_adapter(
    settings: Settings,
    tickets: Sequence[Ticket],
    adapter: Path,
    missions: MissionTable,
    audience: Audience,
) -> SummaryQuality | None:
    """The photos of these tickets, `grpo.stage_a_photos` at most, summarised with and without the adapter.

    None, once it is told why, where there are no photos to compare. Raises what run_shard raises.
    """
    groups = _some_groups(settings, tickets, missions, audience)
    if not groups:
        return None
    without = _engine(settings.engine, audience)
    answers = [
        _answers(groups, settings, engine, missions, audience, name=name)
        for engine, name in (
            (without, "Stage-A as it was"),
            (without.model_copy(update={"adapter": adapter}), "Stage-A with the adapter"),
        )
    ]
    truths = _truths(groups, settings, missions)
    photos = [
        PhotoAnswers(
            group_id=group.group_id,
            photo=str(image.path),
            base=answers[0][place],
            adapted=answers[1][place],
            reference=truths.get(place),
        )
        for place, group, image in (
            ((index, number), group, image)
            for index, group in enumerate(groups)
            for number, image in enumerate(group.images, start=1)
        )
    ]
    return compare_summaries(photos, samples=settings.grpo.bootstrap_samples, seed=settings.grpo.seed)


def _some_groups(
    settings: Settings, tickets: Sequence[Ticket], missions: MissionTable, audience: Audience
) -> list[Group]:
    """Groups of the tickets, drawn by the seed, with as many photos as the settings allow; at least one."""
    most = settings.grpo.stage_a_photos
    if most == 0 or settings.discovery.input_root is None:
        why = "grpo.stage_a_photos is 0" if most == 0 else "discovery.input_root is not set"
        audience.notice(f"Stage-A with the adapter is not compared: {why}")
        return []
    keys = {(ticket.mission, ticket.ticket_key) for ticket in tickets}
    names = sorted({ticket.mission for ticket in tickets})
    found = [
        group
        for name in names
        for group in _discovered(settings, name, missions, audience)
        if (name, group.ticket_key) in keys
    ]
    if not found:
        audience.notice(
            f"Stage-A with the adapter is not compared: {settings.discovery.input_root} holds no photos of "
            "the tickets that judge"
        )
    chosen, photos = [], 0
    for group in Random(settings.grpo.seed).sample(found, len(found)):
        if photos and photos + len(group.images) > most:
            break
        chosen.append(group)
        photos += len(group.images)
    return sorted(chosen, key=lambda group: (group.mission, str(group.folder)))


def _discovered(settings: Settings, name: str, missions: MissionTable, audience: Audience) -> Sequence[Group]:
    try:
        return discover_groups(
            settings.require_input_root(),
            name,
            missions=missions,
            allow_external_symlinks=settings.discovery.allow_external_symlinks,
        ).groups
    except DiscoveryError as error:
        audience.notice(f"{name}: {error}")
        return ()


def _engine(engine: EngineSettings, audience: Audience) -> EngineSettings:
    """The settings' engine without an adapter, or one that can take one."""
    if engine.engine in ("refill", "transformers"):
        return engine
    audience.notice(
        f"engine {engine.engine!r} takes no adapter: Stage-A is compared on engine {_HERE!r}, both times"
    )
    return EngineSettings(
        engine=_HERE,
        checkpoint=engine.checkpoint,
        # Of a model split over several devices, the first.
        devices=tuple(device.partition("+")[0] for device in engine.devices),
        dtype=engine.dtype,
        max_new_tokens=engine.max_new_tokens,
        max_pixels=engine.max_pixels,
    )


def _answers(
    groups: Sequence[Group],
    settings: Settings,
    engine: EngineSettings,
    missions: MissionTable,
    audience: Audience,
    *,
    name: str,
) -> dict[tuple[int, int], str]:
    """The summary of each photo by its place; empty where the pipeline rejects it."""
    own = settings.model_copy(update={"engine": engine})
    recipes = mission_recipes((missions[mission] for mission in {group.mission for group in groups}), own)
    outcomes = ask_photos(groups, recipes, own, audience, name=name)
    return {(one.ref.group_index, one.ref.image_index): _text_of(one) for one in outcomes}


def _text_of(outcome: Outcome) -> str:
    return outcome.text if isinstance(outcome, Summary) else ""


def _truths(
    groups: Sequence[Group], settings: Settings, missions: MissionTable
) -> Mapping[tuple[int, int], str]:
    """The true summaries, by place, where a sidecar tells them."""
    path = find_sidecar(settings.evaluation, tree_root(groups))
    if path is None:
        return {}
    return dict(_matched(groups, missions, read_sidecar(path)))


def _matched(
    groups: Sequence[Group], missions: MissionTable, sidecar: Sidecar
) -> Iterator[tuple[tuple[int, int], str]]:
    places = {id(group): index for index, group in enumerate(groups)}
    for name in sorted({group.mission for group in groups}):
        own = [group for group in groups if group.mission == name]
        for (index, number), truth in match_truth(missions[name], own, sidecar).truths.items():
            if truth.summary is not None:
                yield (places[id(own[index])], number), truth.summary
