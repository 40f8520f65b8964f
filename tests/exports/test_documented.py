"""The commands and the Python of docs/exports.md do what they say; test_other_tools.py runs the rest."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from stage_a_pipeline.cli import main
from tests.conftest import MISSION
from tests.exports.conftest import STATISTICS, Workplace

DOCUMENT = (Path(__file__).parents[2] / "docs" / "exports.md").read_text("utf-8")
SHELL = "".join(re.findall(r"```sh\n(.*?)```", DOCUMENT, re.S)).replace("\\\n", "")
COMMANDS = [line for line in SHELL.splitlines() if line.startswith(".venv/bin/stage-a ")]
PYTHON = re.findall(r"```python\n(.*?)```", DOCUMENT, re.S)
ELSEWHERE = ("fiftyone", "label_studio_sdk")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A folder in which `demo_run` is as after `make demo`, and the commands have run."""
    base = tmp_path_factory.mktemp("demo")
    place = Workplace(base / "demo_run")
    place.add_group(MISSION, "fail", "g1", ["1.jpg", "2.jpg"])
    place.deliver(MISSION, [STATISTICS])
    assert place.settings_file == base / "demo_run" / "settings.toml"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        for line in COMMANDS:
            done = CliRunner().invoke(main, shlex.split(line)[1:])
            assert done.exit_code == 0, done.output
    return base


def test_every_format_has_its_command(demo):
    names = sorted(path.name for path in (demo / "demo_run" / "exports").iterdir())
    assert names == ["dataset", "fiftyone", "label-studio", "parquet"]


@pytest.mark.parametrize("code", [code for code in PYTHON if not any(name in code for name in ELSEWHERE)])
def test_the_documented_python_runs(demo, monkeypatch, capsys, tmp_path, code):
    monkeypatch.chdir(demo)
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    exec(compile(code, "docs/exports.md", "exec"), {})
    shown = capsys.readouterr().out
    assert "华为" in shown


def test_the_documented_columns_are_those_of_the_files():
    from stage_a_pipeline.exports.columns import GROUP_SCHEMA, photo_schema

    table = DOCUMENT.partition("## Parquet")[2].partition("## A Hugging")[0]
    first_cells = "".join(line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert re.findall(r"`(\w+)`", first_cells) == photo_schema("embed").names
    assert f"`{', '.join(GROUP_SCHEMA.names)}`" in table
