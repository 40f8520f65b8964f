"""Each column of the table is what its definition says."""

import os
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from stage_a_pipeline.bench.contenders import CONTENDERS, choose
from stage_a_pipeline.bench.engine_figures import check_lengths, engine_rows, same_text
from stage_a_pipeline.bench.engine_picture import engine_picture
from stage_a_pipeline.bench.engine_records import Answer, EngineRun, EngineTask, Work, write_json
from stage_a_pipeline.bench.engine_table import sentences
from stage_a_pipeline.bench.engines import ALLOCATOR, EngineComparison
from stage_a_pipeline.bench.plain_generate import plan_batches
from stage_a_pipeline.bench.shapes import SHAPES
from stage_a_pipeline.bench.workload import PlannedPhoto
from stage_a_pipeline.errors import ConfigurationError, StageAError
from stage_a_pipeline.prompts import Prompt

WORK = Work(places=100, row_steps=60, useful_row_steps=45, tokens=200, padding=30)
RUN = EngineRun(
    answers=(Answer("甲", 10), Answer("乙", 20)),
    wall_seconds=4.0,
    cpu_seconds=2.0,
    waiting_seconds=1.0,
    peak_memory_mb=50.0,
    work=WORK,
)
KEYS = [
    "engine",
    "photos_per_second",
    "photos_per_cpu_second",
    "tokens_per_second",
    "batch_fill",
    "wasted_row_steps",
    "padding_share",
    "device_wait_share",
    "peak_memory_mb",
    "same_text_as_single",
]


def test_a_row_has_the_agreed_keys_first_and_the_defined_figures():
    (row,) = engine_rows({"one by one": [RUN]})
    document = row.to_json()
    assert list(document)[: len(KEYS)] == KEYS
    values = [document[key] for key in KEYS]
    assert values == ["one by one", 0.5, 1.0, 7.5, 0.45, 0.25, 0.15, 0.25, 50.0, 1.0]
    assert "roofline_share" not in document


def test_figures_are_medians_over_the_rounds_and_texts_must_agree_in_all():
    other = (Answer("甲", 10), Answer("丙", 20))
    rounds = [RUN, replace(RUN, wall_seconds=2.0, answers=other), replace(RUN, wall_seconds=1.0)]
    _, row = engine_rows({"one by one": [RUN], "static": rounds})
    assert row.photos_per_second == 1.0
    assert row.wall_seconds == (4.0, 2.0, 1.0)
    assert row.same_text == 0.5


def test_what_a_peer_does_not_tell_is_null():
    rows = engine_rows({"endpoint": [EngineRun((Answer("甲", 0),), wall_seconds=2.0)]})
    document = rows[0].to_json()
    assert document["photos_per_second"] == 0.5
    assert [document[key] for key in KEYS[2:]] == [None] * len(KEYS[2:])
    assert not rows[0].must_be_same


def test_the_share_of_the_roofline_is_ideal_over_measured_seconds():
    (row,) = engine_rows({"refill": [RUN]}, ideal_seconds_per_photo=0.5)
    assert row.to_json()["roofline_share"] == 0.25


def test_an_answer_that_was_broken_off_in_a_loop_is_compared_as_far_as_it_goes():
    reference = [Answer("甲乙甲乙甲乙", 6)]
    assert same_text([Answer("甲乙甲乙", 4, cut=True)], reference) == 1.0
    assert same_text([Answer("甲乙甲乙", 4)], reference) == 0.0
    assert same_text([Answer("乙甲", 2, cut=True)], reference) == 0.0


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (replace(RUN, answers=(Answer("甲", 10), Answer("乙", 19))), "answer 1 has 19 tokens where 20"),
        (replace(RUN, retried=1), "1 answers were asked twice"),
    ],
)
def test_a_forced_length_that_is_not_kept_is_an_error(run, words):
    photos = [PlannedPhoto(1, 1, (32, 32), 10), PlannedPhoto(1, 2, (32, 32), 20)]
    check_lengths("refill", photos, RUN)
    with pytest.raises(StageAError, match=words):
        check_lengths("refill", photos, run)


def test_tasks_and_runs_come_back_from_their_files(tmp_path):
    photos = (PlannedPhoto(1, 1, (32, 64), 10), PlannedPhoto(2, 1, (64, 32), None))
    task = EngineTask("refill", "builtin", "cpu", 8, 99, Prompt("规", "则"), "photos", photos, "scratch")
    for record in (task, replace(task, prompt=None), RUN, replace(RUN, work=None)):
        write_json(tmp_path / "record.json", record)
        assert type(record).read(tmp_path / "record.json") == record


def test_batches_of_the_plain_loops_hold_every_photo_once(tmp_path):
    from PIL import Image

    from stage_a_pipeline.bench.photo_files import photo_path

    photos = [
        PlannedPhoto(1 if place < 5 else 2, place, (32 + 32 * (place % 3), 32), 9) for place in range(8)
    ]
    for photo in photos:
        path = photo_path(tmp_path, photo)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", photo.size).save(path)
    planned = {
        batches: plan_batches(photos, batches, 3, tmp_path)
        for batches in ("one by one", "per group", "static", "static, sorted")
    }
    assert planned["one by one"] == [[place] for place in range(8)]
    assert planned["per group"] == [[0, 1, 2], [3, 4], [5, 6, 7]]
    assert planned["static"] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert planned["static, sorted"] == [[0, 3, 6], [1, 4, 7], [2, 5]]


def test_engines_are_chosen_by_name_and_what_cannot_run_is_left_out_with_its_reason(monkeypatch):
    chosen, _ = choose(("refill", "one by one"), SHAPES["tiny"])
    assert [contender.name for contender in chosen] == ["one by one", "refill"]
    _, left_out = choose((), SHAPES["tiny"])
    assert "builtin" in left_out["refill + prefix, grammar"]
    monkeypatch.setattr("stage_a_pipeline.bench.contenders.find_spec", lambda _: None)
    chosen, left_out = choose((), SHAPES["builtin"])
    assert "llguidance" in left_out["refill + prefix, grammar"]
    assert {contender.name for contender in chosen} | set(left_out) == set(CONTENDERS)
    with pytest.raises(ConfigurationError, match=r"(?s)no engine 'refil'.*did you mean 'refill'"):
        choose(("refil",), SHAPES["tiny"])


def test_the_picture_has_a_bar_per_engine_its_conditions_and_escaped_names():
    rows = engine_rows({"static": [RUN], "<b>&\"'": [replace(RUN, cpu_seconds=1.0)]})
    conditions = {
        "shape": "tiny & <small>",
        "device": "cpu",
        "dtype": "float32",
        "photos": 2,
        "groups": 1,
        "batch_size": 8,
        "rounds": 3,
        "prompt_prefix_tokens": 62,
    }
    drawn = engine_picture(EngineComparison(tuple(rows), {"refill": "no <room>"}, conditions, exact=True))
    texts = [node.text or "" for node in ElementTree.fromstring(drawn).iter() if node.tag.endswith("text")]
    assert "<b>&\"'" in texts
    assert "2, 2.00 times static" in texts
    assert "Engines compared: photos per CPU second" in texts
    assert any(
        text.startswith("shape tiny & <small>, float32 on cpu; 2 photos in 1 groups") for text in texts
    )
    assert "left out: refill: no <room>" in texts


def test_on_cuda_or_beside_a_peer_the_picture_counts_seconds_of_the_clock():
    conditions = dict.fromkeys(
        ("shape", "device", "dtype", "photos", "groups", "batch_size", "rounds", "prompt_prefix_tokens")
    )
    for device, runs in {
        "cuda:0": {"refill": [RUN]},
        "cpu": {"refill": [RUN], "endpoint": [replace(RUN, cpu_seconds=None)]},
    }.items():
        comparison = EngineComparison(tuple(engine_rows(runs)), {}, {**conditions, "device": device}, True)
        assert ">Engines compared: photos per second<" in engine_picture(comparison)


@pytest.mark.parametrize(("engines", "told"), [(("refill",), True), (("one by one", "refill"), False)])
def test_that_no_texts_were_compared_is_said(engines, told):
    conditions = dict.fromkeys(("shape", "device", "dtype", "photos", "groups", "batch_size", "rounds"))
    comparison = EngineComparison(
        tuple(engine_rows({name: [RUN] for name in engines})),
        {},
        {**conditions, "prompt_prefix_tokens": 62},
        exact=True,
    )
    assert any("no texts were compared" in line for line in sentences(comparison)) is told


PEAK = """
import os
from stage_a_pipeline.bench.meter import Meter
before = bytearray(os.urandom(1)) * (300 << 20)
del before
meter = Meter("cpu")
during = bytearray(os.urandom(1)) * (64 << 20)
del during
print(meter.stop().peak_memory_mb)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are the Linux kernel's")
@pytest.mark.parametrize("environment", [{}, ALLOCATOR], ids=["as it is", "as engines run"])
def test_the_peak_is_of_the_run_and_not_of_what_was_before(environment):
    done = subprocess.run(
        [sys.executable, "-c", PEAK],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 60 <= float(done.stdout) <= 90
