"""Pictures on the page of stage_a_summaries: what became of the photos, and where the time went."""

from collections import Counter

import dagster as dg

from stage_a_pipeline.bar_picture import Bar, draw_bars
from stage_a_pipeline.defs.previews import picture_preview
from stage_a_pipeline.inference.metrics import ShardMetrics
from stage_a_pipeline.table_files import Table, batches_of


def what_became(mission: str, outcomes: Table) -> dg.MarkdownMetadataValue:
    """Photos of a mission by how they ended: asked, answered before, or rejected, by reason."""
    counts: Counter[tuple[str, bool]] = Counter()
    for batch in batches_of(outcomes, ["status", "reused", "reason"]):
        columns = (batch.column(name).to_pylist() for name in ("status", "reused", "reason"))
        for status, reused, reason in zip(*columns, strict=True):
            is_bad = status == "rejected"
            told = f"rejected: {reason}" if is_bad else "answered before" if reused else "summarised now"
            counts[told, is_bad] += 1
    total = counts.total()
    bars = [
        Bar(told, count, f"{count:,} ({count / total:.1%})", is_bad)
        for (told, is_bad), count in sorted(counts.items(), key=lambda item: (item[0][1], -item[1]))
    ]
    title = f"{mission}: what became of {total:,} photos"
    return picture_preview(draw_bars(title, bars), "what became of the photos")


def time_spent(metrics: ShardMetrics) -> dg.MarkdownMetadataValue:
    """Seconds of all devices together by what they did, and of the threads that decode ahead of them."""
    bars = [
        Bar("engine at work", metrics.device_seconds, _seconds(metrics.device_seconds)),
        Bar("engine waiting for photos", metrics.waiting_seconds, _seconds(metrics.waiting_seconds), True),
        Bar("decoding, on other threads", metrics.decode_seconds, _seconds(metrics.decode_seconds)),
    ]
    title = f"{metrics.photos:,} photos in {_seconds(metrics.seconds)}: where the time went"
    return picture_preview(draw_bars(title, bars), "where the time went")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"
