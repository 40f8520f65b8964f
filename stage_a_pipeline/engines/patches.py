"""Photos as patches: bytes on the host until the device takes them, and numbers only there.

The checkpoint's image processor makes 24 bytes of every pixel, in float32 and for two equal frames. Photos
that wait would take more memory than the keys and values of those under way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, Final

import torch

from stage_a_pipeline.errors import CheckpointError

if TYPE_CHECKING:
    from stage_a_pipeline.images import Pixels

_CHANNELS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPhoto:
    """A photo on the host: `pixels` [patches, channels, pixels of a patch] are bytes, and `image_grid_thw`
    [1, 3] counts frames, and patches down and across. `size` is that of the image, width and height.

    It is as large as the image, and all that is kept of it. Patches that the model merges, `merge_size`²
    of them, follow one another.
    """

    pixels: torch.Tensor
    image_grid_thw: torch.Tensor
    size: tuple[int, int]
    merge_size: int

    @property
    def mode(self) -> str:
        """See Pixels."""
        return "RGB"

    def tobytes(self) -> bytes:
        """See Pixels."""
        merge, patch = self.merge_size, math.isqrt(self.pixels.shape[-1])
        _, down, across = self.image_grid_thw[0].tolist()
        squares = self.pixels.view(down // merge, across // merge, merge, merge, -1, patch, patch)
        rows = squares.permute(0, 2, 5, 1, 3, 6, 4)
        return rows.contiguous().numpy().tobytes()


class Patches:
    """Cuts photos as Qwen3-VL's image processor does, and knows which number it makes of each byte.

    Raises CheckpointError for an image processor that does otherwise.
    """

    def __init__(self, image_processor: Any, *, dtype: torch.dtype, device: torch.device) -> None:
        self._processor = image_processor
        self._device = device
        self._numbers = self._number_of_every_byte().to(device, dtype)

    def prepare(self, image: Pixels) -> PreparedPhoto:
        """The photo's patches. May be called from any thread."""
        assert image.mode == "RGB", image.mode
        patch, merge = self._processor.patch_size, self._processor.merge_size
        (width, height), side = image.size, patch * merge
        if width % side or height % side:
            raise ValueError(
                f"a photo of {width}x{height} pixels cannot be cut into squares of {side}: give it the size "
                "that `target_size` says"
            )
        rows = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        squares = rows.view(height // side, merge, patch, width // side, merge, patch, _CHANNELS)
        pixels = squares.permute(0, 3, 1, 4, 6, 2, 5).reshape(-1, _CHANNELS, patch * patch)
        if self._device.type == "cuda":
            # Only pinned memory is copied while the device works.
            pixels = pixels.pin_memory()
        grid = torch.tensor([[1, height // patch, width // patch]])
        return PreparedPhoto(pixels, grid, (width, height), merge)

    def pixel_values(self, photos: Sequence[PreparedPhoto]) -> torch.Tensor:
        """What the model takes for these photos, one after the other: [patches, values] on the device."""
        # One by one: a tensor that is made of pinned ones is not pinned.
        values = [
            self._looked_up(photo.pixels.to(self._device, non_blocking=True), self._numbers)
            for photo in photos
        ]
        return values[0] if len(values) == 1 else torch.cat(values)

    def _looked_up(self, pixels: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        """[patches, values] for `pixels` [patches, channels, pixels], by `numbers` [channels, 256]."""
        places = pixels.int()
        places += 256 * torch.arange(len(numbers), dtype=torch.int32, device=pixels.device)[:, None]
        values = numbers.flatten().index_select(0, places.flatten()).view(places.shape)
        return values[:, :, None].expand(-1, -1, self._processor.temporal_patch_size, -1).flatten(1)

    def _number_of_every_byte(self) -> torch.Tensor:
        """What the image processor makes of each byte, in float32: [channels, 256].

        It is asked for a photo in which every byte occurs in every channel, and no patch occurs twice.
        """
        from PIL import Image

        side = 2 * self._processor.patch_size * self._processor.merge_size
        assert side * side >= 256, "every byte must occur"
        dice = Random(0)
        channels = [
            dice.sample(range(256), 256) + dice.choices(range(256), k=side * side) for _ in range(_CHANNELS)
        ]
        planes = [Image.frombytes("L", (side, side), bytes(channel[: side * side])) for channel in channels]
        photo = Image.merge("RGB", planes)
        expected = self._processor(images=[photo], do_resize=False, return_tensors="pt")
        values, grid = expected["pixel_values"], expected["image_grid_thw"]
        cut = self.prepare(photo)
        pixels, numbers = cut.pixels, torch.full((_CHANNELS, 256), torch.nan)
        if values.numel() == pixels.numel() * self._processor.temporal_patch_size:
            first_frames = values.view(*pixels.shape[:2], -1, pixels.shape[2])[:, :, 0]
            for channel in range(_CHANNELS):
                numbers[channel, pixels[:, channel].long().flatten()] = first_frames[:, channel].flatten()
        if not torch.equal(self._looked_up(pixels, numbers), values) or not torch.equal(
            cut.image_grid_thw, grid
        ):
            raise CheckpointError(
                f"the image processor {type(self._processor).__name__} does not cut photos as Qwen3-VL's "
                "does; give a Qwen3-VL checkpoint, or set engine.engine to transformers"
            )
        return numbers
