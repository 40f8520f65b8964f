"""Tasks and labelling page, checked by Label Studio's own library; test_other_tools.py asks its server."""

import json
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from label_studio_sdk.label_interface import LabelInterface

from stage_a_pipeline.exports import label_studio
from stage_a_pipeline.exports.label_studio import default_image_prefix, image_url
from stage_a_pipeline.exports.labelling_config import labelling_config, page_of
from stage_a_pipeline.places import as_place
from stage_a_pipeline.vocabulary import VOCABULARY
from tests.exports.conftest import HOSTILE, SCRIPT, STATISTICS


def tasks_in(folder: Path) -> list[dict]:
    return [task for path in sorted(folder.glob("tasks-*.json")) for task in json.loads(path.read_bytes())]


@pytest.fixture(scope="module")
def folder(hostile):
    return hostile.exported("label-studio", "--with-rejected", to="label-studio")


@pytest.fixture(scope="module")
def page(folder):
    return LabelInterface((folder / "labelling_config.xml").read_text("utf-8"))


def test_the_real_library_finds_page_tasks_and_predictions_valid(folder, page):
    page.validate()
    tasks = tasks_in(folder)
    assert len(tasks) == 2 + 1 + len(HOSTILE) + 2
    for task in tasks:
        assert page.validate_task({"data": task["data"]})
        for prediction in task.get("predictions", []):
            assert page.validate_prediction(prediction, return_errors=True) == []


def test_the_library_refuses_what_the_page_does_not_have(folder, page):
    (prediction,) = tasks_in(folder)[0]["predictions"]
    prediction["result"][0]["value"]["choices"] = ["perhaps"]
    assert page.validate_prediction(prediction, return_errors=True)


def test_a_prediction_says_what_the_summary_says(folder):
    (task,) = [task for task in tasks_in(folder) if task["data"]["summary"] == STATISTICS][:1]
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "站 4b-ffffffffffff"
    said = {result["from_name"]: next(iter(result["value"].values())) for result in prediction["result"]}
    assert said == {
        "verdict": [task["data"]["label"]],
        "summary": [STATISTICS],
        "kind": ["statistics"],
        "categories": ["BBU设备", "标签"],
        "BBU设备.品牌": ["华为", "中兴"],
        "标签.文本": ["5G<script>"],
    }


def test_words_outside_the_vocabulary_stand_in_the_summary_alone(plain):
    plain.deliver(
        "挡风板安装检查", ['{"统计": [{"类别": "BBU设备", "品牌": {"诺基亚": 1}}, {"类别": "树"}]}']
    )
    (prediction,) = tasks_in(plain.exported("label-studio"))[0]["predictions"]
    assert [result["from_name"] for result in prediction["result"]] == [
        "verdict",
        "summary",
        "kind",
        "categories",
    ]
    assert prediction["result"][-1]["value"] == {"choices": ["BBU设备"]}


def test_a_rejected_photo_is_a_task_without_a_prediction(folder):
    (task,) = [task for task in tasks_in(folder) if "predictions" not in task]
    assert (task["data"]["image_name"], task["data"]["rejected_reason"]) == ("1.jpg", "truncated")


def test_every_url_leads_to_its_photo_and_nowhere_else(hostile, folder):
    for task in tasks_in(folder):
        url = urlsplit(task["data"]["image"])
        assert (url.scheme, url.netloc, url.path, url.fragment) == ("", "", "/data/local-files/", "")
        path = unquote(url.query.removeprefix("d="))
        assert path == f"photos/{task['data']['path']}"
        # As the server does: below its document root, which is the folder above the input root.
        assert (hostile.root.parent / path).resolve().is_relative_to(hostile.root)
        assert (hostile.root.parent / path).is_file()
        assert not set(task["data"]["image"]) & set("<>\"' \n&#")


def test_scripts_are_data_and_the_page_shows_text_alone(folder, page):
    assert any(task["data"]["summary"] == SCRIPT for task in tasks_in(folder))
    assert {tag.tag for tag in page.objects} == {"Image"}
    assert b"HyperText" not in (folder / "labelling_config.xml").read_bytes()


@pytest.mark.parametrize(
    ("prefix", "url"),
    [
        ("https://photos.example/x/", "https://photos.example/x/%E7%AB%99/a%20b%23.jpg"),
        ("/data/local-files/?d=in/", "/data/local-files/?d=in/%E7%AB%99/a%20b%23.jpg"),
        ("s3://bucket/in/", "s3://bucket/in/站/a b#.jpg"),
    ],
)
def test_a_photo_s_url_is_escaped_for_the_web_and_not_for_stores(prefix, url):
    assert image_url(prefix, "站/a b#.jpg") == url


def test_the_prefix_follows_from_the_input_root():
    assert default_image_prefix(Path("/data/照 片")) == "/data/local-files/?d=%E7%85%A7%20%E7%89%87/"
    assert default_image_prefix(as_place("memory://bucket/in")) == "memory://bucket/in/"


@pytest.mark.parametrize(("per_file", "files"), [(1, 3), (2, 2), (3, 1)])
def test_many_tasks_are_spread_over_files(plain, monkeypatch, per_file, files):
    monkeypatch.setattr(label_studio, "_TASKS_PER_FILE", per_file)
    folder = plain.exported("label-studio")
    assert len(list(folder.glob("tasks-*.json"))) == files
    assert [task["data"]["image_index"] for task in tasks_in(folder)] == [1, 2, 1]


def test_photos_that_are_gone_get_no_task_and_are_counted(plain):
    next(plain.root.rglob("g1/1.jpg")).unlink()
    done = plain.export("label-studio")
    assert "2 photos of 2 groups" in done.output
    assert "挡风板安装检查/g1 (fail)/1.jpg: they are left out" in done.output
    assert len(tasks_in(plain.base / "export")) == 2


@pytest.mark.parametrize("datasets", [("bbu",), ("rru",), ("bbu", "rru")])
def test_the_page_offers_the_vocabulary(datasets):
    page = LabelInterface(labelling_config(page_of(datasets)).decode())
    page.validate()
    for category in (category for dataset in datasets for category in VOCABULARY[dataset]):
        assert category.name in page.get_control("categories").labels
        for attribute in category.attributes:
            control = page.get_control(f"{category.name}.{attribute.name}")
            assert set(attribute.values) <= set(control.labels or ())
