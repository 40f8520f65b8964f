"""Single arrays of `.npz` files that are small enough to be read whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.sources import BROKEN_ARCHIVE


def read_member(path: Path, name: str) -> NDArray[Any]:
    """That array, in whatever order its axes are stored. ReassemblyError names the file."""
    try:
        with np.load(path, allow_pickle=False) as members:
            return np.asarray(members[name])
    except (OSError, KeyError, MemoryError, *BROKEN_ARCHIVE) as error:
        raise ReassemblyError(
            f"{path}: {name} cannot be read ({error}); save it anew, as an array of numbers or a text"
        ) from error
