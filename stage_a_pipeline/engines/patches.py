"""Photos as patches: bytes on the host until the device takes them, and numbers only there.

The checkpoint's image processor makes 24 bytes of every pixel, in float32 and for two equal frames. Photos
that wait would take more memory than the keys and values of those under way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from stage_a_pipeline.images import Pixels


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPhoto:
    """A photo on the host: `pixels` [patches, channels, pixels of a patch] are bytes, and `image_grid_thw`
    [1, 3] counts frames, and patches down and across.

    It is as large as the image, and all that is kept of it. Patches that the model merges, `merge_size`²
    of them, follow one another.
    """

    pixels: torch.Tensor
    image_grid_thw: torch.Tensor
    merge_size: int

    @property
    def mode(self) -> str:
        """See Pixels."""
        return "RGB"

    @property
    def size(self) -> tuple[int, int]:
        """See Pixels."""
        _, down, across = self.image_grid_thw[0].tolist()
        return across * self._patch_size, down * self._patch_size

    def tobytes(self) -> bytes:
        """See Pixels."""
        merge, patch = self.merge_size, self._patch_size
        _, down, across = self.image_grid_thw[0].tolist()
        squares = self.pixels.view(down // merge, across // merge, merge, merge, -1, patch, patch)
        rows = squares.permute(0, 2, 5, 1, 3, 6, 4)
        return rows.contiguous().numpy().tobytes()

    @property
    def _patch_size(self) -> int:
        return math.isqrt(self.pixels.shape[-1])


class Patches:
    """Cuts photos as the image processor does, and knows which number it makes of each byte."""

    def __init__(self, image_processor: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        self._processor = image_processor
        self._device = device
        self._numbers = self._number_of_every_byte().to(device, dtype)

    def prepare(self, image: Pixels) -> PreparedPhoto:
        """The photo's patches. May be called from any thread."""
        cut, grid = self._process(image, numbers=False)
        pixels = cut[:, :, 0].to(torch.uint8)
        if self._device.type == "cuda":
            # Only pinned memory is copied while the device works.
            pixels = pixels.pin_memory()
        return PreparedPhoto(pixels, grid, self._processor.merge_size)

    def pixel_values(self, photos: Sequence[PreparedPhoto]) -> torch.Tensor:
        """What the model takes for these photos, one after the other: [patches, values] on the device."""
        frames = self._processor.temporal_patch_size
        values = []
        # One by one: a tensor that is made of pinned ones is not pinned.
        for photo in photos:
            pixels = photo.pixels.to(self._device, non_blocking=True).long()
            places = pixels + 256 * torch.arange(pixels.shape[1], device=self._device)[:, None]
            numbers = self._numbers.take(places)
            values.append(numbers[:, :, None].expand(-1, -1, frames, -1).flatten(1))
        return values[0] if len(values) == 1 else torch.cat(values)

    def _number_of_every_byte(self) -> torch.Tensor:
        """What the image processor makes of each byte, in float32: [channels, 256]."""
        from PIL import Image

        side = self._processor.patch_size * self._processor.merge_size
        assert side * side >= 256, "every byte must occur"
        ramp = Image.frombytes("L", (side, side), (bytes(range(256)) * side)[: side * side])
        photo = Image.merge("RGB", [ramp] * 3)
        bytes_of, _ = self._process(photo, numbers=False)
        numbers_of, _ = self._process(photo, numbers=True)
        channels = bytes_of.shape[1]
        table = torch.full((channels, 256), torch.nan)
        for channel in range(channels):
            table[channel, bytes_of[:, channel].long().flatten()] = numbers_of[:, channel].flatten()
        assert not table.isnan().any()
        return table

    def _process(self, image: Pixels, *, numbers: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Patches [patches, channels, frames, pixels of a patch], as numbers or as the bytes they were."""
        options = {} if numbers else {"do_rescale": False, "do_normalize": False}
        photo = self._processor(images=[image], do_resize=False, return_tensors="pt", **options)
        patch, frames = self._processor.patch_size, self._processor.temporal_patch_size
        values = photo["pixel_values"]
        return values.view(len(values), -1, frames, patch * patch), photo["image_grid_thw"]
