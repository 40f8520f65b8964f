"""Benchmarks run and say what they claim; their figures are not judged here, since machines differ."""

import json
import subprocess
import sys
from pathlib import Path

STAGE_A = str(Path(sys.executable).with_name("stage-a"))


def test_bench_batching_compares_both_modes_on_equal_answers(tmp_path):
    figures = tmp_path / "batching.json"
    done = subprocess.run(
        [STAGE_A, "bench", "batching", "--groups", "6", "--json", str(figures)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(figures.read_text("utf-8"))
    assert report["answers_equal"] is True
    across, per_group = report["modes"]["cross_group"], report["modes"]["per_group"]
    assert across["photos"] == per_group["photos"] > 0
    assert across["batches"] < per_group["batches"] == 6
    speedup = across["photos_per_cpu_second"] / per_group["photos_per_cpu_second"]
    assert abs(report["speedup"] - speedup) < 1e-9
