"""Pictures for an event log: narrow, small, and still pictures."""

import io

import numpy as np
import pytest
from PIL import Image

from stage_a_pipeline.reassembly.thumbnails import thumbnail_png


def picture(width, height):
    ramp = np.linspace(0, 255, width * height * 3).reshape(height, width, 3).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(ramp).save(content, "PNG")
    return content.getvalue()


@pytest.mark.parametrize(
    ("size", "width", "expected"),
    [((800, 400), 200, (200, 100)), ((800, 401), 200, (200, 100)), ((90, 300), 200, (90, 300))],
)
def test_wide_pictures_are_scaled_down_and_narrow_ones_are_not_enlarged(size, width, expected):
    with Image.open(io.BytesIO(thumbnail_png(picture(*size), width=width))) as small:
        assert (small.format, small.size) == ("PNG", expected)
        assert np.ptp(np.asarray(small.convert("L"))) > 200


def test_the_same_picture_gives_the_same_bytes():
    assert thumbnail_png(picture(300, 200), width=100) == thumbnail_png(picture(300, 200), width=100)
