"""`stage-a bench`: thin commands over the benchmarks.

Modules that a command needs are imported inside it: `stage-a --help` loads neither Dagster nor torch.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from stage_a_pipeline.cli_options import ANY_PATH, clear_errors, settings_option


@click.group()
def bench() -> None:
    """Benchmarks, each against its baseline in the same run."""


@bench.command("batching")
@click.option(
    "--groups", type=click.IntRange(min=2), default=40, show_default=True, help="Groups of 1 to 5 photos."
)
@click.option("--engine", type=click.Choice(["refill", "transformers"]), default="refill", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--checkpoint", default="builtin", show_default=True)
@click.option("--device", default="cpu", show_default=True, help="`cpu` or `cuda:0`.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--photos",
    type=click.Choice(["small", "phone"]),
    default="small",
    show_default=True,
    help="`small` is about what the built-in model sees, `phone` about a megapixel.",
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_batching(json_file: Path | None, **workload: Any) -> None:
    """Photos per CPU second: batches across groups against batches per group.

    Exits with 1 when the answers of any two runs differ.
    """
    from stage_a_pipeline.bench.batching import BatchingWorkload, compare_batching, print_comparison

    comparison = compare_batching(BatchingWorkload(**workload))
    print_comparison(comparison, json_file)
    sys.exit(0 if comparison.answers_equal else 1)


@bench.command("overhead")
@click.option("--photos", type=click.IntRange(min=1), default=200, show_default=True)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_overhead(photos: int, json_file: Path | None) -> None:
    """What scheduling, journal and decoding ahead add to a bare loop around the engine.

    Exits with 1 when the answers of the two differ.
    """
    from stage_a_pipeline.bench.overhead import measure_overhead, print_overhead

    overhead = measure_overhead(photos)
    print_overhead(overhead, json_file)
    sys.exit(0 if overhead.answers_equal else 1)


@bench.command("telemetry")
@click.option("--photos", type=click.IntRange(min=1), default=1500, show_default=True)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_telemetry(photos: int, json_file: Path | None) -> None:
    """What metrics and traces cost beside not being watched; needs the extra `otel`."""
    from stage_a_pipeline.bench.telemetry import measure_telemetry, print_telemetry

    print_telemetry(measure_telemetry(photos), json_file)


@bench.command("served")
@click.option("--photos", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--width", type=click.IntRange(min=32), default=640, show_default=True, help="Of a photo.")
@click.option("--height", type=click.IntRange(min=32), default=480, show_default=True, help="Of a photo.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Medians of so many."
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@settings_option
@clear_errors
def bench_served(
    photos: int, width: int, height: int, rounds: int, json_file: Path | None, settings_file: Path | None
) -> None:
    """The rate of engine `openai` against that of a bare asynchronous client, on the servers in the settings.

    The photos are rendered, and sent there with the key in OPENAI_API_KEY, if any.
    """
    from stage_a_pipeline.bench.served import compare_served, print_served
    from stage_a_pipeline.settings import load_settings

    settings = load_settings(environ=os.environ, settings_file=settings_file)
    comparison = compare_served(settings, photos=photos, size=(width, height), rounds=rounds)
    print_served(comparison, json_file)


@bench.command("scale")
@click.option("--photos", type=click.IntRange(min=100), default=10_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--dir", "folder", type=ANY_PATH, help="Folder to work in, and to keep; a temporary one without."
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_scale(photos: int, seed: int, folder: Path | None, json_file: Path | None) -> None:
    """Seconds per phase and memory of many tiny photos, beside those of a tenth of them.

    A photo and what comes of it take about 8 KB of disk until the benchmark ends.
    """
    from stage_a_pipeline.bench.scale import compare_scale, print_scale
    from stage_a_pipeline.defs.launch import step_seconds

    print_scale(compare_scale(photos, seed=seed, folder=folder, step_seconds=step_seconds), json_file)


@bench.command("report")
@click.option("--groups", type=click.IntRange(min=20), default=10_000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--dir", "folder", type=ANY_PATH, help="Folder to work in, and to keep; a temporary one without."
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_report(groups: int, seed: int, folder: Path | None, json_file: Path | None) -> None:
    """Writing the report of many groups, and how quick its pages are in a browser, beside one long page.

    Needs Chromium or Chrome, and playwright. Exits with 1 when a page is slower than it may be.
    """
    from stage_a_pipeline.bench.report import measure_report, print_report_figures

    figures = measure_report(groups, seed=seed, folder=folder)
    print_report_figures(figures, json_file)
    sys.exit(0 if figures.within_bars else 1)


@bench.command("cluster")
@click.option("--photos", type=click.IntRange(min=1), default=10_000, show_default=True)
@click.option("--nodes", type=click.IntRange(min=1), default=3, show_default=True, help="Of one CPU each.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--dir", "folder", type=ANY_PATH, help="Folder to work in, and to keep; a temporary one without."
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_cluster(photos: int, nodes: int, seed: int, folder: Path | None, json_file: Path | None) -> None:
    """Time and memory of many tiny photos over Ray nodes on this machine, beside one process.

    Every component counts: the command, actors, their workers, Ray's own processes. Exits with 1 when the
    two files differ.
    """
    from stage_a_pipeline.bench.cluster import compare_cluster, print_cluster, require_same
    from stage_a_pipeline.defs.launch import step_seconds

    comparison = compare_cluster(photos, nodes=nodes, seed=seed, folder=folder, step_seconds=step_seconds)
    print_cluster(comparison, json_file)
    require_same(comparison)


@bench.command("reassembly")
@click.option("--patches", type=click.IntRange(min=1), default=100_000, show_default=True)
@click.option("--patch-size", type=click.IntRange(min=1), default=64, show_default=True)
@click.option("--crop-size", type=click.IntRange(min=1), default=20, show_default=True)
@click.option(
    "--spread",
    type=click.FloatRange(min=0),
    default=600.0,
    show_default=True,
    help="Pixels from the first position to the last, along either axis.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=256, show_default=True)
@click.option(
    "--plain", type=click.IntRange(min=1), default=100, show_default=True, help="Patches on whole canvases."
)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--files/--no-files",
    default=True,
    show_default=True,
    help="Write the patches to the temporary folder, twice, and compare; without, make them on the way.",
)
@click.option("--json", "json_file", type=ANY_PATH, help="Write the figures to this file too.")
@clear_errors
def bench_reassembly(files: bool, json_file: Path | None, **workload: Any) -> None:
    """Seconds and memory of reassembling patches, on one processor, beside a whole canvas per patch.

    Exits with 1 when the two objects differ.
    """
    from stage_a_pipeline.bench.reassembly import (
        ReassemblyWorkload,
        compare_reassembly,
        print_reassembly,
        require_equal,
    )

    comparison = compare_reassembly(
        ReassemblyWorkload(**workload), files=files, tell=lambda line: click.echo(line, err=True)
    )
    print_reassembly(comparison, json_file)
    require_equal(comparison)


@bench.command("engines")
@click.option(
    "--shape",
    type=click.Choice(["builtin", "tiny", "60m", "4b"]),
    default="builtin",
    show_default=True,
    help="The built-in checkpoint, or random weights of a size; 4b is the shape of Qwen3-VL-4B.",
)
@click.option("--device", default="cpu", show_default=True, help="`cpu` or `cuda:0`.")
@click.option("--photos", type=click.IntRange(min=1), help="How many; the shape's own number when left out.")
@click.option("--groups", type=click.IntRange(min=1), help="In how many groups of 1 to 38 photos.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Photos at once; the shape's when left out.")
@click.option(
    "--rounds", type=click.IntRange(min=1), default=1, show_default=True, help="Medians of so many."
)
@click.option("--engines", multiple=True, metavar="NAME", help="May be repeated; all when left out.")
@click.option("--seed", type=int, default=7, show_default=True)
@click.option(
    "--endpoint",
    "endpoint_url",
    metavar="URL",
    help="OpenAI-compatible server to compare with. The photos are sent there, with the key in "
    "OPENAI_API_KEY, if any.",
)
@click.option("--endpoint-model", metavar="NAME", help="The server's name for its model.")
@click.option("--json", "json_file", type=ANY_PATH, help="Write the rows to this file (a JSON list).")
@click.option("--picture", "picture_file", type=ANY_PATH, help="Draw the rates to this file (SVG).")
@clear_errors
def bench_engines(
    endpoint_url: str | None,
    endpoint_model: str | None,
    json_file: Path | None,
    picture_file: Path | None,
    **workload: Any,
) -> None:
    """Photos per second of plain `generate` loops and of the pipeline's engines, on the same photos.

    Exits with 1 when an engine fails, or in float32 answers otherwise than one photo alone.
    """
    if (endpoint_url is None) != (endpoint_model is None):
        raise click.UsageError("--endpoint and --endpoint-model belong together")
    if json_file is not None and picture_file is not None and json_file.resolve() == picture_file.resolve():
        raise click.UsageError("--json and --picture name the same file; give each its own")
    from stage_a_pipeline.bench.endpoint import Endpoint
    from stage_a_pipeline.bench.engine_picture import write_picture
    from stage_a_pipeline.bench.engine_table import print_engines, write_rows
    from stage_a_pipeline.bench.engines import EngineWorkload, compare_engines

    endpoint = Endpoint(endpoint_url, endpoint_model or "") if endpoint_url is not None else None
    comparison = compare_engines(
        EngineWorkload(**workload, endpoint=endpoint), tell=lambda line: click.echo(line, err=True)
    )
    # Before the files: what was measured is seen even where it cannot be written.
    print_engines(comparison)
    if json_file is not None:
        write_rows(json_file, comparison)
    if picture_file is not None:
        write_picture(picture_file, comparison)
    sys.exit(1 if comparison.different else 0)
