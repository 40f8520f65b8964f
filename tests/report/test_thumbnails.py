"""Thumbnails show what they may, once per content."""

from __future__ import annotations

import io

import pytest
from PIL import ExifTags, Image

from stage_a_pipeline.images import thumbnail_jpeg
from stage_a_pipeline.photo_source import ON_DISK
from stage_a_pipeline.report.thumbnails import ThumbnailRecipe, Thumbnails
from stage_a_pipeline.settings_report import ReportSettings

GPS = {1: "N", 2: (31.0, 12.0, 3.0)}


@pytest.fixture
def photo(tmp_path):
    """Black with stripes at the bottom, turned by its EXIF, which also tells place and owner."""
    upright = Image.new("RGB", (400, 300))
    for column in range(0, 400, 8):
        upright.paste((255, 255, 255), (column, 270, column + 4, 300))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    exif[ExifTags.Base.Artist] = "Zhang"
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(GPS)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    return tmp_path / "photo.jpg"


def opened(encoded: bytes) -> Image.Image:
    return Image.open(io.BytesIO(encoded))


def bottom(image: Image.Image) -> set[int]:
    """The shades of grey of the lower tenth, roughly."""
    row = image.convert("L").crop((0, int(image.height * 0.93), image.width, image.height - 2))
    return {shade // 16 for shade in row.tobytes()}


def test_the_watermark_s_place_holds_one_colour_only(photo):
    covered = ThumbnailRecipe.of(ReportSettings()).covered
    masked = opened(thumbnail_jpeg(photo, size=400, covered=covered))
    assert masked.size == (400, 300)
    assert len(bottom(masked)) == 1
    assert len(bottom(opened(thumbnail_jpeg(photo, size=400)))) > 1


def test_exif_goes_and_stays_as_the_settings_say(photo):
    assert not opened(thumbnail_jpeg(photo)).getexif()
    kept = opened(thumbnail_jpeg(photo, keep_exif=True)).getexif()
    assert kept[ExifTags.Base.Artist] == "Zhang"
    assert kept.get_ifd(ExifTags.IFD.GPSInfo) == GPS
    # The picture is upright already.
    assert ExifTags.Base.Orientation not in kept


def test_masking_is_on_unless_it_is_switched_off():
    on = ThumbnailRecipe.of(ReportSettings())
    off = ThumbnailRecipe.of(ReportSettings(mask_watermark=False, mask_exif=False))
    assert (bool(on.covered), on.keep_exif) == (True, False)
    assert (bool(off.covered), off.keep_exif) == (False, True)


def test_equal_photos_share_a_thumbnail_and_other_recipes_do_not(photo, tmp_path):
    copy = photo.with_name("copy.jpg")
    copy.write_bytes(photo.read_bytes())
    recipe = ThumbnailRecipe.of(ReportSettings())
    with Thumbnails(tmp_path / "made", recipe, ON_DISK) as thumbnails:
        first, second, gone, none = thumbnails.make([photo, copy, photo.with_name("gone.jpg"), None])
    assert first == second
    assert (gone, none) == (None, None)
    stamp = (tmp_path / "made" / first).stat().st_mtime_ns
    with Thumbnails(tmp_path / "made", recipe, ON_DISK) as thumbnails:
        assert thumbnails.make([copy]) == [first]
    assert (tmp_path / "made" / first).stat().st_mtime_ns == stamp
    unmasked = ThumbnailRecipe.of(ReportSettings(mask_watermark=False))
    with Thumbnails(tmp_path / "made", unmasked, ON_DISK) as thumbnails:
        assert thumbnails.make([photo]) != [first]
        assert thumbnails.prune() == 1
    assert not (tmp_path / "made" / first).exists()


@pytest.mark.parametrize("region", [(0.5, 0, 0.5, 1), (0, 0.9, 1, 1.1), (-0.1, 0, 1, 1)])
def test_a_region_outside_the_photo_is_refused(region):
    with pytest.raises(ValueError, match="is no region"):
        ReportSettings(mask_regions=(region,))
