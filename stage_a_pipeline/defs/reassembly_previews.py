"""Objects, their comparison and its numbers for the asset pages."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from stage_a_pipeline.defs.previews import markdown_table, plain_text, png_picture
from stage_a_pipeline.reassembly.comparison import ComparedArm
from stage_a_pipeline.reassembly.comparison_files import METRICS, PLOT, short_name
from stage_a_pipeline.reassembly.data_set import ComparedDataSet
from stage_a_pipeline.reassembly.metrics import METRIC_NAMES
from stage_a_pipeline.reassembly.stitched_object import StitchedObject
from stage_a_pipeline.reassembly.thumbnails import thumbnail_png

_PLOT_WIDTH = 720
_DIGITS = 6
"""Of metrics: as many as their file has."""


def objects_metadata(objects: Sequence[StitchedObject]) -> dict[str, Any]:
    """A row and a picture per model, and numbers, which Dagster plots over runs."""
    rows = ((plain_text(one.model), *_object_cells(one)) for one in objects)
    pictures = ((plain_text(one.model), png_picture(one.picture, "amplitude, phase")) for one in objects)
    return {
        "models": markdown_table(("model", "object", "patches", "coverage", "seconds"), rows),
        "pictures": markdown_table(("model", "amplitude, and phase as a hue (red is 0)"), pictures),
        **{f"{one.model}_patches": one.patches for one in objects},
        **{f"{one.model}_side": one.side for one in objects},
        **{f"{one.model}_coverage": round(one.coverage, _DIGITS) for one in objects},
        **{f"{one.model}_seconds": round(one.seconds, 3) for one in objects},
        **{f"{one.model}_object": dg.MetadataValue.path(str(one.path)) for one in objects},
    }


def comparison_metadata(compared: ComparedDataSet) -> dict[str, Any]:
    """The picture, the table of the metrics, and each of them as a number."""
    files = {path.name: path for path in compared.files}
    arms = [arm for arm in compared.comparison.arms if arm.metrics is not None]
    notices = [plain_text(sentence) for sentence in compared.comparison.notices]
    return {
        "picture": _plot_preview(files[PLOT]),
        "metrics": _metrics_table(arms),
        **({"notices": dg.MetadataValue.md("\n\n".join(notices))} if notices else {}),
        **{name: number for arm in arms for name, number in _numbers(arm)},
        "csv": dg.MetadataValue.path(str(files[METRICS])),
        "plot": dg.MetadataValue.path(str(files[PLOT])),
    }


def _object_cells(one: StitchedObject) -> Sequence[str]:
    shape = " x ".join(map(str, one.object_shape))
    return shape, f"{one.patches:,}", f"{one.coverage:.1%}", f"{one.seconds:.2f}"


def _plot_preview(path: Path) -> dg.MarkdownMetadataValue:
    smaller = thumbnail_png(path.read_bytes(), width=_PLOT_WIDTH)
    return dg.MetadataValue.md(png_picture(smaller, "comparison"))


def _metrics_table(arms: Sequence[ComparedArm]) -> dg.MarkdownMetadataValue:
    if not arms:
        return dg.MetadataValue.md("no metrics: test_data.npz has no objectGuess to measure against")
    header = ("metric", *(f"{arm.name}, {part}" for part in ("amplitude", "phase") for arm in arms))
    rows = (
        (name, *(f"{getattr(getattr(arm.metrics, name), part):.4g}"
                 for part in ("amplitude", "phase") for arm in arms))
        for name in METRIC_NAMES
    )  # fmt: skip
    return markdown_table(header, rows)


def _numbers(arm: ComparedArm) -> Sequence[tuple[str, float]]:
    """Such as `pinn_ssim_phase`. Dagster stores no NaN as a number: what is not known is left out."""
    short = short_name(arm.name)
    found = [
        (f"{short}_{name}_{part}", getattr(getattr(arm.metrics, name), part))
        for name in METRIC_NAMES
        for part in ("amplitude", "phase")
    ]
    if arm.offset is not None:
        found += [(f"{short}_offset_{axis}", of) for axis, of in arm.offset._asdict().items()]
    return [(name, round(number, _DIGITS)) for name, number in found if math.isfinite(number)]
