"""The rejected lines that a mission delivers are read back as they were written."""

import json

import pytest

from stage_a_pipeline.errors import InputError, RecordError
from stage_a_pipeline.jsonl import write_rejections
from stage_a_pipeline.records import Group, Image, ImageRef, Rejection
from stage_a_pipeline.rejected_lines import RejectedLine, read_rejected_lines

LINE = {
    "mission": "RRU线缆", "group_id": "g", "label": "fail", "image": "1.jpg", "image_index": 1,
    "stage": "read", "reason": "truncated", "detail": "ends early", "raw_text": None,
}  # fmt: skip


def test_what_was_written_is_read(tmp_path):
    group = Group(
        "RRU线缆", "pass", "QC-1", tmp_path, (Image(tmp_path, "a.jpg"), Image(tmp_path, "b\udcff.jpg"))
    )
    rejection = Rejection(ImageRef(0, 2, group), "clean", "broken_json", "cannot be read", raw_text='{"统计"')
    write_rejections(tmp_path / "lines", [rejection])
    (line,) = read_rejected_lines(tmp_path / "lines")
    assert line == RejectedLine(
        "RRU线缆", "QC-1", "pass", "b\udcff.jpg", 2, "clean", "broken_json", "cannot be read", '{"统计"'
    )


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"label": "perhaps"}, "label"),
        ({"image_index": 0}, "image_index"),
        ({"image_index": True}, "image_index"),
        ({"stage": "think"}, "stage"),
        ({"detail": 5}, "detail"),
        ({"image": None}, "image"),
    ],
)
def test_a_line_that_breaks_the_contract_is_named(tmp_path, change, field):
    path = tmp_path / "lines"
    path.write_text(json.dumps(LINE) + "\n" + json.dumps(LINE | change) + "\n", "utf-8")
    with pytest.raises(RecordError, match=rf"lines, line 2: {field}: "):
        list(read_rejected_lines(path))


def test_a_missing_key_and_a_missing_file_are_named(tmp_path):
    (tmp_path / "lines").write_text('{"mission": "m"}\n')
    with pytest.raises(RecordError, match="group_id: is missing"):
        list(read_rejected_lines(tmp_path / "lines"))
    with pytest.raises(InputError, match=r"rejected lines .*nowhere cannot be read"):
        list(read_rejected_lines(tmp_path / "nowhere"))
