"""Single arrays of `.npz` files that are small enough to be read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.sources import BROKEN_ARCHIVE, in_short


def read_member(path: Path, name: str) -> NDArray[Any]:
    """That array, in whatever order its axes are stored. ReassemblyError names the file."""
    try:
        with np.load(path, allow_pickle=False) as members:
            if name in members:
                return np.asarray(members[name])
    except (OSError, MemoryError, *BROKEN_ARCHIVE) as error:
        raise ReassemblyError(
            f"{path}: {name} cannot be read ({in_short(error)}); save it as an array of numbers, or as a text"
        ) from error
    raise ReassemblyError(f"{path}: has no `{name}`; save the array under that name")
