"""Test data as other programs write it, and what of it cannot be used."""

import tracemalloc

import numpy as np
import pytest

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.scan_data import open_diffraction, read_positions, read_true_object

PATTERNS = np.arange(5 * 4 * 4, dtype=np.float64).reshape(5, 4, 4)


def saved(tmp_path, **members):
    np.savez(tmp_path / "test_data.npz", **members)
    return tmp_path / "test_data.npz"


def opened(path):
    with open_diffraction(path) as diffraction:
        return list(diffraction.batches(2))


@pytest.mark.parametrize("name", ["diffraction", "diff3d"])
@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint16])
def test_patterns_come_batch_by_batch_in_float32(tmp_path, name, kind):
    found = opened(saved(tmp_path, **{name: PATTERNS.astype(kind)}))
    assert [len(batch) for batch in found] == [2, 2, 1]
    assert {batch.dtype for batch in found} == {np.dtype(np.float32)}
    assert np.concatenate(found).tolist() == PATTERNS.tolist()


def test_nothing_is_read_that_is_not_asked_for(tmp_path):
    path = saved(tmp_path, diffraction=np.zeros((4000, 32, 32), np.float32), xcoords=[1.0], ycoords=[2.0])
    tracemalloc.start()
    assert read_positions(path).tolist() == [[1, 2]]
    with open_diffraction(path) as diffraction:
        assert sum(len(batch) for batch in diffraction.batches(100)) == 4000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # The patterns are 16 MB.
    assert peak < 3e6


def test_what_is_not_there_is_none(tmp_path):
    path = saved(tmp_path, diffraction=PATTERNS)
    assert read_positions(path) is None
    assert read_true_object(path) is None


def test_an_object_whose_columns_come_first_is_read(tmp_path):
    truth = np.asfortranarray(np.arange(12).reshape(3, 4) * (1 + 2j))
    assert read_true_object(saved(tmp_path, objectGuess=truth)).tolist() == truth.tolist()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({}, "has no `diffraction`, nor `diff3d`"),
        ({"diffraction": PATTERNS[0]}, r"of shape \(4, 4\); patterns are \(n, N, N\)"),
        ({"diffraction": PATTERNS[:, 1:]}, r"of shape \(5, 3, 4\)"),
        ({"diffraction": PATTERNS * 1j}, "of complex128; patterns are real numbers"),
    ],
)
def test_patterns_that_are_none_are_told(tmp_path, members, told):
    with pytest.raises(ReassemblyError, match=rf"test_data\.npz.*{told}"):
        opened(saved(tmp_path, xcoords=np.zeros(1), **members))


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"xcoords": [1.0]}, "has `xcoords` and no `ycoords`; save both"),
        ({"xcoords": [1.0], "ycoords": [1.0, 2.0]}, "1 xcoords and 2 ycoords"),
        ({"xcoords": [1.0], "ycoords": [np.nan]}, "not finite"),
        ({"xcoords": np.array([None]), "ycoords": [1.0]}, "xcoords cannot be read .*allow_pickle"),
    ],
)
def test_positions_that_are_none_are_told(tmp_path, members, told):
    with pytest.raises(ReassemblyError, match=rf"test_data\.npz.*{told}"):
        read_positions(saved(tmp_path, **members))


@pytest.mark.parametrize(
    ("truth", "told"),
    [
        (np.zeros((2, 3, 4)), r"objectGuess is float64 of shape \(2, 3, 4\)"),
        (np.zeros((3, 4), int), "objectGuess is int64"),
        (np.full((3, 4), np.inf), "objectGuess has values that are not finite"),
    ],
)
def test_an_object_that_is_none_is_told(tmp_path, truth, told):
    with pytest.raises(ReassemblyError, match=rf"test_data\.npz: {told}"):
        read_true_object(saved(tmp_path, objectGuess=truth))


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "test_data.npz"
    if content is not None:
        path.write_bytes(content)
    for read in (read_positions, read_true_object, opened):
        with pytest.raises(ReassemblyError, match=r"test_data\.npz"):
            read(path)


@pytest.mark.parametrize("flag", ["encrypted", "of an unknown compression"])
def test_a_member_that_zipfile_refuses_is_named(tmp_path, flag):
    path = saved(tmp_path, objectGuess=np.ones((3, 4), complex))
    content = bytearray(path.read_bytes())
    directory = content.rindex(b"PK\x01\x02")
    for at in (6, directory + 8):
        if flag == "encrypted":
            content[at] |= 1
        else:
            content[at + 2] = 99
    path.write_bytes(content)
    with pytest.raises(ReassemblyError, match=r"test_data\.npz: objectGuess cannot be read"):
        read_true_object(path)
