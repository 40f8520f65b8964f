"""The status of missions: counts that are true for these settings, and problems that end nothing."""

from __future__ import annotations

import io
import signal

import pytest
from rich.console import Console

from stage_a_pipeline import demo_tour, terminal
from stage_a_pipeline.defs.launch import materialise_missions
from stage_a_pipeline.defs.resources import LogProgress, SettingsResource
from stage_a_pipeline.errors import ConfigurationError, DiscoveryError
from stage_a_pipeline.jsonl import output_paths
from stage_a_pipeline.settings import Settings, load_settings
from stage_a_pipeline.status import MissionStatus, mission_status
from stage_a_pipeline.terminal import print_status
from tests.conftest import BRACKETS, MISSION, write_groups


@pytest.fixture
def workplace(tmp_path):
    write_groups(tmp_path / "in", MISSION, {"fail": [1, 2], "pass": [3]})
    write_groups(tmp_path / "in", BRACKETS, {"pass": [2]}, first_seed=50)
    return tmp_path


def overrides(workplace, **engine) -> dict[str, dict[str, object]]:
    return {
        "discovery": {"input_root": str(workplace / "in")},
        "engine": {"engine": "fake", **engine},
        "inference": {"lease_dir": str(workplace / "leases"), "worker_processes": False},
        "output": {"output_dir": str(workplace / "out")},
    }


def settings(workplace, **engine) -> Settings:
    return load_settings(environ={}, overrides=overrides(workplace, **engine))


def materialise(workplace, **engine) -> str | None:
    resource = SettingsResource(**overrides(workplace, **engine))
    (run,) = materialise_missions([MISSION], settings=resource, progress=LogProgress())
    return run.error


def status(workplace, **engine) -> MissionStatus:
    (row,) = mission_status(settings(workplace, **engine), [MISSION])
    return row


def break_photos(workplace) -> None:
    for photo in (workplace / "in" / MISSION).rglob("*.jpg"):
        photo.write_bytes(b"")


def test_a_missing_input_root_is_an_error(workplace):
    loaded = load_settings(environ={}, overrides={"discovery": {"input_root": str(workplace / "nowhere")}})
    with pytest.raises(DiscoveryError, match=r"input root .*nowhere does not exist"):
        list(mission_status(loaded))


def test_an_unknown_mission_is_an_error(workplace):
    with pytest.raises(ConfigurationError, match="unknown mission '不存在'"):
        list(mission_status(settings(workplace), ["不存在"]))


def test_missions_without_folder_and_files_are_left_out_unless_named(workplace):
    assert [row.mission for row in mission_status(settings(workplace))] == sorted([MISSION, BRACKETS])
    (row,) = mission_status(settings(workplace), ["RRU线缆"])
    assert (row.groups, row.photos, row.answers) == (0, 0, 0)
    assert "has no folder" in row.problems[0]


def test_answers_are_those_that_these_settings_would_reuse(workplace):
    assert materialise(workplace) is None
    assert status(workplace) == MissionStatus(
        MISSION, 3, 6, 6, 3, 0, output_paths(workplace / "out", MISSION).jsonl
    )
    assert status(workplace, max_new_tokens=99).answers == 0


def test_sampled_answers_are_counted_too(workplace):
    assert materialise(workplace, temperature=1.0) is None
    assert status(workplace, temperature=1.0).answers == 6


def test_a_checkpoint_that_cannot_be_used_is_a_problem_of_the_row(workplace):
    assert materialise(workplace) is None
    row = status(workplace, engine="transformers", checkpoint=str(workplace / "gone"))
    assert (row.groups, row.answers, row.written) == (3, None, 3)
    assert "checkpoint folder" in row.problems[0]


@pytest.mark.parametrize("delivered_before", [True, False])
def test_a_failed_run_is_told_with_the_path_of_its_rejected_lines(workplace, delivered_before):
    if delivered_before:
        assert materialise(workplace) is None
        assert not status(workplace).last_run_failed
    break_photos(workplace)
    assert materialise(workplace) is not None
    row = status(workplace)
    assert row.last_run_failed
    assert row.written == (3 if delivered_before else None)
    assert str(output_paths(workplace / "out", MISSION).rejected) in row.problems[0]


def test_a_run_leaves_the_stop_signal_to_whoever_had_it(workplace):
    # As in a script's background, where SIGINT is ignored.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, stop_by_signal)
    try:
        materialise(workplace)
        assert signal.getsignal(signal.SIGTERM) is stop_by_signal
    finally:
        signal.signal(signal.SIGINT, before[0])
        signal.signal(signal.SIGTERM, before[1])


def stop_by_signal(*_: object) -> None:
    raise KeyboardInterrupt


def test_rejected_lines_of_a_delivered_run_are_no_failure(workplace):
    (workplace / "in" / MISSION / "审核通过" / "QC-20241028-pass001" / "IMG_1.jpg").write_bytes(b"")
    assert materialise(workplace) is None
    row = status(workplace)
    assert (row.written, row.rejected) == (2, 1)
    assert (row.last_run_failed, row.problems) == (False, ())


def test_a_failed_run_shows_even_where_the_photos_are_gone(workplace):
    break_photos(workplace)
    materialise(workplace)
    (workplace / "in" / MISSION).rename(workplace / "in" / "elsewhere")
    failed = {row.mission: row.last_run_failed for row in mission_status(settings(workplace))}
    assert failed == {MISSION: True, BRACKETS: False}


def test_damaged_files_are_problems_of_their_row_and_end_nothing(workplace):
    assert materialise(workplace) is None
    (workplace / "out" / "work" / "journal" / MISSION / "cpu.jsonl").write_bytes(b"damage\n")
    output_paths(workplace / "out", MISSION).manifest.write_text("{}")
    rows = {row.mission: row for row in mission_status(settings(workplace))}
    row = rows[MISSION]
    assert (row.groups, row.photos, row.answers, row.written, row.rejected) == (3, 6, None, None, None)
    assert not row.last_run_failed, "a damaged manifest cannot tell"
    assert "is not a manifest" in row.problems[0]
    assert "cpu.jsonl, line 1 is damaged" in row.problems[1]
    assert rows[BRACKETS].problems == ()


def test_the_table_shows_names_and_problems_as_they_are(workplace, monkeypatch):
    shown = io.StringIO()
    narrow = Console(file=shown, width=80, markup=terminal.console._markup, emoji=terminal.console._emoji)
    monkeypatch.setattr(terminal, "console", narrow)
    problem = "line [/red] of :smile: " + "x" * 90
    rows = [
        MissionStatus("[red]任务", 1, 2, None, None, None, workplace / "j", problems=(problem,)),
        MissionStatus("[/x]", 1, 2, 3, 4, 5, workplace / "[/d]" / "j", problems=(problem,)),
    ]
    print_status(rows, settings(workplace))
    lines = shown.getvalue().splitlines()
    cells = {cell.strip() for line in lines for cell in line.split("│")}
    assert {"[red]任务", "[/x]", "-"} <= cells
    assert "remembered" in shown.getvalue()
    assert lines.count(problem) == 1
    assert f"delivered {workplace}/[/d]/j" in lines


def test_the_demo_shows_results_below_a_folder_whose_name_looks_like_markup(workplace, capsys):
    loaded = settings(workplace)
    odd = workplace / "d[/x]" / ("long" * 20)
    odd.parent.mkdir(parents=True)
    for mission in (MISSION, BRACKETS):
        resource = SettingsResource(**overrides(workplace))
        (run,) = materialise_missions([mission], settings=resource, progress=LogProgress())
        assert run.error is None
    (workplace / "out").rename(odd)
    moved = loaded.model_copy(update={"output": loaded.output.model_copy(update={"output_dir": odd})})
    demo_tour._show_results(moved)
    lines = capsys.readouterr().out.splitlines()
    for mission in (MISSION, BRACKETS):
        assert f"     records  {output_paths(odd, mission).jsonl}" in lines
