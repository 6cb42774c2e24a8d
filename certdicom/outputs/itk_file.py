"""Images as the bytes of a file, by SimpleITK, which writes to named files alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import SimpleITK as sitk  # noqa: N813  # the abbreviation that its own documentation uses

from certdicom.errors import OutputError


def encoded(image: sitk.Image, ending: str) -> bytes:
    """The content of a file whose name ends in `ending`, compressed where the format can be. OutputError when there is no space."""
    with tempfile.TemporaryDirectory(prefix="certdicom-") as folder:
        path = Path(folder) / f"segmentation{ending}"
        try:
            sitk.WriteImage(image, str(path), useCompression=True)
        except RuntimeError as error:  # SimpleITK raises nothing finer
            raise OutputError(f"a temporary file cannot be written in {folder}; free some space or point TMPDIR elsewhere") from error
        return path.read_bytes()
