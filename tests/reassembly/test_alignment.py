"""What of the truth a canvas shows, by hand."""

from dataclasses import dataclass

import numpy as np
import pytest

from stage_a_pipeline.errors import ReassemblyError
from stage_a_pipeline.reassembly.alignment import align, world_box


@dataclass(frozen=True)
class Corner:
    top: float
    left: float


TRUTH = np.arange(20 * 30).reshape(20, 30)
CANVAS = 1000 + np.arange(8 * 8).reshape(8, 8)


@pytest.mark.parametrize(
    ("top", "left", "first"),
    [
        (0, 0, (0, 0)),
        (3, 5, (3, 5)),
        (3.49, 5.5, (3, 6)),
        (2.5, 4.51, (3, 5)),
        (-0.5, 0.2, (0, 0)),
        (12, 22, (12, 22)),
    ],
)
def test_a_canvas_within_the_truth_keeps_all_its_pixels(top, left, first):
    found = align(CANVAS, TRUTH, Corner(top, left))
    row, column = first
    assert found.truth.tolist() == TRUTH[row : row + 8, column : column + 8].tolist()
    assert found.reconstruction.tolist() == CANVAS.tolist()


@pytest.mark.parametrize(
    ("top", "left", "world", "canvas"),
    [
        (-3, 5, np.s_[0:5, 5:13], np.s_[3:8, 0:8]),
        (15, -2, np.s_[15:20, 0:6], np.s_[0:5, 2:8]),
        (4, 29, np.s_[4:12, 29:30], np.s_[0:8, 0:1]),
    ],
)
def test_a_canvas_that_leaves_the_truth_is_cropped_with_it(top, left, world, canvas):
    found = align(CANVAS, TRUTH, Corner(top, left))
    assert found.truth.tolist() == TRUTH[world].tolist()
    assert found.reconstruction.tolist() == CANVAS[canvas].tolist()


@pytest.mark.parametrize("corner", [Corner(-8, 0), Corner(0, 30), Corner(500, 500), Corner(-500, 2)])
def test_a_canvas_beside_the_truth_is_told(corner):
    with pytest.raises(ReassemblyError, match=r"Baseline lies at row .* 20x30 pixels and shares none"):
        align(CANVAS, TRUTH, corner, name="Baseline")
    assert world_box(TRUTH, corner, 8).size == 0


@pytest.mark.parametrize(
    ("shape", "canvas", "world"),
    [
        ((8, 8), np.s_[:, :], np.s_[6:14, 11:19]),
        ((22, 31), np.s_[1:21, 0:30], np.s_[:, :]),
        ((9, 40), np.s_[:, 5:35], np.s_[5:14, :]),
    ],
)
def test_without_a_corner_both_are_cropped_to_their_centres(shape, canvas, world):
    image = np.arange(shape[0] * shape[1]).reshape(shape)
    found = align(image, TRUTH, None)
    assert found.reconstruction.tolist() == image[canvas].tolist()
    assert found.truth.tolist() == TRUTH[world].tolist()
