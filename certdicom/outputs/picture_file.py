"""Pictures as the bytes of a file."""

from __future__ import annotations

from io import BytesIO

from PIL import Image


def png(picture: Image.Image) -> bytes:
    """The picture as PNG."""
    return _encoded(picture, format="PNG")


def jpeg(picture: Image.Image) -> bytes:
    """The picture as JPEG, of a quality that keeps outlines and letters sharp."""
    return _encoded(picture, format="JPEG", quality=95, subsampling=0)


def _encoded(picture: Image.Image, **options: object) -> bytes:
    stream = BytesIO()
    picture.save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()
