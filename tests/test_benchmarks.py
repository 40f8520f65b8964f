"""Benchmarks run and say what they claim; their figures are not judged here, since machines differ."""

import json
import os
from collections import Counter

import pytest
from click.testing import CliRunner, Result

from stage_a_pipeline.bench import batching
from stage_a_pipeline.bench.batching import BatchingComparison, BatchingWorkload, ModeFigures
from stage_a_pipeline.cli import main


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "batching", *arguments])


@pytest.mark.parametrize("engine", ["refill", "transformers"])
def test_bench_batching_compares_both_modes_on_equal_answers(tmp_path, engine):
    figures = tmp_path / "batching.json"
    done = bench("--groups", "6", "--engine", engine, "--json", str(figures))
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert report["answers_equal"] is True
    across, per_group = report["modes"]["cross_group"], report["modes"]["per_group"]
    assert across["photos"] == per_group["photos"] > 6
    assert across["rejected"] == per_group["rejected"] == 0
    assert across["steps"] < per_group["steps"]
    assert across["batch_fill"] > per_group["batch_fill"]
    speedup = across["photos_per_cpu_second"] / per_group["photos_per_cpu_second"]
    assert abs(report["speedup"] - speedup) < 1e-9
    assert (report["workload"]["engine"], report["workload"]["batch_size"]) == (engine, 32)
    threads = report["machine"]["torch_threads"]
    assert 1 <= threads <= (os.cpu_count() or 1)
    assert f"torch threads: {threads};" in done.output
    assert "answers are equal" in done.output


@pytest.mark.parametrize("device", ["gpu", "cuda", "cuda:x"])
def test_a_device_that_is_none_is_one_sentence(device):
    done = bench("--device", device)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "engine.devices" in done.output
    assert device in done.output
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize(("equal", "code", "word"), [(True, 0, "equal"), (False, 1, "DIFFERENT")])
def test_different_answers_fail_the_command(monkeypatch, equal, code, word):
    modes = (
        ModeFigures("cross_group", 4, 0, 1, 1.0, 2.0, 2.0),
        ModeFigures("per_group", 4, 0, 2, 0.5, 4.0, 4.0),
    )
    workload = BatchingWorkload(2, "refill", 32, "builtin", "cpu", 7)
    comparison = BatchingComparison(workload, modes, equal, torch_threads=1)
    monkeypatch.setattr(batching, "compare_batching", lambda _: comparison)
    done = bench()
    assert done.exit_code == code
    assert f"2.00 times per group; answers are {word}" in done.output


def test_groups_of_every_size_are_drawn_equally_often_and_the_same_for_a_seed(tmp_path, monkeypatch):
    monkeypatch.setattr(batching, "encode_photo", lambda photo: repr(photo).encode())
    workload = BatchingWorkload(500, "refill", 32, "builtin", "cpu", 7)
    refs = batching._photos(tmp_path / "one", workload)
    sizes = Counter(len(group) for group in {ref.group_index: ref.group.images for ref in refs}.values())
    assert sorted(sizes) == [1, 2, 3, 4, 5]
    assert all(70 <= count <= 130 for count in sizes.values()), sizes
    again = batching._photos(tmp_path / "two", workload)
    assert [ref.image.path.read_bytes() for ref in refs] == [ref.image.path.read_bytes() for ref in again]


@pytest.mark.parametrize(("scale", "smallest", "largest"), [("small", 180, 320), ("phone", 720, 1280)])
def test_photos_are_of_the_scale_asked_for_and_of_several_shapes(tmp_path, scale, smallest, largest):
    from PIL import Image

    refs = batching._photos(tmp_path, BatchingWorkload(6, "refill", 32, "builtin", "cpu", 7, scale))
    sizes = set()
    for ref in refs:
        with Image.open(ref.image.path) as photo:
            assert photo.format == "JPEG"
            sizes.add(photo.size)
    assert len(sizes) >= 3
    assert all(smallest <= side <= largest for size in sizes for side in size)
