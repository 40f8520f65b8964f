"""What is written for FiftyOne; test_other_tools.py has the real one import it."""

import json

import pytest

from stage_a_pipeline.errors import ConfigurationError
from stage_a_pipeline.exports.fiftyone import require_readable
from stage_a_pipeline.places import as_place
from tests.exports.conftest import HOSTILE, SCRIPT, STATISTICS


def samples_in(folder) -> list[dict]:
    return json.loads((folder / "samples.json").read_bytes())["samples"]


@pytest.fixture(scope="module")
def folder(hostile):
    return hostile.exported("fiftyone", "--with-rejected", to="fiftyone")


def test_a_sample_carries_label_mission_group_and_what_the_summary_says(hostile, folder):
    sample = next(sample for sample in samples_in(folder) if sample["summary"] == STATISTICS)
    assert sample["filepath"] == str(hostile.root / sample["path"])
    assert sample["label"]["label"] == sample["tags"][0]
    told = [(entry["label"], entry["count"]) for entry in sample["attributes"]["classifications"]]
    assert told == [("BBU设备.品牌: 华为", 2), ("BBU设备.品牌: 中兴", 1), ("标签.文本: 5G<script>", 1)]
    assert any(sample["summary"] == SCRIPT for sample in samples_in(folder))


def test_every_field_of_a_sample_is_one_of_the_dataset_s(folder):
    declared = {
        field["db_field"] for field in json.loads((folder / "metadata.json").read_bytes())["sample_fields"]
    }
    assert {name for sample in samples_in(folder) for name in sample} <= declared


def test_ids_are_unique_and_the_same_again(hostile, folder):
    ids = [sample["_id"]["$oid"] for sample in samples_in(folder)]
    ids += [sample["label"]["_id"]["$oid"] for sample in samples_in(folder)]
    assert len(set(ids)) == len(ids) == 2 * (2 + 1 + len(HOSTILE) + 2)
    again = hostile.exported("fiftyone", "--with-rejected", to="fiftyone-again")
    assert (again / "samples.json").read_bytes() == (folder / "samples.json").read_bytes()


def test_a_rejected_photo_is_tagged(folder):
    (sample,) = [sample for sample in samples_in(folder) if "rejected" in sample["tags"]]
    assert (sample["rejected_reason"], sample["summary"], "kind" in sample) == ("truncated", None, False)


def test_copied_photos_are_named_from_the_folder(hostile):
    folder = hostile.exported("fiftyone", "--images", "copy", to="fiftyone-copy")
    for sample in samples_in(folder):
        assert (folder / sample["filepath"]).read_bytes() == (hostile.root / sample["path"]).read_bytes()


def test_photos_in_a_store_must_be_copied():
    root = as_place("memory://bucket/in")
    with pytest.raises(ConfigurationError, match="FiftyOne opens files alone; give --images copy"):
        require_readable(root, "none")
    require_readable(root, "copy")
