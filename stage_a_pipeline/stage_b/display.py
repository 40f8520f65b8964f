"""An evaluation of Stage-B as tables and sentences for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.stage_b.answer import VERDICT_WORDS
from stage_a_pipeline.stage_b.bootstrap import Estimate
from stage_a_pipeline.stage_b.scores import Compared, Comparison, Shares
from stage_a_pipeline.stage_b.summary_quality import Change, SummaryQuality
from stage_a_pipeline.stage_b.suspects import Suspect, Suspects
from stage_a_pipeline.stage_b.wording import counted, percent, percent_with_interval, points

_MEASURES = ("accuracy", "format", "false pass", "false fail")
_SUSPECTS_SHOWN = 5


def tables(comparison: Comparison) -> list[Table]:
    """The total's shares with their intervals, then those of missions, before → after."""
    return [_total_table(comparison.total), _mission_table(comparison)]


def sentences(suspects: Suspects, quality: SummaryQuality | None) -> list[str]:
    """What else is to be known: tickets judged against their label, and how well Stage-A still answers.

    Without a quality, no photo was summarised.
    """
    return [*_suspect_sentences(suspects), *([] if quality is None else quality_sentences(quality))]


def _total_table(total: Compared) -> Table:
    counts = f"{counted(total.after.tickets, 'ticket')}, {counted(total.after.groups, 'group')}"
    table = _table(counts, ("before", "after", "difference"))
    sides = (total.before.shares, total.after.shares, total.difference)
    for name, before, after, difference in zip(_MEASURES, *map(_values, sides), strict=True):
        cells = (percent_with_interval(before), percent_with_interval(after), points(difference))
        # On a line of its own: the widest would not fit beside each other.
        table.add_row(name, *(cell.replace(" ", "\n", 1) for cell in cells))
    return table


def _mission_table(comparison: Comparison) -> Table:
    table = _table("mission", ("tickets", *(name.replace(" ", "\n") for name in _MEASURES)))
    for name, compared in comparison.per_mission.items():
        table.add_row(Text(name), *_mission_cells(compared))
    table.add_section()
    table.add_row("total", *_mission_cells(comparison.total), style="bold")
    return table


def _mission_cells(compared: Compared) -> Iterator[str]:
    yield f"{compared.after.tickets:,}"
    sides = zip(_values(compared.before.shares), _values(compared.after.shares), strict=True)
    for before, after in sides:
        yield percent(after) if after is None else f"{percent(before)}\n→ {percent(after)}"


def _values(shares: Shares) -> tuple[Estimate | None, ...]:
    return shares.accuracy, shares.format, shares.false_pass, shares.false_fail


def _suspect_sentences(suspects: Suspects) -> Iterator[str]:
    if not suspects.count:
        return
    missions = ", ".join(f"{count:,} {name}" for name, count in suspects.per_mission.items())
    yield f"labels worth a second look, judged the other way: {suspects.count:,} ({missions})"
    yield from map(_suspect_sentence, suspects.listed[:_SUSPECTS_SHOWN])
    more = suspects.count - _SUSPECTS_SHOWN
    if more > 0:
        yield f"  and {more:,} more, in the document of the evaluation"


def _suspect_sentence(suspect: Suspect) -> str:
    words = f"{VERDICT_WORDS[suspect.label]}, said {VERDICT_WORDS[suspect.said]}"
    again = ", resubmitted" if suspect.resubmitted else ""
    return harmless(f"  {suspect.mission} {suspect.group_id}: {words}{again}: {suspect.reason}")


def quality_sentences(quality: SummaryQuality) -> Iterator[str]:
    """How well Stage-A answers with the adapter; nothing where no photo was summarised."""
    if not quality.photos:
        return
    yield (
        f"Stage-A with the adapter, {counted(quality.photos, 'photo')}: "
        f"{percent_with_interval(quality.agreement)} answered the same, {quality.changed:,} otherwise, "
        f"attribute keys of the former answers kept {percent_with_interval(quality.base_key_recall)}"
    )
    if quality.photos_with_truth:
        yield (
            f"against the truth of {counted(quality.photos_with_truth, 'photo')}: "
            f"exact {_change(quality.exact_match)}; attribute keys {_change(quality.key_recall)}"
        )


def _change(change: Change | None) -> str:
    if change is None:
        return percent(None)
    return f"{percent(change.base)} → {percent(change.adapted)}, {points(change.difference)} points"


def _table(first: str, columns: tuple[str, ...]) -> Table:
    # Borders between columns would not fit a terminal of 80 columns.
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, no_wrap=True)
    for name in columns:
        table.add_column(name, justify="right")
    return table
