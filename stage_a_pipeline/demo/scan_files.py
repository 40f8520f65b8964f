"""Arrays that are written batch by batch, to `.npy` files and to members of `.npz` files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from stage_a_pipeline.storage import atomic_write, output_errors

Array = npt.NDArray[Any]
WriteBatch = Callable[[Array], None]


@contextmanager
def npy_writer(path: Path, *, shape: tuple[int, ...], dtype: npt.DTypeLike) -> Iterator[WriteBatch]:
    """Takes the rows of an array of `shape` in batches; the file is there when the block has ended."""
    with atomic_write(path, "wb") as file:
        yield _begin_array(file, shape, dtype)


@contextmanager
def npz_writer(
    path: Path, name: str, *, shape: tuple[int, ...], dtype: npt.DTypeLike, others: Mapping[str, Array]
) -> Iterator[WriteBatch]:
    """As `npy_writer`, to the member `name` of an `.npz` that also holds the `others`."""
    with atomic_write(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
        for other, array in others.items():
            # Opened by its name, a member bears no time: same arrays, same bytes.
            with archive.open(f"{other}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            yield _begin_array(member, shape, dtype)


def write_npy(path: Path, array: Array) -> None:
    """One whole array."""
    with atomic_write(path, "wb") as file, output_errors(path):
        np.lib.format.write_array(file, array, allow_pickle=False)


def _begin_array(file: IO[bytes], shape: tuple[int, ...], dtype: npt.DTypeLike) -> WriteBatch:
    described = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": shape,
    }
    np.lib.format.write_array_header_1_0(file, described)

    def write_batch(batch: Array) -> None:
        file.write(np.ascontiguousarray(batch, dtype=dtype).data)

    return write_batch
