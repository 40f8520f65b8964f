"""Patches and positions in files, read one batch at a time.

numpy maps no member of an `.npz`, and pages of a mapped `.npy` count as memory of the process that has read
them. So both are read as streams: the header says what follows, and each batch is read into its own array.
"""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.geometry import Positions, as_positions
from stage_a_pipeline.reassembly.patch_arrays import patch_side, require_numbers

PATCHES: Final = "patches"
OFFSETS: Final = "offsets"
BROKEN_ARCHIVE: Final = (
    *(ValueError, EOFError, SyntaxError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError),
)
"""What numpy and zipfile raise for content that is damaged, encrypted, or not theirs."""
_TOLD: Final = 200
"""Characters of their messages that are passed on."""
_READERS: Final = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


@dataclass(frozen=True, slots=True)
class ArrayStream:
    """An array that lies in a file or in a member of an `.npz`, to be read once, from its first row on."""

    name: str
    file: IO[bytes]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def rows(self, size: int) -> Iterator[npt.NDArray[Any]]:
        """All rows, (up to `size`, ...) at a time, in the machine's byte order. Raises ReassemblyError."""
        for first in range(0, self.shape[0], size):
            rows = self._room(min(size, self.shape[0] - first))
            self._fill(memoryview(rows.reshape(-1).view(np.uint8).data))
            yield rows.astype(rows.dtype.newbyteorder("="), copy=False)

    def whole(self) -> npt.NDArray[Any]:
        """The array. Raises ReassemblyError."""
        flat = ArrayStream(self.name, self.file, (1, *self.shape), self.dtype)
        (array,) = (rows[0] for rows in flat.rows(1))
        return np.asarray(array)

    def _room(self, rows: int) -> npt.NDArray[Any]:
        try:
            return np.empty((rows, *self.shape[1:]), self.dtype)
        except (MemoryError, ValueError) as error:
            raise ReassemblyError(
                f"{self.name}: {rows} rows of shape {self.shape[1:]} have no room in memory; lower the batch "
                "size, or save fewer or smaller ones"
            ) from error

    def _fill(self, target: memoryview) -> None:
        filled = 0
        while filled < len(target):
            with _damage(self.name):
                got: int = self.file.readinto(target[filled:])  # type: ignore[attr-defined]  # both kinds have it
            if not got:
                raise ReassemblyError(
                    f"{self.name}: ends too early; it was not written whole, so make it again"
                )
            filled += got


@dataclass(frozen=True, slots=True)
class PatchFile:
    """`count` patches of `patch_size` x `patch_size` pixels in a file."""

    stream: ArrayStream
    patch_size: int

    @property
    def count(self) -> int:
        """How many patches there are."""
        return self.stream.shape[0]

    def batches(self, size: int) -> Iterator[npt.NDArray[Any]]:
        """All patches once, in their order, (up to `size`, N, N) at a time. Raises ReassemblyError."""
        for rows in self.stream.rows(size):
            yield rows.reshape(-1, self.patch_size, self.patch_size)


@contextmanager
def open_patches(path: Path) -> Iterator[PatchFile]:
    """The patches of an `.npy`, or of the member `patches` of an `.npz`. ReassemblyError names the file."""
    with open_array(path, PATCHES) as stream:
        side = patch_side(stream.shape, source=stream.name)
        require_numbers(stream.dtype, source=stream.name)
        yield PatchFile(stream, side)


def offsets_beside(patches: Path) -> Path:
    """Where the positions of patches lie: in the same `.npz`, or in `offsets.npy` beside."""
    with _damage(str(patches)):
        if zipfile.is_zipfile(patches) and has_array(patches, OFFSETS):
            return patches
        beside = patches.with_name("offsets.npy")
        if patches.is_file() and not beside.exists():
            raise ReassemblyError(
                f"{patches}: has no `offsets`, and no offsets.npy lies beside it; say where the positions are"
            )
        return beside if patches.is_file() else patches


def read_offsets(path: Path) -> Positions:
    """(B, 2) positions of an `.npy`, or the member `offsets` of an `.npz`. ReassemblyError names the file."""
    with open_array(path, OFFSETS) as stream:
        return as_positions(stream.whole(), source=stream.name)


def count_offsets(path: Path) -> int:
    """How many positions such a file says it has, without reading them. ReassemblyError names the file."""
    with open_array(path, OFFSETS) as stream:
        return math.prod(stream.shape) // 2


@contextmanager
def open_array(path: Path, member: str) -> Iterator[ArrayStream]:
    """The array of an `.npy`, or that member of an `.npz`, whatever the file's name says.

    ReassemblyError, naming the file, for one that is missing, damaged, or holds something else.
    """
    with ExitStack() as opened:
        with _damage(str(path)):
            file = opened.enter_context(path.open("rb", buffering=0))
            magic = file.read(len(npy.MAGIC_PREFIX))
            file.seek(0)
        if magic == npy.MAGIC_PREFIX:
            yield _read_header(str(path), file, path.stat().st_size)
            return
        name = f"{path} ({member})"
        with _damage(str(path)):
            archive = opened.enter_context(zipfile.ZipFile(path))
        held = [entry.removesuffix(".npy") for entry in archive.namelist() if entry.endswith(".npy")]
        if member not in held:
            raise ReassemblyError(
                f"{path}: has no `{member}`, only {', '.join(map(repr, held)) or 'nothing'}; "
                "save the array under that name"
            )
        with _damage(name):
            stored = opened.enter_context(archive.open(f"{member}.npy"))
        yield _read_header(name, stored, archive.getinfo(f"{member}.npy").file_size)


def has_array(path: Path, member: str) -> bool:
    """Whether an `.npz` has that member. ReassemblyError, naming the file, where it is no such file."""
    with _damage(str(path)), zipfile.ZipFile(path) as archive:
        return f"{member}.npy" in archive.namelist()


def _read_header(name: str, file: IO[bytes], size: int) -> ArrayStream:
    with _damage(name):
        version = npy.read_magic(file)
        if version not in _READERS:
            raise ReassemblyError(
                f"{name}: of npy version {version}, which is none of plain numbers; save it anew"
            )
        shape, fortran_order, dtype = _READERS[version](file)
        if any(size < 0 for size in shape):
            raise ValueError(f"no array is of shape {shape}")
    if dtype.hasobject:
        raise ReassemblyError(f"{name}: holds Python objects, which are not read; save an array of numbers")
    if fortran_order and len(shape) > 1:
        raise ReassemblyError(
            f"{name}: stored in Fortran order, whose patches do not lie one behind the other; save "
            "numpy.ascontiguousarray of it"
        )
    if not shape:
        raise ReassemblyError(f"{name}: a single number and no array; save one row per patch")
    expected = file.tell() + math.prod(shape) * dtype.itemsize
    if size < expected:
        raise ReassemblyError(
            f"{name}: has {size} bytes where its header promises {expected}; it was not written whole, so "
            "make it again"
        )
    return ArrayStream(name, file, shape, dtype)


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """What reading a file may raise, as a ReassemblyError that names it."""
    try:
        yield
    except ReassemblyError:
        raise
    except (OSError, *BROKEN_ARCHIVE) as error:
        # Decompression raises an OSError of its own, which is none of the system's.
        if isinstance(error, OSError) and error.strerror:
            raise ReassemblyError(f"{name} cannot be read: {error.strerror}; correct the path") from error
        raise ReassemblyError(
            f"{name}: neither an .npy nor an .npz that can be read ({in_short(error)}); make it again"
        ) from error


def in_short(error: BaseException) -> str:
    """What a library says of a file, without the parts of the file that it quotes at length."""
    told = " ".join(str(error).split())
    return told if len(told) <= _TOLD else told[:_TOLD] + "..."
