"""Pictures without an installation: repeatable, varied, alike at every size, photographs of known source."""

from importlib.resources import files
from random import Random

import pytest
from PIL import Image, ImageChops, ImageStat

from stage_a_pipeline.demo.rendering.canvas import Canvas
from stage_a_pipeline.demo.rendering.irrelevant.photographs import PHOTOGRAPHS, load_photograph
from stage_a_pipeline.demo.rendering.irrelevant.pictures import draw_irrelevant
from stage_a_pipeline.demo.scenes import IRRELEVANT_KINDS

SIZE = (256, 192)
LARGE = (1280, 960)
SHIPPED = files("stage_a_pipeline.demo").joinpath("photographs")


def draw(kind, seed, size=SIZE):
    canvas = Canvas(Image.new("RGB", size), Random(seed))
    draw_irrelevant(canvas, kind)
    return canvas.picture


def distance(first, second):
    """Mean difference of the channels, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean) / 3


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
def test_the_same_seed_gives_the_same_pixels(kind):
    for seed in range(8):
        assert draw(kind, seed).tobytes() == draw(kind, seed).tobytes()


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
def test_every_seed_gives_another_picture(kind):
    pictures = {draw(kind, seed).tobytes() for seed in range(20)}
    assert len(pictures) == 20


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
def test_pictures_of_a_kind_differ_widely(kind):
    pictures = [draw(kind, seed) for seed in range(12)]
    apart = [distance(first, second) for first in pictures for second in pictures if first is not second]
    assert sum(apart) / len(apart) > 15


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
@pytest.mark.parametrize("seed", range(6))
def test_a_large_picture_shrinks_to_about_the_small_one(kind, seed):
    # At half the small size, so that letters and thin lines need not fall on the same pixels.
    large, small = (draw(kind, seed, size).resize((128, 96), Image.Resampling.BOX) for size in (LARGE, SIZE))
    assert distance(large, small) < 8


@pytest.mark.parametrize("kind", IRRELEVANT_KINDS)
@pytest.mark.parametrize("size", [(1600, 900), (768, 1024), (90, 160), (64, 64)])
def test_any_shape_can_be_drawn(kind, size):
    for seed in range(10):
        assert draw(kind, seed, size).size == size


def test_every_shipped_photograph_is_listed_and_every_listed_one_shipped():
    shipped = {item.name for item in SHIPPED.iterdir() if item.name.endswith(".jpg")}
    assert shipped == set(PHOTOGRAPHS)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_small_baseline_jpegs(name):
    with SHIPPED.joinpath(name).open("rb") as content, Image.open(content) as encoded:
        encoded.load()
        assert encoded.format == "JPEG"
        assert "progressive" not in encoded.info
        assert max(encoded.size) <= 512
    assert load_photograph(name).mode == "RGB"


def test_photographs_take_little_room():
    assert sum(len(SHIPPED.joinpath(name).read_bytes()) for name in PHOTOGRAPHS) < 400_000


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_every_photograph_has_a_free_source(name):
    rows = SHIPPED.joinpath("SOURCES.md").read_text(encoding="utf-8").splitlines()
    (row,) = (row for row in rows if row.startswith(f"| `{name}` |"))
    assert row.split("|")[-2].strip() in {"CC0", "public domain"}
