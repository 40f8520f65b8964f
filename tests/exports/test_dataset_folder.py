"""The dataset folder, opened by the real `datasets`, and its card by the Hub's own reader."""

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard

from stage_a_pipeline.exports import dataset_folder
from stage_a_pipeline.exports.columns import photo_schema
from stage_a_pipeline.exports.dataset_card import Card, as_markdown, write_card
from tests.exports.conftest import HOSTILE, ODD, RRU, SCRIPT, STATISTICS, Workplace

PHOTOS = 2 + len(HOSTILE) + 2


def load(folder, tmp_path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folders(hostile):
    return {
        images: hostile.exported("dataset", "--images", images, to=f"dataset-{images}")
        for images in ("none", "copy", "embed")
    }


@pytest.mark.parametrize("images", ["none", "copy", "embed"])
def test_the_real_library_opens_it_and_finds_the_rows_and_the_photos(hostile, folders, tmp_path, images):
    rows = load(folders[images], tmp_path)
    assert len(rows) == PHOTOS
    assert sorted(rows["image"][2 : 2 + len(HOSTILE)]) == sorted(HOSTILE)
    assert set(rows["summary"]) > {STATISTICS, SCRIPT}
    assert rows[2]["attributes"][0] == {
        "category": "BBU设备",
        "attribute": "品牌",
        "value": "华为",
        "count": 2,
    }
    assert ("photo" in rows.column_names) == (images != "none")
    if images != "none":
        assert isinstance(rows.features["photo"], datasets.Image)
        encoded = rows.cast_column("photo", datasets.Image(decode=False))
        for row, shown in zip(encoded, rows, strict=True):
            original = (hostile.root / row["path"]).read_bytes()
            held = row["photo"]["bytes"]
            if held is None:
                with open(row["photo"]["path"], "rb") as file:  # noqa: PTH123 - the library's own path
                    held = file.read()
            assert held == original
            assert shown["photo"].size == (96, 64)


@pytest.mark.parametrize("images", ["none", "copy", "embed"])
def test_the_card_tells_the_features_and_sizes_that_the_library_finds(folders, tmp_path, images, caplog):
    found = load(folders[images], tmp_path)
    told = DatasetCard.load(folders[images] / "README.md").data.to_dict()
    info = datasets.DatasetInfo._from_yaml_dict(told["dataset_info"])
    assert info.features == found.features
    assert info.splits["train"].num_examples == len(found)
    assert told["language"] == ["zh"]
    assert told["size_categories"] == ["n<1K"]
    assert "license" not in told
    assert "Ignoring part of dataset_info" not in caplog.text


def test_no_photo_leaves_its_place_unless_asked(hostile, folders):
    photos = [path.read_bytes() for path in hostile.root.rglob("*.jpg")]
    held = b"".join(path.read_bytes() for path in folders["none"].rglob("*") if path.is_file())
    assert not [photo for photo in photos if photo in held]
    card = (folders["none"] / "README.md").read_text("utf-8")
    assert "The photos themselves are not in this folder" in card
    assert "names, phone numbers, addresses and coordinates" in card


def test_copied_photos_have_numbers_for_names(folders):
    names = sorted(path.name for path in (folders["copy"] / "data" / "photos").rglob("*.*"))
    assert names == [f"{number:08d}.jpg" for number in range(PHOTOS)]


@pytest.mark.parametrize("images", ["copy", "embed"])
def test_a_photo_that_is_gone_is_a_row_without_a_picture(plain, tmp_path, images):
    next(plain.root.rglob("g1/1.jpg")).unlink()
    rows = load(plain.exported("dataset", "--images", images), tmp_path)
    assert [photo is None for photo in rows["photo"]] == [True, False, False]


@pytest.mark.parametrize("images", ["none", "copy", "embed"])
def test_a_single_photo_is_a_dataset_too(tmp_path, images):
    place = Workplace(tmp_path)
    place.add_group(RRU, "pass", "g", ["1.PNG"])
    place.deliver(RRU)
    assert load(place.exported("dataset", "--images", images), tmp_path)["image"] == ["1.PNG"]


def test_many_photos_are_spread_over_files(plain, tmp_path, monkeypatch):
    monkeypatch.setattr(dataset_folder, "_MAX_FILE_BYTES", 1)
    folder = plain.exported("dataset", "--images", "embed")
    names = sorted(path.name for path in (folder / "data").iterdir())
    assert names == [f"photos-{number:05d}.parquet" for number in range(3)]
    assert load(folder, tmp_path)["image_index"] == [1, 2, 1]


def test_names_of_missions_stand_in_the_card_s_text_alone_and_escaped(folders):
    head, _, body = (
        (folders["none"] / "README.md").read_text("utf-8").removeprefix("---\n").partition("---\n")
    )
    assert "a'b" not in head
    assert set(yaml.safe_load(head)) == {
        "pretty_name", "language", "task_categories", "size_categories", "configs", "dataset_info",
    }  # fmt: skip
    assert r"| a'b &amp; \[x\]\(y\) \{z\} \# \- \`w\` é | bbu | 2 | 站 4b\-ffffffffffff |" in body
    assert ODD not in body


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<script>", "&lt;script&gt;"),
        ("a\n---\nlicense: mit", r"a \-\-\- license\: mit"),
        ("a|b\u2028c", r"a\|b c"),
        ("![x](javascript:1)", r"\!\[x\]\(javascript\:1\)"),
    ],
)
def test_markdown_shows_text_literally_on_one_line(text, shown):
    assert as_markdown(text) == shown


@pytest.mark.parametrize(("rows", "size"), [(0, "n<1K"), (1_000, "1K<n<10K"), (30_000, "10K<n<100K")])
def test_the_card_names_the_hub_s_size_category(tmp_path, rows, size):
    write_card(tmp_path / "README.md", Card(photo_schema("none"), rows, 0, "none", ()))
    assert DatasetCard.load(tmp_path / "README.md").data.size_categories == [size]
