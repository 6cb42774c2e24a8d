"""The films of the demonstration: drawn ones, and a real one where it is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

from certdicom.errors import UnreadableError
from certdicom.imaging.synthetic import synthetic_film, write_film

SAMPLE = "RG1_UNCR.dcm"
"""A chest CR of the NEMA WG-04 samples, in the package pydicom-data (MIT)."""


@dataclass(frozen=True)
class DemoFilm:
    """A film to be sent: what people call it, its file and its UIDs; `black_in_ohif`: OHIF 3.13 draws nothing of it."""

    name: str
    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    black_in_ohif: bool = False


def demo_films(folder: Path) -> list[DemoFilm]:
    """Write two synthetic films into `folder`, a digital one and an inverted plate; the real sample film comes first where it is there."""
    paths = {}
    sample = find_sample()
    if sample is not None:
        paths["real chest film (NEMA WG-04 sample)"] = folder / "film-0.dcm"
        dcmwrite(folder / "film-0.dcm", _without_spacing(dcmread(sample)))
    digital, _ = synthetic_film(rows=1024, columns=896, seed=1)
    plate, _ = synthetic_film(modality="CR", photometric="MONOCHROME1", rows=1024, columns=896, seed=2)
    for name, film in (("synthetic DX", digital), ("synthetic CR, MONOCHROME1", plate)):
        path = folder / f"film-{len(paths)}.dcm"
        write_film(film, path)
        paths[name] = path
    return [describe(path, name=name) for name, path in paths.items()]


def _without_spacing(film: Dataset) -> Dataset:
    """The film as another instance that states no pixel spacing: the sample's is 0, and OHIF draws such a film black."""
    del film.PixelSpacing
    film.SOPInstanceUID = film.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    return film


def own_films(paths: Sequence[Path]) -> list[DemoFilm]:
    """Films that somebody names. UnreadableError for what is no DICOM file."""
    return [describe(path, name=path.name) for path in paths]


def find_sample() -> Path | None:
    """The real film of the package pydicom-data; None where the package is not installed."""
    try:
        found = [file for file in files("pydicom-data") or [] if file.name == SAMPLE]
    except PackageNotFoundError:
        return None
    path = Path(str(found[0].locate())) if found else None
    return path if path is not None and path.is_file() else None


def describe(path: Path, *, name: str) -> DemoFilm:
    try:
        header = dcmread(path, stop_before_pixels=True)
        return DemoFilm(
            name=name,
            path=path,
            sop_class_uid=str(header.SOPClassUID),
            sop_instance_uid=str(header.SOPInstanceUID),
            study_instance_uid=str(header.StudyInstanceUID),
            transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
            black_in_ohif=_states_no_distance(header),
        )
    except (OSError, InvalidDicomError, AttributeError) as error:
        raise UnreadableError(f"{path} cannot be sent: {getattr(error, 'strerror', None) or 'it is no complete DICOM file'}") from error


def _states_no_distance(film: Dataset) -> bool:
    """Whether its PixelSpacing is 0."""
    spacing = film.get("PixelSpacing")
    return bool(spacing) and any(float(value) == 0 for value in spacing)
