"""DICOM objects as the bytes of a file."""

from __future__ import annotations

from io import BytesIO

from pydicom.dataset import Dataset


def encoded(dataset: Dataset) -> bytes:
    """The object as a DICOM file (PS3.10), file meta information included."""
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
