"""The segmentation as NIfTI, for software that knows neither DICOM nor Slicer's format: one volume for each segment.

NIfTI-1 holds no names, so the order is that of the SEG's segments, and `descrip` lists them as far as its 79 characters go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import SimpleITK as sitk  # noqa: N813  # the abbreviation that its own documentation uses
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Certificate
from certdicom.outputs.fit import require_fit
from certdicom.outputs.itk_file import encoded, place
from certdicom.outputs.segments import AbstainSegments, segments_of

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

_DESCRIPTION = 79


def encode(result: Result) -> bytes:
    """The segmentation as `.nii.gz`."""
    return encode_nifti(result.image.dataset, result.decisions, result.certificate, abstain=result.abstain)


def encode_uncompressed(result: Result) -> bytes:
    """The segmentation as `.nii`."""
    return encode_nifti(result.image.dataset, result.decisions, result.certificate, abstain=result.abstain, compressed=False)


def encode_nifti(
    dataset: Dataset,
    decisions: NDArray[np.uint8],
    certificate: Certificate,
    *,
    abstain: AbstainSegments = "union",
    compressed: bool = True,
) -> bytes:
    """`decisions` (structures, rows, columns) uint8, of the film's size, as NIfTI with 0 and 1 in (x, y, 1, segment).

    Segments overlap, so that one label map could not hold them. The plane is that of the SEG with viewer geometry; NIfTI's axes
    run to the right, the front and above where DICOM's run to the left, the back and above, so that the affine has the film's
    spacing (column, row) with negative signs, and 1 mm slices. `compressed`: by gzip. Raises UsageError for decisions of
    another size.
    """
    require_fit(decisions, certificate, rows=int(dataset.Rows), columns=int(dataset.Columns))
    segments = segments_of(decisions, certificate, abstain=abstain)
    volumes = []
    for segment in segments:
        volume = sitk.GetImageFromArray(segment.mask.astype(np.uint8)[np.newaxis])
        place(volume, dataset)
        volumes.append(volume)
    image = sitk.JoinSeries(volumes)
    names = "|".join(segment.structure.label for segment in segments)
    image.SetMetaData("ITK_FileNotes", names.encode("ascii", "replace").decode()[:_DESCRIPTION])
    return encoded(image, ".nii.gz" if compressed else ".nii")
