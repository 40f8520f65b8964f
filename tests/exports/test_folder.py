"""An export appears whole or not at all, and replaces nothing but an export."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stage_a_pipeline.errors import LockedError, OutputError
from stage_a_pipeline.exports.folder import EXPORT_NAME, appearing_export
from tests.conftest import MISSION
from tests.faults.conftest import mounted


def write_export(folder: Path, *names: str, replace: bool = False) -> None:
    with appearing_export(folder, replace=replace) as fresh:
        for name in names:
            (fresh / name).write_text(name)
        (fresh / EXPORT_NAME).write_text(json.dumps({"entries": [*names, EXPORT_NAME]}))


def held(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_when_all_is_written(tmp_path):
    with appearing_export(tmp_path / "new" / "out", replace=False) as fresh:
        (fresh / "a").write_text("a")
        assert held(tmp_path / "new" / "out") == [".stage-a-unfinished"]
    assert held(tmp_path / "new" / "out") == ["a"]


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(KeyError), appearing_export(tmp_path / "out", replace=False) as fresh:  # noqa: PT012
        (fresh / "a").write_text("a")
        raise KeyError
    assert held(tmp_path / "out") == []


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_with_other_files_is_refused_and_left_alone(tmp_path, replace):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'mine.txt' and is no export; give an empty or new folder"):
        write_export(tmp_path, "a", replace=replace)
    assert held(tmp_path) == ["mine.txt"]


def test_an_export_is_replaced_only_when_asked(tmp_path):
    write_export(tmp_path, "a", "b")
    with pytest.raises(OutputError, match="holds an export already; replace it with --replace"):
        write_export(tmp_path, "c")
    assert held(tmp_path) == ["a", "b", EXPORT_NAME]
    write_export(tmp_path, "c", replace=True)
    assert held(tmp_path) == ["c", EXPORT_NAME]


def test_somebody_s_file_beside_an_export_is_not_removed(tmp_path):
    write_export(tmp_path, "a")
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"holds 'notes.txt', which no export wrote"):
        write_export(tmp_path, "b", replace=True)
    assert held(tmp_path) == ["a", EXPORT_NAME, "notes.txt"]


@pytest.mark.parametrize("content", ["", "[]", '{"entries": 5}', "{" * 100_000])
def test_a_damaged_export_is_no_licence_to_remove(tmp_path, content):
    (tmp_path / EXPORT_NAME).write_text(content)
    with pytest.raises(OutputError, match=r"is damaged|is no export"):
        write_export(tmp_path, "a", replace=True)
    assert (tmp_path / EXPORT_NAME).read_text() == content


def test_two_exports_never_write_one_folder(tmp_path):
    with (
        appearing_export(tmp_path, replace=False),
        pytest.raises(LockedError, match="another export is writ"),
    ):
        write_export(tmp_path, "a")


def test_a_killed_export_leaves_no_export_and_the_next_one_succeeds(plain):
    program = (
        "import sys, time; from pathlib import Path\n"
        "from stage_a_pipeline.exports.folder import appearing_export\n"
        "with appearing_export(Path(sys.argv[1]), replace=False) as fresh:\n"
        "    (fresh / 'photos.parquet').write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    folder = plain.base / "export"
    with subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
    assert held(folder) == [".stage-a-unfinished"]
    plain.exported("parquet")
    assert held(folder) == [EXPORT_NAME, "groups.parquet", "photos.parquet"]


@pytest.mark.parametrize(
    "words",
    [("parquet", "--images", "embed"), ("dataset", "--images", "copy"), ("fiftyone", "--images", "copy")],
)
def test_a_full_disk_is_named_and_leaves_nothing(plain, words):
    for number in range(40):
        plain.add_group(MISSION, "pass", f"more{number}", ["1.jpg"], seed=100 + number)
    plain.deliver(MISSION)
    with mounted(plain.base / "disk", "size=16k") as disk:
        done = plain.export(*words, to="disk/export")
        assert done.exit_code == 1
        assert "cannot be written: No space left on device; free some space or choose a folder" in done.output
        assert held(disk / "export") == []


def test_an_export_that_fails_keeps_the_one_it_would_have_replaced(plain):
    folder = plain.exported("parquet")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    next(plain.root.rglob("g1/1.jpg")).unlink()
    done = plain.export("parquet", "--replace", "--require-photos")
    assert done.exit_code == 1
    assert f"photo {MISSION}/g1 (fail)/1.jpg is gone or cannot be read; put it back below" in done.output
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
