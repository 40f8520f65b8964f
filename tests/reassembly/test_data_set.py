"""Data sets as folders: what is one, what its models are, and that objects change all together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stage_a_pipeline.demo.scan import write_demo_scan
from stage_a_pipeline.errors import ConfigurationError, ReassemblyError
from stage_a_pipeline.reassembly.comparison import ComparisonAudience
from stage_a_pipeline.reassembly.data_set import find_data_set, list_data_sets, stitch_data_set
from stage_a_pipeline.settings import ReassemblySettings

PROGRAM = """
import sys
from pathlib import Path
from stage_a_pipeline.reassembly.comparison import ComparisonAudience
from stage_a_pipeline.reassembly.data_set import find_data_set, stitch_data_set
from stage_a_pipeline.settings import ReassemblySettings

settings = ReassemblySettings(data_dir=Path(sys.argv[1]), crop_size=int(sys.argv[3]))
found = find_data_set(settings, "first", output=Path(sys.argv[2]))
stitch_data_set(found, settings, ComparisonAudience(), device="cpu")
"""


def stitch(folder: Path, **chosen):
    settings = ReassemblySettings(data_dir=folder / "data", **chosen)
    found = find_data_set(settings, "first", output=folder / "out")
    return stitch_data_set(found, settings, ComparisonAudience(), device="cpu")


def objects(folder: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (folder / "out").rglob("reconstruction.npz")}


def test_folders_with_test_data_are_data_sets_in_the_order_of_their_names(tmp_path):
    for name in ("b", "a", ".hidden"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "test_data.npz").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    (tmp_path / "test_data.npz").write_bytes(b"")
    assert list_data_sets(ReassemblySettings(data_dir=tmp_path)) == ("a", "b")


def test_a_folder_of_data_sets_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ConfigurationError, match=r"gone cannot be read: .*; correct reassembly\.data_dir"):
        list_data_sets(ReassemblySettings(data_dir=tmp_path / "gone"))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../a", "a\\b", "a\0b"])
def test_a_name_that_leads_elsewhere_is_none(tmp_path, name):
    with pytest.raises(ReassemblyError, match="is no data set's name"):
        find_data_set(ReassemblySettings(data_dir=tmp_path), name, output=tmp_path)


def test_what_is_told_of_an_object_is_what_its_file_holds(tmp_path):
    write_demo_scan(tmp_path / "data" / "first", positions=16, patch_size=24)
    found = {one.model: one for one in stitch(tmp_path, crop_size=12)}
    assert list(found) == ["baseline", "pinn", "true"]
    one = found["pinn"]
    assert (one.patches, one.finite) == (16, True)
    assert one.object_shape == one.count_shape == (one.side, one.side)
    assert 0.8 < one.coverage <= 1
    assert one.path == tmp_path / "out" / "first" / "pinn" / "reconstruction.npz"
    assert one.path.is_file()


def test_a_run_killed_between_two_models_leaves_all_former_objects_and_the_next_one_replaces_them(tmp_path):
    write_demo_scan(tmp_path / "data" / "first", positions=4000, patch_size=32)
    stitch(tmp_path)
    before = objects(tmp_path)
    places = [str(tmp_path / name) for name in ("data", "out")]
    run = subprocess.Popen([sys.executable, "-c", PROGRAM, *places, "16"])
    unfinished = tmp_path / "out" / "first" / ".unfinished"
    deadline = time.monotonic() + 60
    while not (unfinished / "baseline" / "reconstruction.npz").exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    run.send_signal(signal.SIGKILL)
    assert run.wait(60) == -signal.SIGKILL
    assert (unfinished / "baseline" / "reconstruction.npz").exists()
    for model, content in before.items():
        assert (tmp_path / "out" / "first" / model / "reconstruction.npz").read_bytes() == content
    stitch(tmp_path, crop_size=16)
    after = objects(tmp_path)
    assert after.keys() == before.keys()
    assert all(after[model] != before[model] for model in before)
    assert not unfinished.exists()
