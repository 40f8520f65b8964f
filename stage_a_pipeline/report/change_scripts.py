"""The changes between two runs as scripts, for the same page script that shows a report's groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from stage_a_pipeline.places import Place
from stage_a_pipeline.report.change_items import ChangeItem, ItemKind
from stage_a_pipeline.report.data_files import CHUNK, Facets, without_folder, write_script
from stage_a_pipeline.report.thumbnails import Thumbnails
from stage_a_pipeline.run_comparison.comparison import RejectionChange
from stage_a_pipeline.run_comparison.group_changes import SummaryChange
from stage_a_pipeline.summary_content import is_free
from stage_a_pipeline.vocabulary import CATEGORY

Json = dict[str, object]
FindPhotos = Callable[[ChangeItem], Mapping[str, Place]]
"""Where the photos of a group are, by name; none of a group that is not there."""


class ChangeScripts:
    """Writes the groups of one mission's changes, and counts what its page must say about all of them."""

    def __init__(self, folder: Path, prefix: str, thumbnails: Thumbnails | None, find: FindPhotos) -> None:
        self._folder = folder
        self._prefix = prefix
        self._thumbnails = thumbnails
        self._find = find
        self._facets = Facets()
        self._names: list[str] = []
        self._rejections: set[str] = set()
        self.kinds: Counter[ItemKind] = Counter()
        self.groups = 0

    def write(self, items: Iterable[ChangeItem], *, per_page: int) -> str:
        """Write all scripts; returns the name of the one that a page loads.

        Raises OutputError, StoreError.
        """
        remaining = iter(items)
        while chunk := list(islice(remaining, CHUNK)):
            name = f"{self._prefix}-{len(self._names) + 1:05d}.js"
            write_script(self._folder / name, "add", [len(self._names), list(map(self._item, chunk))])
            self._names.append(name)
            self.groups += len(chunk)
        index = f"{self._prefix}-index.js"
        described = {
            "groups": self.groups,
            "per_page": per_page,
            "chunks": self._names,
            "facets": self._facets.to_json(),
            "rejections": sorted(self._rejections),
        }
        write_script(self._folder / index, "describe", [described])
        return index

    def _item(self, item: ChangeItem) -> Json:
        self.kinds.update(item.kinds)
        change = item.change
        told: Json = {
            "id": item.group_id,
            "label": item.label,
            "kinds": item.kinds,
            "cause": item.cause,
            "facets": self._facets.numbers_of(_facets_of(item)),
            "photos": self._photos(item),
        }
        if change is not None and change.label_changed:
            told["was"] = change.label_before
        if change is not None and change.fail_reasons_changed:
            told["reasons"] = [change.fail_reasons_before or (), change.fail_reasons_after or ()]
        return {key: value for key, value in told.items() if value not in (None, [])} | {
            "photos": told["photos"]
        }

    def _photos(self, item: ChangeItem) -> list[Json]:
        names = item.photo_names
        made = self._make_thumbnails(item, names)
        summaries = {one.image: one for one in item.summaries}
        rejections = {one.image: one for one in item.rejections}
        change = item.change
        lost = change.photos_lost if change is not None else ()
        gained = change.photos_gained if change is not None else ()
        told: list[Json] = []
        for name, thumbnail in zip(names, made, strict=True):
            photo: Json = {"name": name}
            if thumbnail is not None:
                photo["thumbnail"] = thumbnail
            if name in summaries:
                photo |= _summary(summaries[name])
            if name in rejections:
                photo |= self._rejection(rejections[name])
            if name in lost or name in gained:
                photo["only"] = "before" if name in lost else "after"
            told.append(photo)
        return told

    def _make_thumbnails(self, item: ChangeItem, names: Sequence[str]) -> Sequence[str | None]:
        if self._thumbnails is None:
            return [None] * len(names)
        places = self._find(item)
        return self._thumbnails.make([places.get(name) for name in names])

    def _rejection(self, change: RejectionChange) -> Json:
        """`stage`, `reason` and `detail` of the run that rejected it, the one after where both did."""
        line = change.after or change.before
        assert line is not None
        self._rejections.add(f"{line.stage}/{line.reason}")
        told: Json = {
            "stage": line.stage,
            "reason": line.reason,
            "detail": without_folder(line.detail, line.image),
            "rejected": "newly"
            if change.before is None
            else "no_longer"
            if change.after is None
            else "otherwise",
        }
        if change.before is not None and change.after is not None:
            told["earlier"] = f"{change.before.stage}: {change.before.reason}"
        return told


def _summary(change: SummaryChange) -> Json:
    told: Json = {"kind": change.kind, "before": change.before, "after": change.after}
    if change.differences:
        told["differences"] = [
            [one.attribute, one.value, one.before, one.after] for one in change.differences
        ]
    else:
        told["pieces"] = [[piece.kind, piece.text] for piece in change.pieces()]
    return told


def _facets_of(item: ChangeItem) -> Iterator[tuple[str, str]]:
    """Categories and values that changed."""
    for summary in item.summaries:
        for one in summary.differences:
            if one.value is None:
                yield CATEGORY, one.attribute
            elif not is_free(one.attribute):
                yield one.attribute, one.value
