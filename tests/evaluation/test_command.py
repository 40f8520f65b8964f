"""`stage-a evaluate` as people type it: a real process, rendered photos, the built-in checkpoint.

What a process of its own adds nothing to is run in this one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import chdir
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

# Partitions are read from the settings when this is imported: here, no test has set any.
import stage_a_pipeline.defs.launch  # noqa: F401
from stage_a_pipeline.cli import main
from stage_a_pipeline.demo.tree import write_demo_tree
from stage_a_pipeline.inference.journal import count_answers
from tests.conftest import BRACKETS, MISSION, write_groups

STAGE_A = str(Path(sys.executable).with_name("stage-a"))
HERE = '[inference]\nlease_dir = "leases"\nworker_processes = false\n'
SETTINGS = f"[engine]\nbatch_size = 8\nmax_new_tokens = 256\n{HERE}"
FAKE = f'[engine]\nengine = "fake"\nbatch_size = 2\nfake_faults = "faults.toml"\n{HERE}'


def start(workplace: Path, *options: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [STAGE_A, "evaluate", "--settings", "settings.toml", *options],
        cwd=workplace,
        env=os.environ | {"COLUMNS": "100"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def evaluate(workplace: Path, *options: str, **environment: str) -> tuple[int, str]:
    """The command in this process, without the seconds that one takes to start."""
    return here(workplace, "evaluate", *options, **environment)


def here(workplace: Path, command: str, *options: str, **environment: str) -> tuple[int, str]:
    with chdir(workplace):
        runner = CliRunner(env={"COLUMNS": "100", **environment})
        done = runner.invoke(main, [command, "--settings", "settings.toml", *options])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """A rendered tree with one broken photo, evaluated once with everything that can be asked for."""
    workplace = tmp_path_factory.mktemp("evaluation")
    tree = write_demo_tree(workplace / "tree", missions=[MISSION, BRACKETS], groups=3, seed=78, broken=1)
    (workplace / "settings.toml").write_text(SETTINGS)
    files = ("--json", "scores.json", "--picture", "confusions.svg")
    process = start(workplace, "--root", "tree", "--verdicts", *files)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return workplace, tree, output


def test_the_document_agrees_with_the_tree_and_with_itself(rendered):
    workplace, tree, _ = rendered
    document = json.loads((workplace / "scores.json").read_text("utf-8"))
    assert document["photos"] == tree.photos - tree.broken
    assert document["unmatched"]["photos_without_true_summary"] == tree.broken
    assert set(document["per_mission"]) == {MISSION, BRACKETS}
    assert sum(scores["photos"] for scores in document["per_mission"].values()) == document["photos"]
    exact = sum(scores["photos"] * scores["exact_match"] for scores in document["per_mission"].values())
    assert exact == pytest.approx(document["photos"] * document["exact_match"])
    true = sum(scores["true"] for scores in document["per_attribute"].values())
    hits = sum(scores["true"] * (scores["recall"] or 0) for scores in document["per_attribute"].values())
    assert document["attribute_recall"] == pytest.approx(hits / true)
    assert document["checkpoint"] == "builtin"
    assert Path(document["truth"]) == workplace / "tree" / "truth.jsonl"
    verdicts = document["verdicts"]
    assert 0 < verdicts["groups"] == sum(m["groups"] for m in verdicts["per_mission"].values())
    for share in ("format", "accuracy_from_truth", "accuracy_from_answers"):
        assert 0 <= verdicts[share] <= 1


def test_the_picture_is_a_picture_and_the_terminal_shows_tables_and_files(rendered):
    workplace, tree, output = rendered
    root = ElementTree.parse(workplace / "confusions.svg").getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    for text in (MISSION, BRACKETS, "total", "attribute, the weakest first", "from answers",
                 "scores    scores.json", "picture   confusions.svg",
                 f"photos whose line has no summary: {tree.broken}"):  # fmt: skip
        assert text in output


def test_a_second_call_asks_nothing_and_says_the_same(rendered):
    workplace, _, _ = rendered
    journals = sorted((workplace / "output" / "work" / "journal").rglob("*.jsonl"))
    before = [path.read_bytes() for path in journals]
    code, output = evaluate(workplace, "--root", "tree", "--json", "again.json")
    assert code == 0, output
    assert [path.read_bytes() for path in journals] == before
    first = json.loads((workplace / "scores.json").read_text("utf-8"))
    assert json.loads((workplace / "again.json").read_text("utf-8")) == {
        key: value for key, value in first.items() if key != "verdicts"
    }


def test_what_the_pipeline_has_answered_is_not_asked_again(rendered):
    workplace, _, _ = rendered
    places = {"STAGE_A_INPUT_ROOT": "tree", "STAGE_A_OUTPUT_DIR": "pipeline"}
    code, output = here(workplace, "materialize", "--mission", MISSION, **places)
    assert code == 0, output
    (journal,) = (workplace / "pipeline" / "work" / "journal").rglob("*.jsonl")
    before = journal.read_bytes()
    options = ("--root", "tree", "--mission", MISSION, "--json", "mission.json")
    code, output = evaluate(workplace, *options, STAGE_A_OUTPUT_DIR="pipeline")
    assert code == 0, output
    assert journal.read_bytes() == before
    # The pipeline's own evaluation of the same answers says the same.
    own = json.loads((workplace / "pipeline" / f"{MISSION}_stage_a.evaluation.json").read_text("utf-8"))
    mission = json.loads((workplace / "mission.json").read_text("utf-8"))
    assert mission == own


@pytest.fixture
def faked(tmp_path):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [3, 4], "pass": [5, 4]})
    lines = [
        {"path": path.relative_to(root).as_posix(), "summary": "无关图片"}
        for path in sorted(root.rglob("*.jpg"))
    ]
    (root / "truth.jsonl").write_text(
        "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8"
    )
    (tmp_path / "settings.toml").write_text(f'{FAKE}[discovery]\ninput_root = "in"\n')
    (tmp_path / "faults.toml").write_text("")
    return tmp_path


def test_an_interrupted_evaluation_goes_on_where_it_stopped(faked):
    (faked / "faults.toml").write_text("seconds_per_photo = 0.2\n")
    settings = (faked / "settings.toml").read_text("utf-8")
    (faked / "settings.toml").write_text(settings.replace("worker_processes = false\n", ""), "utf-8")
    interrupted = start(faked)
    journal = faked / "output" / "work" / "journal" / MISSION
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if (journal / "cpu.jsonl").exists() and count_answers(journal) >= 3:
            break
        time.sleep(0.02)
    os.killpg(interrupted.pid, signal.SIGINT)
    output, _ = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130, output
    assert output.splitlines()[-1].startswith("interrupted; finished photos are kept")
    assert 3 <= count_answers(journal) < 16
    (faked / "faults.toml").write_text("")
    assert evaluate(faked)[0] == 0
    lines = (journal / "cpu.jsonl").read_text("utf-8").splitlines()
    photos = [json.loads(line)["photo"] for line in lines]
    assert len(photos) == len(set(photos)) == 16


def test_low_scores_are_no_failure_and_damaged_photos_are_told(faked):
    damaged = next((faked / "in").rglob("*.jpg"))
    damaged.write_bytes(damaged.read_bytes()[:-300])
    code, output = evaluate(faked, "--json", "scores.json")
    assert code == 0, output
    document = json.loads((faked / "scores.json").read_text("utf-8"))
    assert document["rejected"]["reasons"] == {"read: truncated": 1}
    assert "rejected photos, which count as wrong: 1 (1 read: truncated)" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--truth", "nowhere.jsonl"), "truth sidecar nowhere.jsonl cannot be read: No such file"),
        (("--root", "nowhere"), "nowhere does not exist"),
        (("--mission", "不存在"), "unknown mission '不存在'"),
        (("--device", "gpu"), "command line: setting engine.devices.0"),
        (("--verdicts",), "engine 'fake' has none"),
        (("--json", "settings.toml/x.json"), "cannot be written"),
    ],
)
def test_errors_are_one_sentence_and_exit_with_1(faked, options, message):
    code, output = evaluate(faked, *options)
    assert code == 1
    assert message in output.replace("\n", " ")
    assert "Traceback" not in output


def test_two_files_under_one_name_are_refused_before_anything_is_asked(faked):
    code, output = evaluate(faked, "--json", "same", "--picture", str(faked / "same"))
    assert code == 2
    assert "--json and --picture name the same file" in output
    assert not (faked / "output").exists()


def test_scores_are_seen_although_their_file_cannot_be_written(faked):
    code, output = evaluate(faked, "--json", "settings.toml/x.json", "--picture", "confusions.svg")
    assert code == 1
    assert output.index("irrelevant") < output.index("cannot be written")
    assert output.index("total") < output.index("cannot be written")


def test_a_sidecar_that_fits_no_photo_says_what_there_is(faked):
    (faked / "other.jsonl").write_text('{"path": "别处/a.jpg", "summary": "无关图片"}\n', "utf-8")
    code, output = evaluate(faked, "--truth", "other.jsonl")
    assert code == 1
    assert "photos without a line in the truth sidecar: 16; truth lines of other missions: 1" in output


def test_a_root_of_its_own_brings_its_own_truth(faked):
    configured = f'{FAKE}[evaluation]\ntruth = "elsewhere.jsonl"\n'
    (faked / "settings.toml").write_text(configured)
    assert evaluate(faked, "--root", "in")[0] == 0
    assert evaluate(faked, STAGE_A_INPUT_ROOT="in")[0] == 1
