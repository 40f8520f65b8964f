"""`stage-a export`: what it tells, and missions and photos in an object store."""

import json

import pyarrow.parquet as pq
import pytest

from stage_a_pipeline.places import as_place
from tests.conftest import MISSION
from tests.exports.conftest import ODD, RRU, Workplace

FORMATS = ["parquet", "dataset", "label-studio", "fiftyone"]


@pytest.mark.parametrize("name", FORMATS)
def test_an_export_tells_what_it_is_of(hostile, name):
    folder = hostile.exported(name, "--mission", RRU, "--with-rejected", to=f"about-{name}")
    about = json.loads((folder / "export.json").read_bytes())
    assert set(about["entries"]) == {path.name for path in folder.iterdir()}
    del about["entries"]
    assert about == {
        "format": name,
        "layout": 1,
        "images": "none",
        "groups": 2,
        "photos": 3,
        "rejected": 1,
        "gone": 0,
        "missions": {RRU: {"fingerprint": "f" * 64, "prompt_hash": "p" * 64, "photos": 3}},
    }


def test_missions_may_be_named_several_times_over(hostile):
    folder = hostile.exported("parquet", "--mission", ODD, "--mission", RRU, "--mission", ODD, to="named")
    assert set(pq.read_table(folder / "photos.parquet")["mission"].to_pylist()) == {ODD, RRU}


@pytest.mark.parametrize("name", FORMATS)
def test_nothing_delivered_is_told_and_makes_no_folder(tmp_path, name):
    place = Workplace(tmp_path)
    place.add_group(MISSION, "pass", "g", ["1.jpg"])
    done = place.export(name)
    assert done.exit_code == 1
    assert "no mission was delivered to" in done.output
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize("name", FORMATS)
def test_missions_and_photos_in_a_store_are_exported(store, tmp_path, name, monkeypatch):
    place = Workplace(tmp_path)
    place.add_group(MISSION, "pass", "g & h", ["1.jpg", "2.jpg"])
    place.output = as_place(f"{store.url}/out")
    place.deliver(MISSION)
    store.put_tree(place.root, "in")
    place.overrides = {
        "discovery": {"input_root": f"{store.url}/in"},
        "output": {"local_work_dir": str(tmp_path / "work")},
    }
    (tmp_path / "work").mkdir()
    words = () if name == "label-studio" else ("--images", "copy" if name == "fiftyone" else "embed")
    words = ("--images", "embed") if name == "parquet" else words
    folder = place.exported(name, *words)
    photo = next(place.root.rglob("2.jpg")).read_bytes()
    if name == "label-studio":
        (first, _) = json.loads((folder / "tasks-001.json").read_bytes())
        assert first["data"]["image"] == f"{store.url}/in/{MISSION}/审核通过/g & h/1.jpg"
    elif name == "fiftyone":
        assert (folder / "photos" / "0000" / "00000001.jpg").read_bytes() == photo
    else:
        (file,) = folder.rglob("photos*.parquet")
        rows = pq.read_table(file).to_pylist()
        assert rows[1]["photo"]["bytes"] == photo
        assert rows[1]["path"] == f"{MISSION}/审核通过/g & h/2.jpg"


def test_fiftyone_refuses_photos_in_a_store_before_anything_is_read(store, tmp_path):
    place = Workplace(tmp_path, overrides={"discovery": {"input_root": f"{store.url}/in"}})
    done = place.export("fiftyone")
    assert done.exit_code == 1
    assert "give --images copy" in done.output


@pytest.mark.parametrize("name", ["label-studio", "fiftyone"])
def test_photos_need_an_input_root_where_they_are_what_is_exported(plain, name):
    plain.settings_file.write_text(f"[output]\noutput_dir = {json.dumps(str(plain.base / 'out'))}\n", "utf-8")
    from click.testing import CliRunner

    from stage_a_pipeline.cli import main

    words = [
        "export",
        name,
        "--output",
        str(plain.base / "x"),
        "--settings",
        str(plain.base / "settings.toml"),
    ]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "no input root is set" in done.output
