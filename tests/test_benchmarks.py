"""Benchmarks run and say what they claim; their figures are not judged here, since machines differ."""

import json
import os
from collections import Counter
from random import Random
from statistics import median

import pytest
from click.testing import CliRunner, Result

from stage_a_pipeline.bench import batching, overhead, reassembly, scale, telemetry
from stage_a_pipeline.bench import report as bench_report
from stage_a_pipeline.bench.batching import BatchingComparison, BatchingWorkload, ModeFigures
from stage_a_pipeline.cli import main
from stage_a_pipeline.errors import ConfigurationError, StageAError
from stage_a_pipeline.jsonl import output_paths, read_manifest


def bench(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["bench", "batching", *arguments])


@pytest.mark.parametrize("engine", ["refill", "transformers"])
def test_bench_batching_compares_both_modes_on_equal_answers(tmp_path, engine):
    figures = tmp_path / "batching.json"
    done = bench("--groups", "4", "--engine", engine, "--json", str(figures))
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert report["answers_equal"] is True
    across, per_group = report["modes"]["cross_group"], report["modes"]["per_group"]
    assert across["photos"] == per_group["photos"] > 4
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


def test_bench_overhead_sets_the_scheduler_beside_a_bare_loop_with_equal_answers(tmp_path):
    figures = tmp_path / "overhead.json"
    done = CliRunner().invoke(main, ["bench", "overhead", "--photos", "10", "--json", str(figures)])
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert (report["photos"], report["batch_size"], report["answers_equal"]) == (10, 32, True)
    assert len(report["rounds"]) == overhead.ROUNDS
    for measured in report["rounds"]:
        assert 0 < measured["device_seconds"] < measured["scheduler_seconds"]
        assert 0 < measured["waiting_seconds"] < measured["scheduler_seconds"]
        assert 0 < measured["bare_cpu_seconds"] <= measured["bare_seconds"] * 1.1
    bare, whole = (median(m[f"{name}_seconds"] for m in report["rounds"]) for name in ("bare", "scheduler"))
    assert abs(report["share"] - (whole / bare - 1)) < 1e-9
    assert 0 < report["outside_share"] < 1
    assert f"{report['share']:+.1%}" in done.output
    assert "answers are equal" in done.output


def test_a_scheduler_with_other_answers_than_the_bare_loop_fails_the_command(monkeypatch):
    different = overhead.Overhead(4, 32, (overhead.Round(2.0, 2.2, 2.0, 0.1, 2.0, 2.1),), False, 1)
    monkeypatch.setattr(overhead, "measure_overhead", lambda _: different)
    done = CliRunner().invoke(main, ["bench", "overhead"])
    assert done.exit_code == 1
    assert "+10.0%, CPU time of its thread +5.0%; answers are DIFFERENT" in done.output


def test_bench_telemetry_sets_ways_of_being_watched_beside_none(tmp_path):
    figures = tmp_path / "telemetry.json"
    done = CliRunner().invoke(main, ["bench", "telemetry", "--photos", "6", "--json", str(figures)])
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert report["ways"][0]["name"] == "off"
    assert report["cpu_shares"]["off"] == 0
    assert set(report["cpu_shares"]) == {way["name"] for way in report["ways"]}
    assert all(len(way["cpu_seconds"]) == telemetry.ROUNDS for way in report["ways"])
    assert "trace, all photos" in done.output


def test_bench_scale_sets_many_photos_beside_a_tenth_of_them(tmp_path):
    figures = tmp_path / "scale.json"
    arguments = ("--photos", "300", "--dir", str(tmp_path / "work"), "--json", str(figures))
    done = CliRunner().invoke(main, ["bench", "scale", *arguments])
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert (report["tenth"]["photos"], report["whole"]["photos"]) == (30, 300)
    for measured in (report["tenth"], report["whole"]):
        phases = ["discovery", "planning", "asking", "merging", "delivering", "other steps"]
        assert list(measured["seconds"]) == phases
        assert all(seconds > 0 for seconds in measured["seconds"].values())
        assert sum(measured["seconds"].values()) < measured["wall_seconds"]
        assert 10 < measured["peaks"]["worker_mib"] < measured["peaks"]["parent_mib"] < 2000
        assert measured["journal_seconds"] > 0
    manifest = read_manifest(output_paths(tmp_path / "work" / "300" / "out", scale.MISSION).manifest)
    assert (manifest.photos.written, manifest.counts.written) == (300, report["whole"]["groups"])
    assert f"300 photos in {manifest.counts.written} groups" in done.output


def test_photos_of_the_scale_benchmark_are_real_and_all_different(tmp_path):
    from PIL import Image

    groups = scale.write_tree(tmp_path, 400, Random(1))
    files = sorted(tmp_path.rglob("*.jpg"))
    assert len({path.read_bytes() for path in files}) == len(files) == 400
    sizes = Counter(path.parent for path in files).values()
    assert (len(sizes), max(sizes), median(sizes)) == (groups, 5, 3)
    assert 3.0 < 400 / groups < 3.6
    with Image.open(files[0]) as photo:
        assert (photo.format, photo.size) == ("JPEG", (32, 24))
    scale.write_tree(tmp_path / "again", 400, Random(1))
    again = sorted((tmp_path / "again").rglob("*.jpg"))
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]


def test_a_command_that_fails_is_told_with_its_words(tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(StageAError, match=r"(?s)ended with code 1: .*has no folder"):
        scale.run_command(tmp_path, root=tmp_path / "in", watch=scale.watch_peaks)


@pytest.mark.slow
def test_bench_cluster_counts_every_component_and_finds_the_same_bytes(tmp_path):
    figures = tmp_path / "cluster.json"
    done = CliRunner().invoke(
        main, ["bench", "cluster", "--photos", "200", "--nodes", "2", "--json", str(figures)]
    )
    assert done.exit_code == 0, done.output
    told = json.loads(figures.read_text("utf-8"))
    assert told["same_bytes"] is True
    components = told["cluster"]["components"]
    expected = {"command": 1, "actor": 2, "actor's worker": 2, "raylet": 2}
    assert {name: components[name]["processes"] for name in expected} == expected
    assert all(one["peak_mib"] > 5 for one in components.values())
    assert told["alone"]["components"]["worker process"]["processes"] == 1


def test_bench_reassembly_compares_equal_objects_on_files_and_without(tmp_path):
    figures = tmp_path / "reassembly.json"
    small = (
        "bench",
        "reassembly",
        "--patches",
        "600",
        "--spread",
        "60",
        "--plain",
        "30",
        "--json",
        str(figures),
    )
    done = CliRunner().invoke(main, small)
    assert done.exit_code == 0, done.output
    report = json.loads(figures.read_text("utf-8"))
    assert [row["name"] for row in report["rows"]] == [
        reassembly.WHOLE, reassembly.SAME, reassembly.FEW, reassembly.NPY, reassembly.NPZ, reassembly.MADE,
    ]  # fmt: skip
    assert [row["patches"] for row in report["rows"]] == [30, 30, 6, 600, 600, 600]
    assert report["difference"] < 1e-6
    assert all(row["run"]["cpu_seconds"] > 0 for row in report["rows"])
    assert "times the patches of whole canvases" in done.output
    without = CliRunner().invoke(main, [*small, "--no-files"])
    assert without.exit_code == 0, without.output
    (row,) = json.loads(figures.read_text("utf-8"))["rows"]
    assert (row["name"], row["patches"]) == (reassembly.MADE, 600)


def test_objects_that_differ_fail_the_reassemblys_benchmark(monkeypatch):
    different = reassembly.ReassemblyComparison(reassembly.ReassemblyWorkload(), (), 1.0, 2e-5)
    monkeypatch.setattr(reassembly, "compare_reassembly", lambda *_, **__: different)
    done = CliRunner().invoke(main, ["bench", "reassembly"])
    assert done.exit_code == 1
    assert "the two objects differ by 2.0e-05" in done.output


@pytest.mark.browser
def test_bench_report_opens_and_filters_its_pages(tmp_path):
    try:
        bench_report.find_browser()
    except ConfigurationError as error:
        pytest.skip(str(error))
    figures = bench_report.measure_report(60, seed=3, folder=tmp_path / "place")
    assert figures.groups == 60 < figures.photos
    assert 0 < figures.paged.first_page <= figures.paged.all_read
    assert figures.paged.filtering > 0
    bench_report.print_report_figures(figures, tmp_path / "figures.json")
    told = json.loads((tmp_path / "figures.json").read_text("utf-8"))
    assert told["paged"]["filtering"] == figures.paged.filtering
