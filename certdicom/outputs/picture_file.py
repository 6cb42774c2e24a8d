"""Pictures as the bytes of a file."""

from __future__ import annotations

from io import BytesIO

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def png(picture: Image.Image, *, description: str = "") -> bytes:
    """The picture as PNG, with a description for programs."""
    texts = PngInfo()
    if description:
        texts.add_text("Description", description)
    return _encoded(picture, format="PNG", pnginfo=texts)


def jpeg(picture: Image.Image, *, description: str = "") -> bytes:
    """The picture as JPEG, of a quality that keeps outlines and letters sharp, with a description for programs."""
    return _encoded(picture, format="JPEG", quality=95, subsampling=0, comment=description.encode())


def _encoded(picture: Image.Image, **options: object) -> bytes:
    stream = BytesIO()
    picture.save(stream, **options)  # type: ignore[arg-type]
    return stream.getvalue()
