"""Images as the bytes of a file, by SimpleITK, which writes to named files alone."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the abbreviation that its own documentation uses
from pydicom.dataset import Dataset

from certdicom.errors import OutputError
from certdicom.imaging.plane import plane_of, spacing_of

if TYPE_CHECKING:
    from certdicom.outputs.result import Result


def decisions_image(result: Result) -> sitk.Image:
    """The decisions as a vector image of one slice, a component per structure, with the image's spacing in mm."""
    image = sitk.GetImageFromArray(np.moveaxis(result.decisions, 0, -1)[np.newaxis], isVector=True)
    place(image, result.image.dataset)
    return image


def place(image: sitk.Image, dataset: Dataset) -> None:
    """Put an image of one slice where the film's SEG with viewer geometry lies: in the film's own plane, or in the identity plane."""
    plane = plane_of(dataset)
    spacing = spacing_of(dataset) if plane is None else plane.spacing
    image.SetSpacing((float(spacing.column), float(spacing.row), 1.0))
    if plane is not None:
        rows, columns = np.array(plane.orientation[:3]), np.array(plane.orientation[3:])
        image.SetDirection(np.stack([rows, columns, np.cross(rows, columns)], axis=1).ravel().tolist())
        image.SetOrigin(plane.position)


def encoded(image: sitk.Image, ending: str) -> bytes:
    """The content of a file whose name ends in `ending`, compressed where the format can be. OutputError when there is no space."""
    with tempfile.TemporaryDirectory(prefix="certdicom-") as folder:
        path = Path(folder) / f"segmentation{ending}"
        try:
            sitk.WriteImage(image, str(path), useCompression=True)
        except RuntimeError as error:  # SimpleITK raises nothing finer
            raise OutputError(f"a temporary file cannot be written in {folder}; free some space or point TMPDIR elsewhere") from error
        return path.read_bytes()
