"""What `stage-a reassemble` and `stage-a compare-models` show: progress bars, what came out, metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stage_a_pipeline.inference.metrics import counted
from stage_a_pipeline.reassembly import Reassembly
from stage_a_pipeline.reassembly.comparison import Comparison, ComparisonAudience
from stage_a_pipeline.reassembly.comparison_display import arm_sentences, metrics_table
from stage_a_pipeline.reassembly.stitching import TellOf
from stage_a_pipeline.terminal import Notices, bar_listener, console, print_place, shard_bars

_INTERRUPTED: Final = "nothing was written"


@contextmanager
def object_bar(*, quiet: bool) -> Iterator[TellOf]:
    """A bar for the patches of one object."""
    with shard_bars(hidden=quiet, interrupted=_INTERRUPTED) as bars:
        yield counted(bar_listener(bars, "reassembly", "patches"))


@contextmanager
def comparison_bars(*, quiet: bool) -> Iterator[ComparisonAudience]:
    """A bar for each arm that is stitched, and sentences above them."""
    with shard_bars(hidden=quiet, interrupted=_INTERRUPTED) as bars:
        yield ComparisonAudience(
            notice=Notices(bars.console).show,
            progress=lambda name: counted(bar_listener(bars, name, "patches")),
        )


def print_object(found: Reassembly, out: Path, picture: Path | None) -> None:
    """What came out, and where it lies."""
    side, anchor = len(found.object), found.anchor
    console.print(
        f"{side} x {side} pixels, {(found.count > 0).mean():.1%} of them in patches, up to "
        f"{found.count.max():.0f} on one; pixel (0, 0) is at x {anchor.left:.3f}, y {anchor.top:.3f}",
        soft_wrap=True,
    )
    print_place("object", out)
    if picture is not None:
        print_place("picture", picture)


def print_comparison(comparison: Comparison) -> None:
    """The metrics, and what else was found of each arm."""
    table = metrics_table(comparison)
    if table is not None:
        console.print(table)
    for sentence in arm_sentences(comparison):
        console.print(sentence, soft_wrap=True)
