"""From a photo's bytes to an upright RGB image at the size the model sees, or a PhotoError that says why not.

A file is judged by its content, never by its suffix. JPEG (MPO and other phone variants included) and
PNG are read; everything else is refused with a remedy. Colour profiles are ignored.
"""

from __future__ import annotations

import hashlib
import io
import math
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, Protocol

from PIL import ExifTags, Image, ImageChops, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from stage_a_pipeline.colours import to_rgb
from stage_a_pipeline.errors import PhotoError
from stage_a_pipeline.jpeg_segments import split_jpeg
from stage_a_pipeline.places import Place
from stage_a_pipeline.settings_report import Region

PhotoReason = Literal[
    "unreadable",  # the file system does not hand over the file: gone, forbidden, not a regular file
    "empty",  # zero bytes
    "not_an_image",  # HTML, text, zeros: no known picture format
    "unsupported_format",  # a picture, but neither JPEG nor PNG
    "truncated",  # the file ends before its picture does
    "corrupt",  # damaged in the middle
    "too_large",  # more bytes or pixels than a photo has: not decoded
    "extreme_aspect",  # too long and thin for the model
]
"""Every `reason` that a PhotoError of this module carries."""

MAX_FILE_BYTES: Final = 256 * 1024 * 1024
MAX_IMAGE_PIXELS: Final = 200_000_000
"""The largest phone cameras take 200 megapixels; a header that announces more is a decompression bomb."""

DecodeMode = Literal["exact", "fast"]
"""`exact` decodes every pixel. `fast` lets libjpeg decode a JPEG at a half, a quarter or an eighth of its
scale, where that is not below the size that is wanted: less work, slightly other pixels."""

Fit = Callable[[int, int], tuple[int, int]]
"""From width and height of the upright photo to those the model sees."""

_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"
_PNG_START, _PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND\xaeB`\x82"
_OTHER_FORMATS: Final = (
    (re.compile(rb"GIF8[79]a"), "GIF"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "WebP"),
    (re.compile(rb"BM....\0\0\0\0", re.DOTALL), "BMP"),
    (re.compile(rb"II\*\0|MM\0\*"), "TIFF"),
    (re.compile(rb"....ftyp(?:hei|hev|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"....ftypavi", re.DOTALL), "AVIF"),
    (re.compile(rb"\0\0\0\x0cjP {2}|\xff\x4f\xff\x51"), "JPEG 2000"),
    (re.compile(rb"\0\0\0\x0cJXL |\xff\x0a"), "JPEG XL"),
)
_FILLER: Final = (128, (128, 128, 128))
"""What libjpeg paints, without an error, where an end marker comes before the picture is complete."""

_TRANSPOSITIONS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TURNED: Final = (5, 6, 7, 8)  # width is height in these


class Pixels(Protocol):
    """An upright RGB photo that waits for a device: an image, or what `Engine.prepare` made of one."""

    @property
    def mode(self) -> str:
        """RGB."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, as the model sees it."""

    def tobytes(self) -> bytes:
        """Its pixels, row by row."""


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A photo file's bytes, read once, and their SHA-256."""

    path: Place
    data: bytes = field(repr=False)
    sha256: str


def read_photo(path: Path) -> PhotoFile:
    """The file's bytes and their hash. Raises PhotoError (unreadable, empty, too_large)."""
    try:
        status = path.stat()
        # Opening a named pipe that nobody writes to would wait for ever.
        if not stat.S_ISREG(status.st_mode):
            raise _refusal(path, "unreadable", "is not a regular file", "replace it by the photo")
        require_photo_size(path, status.st_size)
        data = path.read_bytes()
    except OSError as error:
        raise unreadable_photo(path, str(error.strerror or error)) from error
    return photo_of(path, data)


def require_photo_size(place: Place, size: int) -> None:
    """PhotoError (too_large) for a file of so many bytes that no photo has."""
    if size > MAX_FILE_BYTES:
        limit = f"{MAX_FILE_BYTES // 1024**2} MiB"
        raise _refusal(place, "too_large", f"is larger than {limit}", "no photo is; check what it is")


def photo_of(place: Place, data: bytes) -> PhotoFile:
    """What was read there, and its hash. Raises PhotoError (empty)."""
    if not data:
        raise _refusal(place, "empty", "has zero bytes", "copy it again from its source")
    return PhotoFile(place, data, hashlib.sha256(data).hexdigest())


def unreadable_photo(place: Place, cause: str) -> PhotoError:
    """The PhotoError (unreadable) of a photo that a disk or an object store does not hand over."""
    return _refusal(
        place, "unreadable", f"cannot be read: {cause}", "check that it is there, and its permissions"
    )


def decode_photo(
    photo: PhotoFile,
    *,
    fit: Fit | None = None,
    decode: DecodeMode = "exact",
    max_image_pixels: int = MAX_IMAGE_PIXELS,
) -> Image.Image:
    """The photo upright and in RGB, resized once (bicubic) to `fit(width, height)` when given.

    EXIF orientation is applied, transparency lies on white, 16 bits are scaled to 8, of several
    frames the first is taken. The result holds its pixels, no file and no metadata. Raises
    PhotoError before any pixel is decoded where the header allows it; a photo is complete or refused,
    the same ones in both modes.
    """
    with _damage_blamed_on(photo.path):
        picture, picture_data = _open_picture(photo, max_image_pixels)
        whole = picture.size
        if decode == "fast" and fit is not None:
            _decode_smaller(picture, fit)
        picture.load()
        _refuse_filler(photo.path, picture, picture_data, whole)
        image = _upright_rgb(picture)
    if fit is not None:
        try:
            size = fit(*_upright_size(picture, whole))
        except PhotoError as error:
            raise PhotoError(error.reason, f"photo {photo.path}: {error}") from error
        if size != image.size:
            image = image.resize(size, Image.Resampling.BICUBIC)
    if isinstance(image, ImageFile.ImageFile):
        image = image.copy()
    # What is upright must not be turned again by a reader of its metadata.
    image.info = {}
    return image


def thumbnail_jpeg(
    photo: Path | PhotoFile, *, size: int = 160, covered: Iterable[Region] = (), keep_exif: bool = False
) -> bytes:
    """A small JPEG of the upright photo, `size` pixels on its longer side at most.

    `covered` regions are painted over before anything is made smaller. Metadata is left out; with
    `keep_exif` the photo's EXIF stays, but for its orientation. A JPEG is decoded at reduced scale, and a
    damaged end may go unnoticed.
    """
    if isinstance(photo, Path):
        photo = read_photo(photo)
    with _damage_blamed_on(photo.path):
        picture, _ = _open_picture(photo, MAX_IMAGE_PIXELS)
        picture.draft(None, (2 * size, 2 * size))
        picture.load()
        image = _upright_rgb(picture)
    for region in covered:
        _paint_over(image, region)
    image.thumbnail((size, size), Image.Resampling.BICUBIC)
    image.info = {}
    encoded = io.BytesIO()
    image.save(encoded, "JPEG", quality=75, exif=_exif_without_orientation(picture) if keep_exif else b"")
    return encoded.getvalue()


def _paint_over(image: Image.Image, region: Region) -> None:
    """One colour, the region's own on average, so that nothing in it can be read."""
    left, top, right, bottom = region
    box = (
        math.floor(left * image.width),
        math.floor(top * image.height),
        math.ceil(right * image.width),
        math.ceil(bottom * image.height),
    )
    colour = image.crop(box).resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert isinstance(colour, tuple), "the picture is RGB"
    image.paste(colour, box)


def _exif_without_orientation(picture: Image.Image) -> bytes:
    try:
        exif = picture.getexif()
        exif.pop(ExifTags.Base.Orientation, None)
        return exif.tobytes()
    except Exception:  # noqa: BLE001 - damaged EXIF raises nearly anything, and must not cost the thumbnail
        return b""


def rgb_sha256(image: Pixels) -> str:
    """SHA-256 over the pixels of an RGB photo, row by row."""
    assert image.mode == "RGB", image.mode
    return hashlib.sha256(image.tobytes()).hexdigest()


def _open_picture(photo: PhotoFile, max_image_pixels: int) -> tuple[ImageFile.ImageFile, bytes]:
    """The picture with its header read, and the bytes it is decoded from."""
    data = photo.data
    picture: ImageFile.ImageFile
    if data.startswith(_JPEG_START):
        jpeg = split_jpeg(data)
        if jpeg.picture.find(_JPEG_END, jpeg.scan_start) < 0:
            raise _truncated(photo.path)
        # Opened directly: Image.open also reads the frame index of MPO files, and loses the photo
        # when that is damaged. The first frame needs no index.
        data = jpeg.picture
        picture = JpegImageFile(io.BytesIO(data))
        picture.info.update(jpeg.metadata)
    elif data.startswith(_PNG_START):
        if _PNG_END not in data:
            raise _truncated(photo.path)
        picture = PngImageFile(io.BytesIO(data))
    else:
        raise _foreign_format(photo)
    if picture.width * picture.height > max_image_pixels:
        raise _refusal(
            photo.path,
            "too_large",
            f"announces {picture.width}x{picture.height} pixels, above the limit of {max_image_pixels}",
            "no camera takes that; check where it comes from",
        )
    return picture, data


def _decode_smaller(picture: ImageFile.ImageFile, fit: Fit) -> None:
    """Let a JPEG be decoded at the smallest of libjpeg's scales that is not below the size that fits."""
    upright = _upright_size(picture, picture.size)
    try:
        size = fit(*upright)
    except PhotoError:
        # Told when the picture is known to be complete.
        return
    # Other formats take no notice.
    picture.draft(None, size if upright == picture.size else size[::-1])


def _upright_size(picture: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    return size[::-1] if _orientation(picture) in _TURNED else size


def _upright_rgb(picture: ImageFile.ImageFile) -> Image.Image:
    method = _TRANSPOSITIONS.get(_orientation(picture))
    image = to_rgb(picture)
    return image.transpose(method) if method is not None else image


def _orientation(picture: Image.Image) -> int:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - damaged EXIF raises nearly anything, and must not cost the photo
        return 1
    return orientation if isinstance(orientation, int) else 1


def _refuse_filler(path: Place, picture: ImageFile.ImageFile, data: bytes, whole: tuple[int, int]) -> None:
    """Refuse a JPEG that was cut and closed with an end marker, where libjpeg would fill in grey.

    Zeros before the end marker are skipped in a complete picture and decoded in an incomplete one; at a
    smaller scale than that of the `whole` they may leave no trace. Not noticed: a cut within the very last
    block, and in the refinements of a progressive picture.
    """
    if picture.format != "JPEG" or picture.getpixel((picture.width - 1, picture.height - 1)) not in _FILLER:
        return
    end = data.find(_JPEG_END, split_jpeg(data).scan_start)
    if picture.size != whole:
        picture = JpegImageFile(io.BytesIO(data))
    with JpegImageFile(io.BytesIO(data[:end] + bytes(1 << 16) + data[end:])) as padded:
        if ImageChops.difference(picture, padded).getbbox() is not None:
            raise _truncated(path)


@contextmanager
def _damage_blamed_on(path: Place) -> Iterator[None]:
    """Whatever Pillow raises on hostile bytes, as a PhotoError of this file."""
    try:
        yield
    except PhotoError:
        raise
    except MemoryError as error:
        raise _refusal(path, "too_large", "needs more memory than is free", "shrink the photo") from error
    except Exception as error:
        raise _refusal(path, "corrupt", f"is damaged: {error}", "copy it again from its source") from error


def _truncated(path: Place) -> PhotoError:
    return _refusal(path, "truncated", "ends before its picture does", "copy it again from its source")


def _foreign_format(photo: PhotoFile) -> PhotoError:
    for signature, name in _OTHER_FORMATS:
        if signature.match(photo.data):
            cause = f"is a {name} picture, whatever its suffix says"
            return _refusal(photo.path, "unsupported_format", cause, "convert it to JPEG or PNG")
    beginning = photo.data[:24].decode("latin-1")
    cause = "holds nothing but zeros" if not photo.data.strip(b"\0") else f"begins with {beginning!r}"
    return _refusal(photo.path, "not_an_image", f"is no picture: it {cause}", "replace it by the photo")


def _refusal(path: Place, reason: PhotoReason, cause: str, remedy: str) -> PhotoError:
    return PhotoError(reason, f"photo {path} {cause}; {remedy}")
