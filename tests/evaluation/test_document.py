"""The evaluation as a file: plain data, the same for the same readings."""

import json
import os
from dataclasses import replace

import pytest

from stage_a_pipeline.errors import OutputError
from stage_a_pipeline.evaluation.document import evaluation_paths, write_document, write_picture
from tests.evaluation.conftest import BBU, NOTHING, evaluation, wire

KEYS = [
    "checkpoint", "fingerprint", "root", "truth", "photos", "valid", "exact_match", "attribute_recall",
    "attribute_precision", "category_recall", "category_precision", "count_accuracy", "irrelevant_recall",
    "irrelevant_precision", "per_attribute", "per_category", "per_mission", "confusions", "unmatched",
    "rejected",
]  # fmt: skip
PAIRS = [(wire(整齐=2), wire(整齐=1, 散乱=1)), (NOTHING, NOTHING), (wire(整齐=1), "\ud800")]


def test_the_document_holds_what_is_promised_and_null_for_shares_of_nothing(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    write_document(path, evaluation((wire(整齐=2), wire(整齐=1, 散乱=1))))
    document = json.loads(path.read_text("utf-8"))
    assert list(document) == KEYS
    assert document["irrelevant_recall"] is None
    assert document["per_attribute"] == {
        "电线.捆扎": {"recall": 0.5, "precision": 0.5, "count_accuracy": 0.0, "true": 2, "said": 2}
    }
    assert document["per_category"] == {"电线": {"recall": 1.0, "precision": 1.0, "true": 1, "said": 1}}
    assert document["confusions"] == {"电线.捆扎": [{"true": "整齐", "said": "散乱", "count": 1}]}
    assert document["per_mission"][BBU.name]["photos"] == 1
    assert document["rejected"] == {"photos": 0, "reasons": {}, "paths": {}}


def test_rejected_photos_are_listed_with_their_reasons():
    found = replace(
        evaluation(), rejected={"a.jpg": "read: cut", "b.jpg": "clean: empty", "c.jpg": "read: cut"}
    )
    assert found.to_mapping()["rejected"] == {
        "photos": 3,
        "reasons": {"clean: empty": 1, "read: cut": 2},
        "paths": {"a.jpg": "read: cut", "b.jpg": "clean: empty", "c.jpg": "read: cut"},
    }


def test_the_same_readings_give_the_same_bytes_whatever_they_hold(tmp_path):
    for name in ("one", "two"):
        write_document(tmp_path / f"{name}.json", evaluation(*PAIRS))
        write_picture(tmp_path / f"{name}.svg", evaluation(*PAIRS))
    for kind in ("json", "svg"):
        assert (tmp_path / f"one.{kind}").read_bytes() == (tmp_path / f"two.{kind}").read_bytes()


def test_a_pipe_is_refused_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"pipe is a device or pipe .*give the path of a file"):
        write_document(tmp_path / "pipe", evaluation())
    assert [path.name for path in tmp_path.iterdir() if path.is_fifo()] == ["pipe"]


@pytest.mark.parametrize("write", [write_document, write_picture])
def test_the_truth_is_never_replaced_under_whatever_name(tmp_path, write):
    truth = tmp_path / "truth.jsonl"
    truth.write_text("the truth")
    (tmp_path / "link").symlink_to(truth)
    shown = evaluation(*PAIRS)
    shown = replace(shown, subject=replace(shown.subject, truth=truth))
    with pytest.raises(OutputError, match=r"link is the truth .* give the path of another file"):
        write(tmp_path / "link", shown)
    assert truth.read_text() == "the truth"


def test_a_mission_s_files_lie_beside_its_jsonl(tmp_path):
    paths = evaluation_paths(tmp_path, "任务")
    assert (paths.document.name, paths.picture.name) == (
        "任务_stage_a.evaluation.json",
        "任务_stage_a.evaluation.svg",
    )
