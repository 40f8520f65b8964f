"""Previews show names and answers as text, whatever they hold."""

import base64
import io
import re
from pathlib import Path

import pytest
from PIL import Image as Pillow

from stage_a_pipeline.defs.previews import (
    attributes_preview,
    groups_preview,
    outcomes_preview,
    picture_preview,
    records_preview,
)
from stage_a_pipeline.evaluation.scores import AttributeScores
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.records import Group, GroupRecord, Image, ImageRef, Rejection, Summary
from tests.conftest import write_photo

HOSTILE = "<script>alert(1)</script> | ![x](javascript:1) `code` [red]"


def group(folder: Path, group_id: str, count: int = 1) -> Group:
    images = tuple(Image(write_photo(folder / f"{n}.jpg", seed=n).parent, f"{n}.jpg") for n in range(count))
    return Group("m", "fail", group_id, folder, images)


@pytest.fixture
def hostile(tmp_path):
    return group(tmp_path, HOSTILE)


def cells(markdown: str) -> list[list[str]]:
    rows = markdown.splitlines()[2:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in rows]


def test_a_group_is_one_row_with_a_small_inline_picture(hostile):
    ((photo, name, label, count),) = cells(groups_preview([hostile], ON_DISK).value)
    assert photo.startswith("![photo](data:image/jpeg;base64,")
    assert len(photo) < 20_000
    assert (label, count) == ("fail", "1")
    assert "<" not in name
    assert not re.search(r"(?<!\\)[\[\]`!|]", name)


def test_regions_of_a_thumbnail_are_painted_over(tmp_path):
    whole = ((0.0, 0.0, 1.0, 1.0),)
    ((photo, *_),) = cells(groups_preview([group(tmp_path, "g")], ON_DISK, covered=whole).value)
    encoded = photo.removeprefix("![photo](data:image/jpeg;base64,").removesuffix(")")
    assert len(Pillow.open(io.BytesIO(base64.b64decode(encoded))).getcolors()) == 1


def test_answers_and_reasons_are_escaped(hostile):
    ref = ImageRef(0, 1, hostile)
    outcomes = [
        Summary(ref, "sha", HOSTILE, "stop", 1, 1, text=HOSTILE),
        Rejection(ref, "read", "truncated", HOSTILE),
    ]
    rejected, summarised = cells(outcomes_preview(outcomes, ON_DISK).value)
    assert rejected[2].startswith("rejected (read, truncated)".replace("(", r"\(").replace(")", r"\)"))
    for row in (rejected, summarised):
        assert "<script>" not in row[2]
        assert "\\![x" not in row[2] or "\\!\\[x" in row[2]


def test_a_photo_that_cannot_be_shown_says_why(tmp_path):
    broken = group(tmp_path, "g")
    broken.images[0].path.write_bytes(b"")
    ((photo, *_),) = cells(groups_preview([broken], ON_DISK).value)
    assert photo == "(empty)"


def test_long_answers_are_shortened_to_one_line(hostile):
    outcome = Summary(ImageRef(0, 1, hostile), "sha", "x", "stop", 1, 1, text="长" * 500 + "\n二")
    ((_, _, text),) = cells(outcomes_preview([outcome], ON_DISK).value)
    assert len(text) == 320
    assert text.endswith("…")


def test_records_show_one_row_per_photo_and_not_too_many():
    record = GroupRecord("g", "m", "fail", ("a.jpg", "b.jpg"), ("甲", "乙"), ("理由",))
    table = records_preview([record] * 40)
    assert len(table.records) == 12
    assert table.records[1].data == {
        "group_id": "g",
        "label": "fail",
        "image": "b.jpg",
        "summary": "乙",
        "fail_reasons": "理由",
    }


def test_attributes_are_rows_of_shares_and_counts_with_their_names_as_text():
    scores = AttributeScores(recall=0.5, precision=None, count_accuracy=1.0, true=4, said=0)
    ((name, *shares),) = cells(attributes_preview([(HOSTILE, scores)]).value)
    assert shares == ["50.0%", "-", "100.0%", "4", "0"]
    assert "<script>" not in name


def test_a_picture_is_inline_and_holds_no_markup_of_its_own():
    markdown = picture_preview("<svg>中</svg>", "confusions").value
    assert re.fullmatch(r"!\[confusions\]\(data:image/svg\+xml;base64,[A-Za-z0-9+/=]+\)", markdown)
