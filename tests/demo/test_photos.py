"""Photo files: upright after decoding, and broken in ways that the reader notices."""

import io
from dataclasses import replace
from random import Random

import pytest
from PIL import Image, ImageChops, ImageStat

from stage_a_pipeline.demo.photos import PHOTO_SIZES, Photo, encode_photo, plan_photo
from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.demo.scenes import Scene
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.images import decode_photo, read_photo

PHOTO = Photo(Scene("bbu", 4, irrelevant="street"), (320, 240), orientation=1, quality=95)


def decoded(photo: Photo, folder) -> Image.Image:
    path = folder / "photo.jpg"
    path.write_bytes(encode_photo(photo))
    return decode_photo(read_photo(path))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photo_decodes_upright(orientation, tmp_path):
    image = decoded(replace(PHOTO, orientation=orientation), tmp_path)
    assert image.size == PHOTO.size
    difference = ImageChops.difference(image, draw_scene(PHOTO.scene, PHOTO.size))
    assert max(ImageStat.Stat(difference).mean) < 3


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_photo_on_its_side_is_stored_on_its_side(orientation):
    data = encode_photo(replace(PHOTO, orientation=orientation))
    with Image.open(io.BytesIO(data)) as stored:
        assert stored.size == (240, 320)


@pytest.mark.parametrize(
    ("damage", "reason"), [("truncated", "truncated"), ("empty", "empty"), ("html", "not_an_image")]
)
def test_a_broken_photo_is_refused_for_its_damage(damage, reason, tmp_path):
    with pytest.raises(PhotoError) as caught:
        decoded(replace(PHOTO, damage=damage), tmp_path)
    assert caught.value.reason == reason


def test_photos_have_a_phones_variety():
    rng = Random(0)
    photos = [plan_photo(rng, PHOTO.scene) for _ in range(500)]
    assert {photo.size for photo in photos} == set(PHOTO_SIZES)
    assert {photo.orientation for photo in photos} >= {1, 3, 6, 8}
    assert {photo.orientation for photo in (plan_photo(rng, PHOTO.scene) for _ in range(2000))} == set(
        range(1, 9)
    )
    qualities = [photo.quality for photo in photos]
    assert (min(qualities), max(qualities)) == (40, 95)


def test_photo_sizes_are_a_phones():
    megapixels = [width * height / 1e6 for width, height in PHOTO_SIZES]
    assert (round(min(megapixels), 1), max(megapixels)) == (0.3, 12.0)
    shapes = {round(width / height, 3) for width, height in PHOTO_SIZES}
    assert shapes == {1.333, 0.75, 1.778, 0.562}
