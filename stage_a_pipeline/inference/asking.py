"""How photos are asked: the recipe of a mission, the options of a run, and what a second try changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from stage_a_pipeline.cleaning import REPETITION, clean_summary, defect
from stage_a_pipeline.engines.base import Completion, GenerationOptions, InputTrace
from stage_a_pipeline.images import DecodeMode
from stage_a_pipeline.inference.batching import BatchingMode, Budget
from stage_a_pipeline.inference.journal import Fingerprint, Ordeal
from stage_a_pipeline.inference.metrics import ProgressListener
from stage_a_pipeline.prompts import Prompt
from stage_a_pipeline.records import ImageRef
from stage_a_pipeline.telemetry.spans import NO_SPAN, Span
from stage_a_pipeline.vocabulary import Dataset

TRUNCATED: Final = "truncated"
"""Reason of an answer that was cut at `max_new_tokens`."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How the photos of one mission are asked, and the fingerprint of all that shapes the answer.

    With `grammar` the answers can only be summaries of that dataset.
    """

    prompt: Prompt
    max_pixels: int
    fingerprint: Fingerprint
    grammar: Dataset | None = None
    decode: DecodeMode = "exact"


@dataclass(frozen=True, slots=True)
class BatchingOptions:
    """How photos are gathered: in which batches, and how far ahead.

    Under way at once are at most `batch_size` photos, with `max_tokens` prompt tokens and `max_pixels`
    pixels in all where these are set. `sort_window` photos at a time are asked in order of their size, 0
    keeps their order; `decode_workers` threads decode ahead, one batch at most, or `photos_ahead` where
    that is less.
    """

    batch_size: int
    mode: BatchingMode = "cross_group"
    decode_workers: int = 2
    max_tokens: int | None = None
    max_pixels: int | None = None
    sort_window: int = 0
    photos_ahead: int | None = None

    @property
    def window(self) -> int:
        """How many photos are decoded ahead at most."""
        return min(self.batch_size, self.photos_ahead or self.batch_size)

    @property
    def budget(self) -> Budget:
        """What may be under way at once."""
        return Budget(self.batch_size, self.max_tokens, self.max_pixels)


class Watch:
    """Who watches over a shard from outside, and may stop it. This one does neither."""

    def begin(self, ordeal: Ordeal) -> None:
        """A photo is about to be decoded or asked. Called from several threads."""

    def end(self, name: str) -> None:
        """That photo's decoding or asking is over. Called from several threads."""

    def alive(self) -> None:
        """The shard goes on. Called at every step, from the device's thread; raises StoppedError to stop."""


@dataclass(frozen=True, slots=True)
class Listeners:
    """Who is told what while a shard runs; all are called from the device's thread.

    With `inputs`, what the first batch hands to the model is checked and told before it is generated. `span`
    is that of the shard's work in this process.
    """

    progress: ProgressListener | None = None
    warning: Callable[[str], None] | None = None
    inputs: Callable[[Sequence[InputTrace]], None] | None = None
    watch: Watch = field(default_factory=Watch)
    span: Span = NO_SPAN


@dataclass(frozen=True, slots=True)
class Audience:
    """Who is told what while the shards of a run go on."""

    progress: ProgressListener | None
    warning: Callable[[str], None]
    log: Callable[[str], None]


PhotoKey = tuple[str, Fingerprint]
"""What an answer belongs to: a photo's content hash, and the fingerprint of all else that it depends on."""


@dataclass(frozen=True, slots=True)
class Questions:
    """How the photos of a shard are asked: by the recipe of their mission, decoded greedily or not."""

    recipes: Mapping[str, Recipe]
    greedy: bool

    def recipe(self, ref: ImageRef) -> Recipe:
        """The recipe of that photo's mission."""
        return self.recipes[ref.group.mission]

    def fingerprint(self, ref: ImageRef) -> Fingerprint:
        """See `answer_fingerprint`."""
        return answer_fingerprint(self.recipe(ref), ref, greedy=self.greedy)

    def ordeal(self, ref: ImageRef, content_sha256: str, crashes: int) -> Ordeal:
        """What the watch is told of a photo that is about to be decoded or asked."""
        fingerprint = self.fingerprint(ref)
        return Ordeal(request_id(ref), ref.group.mission, content_sha256, fingerprint, crashes)


def request_id(ref: ImageRef) -> str:
    """`<group id>/<image name>#<group index>.<image index>`: readable, and unique within a run."""
    return f"{ref.group.group_id}/{ref.image.name}#{ref.group_index}.{ref.image_index}"


def answer_fingerprint(recipe: Recipe, ref: ImageRef, *, greedy: bool) -> Fingerprint:
    """Greedy answers belong to the photo's bytes, sampled ones to one place in the run."""
    return recipe.fingerprint if greedy else f"{recipe.fingerprint}:{request_id(ref)}"


def answer_defect(completion: Completion) -> str | None:
    """Why a completion cannot stand as a summary; None when it can."""
    if completion.finish_reason == "repetition":
        return REPETITION
    reason = defect(clean_summary(completion.text))
    if completion.finish_reason == "length" and reason != REPETITION:
        return TRUNCATED
    return reason


def retry_options(options: GenerationOptions, reason: str) -> GenerationOptions:
    """How an unusable answer is asked for once more.

    A cut answer may be twice as long. Anything else gets a stronger repetition penalty, since the
    same question under greedy decoding would get the same answer.
    """
    if reason == TRUNCATED:
        return replace(options, max_new_tokens=options.max_new_tokens * 2)
    return replace(options, repetition_penalty=options.repetition_penalty + 0.1)
