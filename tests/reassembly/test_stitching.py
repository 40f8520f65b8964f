"""The object: against recorded results, the formulas written out, and whatever must not matter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_a_pipeline.reassembly import Accumulator, plan, reassemble_position
from tests.reassembly.exact import exact_object, random_offsets, random_patches

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.npz"))


@pytest.mark.parametrize("batch_size", [1, 4, 256])
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_objects_come_out_again(path: Path, batch_size: int) -> None:
    with np.load(path) as case:
        found = reassemble_position(
            case["patches"], case["offsets"], crop_size=int(case["M"]), batch_size=batch_size
        )
        expected, count = case["expected_exact"][..., 0], case["count_exact"][..., 0]
        assert found.object.shape == expected.shape
        assert (found.anchor.mean_x, found.anchor.mean_y) == pytest.approx(tuple(case["mean_xy"]), rel=1e-12)
        assert found.anchor.pad == int(case["pad"])
    seen = count > 0.01
    np.testing.assert_allclose(found.object[seen], expected[seen], atol=1e-5)
    np.testing.assert_allclose(found.count, count, atol=1e-6)
    assert not found.object[count == 0].any()
    assert RECORDED


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 9),
    size=st.integers(1, 12),
    crop=st.integers(1, 12),
    spread=st.floats(0, 30),
)
def test_any_scan_gives_what_the_formulas_give(seed, count, size, crop, spread) -> None:
    crop = min(crop, size)
    patches, offsets = random_patches(count, size, seed=seed), random_offsets(count, spread, seed=seed)
    expected, counts, mean, pad = exact_object(patches, offsets, crop)
    found = reassemble_position(patches, offsets, crop_size=crop)
    assert found.object.shape == expected.shape
    assert found.object.dtype == np.complex64
    seen = counts > 0.01
    np.testing.assert_allclose(found.object[seen], expected[seen], atol=1e-5)
    np.testing.assert_allclose(found.count, counts, atol=1e-6)
    assert not found.object[counts == 0].any()
    assert (found.anchor.mean_x, found.anchor.mean_y, found.anchor.pad) == pytest.approx((*mean, pad))


@pytest.mark.parametrize("batch_size", [1, 7, 256])
def test_the_batch_size_changes_no_bit(batch_size: int) -> None:
    patches, offsets = random_patches(300, 16), random_offsets(300, 40)
    whole = reassemble_position(patches, offsets, crop_size=11, batch_size=300)
    other = reassemble_position(patches, offsets, crop_size=11, batch_size=batch_size)
    assert whole.object.tobytes() == other.object.tobytes()
    assert whole.count.tobytes() == other.count.tobytes()


@pytest.mark.parametrize("single", [False, True])
def test_single_and_double_sums_agree(single: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if single:
        monkeypatch.setattr("stage_a_pipeline.reassembly.accumulator._DOUBLE_PIXELS", 0)
    patches, offsets = random_patches(200, 16), random_offsets(200, 30)
    expected, counts, *_ = exact_object(patches, offsets, 10)
    found = reassemble_position(patches, offsets, crop_size=10)
    seen = counts > 0.01
    np.testing.assert_allclose(found.object[seen], expected[seen], atol=1e-5)


@pytest.mark.parametrize("crop_size", [1, 4, 20])
def test_no_pixel_has_more_patches_than_are_reckoned_with(crop_size: int) -> None:
    for spread in (0.4, 5, 60):
        offsets = random_offsets(400, spread)
        found = reassemble_position(random_patches(400, 20), offsets, crop_size=crop_size)
        reckoned = plan(offsets, patch_size=20, crop_size=crop_size).most_on_a_pixel()
        assert found.count.max() <= reckoned <= 4 * 400


def test_large_canvases_with_many_patches_on_a_pixel_are_summed_in_float64(monkeypatch) -> None:
    monkeypatch.setattr("stage_a_pipeline.reassembly.accumulator._DOUBLE_PIXELS", 0)
    patches = np.full((20_000, 4, 4), 0.1 + 0.7j, np.complex64)
    found = reassemble_position(patches, random_offsets(20_000, 1.0), crop_size=4)
    np.testing.assert_allclose(found.object[found.count > 10_000], 0.1 + 0.7j, atol=1e-7)
    monkeypatch.setattr("stage_a_pipeline.reassembly.accumulator._MANY_PATCHES", 1 << 40)
    single = reassemble_position(patches, random_offsets(20_000, 1.0), crop_size=4)
    assert np.abs(single.object[found.count > 10_000] - (0.1 + 0.7j)).max() > 1e-6


def test_thousands_of_patches_on_one_pixel_keep_their_digits() -> None:
    patches = np.full((20_000, 4, 4), 0.1 + 0.7j, np.complex64)
    offsets = random_offsets(20_000, 1.0)
    found = reassemble_position(patches, offsets, crop_size=4)
    middle = found.object[found.count > 10_000]
    assert middle.size
    np.testing.assert_allclose(middle, 0.1 + 0.7j, atol=1e-7)


@pytest.mark.parametrize("where", [(0.0, 0.0), (1234.567, -9.25)])
def test_a_single_patch_gives_back_its_own_crop(where: tuple[float, float]) -> None:
    patch = random_patches(1, 9)
    found = reassemble_position(patch, [where], crop_size=5)
    np.testing.assert_allclose(found.object, patch[0, 2:7, 2:7], rtol=1e-6)
    assert (found.count == 1).all()


def test_a_patch_further_right_and_down_lies_further_right_and_down() -> None:
    patches = np.zeros((2, 3, 3), np.complex64)
    patches[1, 1, 1] = 1
    found = reassemble_position(patches, [(0, 0), (4, 2)], crop_size=1)
    rows, columns = np.nonzero(found.object)
    assert (rows.tolist(), columns.tolist()) == ([found.anchor.pad + 1], [found.anchor.pad + 2])


def test_the_anchor_says_where_a_pixel_lies_in_the_world() -> None:
    world = random_patches(1, 60)[0]
    # Their mean is whole, so that nothing is interpolated.
    places = [(20, 20), (32, 24), (26, 37)]
    patches = np.stack([world[y - 4 : y + 4, x - 4 : x + 4] for x, y in places])
    found = reassemble_position(patches, places, crop_size=7)
    top, left = int(found.anchor.top), int(found.anchor.left)
    assert (found.anchor.top, found.anchor.left) == (top, left)
    here = world[top : top + len(found.object), left : left + len(found.object)]
    seen = found.count > 0
    np.testing.assert_allclose(found.object[seen], here[seen], rtol=1e-6)


def test_shifts_next_to_a_whole_pixel_make_no_ghost_rows() -> None:
    offsets = np.array([[0, 0], [8, 4], [4.000004, 2.000003], [3.999996, 1.999997]])
    found = reassemble_position(random_patches(4, 8), offsets, crop_size=4)
    assert set(np.unique(found.count).tolist()) <= {0.0, 1.0, 2.0}
    assert found.object.shape == (4 + 2 * 4, 4 + 2 * 4)


def test_positions_far_from_nought_keep_their_fractions() -> None:
    patches, near = random_patches(20, 12), random_offsets(20, 15)
    here = reassemble_position(patches, near, crop_size=8)
    there = reassemble_position(patches, near + 2.0**20, crop_size=8)
    seen = here.count > 0.01
    np.testing.assert_allclose(there.object[seen], here.object[seen], atol=1e-6)


@pytest.mark.parametrize("shape", [(12, 2), (12, 1, 1, 2), (12, 1, 2, 1), (1, 12, 2)])
def test_positions_flatten(shape: tuple[int, ...]) -> None:
    patches, offsets = random_patches(12, 8), random_offsets(12, 9)
    plain = reassemble_position(patches, offsets, crop_size=5)
    found = reassemble_position(patches, offsets.reshape(shape), crop_size=5)
    assert found.object.tobytes() == plain.object.tobytes()


def test_positions_may_be_a_tensor_or_whole_numbers() -> None:
    patches, offsets = random_patches(12, 8), np.rint(random_offsets(12, 9))
    plain = reassemble_position(patches, offsets, crop_size=np.int64(5))
    for others in (torch.from_numpy(offsets), offsets.astype(int), offsets.tolist()):
        found = reassemble_position(patches, others, crop_size=5)
        assert found.object.tobytes() == plain.object.tobytes()


def _saved(patches: np.ndarray, path: Path) -> Path:
    np.save(path, patches)
    return path


def _zipped(patches: np.ndarray, path: Path, save=np.savez) -> str:
    save(path.with_suffix(".npz"), patches=patches)
    return str(path.with_suffix(".npz"))


SOURCES = {
    "channel": lambda patches, _: patches[..., None],
    "tensor": lambda patches, _: torch.from_numpy(patches),
    "conjugate view": lambda patches, _: torch.from_numpy(patches.conj()).conj(),
    "double": lambda patches, _: patches.astype(np.complex128),
    "list": lambda patches, _: list(patches),
    "not contiguous": lambda patches, _: np.asfortranarray(patches),
    "npy": _saved,
    "npz": _zipped,
    "compressed": lambda patches, path: _zipped(patches, path, np.savez_compressed),
    "other byte order": lambda patches, path: _saved(
        np.array(patches, patches.dtype.newbyteorder(">")), path
    ),
    "iterator": lambda patches, _: (patches[first : first + 5] for first in range(0, len(patches), 5)),
    "uneven batches": lambda patches, _: [patches[:1], patches[1:9], patches[9:9], patches[9:]],
    "tensors of a model": lambda patches, _: (torch.from_numpy(each[None, ..., None]) for each in patches),
}


@pytest.mark.parametrize("kind", sorted(SOURCES))
def test_patches_may_come_from_anywhere(kind: str, tmp_path: Path) -> None:
    patches, offsets = random_patches(23, 10), random_offsets(23, 12)
    plain = reassemble_position(patches, offsets, crop_size=6)
    found = reassemble_position(
        SOURCES[kind](patches, tmp_path / "patches.npy"), offsets, crop_size=6, batch_size=4
    )
    assert found.object.tobytes() == plain.object.tobytes()


def test_amplitudes_alone_are_patches_too() -> None:
    real = np.abs(random_patches(5, 6))
    offsets = random_offsets(5, 4)
    found = reassemble_position(real, offsets, crop_size=6)
    expected, counts, *_ = exact_object(real, offsets, 6)
    np.testing.assert_allclose(found.object[counts > 0.01], expected[counts > 0.01], atol=1e-5)


def test_batches_may_come_in_any_order_when_they_say_where_they_belong() -> None:
    patches, offsets = random_patches(30, 8), random_offsets(30, 10)
    geometry = plan(offsets, patch_size=8, crop_size=6)
    canvas = Accumulator(geometry)
    for start in (20, 0, 10):
        canvas.add(patches[start : start + 10], start=start)
    whole = reassemble_position(patches, offsets, crop_size=6)
    seen = whole.count > 0.01
    np.testing.assert_allclose(canvas.result().object[seen], whole.object[seen], atol=1e-6)
    assert canvas.result() is canvas.result()


def test_the_callers_patches_and_threads_stay_as_they_are() -> None:
    patches = random_patches(4, 6)
    before = patches.copy()
    patches.setflags(write=False)
    threads = torch.get_num_threads()
    reassemble_position(patches, random_offsets(4, 3), crop_size=4)
    assert (patches == before).all()
    assert torch.get_num_threads() == threads


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("on_device", [False, True])
def test_a_gpu_adds_up_what_a_cpu_does(on_device: bool) -> None:
    patches, offsets = random_patches(600, 24), random_offsets(600, 60)
    plain = reassemble_position(patches, offsets, crop_size=20)
    given = torch.from_numpy(patches).to("cuda:0") if on_device else patches
    found = reassemble_position(given, offsets, crop_size=20, device="cuda:0")
    seen = plain.count > 0.01
    np.testing.assert_allclose(found.object[seen], plain.object[seen], atol=1e-6)
    np.testing.assert_allclose(found.count, plain.count, atol=1e-6)
    assert not found.object[plain.count == 0].any()
