"""Folders of DICOM images with DICOM SEG objects that refer to them."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from highdicom.seg import segread
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset as DicomDataset
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.pixels import pixel_array
from pydicom.uid import SegmentationStorage

from certdicom.errors import UnreadableError, UsageError
from certdicom.imaging.reading import read_radiograph
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.picture import Picture, colour_picture
from certdicom.research.datasets.structures import structure_of

_ABSTAIN = "abstain"
"""The segment in which certdicom marks what it does not certify: no structure."""

SegmentFiles = tuple[tuple[Path, tuple[tuple[int, str], ...]], ...]
"""SEG files, each with (segment number, structure) pairs."""


@dataclass(frozen=True)
class DicomFilm:
    """Reads one DICOM image and the segments of the SEGs that refer to it."""

    image: Path
    sop_instance_uid: str
    segments: SegmentFiles
    channels: int

    def __call__(self) -> Picture:
        masks = _read_segments(self.segments, self.sop_instance_uid)
        if self.channels == 3:
            return colour_picture(pixel_array(dcmread(self.image)), masks)

        film = read_radiograph(self.image, accept_any=True)
        return Picture(stored=film.stored_values[None], presentation=film.presentation, masks=masks)


def load_dicom(folder: Path) -> Dataset | None:
    """Every image in the folder that a SEG in it refers to; segments are named by their labels ("Left lung", "Heart", …).

    Patients (PatientID, of which only a digest is kept) are groups. Gray and colour images may not be mixed.
    """
    headers = [(path, header) for path in sorted(folder.rglob("*")) if path.is_file() and (header := _header(path)) is not None]
    if not headers:
        return None
    films = {str(header.SOPInstanceUID): (path, header) for path, header in headers if header.SOPClassUID != SegmentationStorage}
    segmentations = [(path, header) for path, header in headers if header.SOPClassUID == SegmentationStorage]
    if not segmentations or not films:
        lacking = "DICOM SEG objects" if films else "the images that its DICOM SEG objects refer to"
        raise UsageError(f"{folder} holds {len(headers)} DICOM files but not {lacking}: put both into it")
    found: dict[str, list[tuple[Path, tuple[tuple[int, str], ...]]]] = {}
    for path, header in segmentations:
        segments = tuple((int(entry.SegmentNumber), structure_of(str(entry.SegmentLabel))) for entry in header.SegmentSequence)
        segments = tuple((number, name) for number, name in segments if not name.startswith(_ABSTAIN))
        for uid in _referenced(header) & films.keys():
            found.setdefault(uid, []).append((path, segments))
    if not found:
        raise UsageError(f"{folder}: none of its {len(segmentations)} DICOM SEG objects refers to an image in it: put both into it")
    colours = {3 if int(films[uid][1].get("SamplesPerPixel", 1)) == 3 else 1 for uid in found}
    if len(colours) > 1:
        raise UsageError(f"{folder} mixes gray and colour images: put them into two folders")
    channels = colours.pop()
    samples = tuple(
        Sample(path.relative_to(folder).as_posix(), _patient(header), DicomFilm(path, uid, tuple(found[uid]), channels))
        for uid, (path, header) in films.items()
        if uid in found
    )
    structures = tuple(dict.fromkeys(name for files in found.values() for _, segments in files for _, name in segments))
    notes = (f"{len(films) - len(samples)} images without a SEG were left out",) if len(samples) < len(films) else ()
    return Dataset(folder.resolve().name, folder, "DICOM images and SEG", channels, structures, samples, notes)


def _header(path: Path) -> DicomDataset | None:
    """The file's data set without pixels, None if it is no DICOM image or SEG."""
    if not is_dicom(path):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote header values, which may be private
            header = dcmread(path, stop_before_pixels=True)
    except (InvalidDicomError, OSError, ValueError) as error:
        raise UnreadableError(f"cannot read {path} as DICOM: {type(error).__name__}; remove or replace it") from error
    return header if "Rows" in header and "SOPInstanceUID" in header else None


def _referenced(header: DicomDataset) -> set[str]:
    """SOP Instance UIDs of all images that a SEG refers to, wherever it does so."""
    return {str(element.value) for element in header.iterall() if element.keyword == "ReferencedSOPInstanceUID"}


def _patient(header: DicomDataset) -> str:
    return hashlib.sha256(str(header.get("PatientID") or header.SOPInstanceUID).encode()).hexdigest()[:12]


def _read_segments(files: SegmentFiles, sop_instance_uid: str) -> dict[str, NDArray[np.bool_]]:
    """Structure → the union of its segments, bool (rows, columns)."""
    masks: dict[str, NDArray[np.bool_]] = {}
    for path, segments in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            planes = segread(path).get_pixels_by_source_instance(
                [sop_instance_uid],
                segment_numbers=[number for number, _ in segments],
                ignore_spatial_locations=True,
                assert_missing_frames_are_empty=True,
            )[0]
        for index, (_, name) in enumerate(segments):
            plane = planes[..., index] > 0
            masks[name] = masks[name] | plane if name in masks else plane
    return masks
