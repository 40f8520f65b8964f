"""Small tables with thumbnails for the asset pages. Everything from files or models is escaped."""

import base64
import html
from collections.abc import Iterable, Sequence
from itertools import islice

import dagster as dg

from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.evaluation.scores import AttributeScores
from stage_a_pipeline.evaluation.thresholds import percent
from stage_a_pipeline.folders import Skipped
from stage_a_pipeline.images import thumbnail_jpeg
from stage_a_pipeline.photo_source import PhotoSource
from stage_a_pipeline.records import Group, GroupRecord, Image, Outcome, Rejection
from stage_a_pipeline.settings_report import Region

_SKIPPED = dg.TableSchema([dg.TableColumn(name) for name in ("path", "reason", "detail")])
_RECORDS = dg.TableSchema(
    [dg.TableColumn(name) for name in ("group_id", "label", "image", "summary", "fail_reasons")]
)
OUTCOME_ROWS = 6
"""So many outcomes of either kind are shown."""
_GROUP_ROWS = 3
_RECORD_ROWS = 12
_TEXT_LIMIT = 320


def groups_preview(
    groups: Sequence[Group], photos: PhotoSource, *, covered: Sequence[Region] = ()
) -> dg.MarkdownMetadataValue:
    """The first groups of each label, with their first photo, whose `covered` regions are painted over."""
    chosen = [*_first(groups, "fail"), *_first(groups, "pass")]
    rows = (
        (
            _thumbnail(group.images[0], photos, covered),
            plain_text(group.group_id),
            group.label,
            str(len(group.images)),
        )
        for group in chosen
    )
    return markdown_table(("photo", "group", "label", "photos"), rows)


def outcomes_preview(
    outcomes: Iterable[Outcome], photos: PhotoSource, *, covered: Sequence[Region] = ()
) -> dg.MarkdownMetadataValue:
    """Rejected photos first, then some that were summarised; `covered` regions are painted over."""
    outcomes = list(outcomes)
    rejected = [outcome for outcome in outcomes if isinstance(outcome, Rejection)]
    summarised = [outcome for outcome in outcomes if not isinstance(outcome, Rejection)]
    shown: list[Outcome] = [*rejected[:OUTCOME_ROWS], *summarised[:OUTCOME_ROWS]]
    rows = (
        (
            _thumbnail(outcome.ref.image, photos, covered),
            plain_text(f"{outcome.ref.group.group_id}/{outcome.ref.image.name}"),
            plain_text(_what_became(outcome)),
        )
        for outcome in shown
    )
    return markdown_table(("photo", "file", "outcome"), rows)


def records_preview(records: Iterable[GroupRecord]) -> dg.TableMetadataValue:
    """The first records, one row per photo."""
    rows = (
        dg.TableRecord(
            {
                "group_id": record.group_id,
                "label": record.label,
                "image": image,
                "summary": summary,
                "fail_reasons": " | ".join(record.fail_reasons or ()),
            }
        )
        for record in records
        for image, summary in zip(record.images, record.summaries, strict=True)
    )
    return dg.MetadataValue.table(list(islice(rows, _RECORD_ROWS)), schema=_RECORDS)


def skipped_preview(skipped: Sequence[Skipped]) -> dg.TableMetadataValue:
    """The first entries of the tree that were passed over, and why."""
    rows = (
        dg.TableRecord({"path": str(entry.path), "reason": entry.reason, "detail": entry.detail})
        for entry in skipped
    )
    return dg.MetadataValue.table(list(islice(rows, 100)), schema=_SKIPPED)


def attributes_preview(
    attributes: Iterable[tuple[str, AttributeScores]],
) -> dg.MarkdownMetadataValue:
    """Recall, precision and counts of each attribute, in the given order."""
    rows = (
        (
            plain_text(name),
            *map(percent, (scores.recall, scores.precision, scores.count_accuracy)),
            str(scores.true),
            str(scores.said),
        )
        for name, scores in attributes
    )
    return markdown_table(("attribute", "recall", "precision", "equal counts", "true", "said"), rows)


def picture_preview(svg: str, name: str) -> dg.MarkdownMetadataValue:
    """An SVG document as an inline picture."""
    encoded = base64.b64encode(svg.encode("utf-8", "replace")).decode()
    return dg.MetadataValue.md(f"![{name}](data:image/svg+xml;base64,{encoded})")


def png_picture(png: bytes, name: str) -> str:
    """A PNG as an inline picture, for Markdown."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"


def plain_text(text: str) -> str:
    """Text that neither Markdown nor HTML gives a meaning to, on one line of a table."""
    line = " ".join(text.split())
    shortened = line if len(line) <= _TEXT_LIMIT else line[: _TEXT_LIMIT - 1] + "…"
    escaped = html.escape(shortened, quote=False)
    return "".join(f"\\{letter}" if letter in "\\`*_{}[]()#+!|~" else letter for letter in escaped)


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> dg.MarkdownMetadataValue:
    """A table; what its cells take from files or models is plain_text."""
    lines = ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    return dg.MetadataValue.md("\n".join(lines))


def _first(groups: Sequence[Group], label: str) -> list[Group]:
    return list(islice((group for group in groups if group.label == label), _GROUP_ROWS))


def _what_became(outcome: Outcome) -> str:
    if isinstance(outcome, Rejection):
        return f"rejected ({outcome.stage}, {outcome.reason}): {outcome.detail}"
    return outcome.text or outcome.raw_text


def _thumbnail(image: Image, photos: PhotoSource, covered: Sequence[Region]) -> str:
    try:
        small = thumbnail_jpeg(photos.read(image.path), covered=covered)
    except PhotoError as error:
        return f"({error.reason})"
    return f"![photo](data:image/jpeg;base64,{base64.b64encode(small).decode()})"
