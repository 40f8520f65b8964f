"""The commands as a newcomer types them: real processes, and in this one what a process adds nothing to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import chdir
from pathlib import Path

import pytest
from click.testing import CliRunner

# Partitions are read from the settings when this is imported: here, no test has set any.
import stage_a_pipeline.defs.launch  # noqa: F401
from stage_a_pipeline.cli import main
from stage_a_pipeline.jsonl import output_paths, read_manifest, read_records
from stage_a_pipeline.missions import load_missions
from tests.conftest import BRACKETS, MISSION, write_groups

BIN = Path(sys.executable).parent
FAKE_SETTINGS = '[engine]\nengine = "fake"\nbatch_size = 4\n[inference]\nlease_dir = "leases"\n'
FORKED = {"start_method": {"forkserver": {"preload_modules": ["stage_a_pipeline.definitions"]}}}
"""How the multiprocess executor starts its steps without the imports of each."""


@pytest.fixture
def workplace(tmp_path):
    write_groups(tmp_path / "in", MISSION, {"fail": [3, 1, 2], "pass": [4, 2]})
    write_groups(tmp_path / "in", BRACKETS, {"fail": [1], "pass": [2]}, first_seed=50)
    (tmp_path / "settings.toml").write_text(FAKE_SETTINGS)
    (tmp_path / "no_workers.toml").write_text(f"{FAKE_SETTINGS}worker_processes = false\n")
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return tmp_path


def environment_of(workplace: Path, given: Mapping[str, str]) -> dict[str, str | None]:
    """Where photos, results and settings are, unless told otherwise; an empty value is no variable."""
    names = {
        "STAGE_A_INPUT_ROOT": str(workplace / "in"),
        "STAGE_A_OUTPUT_DIR": str(workplace / "out"),
        "STAGE_A_SETTINGS": str(workplace / "settings.toml"),
        "DAGSTER_HOME": str(workplace / "dagster"),
        "COLUMNS": "200",
        **given,
    }
    return {name: value or None for name, value in names.items()}


def run(workplace: Path, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own."""
    names = environment_of(workplace, environment)
    return subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=workplace,
        env=os.environ | {name: value for name, value in names.items() if value},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def here(workplace: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`stage-a ...` in this process, without workers and a DAGSTER_HOME unless told otherwise."""
    given = {"STAGE_A_SETTINGS": str(workplace / "no_workers.toml"), "DAGSTER_HOME": "", **environment}
    with chdir(workplace):
        done = CliRunner(env=environment_of(workplace, given)).invoke(main, arguments)
    return subprocess.CompletedProcess(arguments, done.exit_code, done.stdout, done.stderr)


def dagster(workplace, mission, *options, **environment):
    selection = ("--select", "+key:stage_a_jsonl", "--partition", mission)
    module = ("-m", "stage_a_pipeline.definitions")
    return run(workplace, "dagster", "asset", "materialize", *module, *selection, *options, **environment)


def test_dagster_asset_materialize_publishes_a_mission(workplace):
    done = dagster(workplace, BRACKETS)
    assert done.returncode == 0, done.stderr[-3000:]
    assert output_paths(workplace / "out", BRACKETS).jsonl.exists()


def test_dagster_asset_materialize_loses_exactly_the_group_of_a_broken_photo(workplace):
    photo = workplace / "in" / MISSION / "审核不通过" / "QC-20241028-fail001" / "IMG_2.jpg"
    photo.write_bytes(photo.read_bytes()[:-300])
    settings = str(workplace / "no_workers.toml")
    assert dagster(workplace, MISSION, STAGE_A_SETTINGS=settings).returncode == 0
    paths = output_paths(workplace / "out", MISSION)
    assert [r.group_id[-7:] for r in read_records(paths.jsonl)] == [
        "fail002",
        "fail003",
        "pass001",
        "pass002",
    ]
    assert json.loads(paths.rejected.read_text("utf-8"))["group_id"] == "QC-20241028-fail001"


def test_dagster_asset_materialize_with_two_devices_runs_in_processes(workplace):
    """Steps that import everything anew are held by the fault suite, which kills a worker of one."""
    forked = json.dumps({"execution": {"config": FORKED}})
    done = dagster(workplace, MISSION, "--config-json", forked, STAGE_A_DEVICES="cpu,cpu")
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count('Launching subprocess for "stage_a_summaries.summarise_shard[') == 2
    journals = {path.name for path in (workplace / "out" / "work" / "journal" / MISSION).iterdir()}
    assert journals == {"cpu.jsonl", "cpu_1.jsonl"}


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"STAGE_A_INPUT_ROOT": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"STAGE_A_DEVICES": "gpu"}, "engine.devices"),
        ({"STAGE_A_DEVICE": "cpu"}, "unknown environment variable STAGE_A_DEVICE"),
        ({"STAGE_A_SETTINGS": "/nowhere.toml"}, "settings file /nowhere.toml cannot be read"),
    ],
)
def test_dagster_asset_materialize_fails_with_a_clear_error(workplace, environment, message):
    done = dagster(workplace, MISSION, **environment)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr


def test_a_partition_range_publishes_all_its_missions_but_one_without_photos_and_says_so(workplace):
    names = list(load_missions())
    first, last = sorted((MISSION, BRACKETS), key=names.index)
    between = names[names.index(first) + 1 : names.index(last)]
    for seed, mission in enumerate(between[1:], start=2):
        write_groups(workplace / "in", mission, {"fail": [1], "pass": [1]}, first_seed=100 * seed)
    no_workers = {"STAGE_A_SETTINGS": str(workplace / "no_workers.toml")}
    both = "group:stage_a or group:stage_b"
    module = (
        "-m",
        "stage_a_pipeline.definitions",
        "--select",
        both,
        "--partition-range",
        f"{first}...{last}",
    )
    done = run(workplace, "dagster", "asset", "materialize", *module, **no_workers)
    assert done.returncode == 1
    assert f"1 of {len(between) + 2} missions are not published: {between[0]}: mission" in done.stderr
    written = {mission for mission in names if output_paths(workplace / "out", mission).jsonl.exists()}
    assert written == {first, last, *between[1:]}
    write_groups(workplace / "in", between[0], {"fail": [1], "pass": [1]}, first_seed=900)
    done = run(workplace, "dagster", "asset", "materialize", *module, **no_workers)
    assert done.returncode == 0, "Stage-B is left out, which the fake engine cannot train"
    assert "Stage-B is no part of a mission's run" in done.stderr


def test_an_unknown_partition_fails(workplace):
    assert dagster(workplace, "不存在").returncode != 0


def test_materialize_publishes_several_missions_and_says_where(workplace):
    done = run(workplace, "stage-a", "materialize", "--mission", MISSION, "--mission", BRACKETS)
    assert done.returncode == 0, done.stderr
    for mission in (MISSION, BRACKETS):
        paths = output_paths(workplace / "out", mission)
        assert str(paths.jsonl) in done.stdout.replace("\n", "")
        assert read_manifest(paths.manifest).counts.rejected == 0


def test_several_missions_load_one_model_per_device(workplace):
    command = ("materialize", "--mission", MISSION, "--mission", BRACKETS, "--verbose")
    with_workers = {"STAGE_A_SETTINGS": str(workplace / "settings.toml")}
    done = here(workplace, *command, STAGE_A_DEVICES="cpu,cpu", **with_workers)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count("loading fake on cpu") == 2
    alone = here(workplace, "materialize", "--mission", MISSION, STAGE_A_OUTPUT_DIR="alone")
    assert alone.returncode == 0
    together, single = (output_paths(workplace / out, MISSION).jsonl for out in ("out", "alone"))
    assert together.read_bytes() == single.read_bytes()


def test_a_mission_over_its_budget_keeps_no_other_from_being_published(workplace):
    for photo in (workplace / "in" / BRACKETS).rglob("*.jpg"):
        photo.write_bytes(b"")
    done = here(workplace, "materialize", "--mission", BRACKETS, "--mission", MISSION)
    assert done.returncode == 1
    assert f"failed {BRACKETS}: 2 of 2 groups were rejected" in done.stdout
    assert f"done {MISSION}: 5 groups written" in done.stdout
    assert not output_paths(workplace / "out", BRACKETS).jsonl.exists()


def test_a_damaged_journal_of_one_mission_does_not_cost_the_others(workplace):
    command = ("materialize", "--mission", BRACKETS, "--mission", MISSION)
    assert here(workplace, *command).returncode == 0
    journal = workplace / "out" / "work" / "journal" / BRACKETS / "cpu.jsonl"
    journal.write_bytes(b"nonsense\n" + journal.read_bytes())
    delivered = output_paths(workplace / "out", MISSION).jsonl
    delivered.unlink()
    done = here(workplace, *command)
    assert done.returncode == 1
    assert f"failed {BRACKETS}: " in done.stdout
    assert "line 1 is damaged" in done.stdout
    assert f"done {MISSION}: 5 groups written" in done.stdout
    assert delivered.exists()


def test_materialize_takes_settings_from_the_option_and_aliases_as_names(workplace):
    write_groups(workplace / "in", "BBU线缆布放要求", {"fail": [1], "pass": [1]}, first_seed=80)
    settings = str(workplace / "no_workers.toml")
    done = here(
        workplace, "materialize", "--mission", "BBU线缆布放要求", "--settings", settings, STAGE_A_SETTINGS=""
    )
    assert done.returncode == 0, done.stderr
    assert output_paths(workplace / "out", "BBU线缆布放").jsonl.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("materialize", "--mission", "不存在"), "unknown mission '不存在'; known missions: "),
        (("status", "--mission", "不存在"), "unknown mission '不存在'"),
        (("demo", "tree", "--root", "t", "--mission", "不存在"), "unknown mission '不存在'"),
        (("validate", "nowhere.jsonl"), "nowhere.jsonl"),
    ],
)
def test_errors_are_one_sentence_and_exit_non_zero(workplace, arguments, message):
    done = run(workplace, "stage-a", *arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_status_counts_what_is_there_and_what_was_delivered(workplace):
    here(workplace, "materialize", "--mission", MISSION)
    done = run(workplace, "stage-a", "status")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if MISSION in line)
    assert [cell.strip() for cell in row.split("│")[2:7]] == ["5", "12", "12", "5", "0"]
    other = next(line for line in done.stdout.splitlines() if BRACKETS in line)
    assert [cell.strip() for cell in other.split("│")[2:7]] == ["2", "3", "0", "-", "-"]


def test_status_of_a_missing_input_root_fails(workplace):
    done = run(workplace, "stage-a", "status", STAGE_A_INPUT_ROOT="/nowhere/at/all")
    assert done.returncode == 1
    assert "input root /nowhere/at/all does not exist" in done.stderr


def test_names_and_paths_are_no_markup_and_lines_are_not_wrapped(workplace):
    name = "[red]检查[bold]"
    (workplace / "missions.toml").write_text(
        f'[[mission]]\nname = "{name}"\ndataset = "bbu"\nfocus = "安装"\naliases = ["red"]\n'
    )
    write_groups(workplace / "in", "red", {"fail": [1], "pass": [1]}, first_seed=90)
    output = workplace / "out[/x]" / ("long" * 20)
    own = {
        "COLUMNS": "80",
        "DAGSTER_HOME": "",
        "STAGE_A_MISSIONS": str(workplace / "missions.toml"),
        "STAGE_A_OUTPUT_DIR": str(output),
        "STAGE_A_SETTINGS": str(workplace / "no_workers.toml"),
    }
    done = run(workplace, "stage-a", "materialize", "--mission", "red", "--mission", MISSION, **own)
    assert done.returncode == 0, done.stderr
    for mission, groups in ((name, 2), (MISSION, 5)):
        line = f"done {mission}: {groups} groups written, 0 rejected -> {output_paths(output, mission).jsonl}"
        assert line in done.stdout.splitlines()
    alone = run(workplace, "stage-a", "materialize", "--mission", "red", **own)
    assert f"{name} on cpu" in alone.stdout, "the bar shows the name as it is"


@pytest.mark.parametrize("home", ["dagster", "/nowhere/at/all"])
def test_a_dagster_home_that_dagster_refuses_is_named_with_the_remedy(workplace, home):
    done = run(workplace, "stage-a", "materialize", "--mission", MISSION, DAGSTER_HOME=home)
    assert done.returncode == 1
    assert f"environment variable DAGSTER_HOME is '{home}'" in done.stderr
    assert "unset the variable" in done.stderr
    assert "Traceback" not in done.stderr


def test_of_many_rejected_photos_the_first_twenty_are_shown(workplace):
    shutil.rmtree(workplace / "in")
    for mission in (MISSION, BRACKETS):
        write_groups(workplace / "in", mission, {"fail": [23], "pass": [1]})
        for photo in (workplace / "in" / mission / "审核不通过").rglob("*.jpg"):
            photo.write_bytes(b"")
    done = here(workplace, "materialize", "--mission", MISSION, "--mission", BRACKETS)
    lines = done.stdout.splitlines()
    rejected = [line for line in lines if line.startswith("photo rejected")]
    assert len(rejected) == 20
    assert lines.count("and more; all are listed in the rejected lines") == 1


def test_validate_names_line_and_field(workplace):
    here(workplace, "materialize", "--mission", MISSION)
    path = output_paths(workplace / "out", MISSION).jsonl
    assert here(workplace, "validate", str(path)).returncode == 0
    lines = path.read_text("utf-8").splitlines()
    record = json.loads(lines[1])
    record["per_image"]["image_9"] = "x"
    path.write_text("\n".join([lines[0], json.dumps(record, ensure_ascii=False), *lines[2:]]) + "\n", "utf-8")
    done = run(workplace, "stage-a", "validate", str(path))
    assert done.returncode == 1
    assert "line 2: per_image.image_9" in done.stderr


def test_help_needs_neither_dagster_nor_torch(workplace):
    script = "import sys; import stage_a_pipeline.cli; print({'dagster', 'torch'} & set(sys.modules))"
    done = run(workplace, "python", "-c", script)
    assert done.stdout.strip() == "set()"
