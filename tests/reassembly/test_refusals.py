"""Every input that cannot be used is refused with an error that names it."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy

from stage_a_pipeline.errors import ConfigurationError, ReassemblyError
from stage_a_pipeline.reassembly import Accumulator, plan, reassemble_position
from stage_a_pipeline.reassembly.reconstruction_file import read_reconstruction, write_reconstruction
from stage_a_pipeline.reassembly.sources import offsets_beside, open_patches, read_offsets
from tests.reassembly.exact import random_offsets, random_patches

PATCHES = random_patches(6, 8)
OFFSETS = random_offsets(6, 5)
BROKEN = PATCHES.copy()
BROKEN[4, 0, 0] = complex(0, np.nan)
WIDE = PATCHES.astype(np.complex128)
WIDE[3, 7, 7] = 1e300
LOST = OFFSETS.copy()
LOST[2, 1] = np.inf


def no_batches():
    return iter(())


@pytest.mark.parametrize(
    ("patches", "offsets", "options", "message"),
    [
        (PATCHES, OFFSETS, {"crop_size": 0}, "crop_size: 0 is none of 1 to 8"),
        (PATCHES, OFFSETS, {"crop_size": 9}, "crop_size: 9 is none of 1 to 8"),
        (PATCHES, OFFSETS, {"crop_size": 4.5}, "crop_size: 4.5 is none of 1 to 8"),
        (PATCHES, OFFSETS, {"batch_size": 0}, "batch_size: 0 is no number of patches"),
        (PATCHES, OFFSETS, {"batch_size": -5}, "batch_size: -5 is no number of patches"),
        (PATCHES, OFFSETS, {"batch_size": 2.5}, "batch_size: 2.5 is no number of patches"),
        (PATCHES, LOST, {}, "offsets: 1 of 6 positions are not finite, the first that of patch 2"),
        (BROKEN, OFFSETS, {}, "patches: number 4 (from 0) has values that are not finite"),
        (torch.from_numpy(BROKEN), OFFSETS, {}, "patches: number 4 (from 0) has values"),
        (iter([BROKEN[:3], BROKEN[3:]]), OFFSETS, {}, "patches: number 4 (from 0) has values"),
        (WIDE, OFFSETS, {}, "patches: number 3 (from 0) has values that are not finite"),
        (torch.from_numpy(WIDE), OFFSETS, {}, "patches: number 3 (from 0) has values that are not finite"),
        (WIDE.real, OFFSETS, {}, "patches: number 3 (from 0) has values that are not finite"),
        (PATCHES[:5], OFFSETS, {}, "patches: 5, but offsets has 6 positions"),
        (PATCHES, OFFSETS[:5], {}, "patches: 6, but offsets has 5 positions"),
        (iter([PATCHES[:5]]), OFFSETS, {}, "patches: 5 were given for 6 positions, number 5 (from 0)"),
        (iter([PATCHES, PATCHES]), OFFSETS, {}, "patches: 6 to 11 (from 0) were given, but offsets has 6"),
        (np.zeros((6, 8, 8, 4), np.complex64), OFFSETS, {}, "patches: 4 channels"),
        (np.zeros((6, 8, 7), np.complex64), OFFSETS, {}, "patches: of shape (6, 8, 7)"),
        (np.zeros((6, 8), np.complex64), OFFSETS, {}, "patches: of shape (6, 8)"),
        (PATCHES.real.astype(int), OFFSETS, {}, "patches: of int64"),
        (torch.zeros(6, 8, 8, dtype=torch.int32), OFFSETS, {}, "patches: of torch.int32"),
        ([PATCHES[0], PATCHES[1, :4, :4]], OFFSETS, {}, "patches: no array"),
        (PATCHES[:0], OFFSETS[:0], {}, "offsets: empty"),
        (PATCHES[:0], OFFSETS, {}, "patches: 0, but offsets has 6 positions"),
        (no_batches(), OFFSETS, {}, "patches: empty"),
        ([], OFFSETS, {}, "patches: empty"),
        (None, OFFSETS, {}, "patches: NoneType"),
        (PATCHES, OFFSETS.reshape(2, 6), {}, "offsets: of shape (2, 6), which does not flatten to (B, 2)"),
        (PATCHES, OFFSETS[:, 0], {}, "offsets: of shape (6,), which does not flatten"),
        (PATCHES, OFFSETS.astype(complex), {}, "offsets: positions are real numbers"),
        (PATCHES, [[1, 2], [3]], {}, "offsets: no array"),
        (PATCHES, OFFSETS * 1e5, {}, "offsets: they spread so far"),
        (PATCHES, OFFSETS * 1e200, {}, "offsets: one lies "),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named(patches, offsets, options, message: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message follows
        reassemble_position(patches, offsets, **({"crop_size": 4} | options))
    assert str(raised.value).startswith(message)
    assert isinstance(raised.value, ReassemblyError)
    assert "; " in str(raised.value)


def test_patches_are_counted_by_the_accumulator() -> None:
    canvas = Accumulator(plan(OFFSETS, patch_size=8, crop_size=4))
    canvas.add(PATCHES[:4])
    with pytest.raises(ValueError, match=r"number 2 \(from 0\) was given twice"):
        canvas.add(PATCHES[2:4], start=2)
    with pytest.raises(ValueError, match=r"patches: 5 to 6 \(from 0\) were given, but offsets has 6"):
        canvas.add(PATCHES[:2], start=5)
    with pytest.raises(ValueError, match="patches: -1 to 0 "):
        canvas.add(PATCHES[:2], start=-1)
    with pytest.raises(ValueError, match="4 were given for 6 positions, number 4"):
        canvas.result()
    with pytest.raises(ValueError, match="patches: 4 x 4 pixels, where 8 x 8 were planned"):
        canvas.add(PATCHES[4:, :4, :4])
    canvas.add(PATCHES[4:])
    canvas.result()
    with pytest.raises(ValueError, match="the result was already taken"):
        canvas.add(PATCHES[:0])


def test_a_refused_batch_may_be_given_again_mended() -> None:
    canvas = Accumulator(plan(OFFSETS, patch_size=8, crop_size=4))
    with pytest.raises(ValueError, match="number 4"):
        canvas.add(BROKEN)
    canvas.add(PATCHES)
    whole = reassemble_position(PATCHES, OFFSETS, crop_size=4)
    assert canvas.result().object.tobytes() == whole.object.tobytes()


def test_a_refused_batch_leaves_nothing_however_large_it_is() -> None:
    count = 200_000
    patches, positions = np.ones((count, 1, 1), np.complex64), np.zeros((count, 2))
    patches[-1] = np.nan
    canvas = Accumulator(plan(positions, patch_size=1, crop_size=1))
    with pytest.raises(ValueError, match=f"number {count - 1}"):
        canvas.add(patches)
    patches[-1] = 1
    canvas.add(patches)
    assert canvas.result().count.max() == count


@pytest.mark.parametrize("device", ["tpu", "cuda:99", "meta"])
def test_a_device_that_is_not_there_is_named(device: str) -> None:
    with pytest.raises(ConfigurationError, match=f"device '{device}'"):
        reassemble_position(PATCHES, OFFSETS, crop_size=4, device=device)


def test_a_name_that_no_file_can_have_is_told() -> None:
    with pytest.raises(ReassemblyError, match="pp cannot be read: File name too long"):
        offsets_beside(Path("p" * 300))


def _cut(path: Path, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


def save(path: Path, array: np.ndarray) -> None:
    """As numpy.save, whatever the file's name."""
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=True)


def make_missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    path.mkdir()


def make_text(path: Path) -> None:
    path.write_text("x,y\n1,2\n")


def make_empty(path: Path) -> None:
    path.write_bytes(b"")


def make_cut(path: Path) -> None:
    save(path, PATCHES)
    _cut(path, path.stat().st_size - 10)


def make_cut_header(path: Path) -> None:
    save(path, PATCHES)
    _cut(path, 20)


def make_fortran(path: Path) -> None:
    save(path, np.asfortranarray(PATCHES))


def make_objects(path: Path) -> None:
    save(path, np.array([{}, []], object))


def make_integers(path: Path) -> None:
    save(path, np.zeros((2, 4, 4), int))


def make_flat(path: Path) -> None:
    save(path, np.zeros((2, 4)))


def make_scalar(path: Path) -> None:
    save(path, np.float64(3))


def make_archive(**members: np.ndarray):
    def make(path: Path) -> None:
        with path.open("wb") as file:
            np.savez(file, **members)

    return make


def make_damaged_archive(path: Path) -> None:
    make_archive(patches=PATCHES)(path)
    content = bytearray(path.read_bytes())
    content[500] ^= 255
    path.write_bytes(content)


def make_cut_archive(path: Path) -> None:
    make_archive(patches=PATCHES)(path)
    _cut(path, 1000)


def make_foreign_archive(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("patches.npy", "not an array")


def make_member_in_folder(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("../patches.npy", "w") as file:
        np.save(file, PATCHES)


def make_damaged_lzma(path: Path) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive,
        archive.open("patches.npy", "w") as file,
    ):
        np.save(file, PATCHES)
    content = bytearray(path.read_bytes())
    content[60:90] = bytes(30)
    path.write_bytes(content)


def make_header(descr: str, shape: tuple[int, ...], size: int = 0):
    """A header of that dtype and shape, in a file that is said to be of `size` bytes."""

    def make(path: Path) -> None:
        with path.open("wb") as file:
            npy.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
        if size:
            os.truncate(path, size)

    return make


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (make_missing, "cannot be read: No such file or directory"),
        (make_folder, "cannot be read: Is a directory"),
        (make_text, "neither an .npy nor an .npz"),
        (make_empty, "neither an .npy nor an .npz"),
        (make_cut, "it was not written whole"),
        (make_cut_header, "neither an .npy nor an .npz"),
        (make_fortran, "stored in Fortran order"),
        (make_objects, "holds Python objects, which are not read"),
        (make_integers, "of int64; patches are complex64"),
        (make_flat, "of shape (2, 4); patches are (B, N, N)"),
        (make_scalar, "a single number and no array"),
        (make_archive(offsets=OFFSETS), "has no `patches`, only 'offsets'"),
        (make_archive(), "has no `patches`, only nothing"),
        (make_damaged_archive, "Bad CRC-32"),
        (make_cut_archive, "File is not a zip file"),
        (make_foreign_archive, "neither an .npy nor an .npz"),
        (make_member_in_folder, "has no `patches`, only '../patches'"),
        (make_damaged_lzma, "neither an .npy nor an .npz"),
        (make_header(",", (6, 8, 8)), "neither an .npy nor an .npz"),
        (make_header("<c8", (-6, -8, -8), 4096), "no array is of shape (-6, -8, -8)"),
    ],
)
def test_a_wrong_file_is_named(make, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "patches.npz"
    make(path)
    with pytest.raises(ReassemblyError) as raised, open_patches(path) as patches:
        list(patches.batches(2))
    assert str(raised.value).startswith(str(path))
    assert problem in str(raised.value)


def test_positions_of_a_file_are_checked_and_named(tmp_path: Path) -> None:
    np.save(tmp_path / "offsets.npy", LOST)
    with pytest.raises(ReassemblyError, match=r"offsets\.npy: 1 of 6 positions are not finite"):
        read_offsets(tmp_path / "offsets.npy")
    make_header("<f8", (0, 1 << 62))(tmp_path / "offsets.npy")
    with pytest.raises(ReassemblyError, match=r"offsets\.npy: .* have no room in memory"):
        read_offsets(tmp_path / "offsets.npy")


def test_an_object_is_read_as_it_was_written(tmp_path: Path) -> None:
    whole = reassemble_position(PATCHES, OFFSETS, crop_size=4)
    write_reconstruction(tmp_path / "a.npz", whole)
    found = read_reconstruction(tmp_path / "a.npz")
    assert (found.object == whole.object).all()
    assert found.count is not None
    assert (found.count == whole.count).all()
    assert found.anchor == whole.anchor
    write_reconstruction(tmp_path / "b.npz", whole)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_an_object_of_another_size_than_its_anchor_is_refused(tmp_path: Path) -> None:
    whole = reassemble_position(PATCHES, OFFSETS, crop_size=4)
    write_reconstruction(tmp_path / "a.npz", whole._replace(object=whole.object[:-1, :-1]))
    with pytest.raises(ReassemblyError, match=r"a\.npz: reconstructed_object is of shape .* where pad and"):
        read_reconstruction(tmp_path / "a.npz")


def test_an_object_may_be_stored_by_columns_and_in_wider_numbers(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "other.npz", reconstructed_object=np.asfortranarray(PATCHES[0].astype(np.clongdouble))
    )
    found = read_reconstruction(tmp_path / "other.npz").object
    assert found.dtype == np.complex128
    assert (found == PATCHES[0]).all()


def test_an_object_of_another_program_needs_no_anchor(tmp_path: Path) -> None:
    np.savez(tmp_path / "other.npz", reconstructed_object=PATCHES[0])
    found = read_reconstruction(tmp_path / "other.npz")
    assert (found.count, found.anchor) == (None, None)
    np.savez(tmp_path / "real.npz", reconstructed_object=np.zeros((4, 4)))
    with pytest.raises(ReassemblyError, match=r"real.npz: reconstructed_object is float64 of shape \(4, 4\)"):
        read_reconstruction(tmp_path / "real.npz")


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ({"mean_xy": [0.0, np.nan]}, "mean_xy is no place in the world"),
        ({"mean_xy": ["a", "b"]}, "mean_xy is no place in the world"),
        ({"mean_xy": [0.0]}, "mean_xy, pad or crop_size is of another size"),
        ({"pad": [np.nan]}, "pad or crop_size is no number of pixels"),
        ({"crop_size": [-1]}, "pad or crop_size is no number of pixels"),
    ],
)
def test_an_object_that_lies_nowhere_is_told(tmp_path: Path, member, told: str) -> None:
    whole = {"reconstructed_object": PATCHES[0], "mean_xy": [0.0, 0.0], "pad": [2], "crop_size": [4]}
    np.savez(tmp_path / "a.npz", **{**whole, **member})
    with pytest.raises(ReassemblyError, match=rf"a\.npz: {told}"):
        read_reconstruction(tmp_path / "a.npz")
