"""Photo files of scenes: phone-sized JPEGs, some turned by EXIF, some broken on purpose."""

from __future__ import annotations

import io
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from PIL import ExifTags, Image

from stage_a_pipeline.demo.rendering.drawing import draw_scene
from stage_a_pipeline.demo.scenes import Scene

Damage = Literal["truncated", "empty", "html"]
DAMAGES: Final[tuple[Damage, ...]] = ("truncated", "empty", "html")

PHOTO_SIZES: Final = {
    (640, 480): 6,
    (480, 640): 4,
    (1280, 720): 6,
    (720, 1280): 4,
    (1280, 960): 30,
    (960, 1280): 22,
    (1600, 900): 7,
    (900, 1600): 5,
    (1920, 1080): 3,
    (2048, 1536): 5,
    (1536, 2048): 4,
    (3264, 2448): 2,
    (3000, 4000): 1,
    (4000, 3000): 1,
}
"""Width and height of upright photos, and their share: 4:3 and 16:9 both ways up, 0.3 to 12 megapixels."""

_ORIENTATIONS: Final = {1: 70, 2: 1, 3: 5, 4: 1, 5: 1, 6: 15, 7: 1, 8: 6}
_STORED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""How an upright photo is turned before it is stored under an EXIF orientation."""

_ERROR_PAGE: Final = b"<!DOCTYPE html>\n<html><body><h1>404 Not Found</h1></body></html>\n"


@dataclass(frozen=True, slots=True)
class Photo:
    """One photo to be written: what it shows, and what its file is like."""

    scene: Scene
    size: tuple[int, int]
    orientation: int
    quality: int
    damage: Damage | None = None


def plan_photo(rng: Random, scene: Scene) -> Photo:
    """A photo of a scene with a phone's variety of sizes, orientations and JPEG qualities."""
    size = rng.choices(list(PHOTO_SIZES), list(PHOTO_SIZES.values()))[0]
    orientation = rng.choices(list(_ORIENTATIONS), list(_ORIENTATIONS.values()))[0]
    return Photo(scene, size, orientation, quality=rng.randint(40, 95))


def encode_photo(photo: Photo) -> bytes:
    """The bytes of the photo's file; the same photo, the same bytes."""
    if photo.damage == "empty":
        return b""
    if photo.damage == "html":
        return _ERROR_PAGE
    picture = draw_scene(photo.scene, photo.size)
    exif = Image.Exif()
    if photo.orientation != 1:
        picture = picture.transpose(_STORED[photo.orientation])
        exif[ExifTags.Base.Orientation] = photo.orientation
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=photo.quality, exif=exif)
    data = encoded.getvalue()
    return data[: len(data) * 2 // 5] if photo.damage == "truncated" else data
