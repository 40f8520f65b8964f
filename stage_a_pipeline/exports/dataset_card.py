"""The card of an exported dataset: what the Hub and `datasets` read, and what people should know."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from stage_a_pipeline.exports.columns import PHOTO, PHOTO_FILE, describe
from stage_a_pipeline.exports.delivered import Delivery
from stage_a_pipeline.exports.photo_bytes import Images
from stage_a_pipeline.storage import atomic_write

CARD_NAME: Final = "README.md"

_SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
_DTYPES: Final = {pa.string(): "string", pa.int32(): "int32", pa.int64(): "int64"}
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|~$:])")

_BODY: Final = """\
# Stage-A summaries of installation photos

{photos} photos, each with a one-line summary in Chinese that a model wrote, and with the label (pass or fail)
that reviewers gave the whole group. Written by `stage-a export dataset`; a summary is a model's answer, not a
checked annotation.

**Privacy.** The photos of base stations carry people's names, phone numbers, addresses and coordinates,
burnt into the picture and in the files' metadata; summaries may repeat texts of labels, and group ids are
ticket numbers. {images}
Look at what is in here before you share it, and keep it private where in doubt.

**License.** None is stated: photos and labels belong to whoever took and gave them. Add `license:` to the
head of this file if you may.

| mission | vocabulary | groups written | checkpoint and run |
|---|---|---|---|
{missions}

```python
from datasets import load_dataset

photos = load_dataset("PATH/TO/THIS/FOLDER", split="train")
```

All photos are in one split, named `train` as `datasets` expects. Split by `group_id`, never by photo, so
that no ticket stands on both sides: one that was handed in again has another label, and often the same
photos.

| column | type | meaning |
|---|---|---|
{columns}
"""

_IMAGES: Final = {
    "none": "The photos themselves are not in this folder; `path` names each below the input root.",
    "copy": "The photo files are in this folder as they were taken, metadata included.",
    "embed": "The photo files are in these tables as they were taken, metadata included.",
}


@dataclass(frozen=True, slots=True)
class Card:
    """What the card tells of."""

    schema: pa.Schema
    rows: int
    bytes: int
    images: Images
    deliveries: tuple[Delivery, ...]


def write_card(path: Path, card: Card) -> None:
    """Write the card. Nothing that somebody named stands in its head; in its text all of it is escaped."""
    with atomic_write(path) as file:
        file.write("---\n")
        file.writelines(f"{line}\n" for line in _head(card))
        file.write("---\n\n")
        file.write(
            _BODY.format(
                photos=card.rows,
                images=_IMAGES[card.images],
                missions="\n".join(_mission_rows(card)),
                columns="\n".join(_column_rows(card)),
            )
        )


def _head(card: Card) -> Iterator[str]:
    """YAML of fixed words and numbers."""
    yield from ("pretty_name: Stage-A summaries of installation photos", "language:", "- zh")
    yield from ("task_categories:", "- image-to-text", "size_categories:", f"- {_size(card.rows)}")
    yield from ("configs:", "- config_name: default", "  data_files:", "  - split: train")
    yield f"    path: data/{'**' if card.images == 'copy' else '*.parquet'}"
    yield from ("dataset_info:", "  features:")
    for column in card.schema:
        if column.name in (PHOTO, PHOTO_FILE):
            yield from (f"  - name: {PHOTO}", "    dtype: image")
        else:
            yield f"  - name: {column.name}"
            yield from (f"    {line}" for line in _feature(column.type))
    yield from ("  splits:", "  - name: train", f"    num_bytes: {card.bytes}")
    yield f"    num_examples: {card.rows}"


def _feature(kind: pa.DataType) -> Iterator[str]:
    if not pa.types.is_list(kind):
        yield f"dtype: {_DTYPES[kind]}"
    elif pa.types.is_struct(kind.value_type):
        yield "list:"
        for member in kind.value_type:
            yield from (f"- name: {member.name}", f"  dtype: {_DTYPES[member.type]}")
    else:
        yield f"list: {_DTYPES[kind.value_type]}"


def _size(rows: int) -> str:
    return next((name for limit, name in _SIZES if rows < limit), "n>10M")


def _mission_rows(card: Card) -> Iterator[str]:
    for delivery in card.deliveries:
        mission, manifest = delivery.mission, delivery.manifest
        yield (
            f"| {as_markdown(mission.name)} | {mission.dataset} | {manifest.counts.written} "
            f"| {as_markdown(delivery.model)} |"
        )


def _column_rows(card: Card) -> Iterator[str]:
    for name, kind, meaning in describe(card.schema):
        shown, kind = (PHOTO, "image") if name in (PHOTO, PHOTO_FILE) else (name, kind)
        yield f"| `{shown}` | `{kind}` | {meaning} |"


def as_markdown(text: str) -> str:
    """The text as Markdown shows it literally, on one line."""
    line = " ".join(text.split())
    return html.escape(_MARKDOWN.sub(r"\\\1", line), quote=False)
