"""stage_a_report in Dagster, and `stage-a report` without it, write the same pages."""

import json

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from tests.conftest import MISSION, write_groups


@pytest.fixture
def root(tmp_path):
    return write_groups(tmp_path / "in", MISSION, {"fail": [2], "pass": [1]})


def pages(folder):
    files = (path for path in (folder / MISSION).rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def stage_a(tmp_path, *arguments):
    settings = tmp_path / "settings.toml"
    settings.write_text(
        f'[discovery]\ninput_root = "{tmp_path}/in"\n[output]\noutput_dir = "{tmp_path}/out"\n'
    )
    return CliRunner().invoke(main, ["report", "--settings", str(settings), *arguments])


def test_the_last_asset_of_a_mission_is_its_report(materialise, root, tmp_path):
    result = materialise(root)
    (event,) = result.asset_materializations_for_node("stage_a_report")
    assert (event.metadata["groups"].value, event.metadata["photos"].value) == (2, 3)
    assert event.partition == MISSION
    index = tmp_path / "out" / "report" / MISSION / "index.html"
    assert event.metadata["report"].value == str(index)
    assert "figure_inferred" in index.read_text("utf-8")


def test_sections_of_the_report_change_no_answer_and_are_not_in_the_manifest(materialise, root, tmp_path):
    materialise(root)
    manifest = tmp_path / "out" / f"{MISSION}_stage_a.manifest.json"
    first = manifest.read_bytes()
    materialise(root, report={"thumbnails": False, "language": "en"})
    assert manifest.read_bytes() == first
    assert "report" not in json.loads(first)["settings"]
    assert '<html lang="en"' in (tmp_path / "out" / "report" / MISSION / "index.html").read_text("utf-8")


def test_the_command_writes_the_pages_of_the_asset(materialise, root, tmp_path):
    materialise(root)
    of_asset = pages(tmp_path / "out" / "report")
    done = stage_a(tmp_path, "--output", str(tmp_path / "again"))
    assert (done.exit_code, done.stderr) == (0, "")
    assert f"{MISSION}: 2 groups, 3 photos" in done.stdout
    of_command = pages(tmp_path / "again")
    assert of_asset.keys() == of_command.keys()
    # In memory, no tables are left that could tell the command how fast the answers came.
    differing = {name for name in of_asset if of_asset[name] != of_command[name]}
    assert differing == {f"{MISSION}/index.html"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "holds no delivered mission; run one first"),
        (("--mission", MISSION), f"run mission {MISSION} first"),
        (("--mission", "nowhere"), "unknown mission"),
    ],
)
def test_without_anything_to_tell_the_command_fails_with_the_remedy(root, tmp_path, arguments, told):
    done = stage_a(tmp_path, *arguments)
    assert done.exit_code == 1
    assert told in done.stderr
    assert "Traceback" not in done.stderr
