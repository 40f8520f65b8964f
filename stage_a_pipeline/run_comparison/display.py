"""A comparison in a terminal: tables, and sentences with what was added and removed marked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from stage_a_pipeline.harmless_text import harmless
from stage_a_pipeline.run_comparison.comparison import MissionComparison, RejectionChange
from stage_a_pipeline.run_comparison.content_changes import Difference
from stage_a_pipeline.run_comparison.frequency_shifts import FrequencyShift, Shift
from stage_a_pipeline.run_comparison.group_changes import GroupChange, SummaryChange
from stage_a_pipeline.run_comparison.setting_changes import SettingChange
from stage_a_pipeline.run_comparison.sides import LoneGroup

_REMOVED: Final = "red"
_ADDED: Final = "green"
_LONGEST: Final = 40
"""Characters of a setting's value, or of text around a difference, that are shown."""
_HASH: Final = 12
_CAUSES: Final = {
    "not_discovered": "not discovered in the run {run}",
    "not_sampled_or_not_discovered": "not sampled, or not discovered, in the run {run}",
    "unknown": "not in the files of the run {run}",
}


def counts_table(one: MissionComparison) -> Table:
    """Groups, photos and rejected photos of both runs."""
    table = _table(harmless(one.mission), ("before", "after"))
    for name in ("groups", "photos", "rejected_photos"):
        numbers = (getattr(side, name) for side in (one.before, one.after))
        table.add_row(name.replace("_", " "), *map(str, numbers))
    return table


def settings_table(changes: Iterable[SettingChange]) -> Table:
    """What was set otherwise."""
    table = _table("changed", ())
    for name in ("before", "after"):
        table.add_column(name, overflow="fold")
    for change in changes:
        longest = _HASH if change.name in ("fingerprint", "prompt_hash") else _LONGEST
        cells = [_cut(value, longest) for value in (change.before, change.after)]
        table.add_row(harmless(change.name), *cells)
    return table


def frequency_table(shifts: Iterable[FrequencyShift]) -> Table:
    """Shares of the photos that both runs have."""
    table = _table("photos that name", ("before", "after", "came", "went", "counted", "pass", "fail"))
    for one in shifts:
        name = harmless(one.attribute if one.value is None else f"{one.attribute} {one.value}")
        shares = (_percent(one.paired.before.value), _percent(one.paired.after.value))
        labels = (_arrow(one.by_label[label]) for label in ("pass", "fail"))
        counted = f"{one.counted[0]}>{one.counted[1]}"
        table.add_row(Text(name), *shares, str(one.came), str(one.went), counted, *labels)
    return table


def sentences(one: MissionComparison, *, listed: int) -> Iterator[Text]:
    """What else differs: `listed` at most of each kind, and how many there are."""
    if one.is_same:
        yield Text(f"both runs delivered the same: {one.groups} groups, {one.photos} photos")
    yield from _listed("groups lost", map(_lost, one.lost), len(one.lost), listed)
    yield from _listed("groups gained", map(_gained, one.gained), len(one.gained), listed)
    of_group = [line for group in one.changed for line in _group_lines(group)]
    yield from _listed("labels, photos and fail reasons changed", of_group, len(of_group), listed)
    rejections = map(_rejection, one.rejections)
    yield from _listed("rejections changed", rejections, len(one.rejections), listed)
    summaries = (_summary(group, change) for group in one.changed for change in group.summaries)
    name = f"summaries changed, of {one.photos} photos in both runs"
    yield from _listed(name, summaries, one.summaries_changed, listed)


def _listed(name: str, lines: Iterable[Text], count: int, listed: int) -> Iterator[Text]:
    if not count:
        return
    yield Text(f"{name}: {count}", style="cyan")
    yield from (Text("  ").append_text(line) for line in islice(lines, listed))
    if count > listed:
        yield Text(f"  and {count - listed} more: see --json or --page")


def _lost(group: LoneGroup) -> Text:
    return _lone(group, "after")


def _gained(group: LoneGroup) -> Text:
    return _lone(group, "before")


def _lone(group: LoneGroup, run: str) -> Text:
    name = f"{harmless(group.group_id)} ({group.label})"
    if group.cause != "rejected":
        return Text(f"{name}: {_CAUSES[group.cause].format(run=run)}")
    reasons = ", ".join(harmless(f"{line.image} {line.stage}: {line.reason}") for line in group.rejected)
    return Text(f"{name}: rejected in the run {run}, {reasons}")


def _group_lines(group: GroupChange) -> Iterator[Text]:
    name = harmless(group.group_id)
    if group.label_changed:
        yield Text.assemble(f"{name}: label ", _marked(group.label_before, group.label_after))
    for photos, what in ((group.photos_lost, "lost"), (group.photos_gained, "gained")):
        if photos:
            yield Text(f"{name}: photos {what}: {harmless(', '.join(photos))}")
    if group.fail_reasons_changed:
        sides = (group.fail_reasons_before, group.fail_reasons_after)
        before, after = (" | ".join(texts or ()) or "none" for texts in sides)
        yield Text.assemble(f"{name}: fail reasons ", _marked(before, after))


def _rejection(change: RejectionChange) -> Text:
    name = harmless(f"{change.group_id}/{change.image}")
    before, after = (
        "not rejected" if line is None else f"{line.stage}: {line.reason}"
        for line in (change.before, change.after)
    )
    return Text.assemble(f"{name}: ", _marked(before, after))


def _summary(group: GroupChange, change: SummaryChange) -> Text:
    name = f"{harmless(group.group_id)}/{harmless(change.image)}: "
    if change.differences:
        return Text.assemble(name, Text("; ").join(map(_difference, change.differences)))
    told = Text(name if change.kind == "text" else f"{name}same content, other words: ")
    for piece in change.pieces():
        if piece.kind == "same":
            told.append(_middle(piece.text))
        else:
            told.append_text(_removed(piece.text) if piece.kind == "removed" else _added(piece.text))
    return told


def _difference(one: Difference) -> Text:
    name = harmless(one.attribute)
    if one.value is None:
        return _added(name) if one.kind == "added" else _removed(name)
    value = harmless(one.value)
    if one.kind == "changed":
        return Text.assemble(f"{name} {value} ", _marked(str(one.before), str(one.after)))
    count = one.after if one.kind == "added" else one.before
    marked = f"{value} {count}"
    return Text.assemble(f"{name} ", _added(marked) if one.kind == "added" else _removed(marked))


def _marked(before: str, after: str) -> Text:
    return Text.assemble(_removed(before), " ", _added(after))


def _removed(text: str) -> Text:
    """Marked by signs as well: not every terminal has colours, and not everybody sees them."""
    return Text(f"[-{harmless(text)}-]", style=_REMOVED)


def _added(text: str) -> Text:
    return Text(f"{{+{harmless(text)}+}}", style=_ADDED)


def _middle(text: str) -> str:
    text = harmless(text)
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half]} ... {text[-half:]}"


def _cut(value: str | None, longest: int) -> str:
    value = harmless(value or "-")
    return value if len(value) <= longest else f"{value[:longest]}..."


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _arrow(shift: Shift) -> str:
    before, after = (
        "-" if share.value is None else f"{share.value:.0%}" for share in (shift.before, shift.after)
    )
    return f"{before}>{after}"


def _table(first: str, columns: Iterable[str]) -> Table:
    # Borders between columns would not fit a terminal of 80 columns.
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    return table
