"""What `stage-a compare` shows: what was changed between two runs, and what came of it."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.run_comparison.comparison import MissionComparison, RunComparison
from stage_a_pipeline.run_comparison.display import (
    counts_table,
    frequency_table,
    sentences,
    settings_table,
)
from stage_a_pipeline.terminal import console

_SETTINGS: Final = 12
"""Changed settings that are listed; a new version of everything would fill the screen."""


def print_run_comparison(comparison: RunComparison, *, listed: int) -> None:
    """Mission by mission: counts, settings, what differs, and the shifts that matter."""
    for one in comparison.missions:
        _print_mission(one, listed=listed)
    for names, run in ((comparison.only_before, "before"), (comparison.only_after, "after")):
        if names:
            told = ", ".join(map(harmless, names))
            console.print(f"only the run {run} has delivered: {told}", style="yellow", soft_wrap=True)


def _print_mission(one: MissionComparison, *, listed: int) -> None:
    console.print(counts_table(one))
    _print_settings(one)
    for sentence in sentences(one, listed=listed):
        console.print(sentence, soft_wrap=True)
    mattering = [shift for shift in one.frequencies if shift.matters]
    if mattering:
        console.print(frequency_table(mattering))
    moved = sum(bool(shift.came or shift.went) for shift in one.frequencies) - len(mattering)
    if moved:
        more = "other values shifted" if mattering else "values shifted"
        console.print(
            f"{moved} {more} by less than a point of photos, or by no more than chance", soft_wrap=True
        )
    console.print()


def _print_settings(one: MissionComparison) -> None:
    if one.settings is not None:
        if one.settings.changes:
            console.print(settings_table(one.settings.changes[:_SETTINGS]))
        console.print(Text(harmless(one.settings.sentence)), soft_wrap=True)
        if len(one.settings.changes) > _SETTINGS:
            more = len(one.settings.changes) - _SETTINGS
            console.print(f"and {more} more settings and versions: see --json or --page", soft_wrap=True)
    for notice in one.notices:
        console.print(harmless(notice.sentence()), style="yellow", soft_wrap=True)
