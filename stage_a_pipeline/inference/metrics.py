"""What a shard did, and how fast: counts, tokens, batch fill, waiting, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final


@dataclass(slots=True)
class ShardMetrics:
    """Counts of one shard. Seconds are wall time of the device's thread, but `decode_seconds`,
    which is the sum over the decoding threads.

    A step is what the engine does in one go: a whole static batch, or one token for every row of a
    refilled one. It offers as many `places` as the batch size, some of them filled. What is asked
    again in parts after a failure is not counted there. `batch_size` is that of the settings, found by
    the engine, or what was left of it after out of memory; 0 where no engine was needed. `rejects` are
    photos by `<stage>/<reason>`.
    """

    photos: int = 0
    inferred: int = 0
    reused: int = 0
    rejected: int = 0
    retried: int = 0
    batch_size: int = 0
    steps: int = 0
    places: int = 0
    filled_places: int = 0
    computed_tokens: int = 0
    padding_tokens: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    decode_seconds: float = 0.0
    device_seconds: float = 0.0
    waiting_seconds: float = 0.0
    seconds: float = 0.0
    rejects: dict[str, int] = field(default_factory=dict)

    def count_rejection(self, stage: str, reason: str) -> None:
        """Count one more photo as rejected."""
        self.rejected += 1
        kind = f"{stage}/{reason}"
        self.rejects[kind] = self.rejects.get(kind, 0) + 1

    def copy(self) -> ShardMetrics:
        """The counts as they are now."""
        return replace(self, rejects=dict(self.rejects))

    @property
    def images_per_second(self) -> float:
        """Photos that ended, reused ones included, per second of the whole shard."""
        return _share(self.photos, self.seconds)

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens per second of the whole shard."""
        return _share(self.generated_tokens, self.seconds)

    @property
    def batch_fill(self) -> float:
        """Share of the offered places that held a photo."""
        return _share(self.filled_places, self.places)

    @property
    def padding_share(self) -> float:
        """Share of the tokens that went through the model and belong to no photo."""
        return _share(self.padding_tokens, self.computed_tokens)

    def to_mapping(self) -> dict[str, Any]:
        """The counts by name, for JSON."""
        return asdict(self)

    def to_metadata(self) -> dict[str, int | float]:
        """Counts and what follows from them, rounded for people; not what photos were rejected for."""
        rates = {
            "images_per_second": self.images_per_second,
            "tokens_per_second": self.tokens_per_second,
            "batch_fill": self.batch_fill,
            "padding_share": self.padding_share,
        }
        counts = {name: getattr(self, name) for name in COUNTS}
        return {name: round(count, 3) for name, count in {**rates, **counts}.items()}

    def sentence(self) -> str:
        """What was asked, and how fast, in one line."""
        return (
            f"{self.photos} photos in {self.seconds:.1f} s ({self.images_per_second:.1f} photos/s): "
            f"{self.inferred} inferred, {self.reused} reused, {self.rejected} rejected, {self.retried} asked "
            f"twice; {self.tokens_per_second:.0f} tokens/s, batches {self.batch_fill:.0%} full, "
            f"{self.padding_share:.0%} padding, {self.waiting_seconds:.1f} s waiting for photos"
        )


COUNTS: Final = tuple(each.name for each in fields(ShardMetrics) if each.name != "rejects")
"""Names of the numbers among a shard's metrics."""


def _share(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def merge_metrics(shards: Iterable[ShardMetrics]) -> ShardMetrics:
    """Sums over shards that ran side by side; `seconds` and `batch_size` are the largest."""
    total = ShardMetrics()
    for shard in shards:
        for name in COUNTS:
            setattr(total, name, getattr(total, name) + getattr(shard, name))
        total.seconds = max(total.seconds - shard.seconds, shard.seconds)
        total.batch_size = max(total.batch_size - shard.batch_size, shard.batch_size)
        for kind, count in shard.rejects.items():
            total.rejects[kind] = total.rejects.get(kind, 0) + count
    return total


@dataclass(frozen=True, slots=True)
class Queue:
    """Photos on their way: `ready` ones are decoded and wait, those `under_way` are being answered."""

    ready: int = 0
    under_way: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a shard of `total` photos is, and what is on its way on this machine."""

    total: int
    metrics: ShardMetrics
    queue: Queue = Queue()

    @classmethod
    def from_mapping(cls, told: Mapping[str, Any]) -> Progress:
        """The inverse of `asdict`."""
        return cls(told["total"], ShardMetrics(**told["metrics"]), Queue(**told.get("queue", {})))

    @property
    def to_come(self) -> int:
        """Photos that are neither done nor on their way."""
        return max(0, self.total - self.done - self.queue.ready - self.queue.under_way)

    @property
    def done(self) -> int:
        """Photos that have ended."""
        return self.metrics.photos

    @property
    def rate(self) -> float:
        """Photos per second, reused ones left out: they say nothing about the work ahead."""
        return _share(max(0, self.done - self.metrics.reused), self.metrics.seconds)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds until the shard is done at the present rate; None while there is no rate."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None

    def sentence(self, counted: str = "photos") -> str:
        """One line for a log; only photos are rejected, or reused."""
        eta = self.eta_seconds
        left = f", about {eta:.0f} s left" if eta is not None and self.done < self.total else ""
        ended = f", {self.metrics.reused} reused, {self.metrics.rejected} rejected"
        return (
            f"{self.done} of {self.total} {counted}, {self.rate:.1f} {counted}/s"
            f"{ended if counted == 'photos' else ''}{left}"
        )


ProgressListener = Callable[[Progress], None]
"""Called as photos end, from the device's thread."""


def counted(listener: ProgressListener) -> Callable[[int, int], None]:
    """What tells a listener of other things than photos: how many are done, and of how many.

    It is first told of those that were done before.
    """
    started, before = 0.0, -1

    def tell(done: int, total: int) -> None:
        nonlocal started, before
        if before < 0:
            started, before = time.monotonic(), done
        metrics = ShardMetrics(photos=done, reused=before, seconds=time.monotonic() - started)
        listener(Progress(total, metrics))

    return tell


def progress_lines(
    say: Callable[[str], None], name: str, counted: str = "photos", *, every_seconds: float = 10.0
) -> ProgressListener:
    """A listener that says a line at the start, at the end, and so often in between."""
    last_told = -every_seconds

    def tell(progress: Progress) -> None:
        nonlocal last_told
        if progress.done == progress.total or progress.metrics.seconds - last_told >= every_seconds:
            last_told = progress.metrics.seconds
            say(f"{name}: {progress.sentence(counted)}")

    return tell
