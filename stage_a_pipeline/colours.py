"""Pictures of every mode that JPEG and PNG know, as RGB."""

from __future__ import annotations

from PIL import Image


def to_rgb(picture: Image.Image) -> Image.Image:
    """The loaded picture in RGB: transparency lies on white, 16 bits are scaled to 8."""
    if picture.mode.startswith("I;16"):
        return _rgb_of_16_bits(picture)
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture if picture.mode == "RGB" else picture.convert("RGB")
    transparency = picture.info.get("transparency")
    if isinstance(transparency, tuple) and max(transparency) > 255:
        # Pillow keeps the high bytes of 16-bit colours, but not of the colour named transparent.
        picture.info["transparency"] = tuple(value >> 8 for value in transparency)
    translucent = picture.convert("RGBA")
    opaque = Image.new("RGB", picture.size, "white")
    opaque.paste(translucent, mask=translucent.getchannel("A"))
    return opaque


def _rgb_of_16_bits(picture: Image.Image) -> Image.Image:
    """The high bytes, as Pillow takes them of 16-bit colours; its own conversion of greys clips at 255."""
    import numpy as np

    values = np.asarray(picture)
    grey = (values >> 8).astype(np.uint8)
    transparent = picture.info.get("transparency")
    if transparent is not None:
        grey[values == transparent] = 255
    return Image.fromarray(grey).convert("RGB")
