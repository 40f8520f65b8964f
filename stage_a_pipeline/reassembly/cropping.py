"""Parts of images, as views of them."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray


def centre_crop(image: NDArray[Any], shape: tuple[int, int]) -> NDArray[Any]:
    """The central part of that shape; where it cannot be in the middle, half a pixel up and left of it."""
    top, left = ((have - want) // 2 for have, want in zip(image.shape, shape, strict=True))
    return image[top : top + shape[0], left : left + shape[1]]


def trim(image: NDArray[Any], border: int) -> NDArray[Any]:
    """The image without so many pixels on each side; empty where it is no larger than those."""
    rows, columns = (slice(border, max(border, side - border)) for side in image.shape)
    return image[rows, columns]
