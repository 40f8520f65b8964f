"""What counts as patches: (n, N, N) or (n, N, N, 1) numbers, all of them finite, as arrays or tensors."""

from __future__ import annotations

import sys
from typing import Any, Final

import numpy as np

from stage_a_pipeline.errors import ReassemblyError

_LARGEST: Final = float(np.finfo(np.float32).max)


def as_patches(batch: Any, *, patch_size: int | None = None, source: str = "patches") -> Any:
    """(n, N, N) patches, an array or a tensor of a device as they came; not a copy where it can be avoided.

    ReassemblyError, a ValueError, beginning with `source`, where they are none, or not of `patch_size`.
    """
    patches = _host_array(batch)
    side = patch_side(tuple(patches.shape), source=source)
    if patch_size not in (None, side):
        raise ReassemblyError(
            f"{source}: {side} x {side} pixels, where {patch_size} x {patch_size} were planned"
        )
    if isinstance(patches, np.ndarray):
        require_numbers(patches.dtype, source=source)
    return patches.reshape(-1, side, side)


def patch_side(shape: tuple[int, ...], *, source: str = "patches") -> int:
    """N of patches of that shape. ReassemblyError, beginning with `source`, where it is none of patches."""
    if len(shape) == 4 and shape[3] != 1:
        raise ReassemblyError(f"{source}: {shape[3]} channels, where patches have one; give one at a time")
    if len(shape) not in (3, 4) or shape[1] != shape[2] or shape[1] == 0:
        raise ReassemblyError(f"{source}: of shape {shape}; patches are (B, N, N) or (B, N, N, 1)")
    return shape[1]


def require_numbers(dtype: np.dtype[Any], *, source: str = "patches") -> None:
    """ReassemblyError, a ValueError, beginning with `source`, unless complex or floating point."""
    if dtype.kind not in "cf":
        raise ReassemblyError(f"{source}: of {dtype}; patches are complex64, or another complex or real type")


def require_finite(patches: Any, *, first: int = 0) -> None:
    """ReassemblyError, a ValueError, naming the first patch that is not; they are counted from `first`."""
    known = finite(patches)
    if known.all():
        return
    broken = np.flatnonzero(~np.asarray(known.reshape(len(patches), -1).all(1).tolist()))
    raise ReassemblyError(
        f"patches: number {first + int(broken[0])} (from 0) has values that are not finite; leave it and its "
        "position out, or look at what predicted it"
    )


def finite(values: Any) -> Any:
    """For each value of an array or a tensor whether complex64, or float32, can hold it."""
    size = values.element_size() if hasattr(values, "element_size") else values.dtype.itemsize
    is_complex = values.is_complex() if hasattr(values, "is_complex") else values.dtype.kind == "c"
    if size > (8 if is_complex else 4):
        # What only a wider type holds would become infinite in the object.
        return abs(values) <= _LARGEST
    return np.isfinite(values) if isinstance(values, np.ndarray) else values.isfinite()


def _host_array(batch: Any) -> Any:
    """A numpy array of anything but a tensor that lies on another device."""
    # Whoever has a tensor has imported torch.
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(batch, torch.Tensor):
        try:
            return np.asarray(batch)
        except ValueError as error:
            raise ReassemblyError(f"patches: no array ({error}); give patches of one size") from error
    plain = batch.detach().resolve_conj()
    if not (plain.is_complex() or plain.is_floating_point()):
        raise ReassemblyError(
            f"patches: of {plain.dtype}; patches are complex64, or another complex or real type"
        )
    return plain.numpy() if plain.device.type == "cpu" and plain.dtype is not torch.bfloat16 else plain
