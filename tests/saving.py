"""Objects built by hand, saved for the programs that judge them."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset

from certdicom.files import write_atomically
from certdicom.outputs.dicom_file import encoded


def save(dataset: Dataset, path: Path) -> Path:
    """Write the object as a DICOM file."""
    return write_atomically(path, encoded(dataset))
