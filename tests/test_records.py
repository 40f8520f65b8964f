import json
import pickle
from typing import Any

import pytest

from stage_a_pipeline.errors import PhotoError, RecordError
from stage_a_pipeline.records import GroupRecord, parse_group_record

RECORD = {
    "group_id": "QC-20241028-1",
    "mission": "RRU线缆",
    "label": "fail",
    "images": ["1.jpg", "2.jpg"],
    "per_image": {"image_1": "无关图片", "image_2": '{"统计": []}'},
}
REASONS = {"gt_fail_reason_texts": ["a", "b"], "gt_fail_reason_text": "a | b"}


@pytest.mark.parametrize(
    "mapping",
    [
        RECORD,
        RECORD | {"label": "pass"},
        RECORD | REASONS,
        RECORD | {"gt_fail_reason_texts": [], "gt_fail_reason_text": None},
        RECORD | {"images": ["1.jpg"], "per_image": {"image_1": "一行文字"}},
    ],
)
def test_a_record_survives_parsing_and_writing_with_its_key_order(mapping: dict[str, Any]) -> None:
    assert json.dumps(parse_group_record(mapping).to_mapping()) == json.dumps(mapping)


def test_a_record_keys_its_summaries_from_image_1() -> None:
    record = GroupRecord("g", "m", "pass", ("a.jpg", "b.jpg"), ("x", "y"))
    assert record.per_image == {"image_1": "x", "image_2": "y"}
    assert record.ticket_key == "g::pass"


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in RECORD.items() if name != key}


@pytest.mark.parametrize(
    ("mapping", "field", "problem"),
    [
        *((without(key), key, "is missing") for key in RECORD),
        ([], "record", "must be a JSON object, not list"),
        (None, "record", "not null"),
        (RECORD | {"extra": 1}, "extra", "is not a known key"),
        (RECORD | {"label": "Pass"}, "label", "must be one of pass, fail, not 'Pass'"),
        (RECORD | {"label": ["pass"]}, "label", "must be one of"),
        (RECORD | {"group_id": " \u3000"}, "group_id", "must not be blank"),
        (RECORD | {"group_id": 7}, "group_id", "must be text, not int"),
        (RECORD | {"group_id": "\ud800"}, "group_id", "not UTF-8"),
        (RECORD | {"mission": ""}, "mission", "must not be blank"),
        (RECORD | {"images": []}, "images", "must name at least one photo"),
        (RECORD | {"images": "1.jpg"}, "images", "must be a list of texts, not str"),
        (RECORD | {"images": ["1.jpg", None]}, "images[1]", "must be text, not null"),
        (RECORD | {"per_image": ["x", "y"]}, "per_image", "must be an object, not list"),
        (RECORD | {"per_image": {"image_1": "x"}}, "per_image.image_2", "is missing"),
        (RECORD | {"per_image": {"image_0": "x", "image_1": "y"}}, "per_image.image_2", "is missing"),
        (
            RECORD | {"per_image": {f"image_{i}": "x" for i in (1, 2, 3)}},
            "per_image.image_3",
            "is not expected",
        ),
        (RECORD | {"per_image": {"image_2": "x", "image_1": "y"}}, "per_image", "must stand in order"),
        (RECORD | {"per_image": {"image_1": "x", "image_2": " "}}, "per_image.image_2", "must not be blank"),
        (
            RECORD | {"per_image": {"image_1": "x", "image_2": None}},
            "per_image.image_2",
            "must be text, not null",
        ),
        (
            RECORD | {"per_image": {"image_1": "x\ny", "image_2": "z"}},
            "per_image.image_1",
            "must be a single line",
        ),
        (RECORD | {"per_image": {"image_1": "x\u2028y", "image_2": "z"}}, "per_image.image_1", "single line"),
        (RECORD | REASONS | {"label": "pass"}, "gt_fail_reason_texts", "belongs to fail records only"),
        (RECORD | {"gt_fail_reason_texts": ["a"]}, "gt_fail_reason_text", "is missing"),
        (RECORD | REASONS | {"gt_fail_reason_text": "b | a"}, "gt_fail_reason_text", "joined by"),
        (RECORD | REASONS | {"gt_fail_reason_texts": "a"}, "gt_fail_reason_texts", "must be a list"),
        (RECORD | {"gt_fail_reason_texts": [], "gt_fail_reason_text": ""}, "gt_fail_reason_text", "or null"),
    ],
)
def test_a_record_that_breaks_the_contract_names_the_field(mapping: Any, field: str, problem: str) -> None:
    with pytest.raises(RecordError) as error:
        parse_group_record(mapping)
    assert error.value.field == field
    assert problem in str(error.value)


def test_errors_keep_their_parts_across_processes() -> None:
    record = pickle.loads(pickle.dumps(RecordError("images", "is missing").at_line(3)))  # noqa: S301
    assert (record.field, record.problem, record.line, str(record)) == (
        "images",
        "is missing",
        3,
        "line 3: images: is missing",
    )
    photo = pickle.loads(pickle.dumps(PhotoError("empty", "photo x has zero bytes")))  # noqa: S301
    assert (photo.reason, str(photo)) == ("empty", "photo x has zero bytes")
