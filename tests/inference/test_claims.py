"""Photos that occur on several devices: asked once. Real processes."""

import subprocess
import sys

import pytest

from stage_a_pipeline.discovery import discover_groups
from stage_a_pipeline.inference.answer_index import answer_key
from stage_a_pipeline.inference.asking import Audience
from stage_a_pipeline.inference.claims import PhotoClaims
from stage_a_pipeline.inference.journal import Answer, Journal
from stage_a_pipeline.inference.shard import mission_recipes
from stage_a_pipeline.inference.together import ask_together
from stage_a_pipeline.missions import load_missions
from stage_a_pipeline.settings import Settings
from tests.conftest import BRACKETS, MISSION, write_groups, write_photo

KEYS = [answer_key(f"{number:064x}", "f") for number in range(4)]
SCRIPT = """
import sys
from pathlib import Path
from stage_a_pipeline.inference.claims import PhotoClaims
claims = PhotoClaims(Path(sys.argv[1]))
for line in sys.stdin:
    word, key = line.split()
    if word == "take":
        print(claims.take(bytes.fromhex(key)), flush=True)
    else:
        claims.release(bytes.fromhex(key))
        print("released", flush=True)
"""


@pytest.fixture
def other(tmp_path):
    """Another process: does one word with one key, and says what came of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "claims")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip

    def do(word, key):
        process.stdin.write(f"{word} {key.hex()}\n")
        process.stdin.flush()
        return process.stdout.readline().strip()

    do.process = process
    yield do
    process.kill()
    process.communicate()


def test_a_photo_belongs_to_one_process_at_a_time(tmp_path, other):
    with PhotoClaims(tmp_path / "claims") as claims:
        assert other("take", KEYS[0]) == "True"
        assert not claims.take(KEYS[0])
        assert claims.take(KEYS[1])
        assert other("take", KEYS[1]) == "False"
        other("release", KEYS[0])
        assert claims.take(KEYS[0])
        claims.release(KEYS[1])
        assert other("take", KEYS[1]) == "True"


def test_the_claims_of_a_dead_process_are_free(tmp_path, other):
    with PhotoClaims(tmp_path / "claims") as claims:
        assert other("take", KEYS[2]) == "True"
        assert not claims.take(KEYS[2])
        other.process.kill()
        other.process.wait()
        assert claims.take(KEYS[2])


def test_claims_take_no_room(tmp_path):
    with PhotoClaims(tmp_path / "claims") as claims:
        assert all(claims.take(key) for key in KEYS)
    assert (tmp_path / "claims").stat().st_size == 0


def answer(text):
    return Answer(text, "stop", 1, 1, 1)


def test_a_look_around_finds_what_other_shards_answered_since(tmp_path):
    with (
        Journal(tmp_path, "cpu", [MISSION]) as here,
        Journal(tmp_path, "cpu_1", [MISSION, BRACKETS]) as there,
    ):
        there.append_answer(MISSION, "a", "1" * 64, "f", answer("一"))
        there.append_answer(BRACKETS, "b", "2" * 64, "f", answer("二"))
        assert not here.knows("1" * 64, "f")
        here.look_around()
        assert here.find("1" * 64, "f").raw_text == "一"
        assert here.find("2" * 64, "f").raw_text == "二"
        there.append_answer(MISSION, "c", "3" * 64, "f", answer("三"))
        here.look_around()
        assert here.find("3" * 64, "f").raw_text == "三"
        assert here.notices == []


def test_a_look_around_goes_on_in_a_file_that_its_shard_has_shortened(tmp_path):
    path = tmp_path / MISSION / "cpu_1.jsonl"
    with Journal(tmp_path, "cpu", [MISSION]) as here:
        with Journal(tmp_path, "cpu_1", [MISSION]) as there:
            for _ in range(1500):
                there.append_failure(MISSION, "a", "1" * 64, "f", reason="empty", attempts=2)
        here.look_around()
        size = path.stat().st_size
        with Journal(tmp_path, "cpu_1", [MISSION]) as there:
            there.append_answer(MISSION, "b", "2" * 64, "f", answer("二"))
        assert path.stat().st_size < size
        here.look_around()
        assert here.find("2" * 64, "f").raw_text == "二"


def test_a_look_around_passes_over_half_a_line_and_tells_damage_once(tmp_path):
    with Journal(tmp_path, "cpu_1", [MISSION]) as there:
        there.append_answer(MISSION, "a", "1" * 64, "f", answer("一"))
    path = tmp_path / MISSION / "cpu_1.jsonl"
    line = path.read_bytes()
    with Journal(tmp_path, "cpu", [MISSION]) as here:
        with path.open("ab") as file:
            file.write(line.replace(b"1111", b"2222")[:50])
        here.look_around()
        assert len(here) == 1
        with path.open("ab") as file:
            file.write(b" no journal line\n")
        here.look_around()
        here.look_around()
        (notice,) = here.notices
        assert "cpu_1.jsonl, a line is damaged" in notice


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_the_same_photo_on_two_devices_is_asked_once(tmp_path, seconds):
    root = write_groups(tmp_path / "in", MISSION, {"fail": [2, 2, 2, 2], "pass": [3, 3]})
    for place, photo in enumerate(sorted(root.rglob("*.jpg"))):
        write_photo(photo, seed=place % 3)
    (tmp_path / "faults.toml").write_text(f"seconds_per_photo = {seconds}\n")
    settings = Settings.model_validate(
        {
            "engine": {
                "engine": "fake", "devices": ["cpu", "cpu"], "batch_size": 2,
                "fake_faults": tmp_path / "faults.toml",
            },
            "inference": {"lease_dir": tmp_path / "leases"},
            "output": {"output_dir": tmp_path / "out"},
        }
    )  # fmt: skip
    groups = discover_groups(root, MISSION).groups
    recipes = mission_recipes([load_missions()[MISSION]], settings)
    silent = Audience(None, pytest.fail, lambda _: None)
    table, metrics = ask_together(groups, recipes, settings, lambda _: silent, run_id="run")
    assert metrics.photos == table.num_rows == 14
    assert (metrics.inferred, metrics.reused) == (3, 11)
    assert len(set(table.read().column("raw_text").to_pylist())) == 3
