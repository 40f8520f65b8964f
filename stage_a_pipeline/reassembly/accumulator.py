"""Patches onto the canvas, batch by batch: weighted sums, and how much of a patch each pixel has.

One shift has the same fraction for every pixel of a patch, so translating it by bilinear interpolation is
two weighted sums of a crop with itself moved by one pixel, along the columns and then along the rows: M x M
pixels become (M + 1) x (M + 1), whatever the canvas. One `scatter_add_` then adds those of a whole batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.engines.memory import free_bytes
from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.device import choose_device
from stage_a_pipeline.reassembly.geometry import Anchor, Plan
from stage_a_pipeline.reassembly.patch_arrays import as_patches, require_finite
from stage_a_pipeline.torch_threads import one_thread

if TYPE_CHECKING:
    import torch

_EPSILON: Final = 1e-9
"""Added to the counts before they divide."""
_DOUBLE_PIXELS: Final = 1 << 24
"""Canvases of up to so many pixels, 4096 x 4096, are summed in float64: what thousands of patches add up to
keeps its digits."""
_MANY_PATCHES: Final = 4096
"""Larger canvases are summed in float32, which takes 12 bytes a pixel instead of 24, unless more patches than
so many may lie on one: up to there, sums keep five digits."""
_RESULT_BYTES: Final = 12
"""Of a pixel of the result, which float64 sums do not turn into in place."""
_SPREAD_ELEMENTS: Final = 1 << 19
"""Pixels that are spread at once, so that a large batch takes no more memory than a small one."""


class Reassembly(NamedTuple):
    """An object, (P, P) complex64, the float32 `count` of patches on each pixel, and its place in the world.

    Both are exactly 0 where nothing was placed.
    """

    object: npt.NDArray[np.complex64]
    count: npt.NDArray[np.float32]  # type: ignore[assignment]  # tuples count too, which nobody misses here
    anchor: Anchor


class Accumulator:
    """The sums of one canvas. Batches may come in any order and size; each patch must come once.

    ConfigurationError for a `device` that is none, or not there; ReassemblyError for a canvas without room.
    On a CPU the sums do not depend on the batches, as long as the patches come in their order: each pixel
    adds them one after another. CUDA adds in an order of its own, so that last digits differ from run to run.
    """

    def __init__(self, plan: Plan, *, device: str = "cpu") -> None:
        import torch

        self.plan = plan
        self._device = choose_device(device)
        double = plan.side**2 <= _DOUBLE_PIXELS or plan.most_on_a_pixel() > _MANY_PATCHES
        self._real = torch.float64 if double else torch.float32
        self._complex = torch.complex128 if double else torch.complex64
        self._host_type = np.complex128 if double else np.complex64
        self._fed = np.zeros(plan.count, np.bool_)
        self._next = 0
        self._result: Reassembly | None = None
        # A row and a pixel more: what a whole shift leaves for the next row or column, which is nothing,
        # would lie beyond the canvas's end.
        length = plan.side * (plan.side + 1) + 1
        needed = length * (self._complex.itemsize + self._real.itemsize + (_RESULT_BYTES if double else 0))
        # The kernel promises more than it has, and kills whoever uses it.
        if needed > (free := free_bytes(self._device)):
            raise _too_large(plan, needed, free)
        self._sums = torch.zeros(length, dtype=self._complex, device=self._device)
        self._counts = torch.zeros(length, dtype=self._real, device=self._device)
        steps = torch.arange(plan.crop_size + 1, device=self._device)
        self._footprint = (steps[:, None] * plan.side + steps).reshape(-1)

    def add(self, batch: Any, *, start: int | None = None) -> None:
        """Add (n, N, N) or (n, N, N, 1) patches, the first of them that of position `start`.

        Without `start` they follow those that were added last. ReassemblyError, a ValueError, for patches of
        another size, that are not finite, or that were added before.
        """
        if self._result is not None:
            raise ReassemblyError("patches: the result was already taken; start with a new Accumulator")
        patches = as_patches(batch, patch_size=self.plan.patch_size)
        first = self._next if start is None else start
        last = first + len(patches)
        self._require_new(first, last)
        size = max(1, _SPREAD_ELEMENTS // (self.plan.crop_size + 1) ** 2)
        parts = [(begin, patches[begin - first : begin - first + size]) for begin in range(first, last, size)]
        # Crops are small: sharing them out among threads takes longer than they do.
        with one_thread():
            # All before any: a batch that is refused leaves nothing on the canvas, and may be given again.
            for begin, some in parts:
                require_finite(some, first=begin)
            for begin, some in parts:
                self._add(some, begin)
        self._fed[first:last] = True
        self._next = last

    def result(self) -> Reassembly:
        """The object, its counts and its anchor. ReassemblyError, a ValueError, while patches are missing."""
        if self._result is None:
            missing = np.flatnonzero(~self._fed)
            if missing.size:
                raise ReassemblyError(
                    f"patches: {self.plan.count - missing.size} were given for {self.plan.count} positions, "
                    f"number {missing[0]} (from 0) is the first missing one; give one patch per position"
                )
            self._result = self._divide()
        return self._result

    def _require_new(self, first: int, last: int) -> None:
        if not 0 <= first <= last <= self.plan.count:
            raise ReassemblyError(
                f"patches: {first} to {last - 1} (from 0) were given, but offsets has {self.plan.count} "
                "positions; give one patch per position"
            )
        if self._fed[first:last].any():
            again = first + int(np.flatnonzero(self._fed[first:last])[0])
            raise ReassemblyError(f"patches: number {again} (from 0) was given twice; give each patch once")

    def _add(self, patches: Any, first: int) -> None:
        import torch

        corners, fractions = self.plan.placement(first, first + len(patches))
        crop = patches[:, self.plan.crop, self.plan.crop]
        if not isinstance(crop, torch.Tensor):
            # A copy: torch warns of arrays that it could not write to, such as mapped files.
            crop = torch.from_numpy(np.array(crop, self._host_type))
        crops = crop.to(self._device, self._complex)
        shares = torch.from_numpy(fractions).to(self._device, self._real)
        starts = torch.from_numpy(corners @ np.array([self.plan.side, 1])).to(self._device)
        places = (starts[:, None] + self._footprint).reshape(-1)
        self._sums.scatter_add_(0, places, _spread(crops, shares).reshape(-1))
        self._counts.scatter_add_(0, places, _spread(torch.ones_like(crops.real), shares).reshape(-1))

    def _divide(self) -> Reassembly:
        """Row by row, and in place where the sums have the result's type: a canvas may fill the memory."""
        side = self.plan.side
        sums, counts = (whole[: side * side].view(side, side) for whole in (self._sums, self._counts))
        for row in range(side):
            sums[row] /= counts[row] + _EPSILON
        del self._sums, self._counts
        return Reassembly(
            np.asarray(sums.cpu(), np.complex64), np.asarray(counts.cpu(), np.float32), self.plan.anchor
        )


def _spread(crops: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """(n, M, M) crops moved down and right by (n, 2) shares of a pixel: (n, M + 1, M + 1), 0 around them."""
    from torch.nn.functional import pad

    down, right = shares[:, 0, None, None], shares[:, 1, None, None]
    wide = pad(crops * (1 - right), (0, 1)) + pad(crops * right, (1, 0))
    return pad(wide * (1 - down), (0, 0, 0, 1)) + pad(wide * down, (0, 0, 1, 0))


def _too_large(plan: Plan, needed: int, free: int) -> ReassemblyError:
    return ReassemblyError(
        f"offsets: they spread so far that the canvas has {plan.side} x {plan.side} pixels and takes "
        f"{needed / 1e9:.1f} GB, with {free / 1e9:.1f} GB free; give positions in pixels, or fewer of them"
    )
