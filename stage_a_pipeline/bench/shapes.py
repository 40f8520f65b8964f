"""The model shapes that engines are compared on: layers, widths, photos, prompts and answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from stage_a_pipeline.bench.workload import Size, median_of_mean

ShapeName = Literal["builtin", "tiny", "60m", "4b"]


@dataclass(frozen=True, slots=True)
class VisionShape:
    """Layers and widths of the part that looks at photos."""

    hidden: int
    intermediate: int
    depth: int
    heads: int
    deepstack: tuple[int, ...]
    positions: int = 1024

    patch: int = 16
    merge: int = 2
    frames: int = 2


@dataclass(frozen=True, slots=True)
class TextShape:
    """Layers and widths of the part that writes."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    rope_theta: float
    mrope_section: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ModelShape:
    """A checkpoint of random weights: its two parts."""

    text: TextShape
    vision: VisionShape


@dataclass(frozen=True, slots=True)
class Shape:
    """What is run under one name; the built-in checkpoint has no `model`.

    `sizes` are width and height of the photo files, `prefix_tokens` the tokens before the photo (None: the
    pipeline's own prompt), `median_answer` that of the forced answer lengths (None: answers end by
    themselves), `photos` how many are run unless told.
    """

    name: ShapeName
    model: ModelShape | None
    sizes: tuple[Size, ...]
    prefix_tokens: int | None
    median_answer: float | None
    photos: int
    batch_size: int

    @property
    def forced(self) -> bool:
        """Whether every answer has a length that is given."""
        return self.median_answer is not None


def _tokens(*sides: tuple[int, int]) -> tuple[Size, ...]:
    """Sizes of so many image tokens across and down."""
    return tuple((32 * across, 32 * down) for across, down in sides)


_TINY = ModelShape(
    TextShape(128, 256, 2, 4, 2, 32, 1088, 10_000.0, (6, 5, 5)),
    VisionShape(64, 128, 2, 2, (0,), positions=256),
)
_60M = ModelShape(
    TextShape(512, 1536, 12, 8, 4, 64, 4096, 10_000.0, (12, 10, 10)),
    VisionShape(320, 1280, 8, 5, (1, 3)),
)
_4B = ModelShape(
    TextShape(2560, 9728, 36, 32, 8, 128, 151_936, 5_000_000.0, (24, 20, 20)),
    VisionShape(1024, 4096, 24, 16, (5, 11, 17), positions=2304),
)

SHAPES: Final[Mapping[ShapeName, Shape]] = MappingProxyType(
    {
        "builtin": Shape(
            "builtin",
            None,
            # About what the model sees: decoding larger ones takes longer than asking it.
            sizes=((320, 240), (240, 320), (320, 180), (180, 320), (256, 256)),
            prefix_tokens=None,
            median_answer=None,
            photos=64,
            batch_size=16,
        ),
        "tiny": Shape(
            "tiny",
            _TINY,
            sizes=_tokens((3, 5), (5, 3), (4, 4), (4, 6), (7, 5)),
            prefix_tokens=64,
            median_answer=24,
            photos=24,
            batch_size=8,
        ),
        "60m": Shape(
            "60m",
            _60M,
            sizes=_tokens(
                (8, 13), (13, 8), (10, 13), (12, 12), (14, 14), (16, 12), (11, 20), (20, 11), (17, 15)
            ),
            prefix_tokens=320,
            median_answer=60,
            photos=32,
            batch_size=16,
        ),
        "4b": Shape(
            "4b",
            _4B,
            sizes=_tokens((32, 32), (36, 28), (28, 36), (42, 24), (24, 42)),
            prefix_tokens=600,
            median_answer=median_of_mean(150),
            photos=256,
            batch_size=32,
        ),
    }
)
