"""How long a photo takes at least: operations and bytes of each phase, over what the device can do.

docs/performance.md writes the arithmetic out. One multiplication with its addition counts as two operations;
norms, embeddings and activations are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

from stage_a_pipeline.bench.shapes import ModelShape, TextShape, VisionShape
from stage_a_pipeline.bench.workload import PlannedPhoto

BYTES: Final = 2
"""Of a number in bfloat16 or float16."""


@dataclass(frozen=True, slots=True)
class DeviceRates:
    """What a device was measured to do: operations per second in large products, bytes per second copied."""

    operations: float
    bytes: float

    @classmethod
    def parse(cls, said: str) -> DeviceRates:
        """From the last line that `device_rates` printed."""
        return cls(**json.loads(said.strip().splitlines()[-1]))


@dataclass(frozen=True, slots=True)
class PhotoWork:
    """What one photo of a workload asks of a model, on average.

    `patches` go through the vision layers, `image_tokens` of them into the prompt. Of the text tokens,
    `prefix_tokens` stand before the photo.
    """

    shape: ModelShape
    patches: float
    image_tokens: float
    prefix_tokens: float
    text_tokens: float
    answer_tokens: float


@dataclass(frozen=True, slots=True)
class PhaseSeconds:
    """Seconds of a photo's phases, one after another."""

    vision: float
    prefill: float
    decode: float

    @property
    def total(self) -> float:
        """Of all three."""
        return self.vision + self.prefill + self.decode


def photo_work(
    shape: ModelShape,
    photos: Sequence[PlannedPhoto],
    *,
    prefix_tokens: int,
    text_tokens: int,
) -> PhotoWork:
    """The means over photos that the model sees as they are, and whose answers have forced lengths."""
    side = shape.vision.patch
    patches = fmean(photo.size[0] * photo.size[1] / side**2 for photo in photos)
    return PhotoWork(
        shape,
        patches,
        patches / shape.vision.merge**2,
        prefix_tokens,
        text_tokens,
        fmean(photo.answer_tokens or 0 for photo in photos),
    )


def ideal_seconds(
    work: PhotoWork, rates: DeviceRates, *, batch_size: int, prefix_reuse: bool = True
) -> PhaseSeconds:
    """Least seconds per photo where `batch_size` of them are decoded together, the text before the photo
    computed beforehand unless told."""
    vision = vision_operations(work.shape.vision, work.shape.text.hidden, work.patches, work.image_tokens)
    start = work.prefix_tokens if prefix_reuse else 0.0
    new = work.text_tokens + work.image_tokens - start
    prefill = prefill_operations(work.shape.text, start=start, new=new)
    decode = _decode_step_seconds(work, rates, batch_size) * work.answer_tokens / batch_size
    return PhaseSeconds(vision / rates.operations, prefill / rates.operations, decode)


def layer_weights(text: TextShape) -> float:
    """Weights of all layers, the head left out."""
    attention = text.hidden * text.head_dim * (2 * text.heads + 2 * text.kv_heads)
    return text.layers * (attention + 3 * text.hidden * text.intermediate)


def head_weights(text: TextShape) -> float:
    """Weights of the head."""
    return float(text.hidden * text.vocabulary)


def vision_operations(vision: VisionShape, out_hidden: int, patches: float, image_tokens: float) -> float:
    """Operations of looking at a photo of so many patches."""
    weights = vision.depth * (4 * vision.hidden**2 + 2 * vision.hidden * vision.intermediate)
    embedding = 3 * vision.frames * vision.patch**2 * vision.hidden
    # Every patch looks at every other: scores and their products with the values.
    attention = 4 * vision.depth * vision.hidden * patches**2
    merged = vision.hidden * vision.merge**2
    mergers = (1 + len(vision.deepstack)) * (merged * merged + merged * out_hidden)
    return 2 * patches * (weights + embedding) + attention + 2 * image_tokens * mergers


def prefill_operations(text: TextShape, *, start: float, new: float) -> float:
    """Operations of `new` prompt tokens behind `start` cached ones, each seeing what stands before it."""
    attention = 4 * text.layers * text.heads * text.head_dim * (new * start + new**2 / 2)
    return 2 * layer_weights(text) * new + attention + 2 * head_weights(text)


def cache_bytes(text: TextShape) -> float:
    """Bytes of a token's keys and values."""
    return 2 * text.layers * text.kv_heads * text.head_dim * BYTES


def _decode_step_seconds(work: PhotoWork, rates: DeviceRates, rows: int) -> float:
    """One token for each row: all weights and every row's cache are read, or computing takes longer."""
    text = work.shape.text
    length = work.text_tokens + work.image_tokens + work.answer_tokens / 2
    weights = layer_weights(text) + head_weights(text)
    read = weights * BYTES + rows * length * cache_bytes(text)
    operations = rows * (2 * weights + 4 * text.layers * text.heads * text.head_dim * length)
    return max(read / rates.bytes, operations / rates.operations)
