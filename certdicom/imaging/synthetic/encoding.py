"""Writing a synthetic film in every transfer syntax for which an encoder is installed."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from pydicom import dcmwrite
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from certdicom.errors import UsageError


def compress(film: FileDataset, encoding: str) -> FileDataset:
    """A copy of an uncompressed `film` in one of ENCODINGS; the pixels of `film` are not touched.

    Raises UsageError for an encoding that does not exist or cannot hold this film.
    """
    if encoding not in ENCODINGS:
        raise UsageError(f"there is no encoding {encoding!r}; choose from {', '.join(ENCODINGS)}")
    copy = deepcopy(film)
    ENCODINGS[encoding](copy)
    return copy


def film_bytes(film: FileDataset) -> bytes:
    """The film as the bytes of a DICOM file."""
    buffer = BytesIO()
    dcmwrite(buffer, film, enforce_file_format=True)
    return buffer.getvalue()


def write_film(film: FileDataset, path: Path) -> None:
    """Writes the film as a DICOM file."""
    path.write_bytes(film_bytes(film))


def _native(film: FileDataset, *, syntax: UID) -> None:
    film.file_meta.TransferSyntaxUID = syntax
    if syntax != ExplicitVRBigEndian:
        return
    # pydicom turns numbers round when it writes big endian, but not the bytes of an OW.
    for element in film.iterall():
        if element.VR == "OW":
            element.value = np.frombuffer(element.value, "<u2").astype(">u2").tobytes()
    if film["PixelData"].VR == "OB" and film.BitsAllocated == 8:
        film["PixelData"].VR = "OW"
        film.PixelData = np.frombuffer(film.PixelData, "<u2").astype(">u2").tobytes()


def _compressed(film: FileDataset, *, syntax: UID, lossy: str | None = None, **options: int | list[float]) -> None:
    if syntax == RLELossless and film.BitsStored <= 8 < film.BitsAllocated:
        raise UsageError(f"the RLE encoder drops the upper byte of {film.BitsStored} bits in {film.BitsAllocated}")
    before = len(film.PixelData)
    film.compress(syntax, generate_instance_uid=False, **options)
    if lossy is not None:
        _mark_lossy(film, lossy, before / len(film.PixelData))


def _mark_lossy(film: FileDataset, method: str, ratio: float) -> None:
    film.LossyImageCompression = "01"
    film.LossyImageCompressionRatio = round(ratio, 2)
    film.LossyImageCompressionMethod = method
    film.ImageType = ["DERIVED", *list(film.ImageType)[1:]]


def _jpeg_baseline(film: FileDataset) -> None:
    if film.BitsAllocated != 8 or film.PixelRepresentation or film.HighBit != 7:
        raise UsageError(f"JPEG baseline holds 8 unsigned bits, not {film.BitsStored} of {film.BitsAllocated}")
    pixels = np.frombuffer(film.PixelData, np.uint8)[: film.Rows * film.Columns].reshape(film.Rows, film.Columns)
    stream = BytesIO()
    Image.fromarray(pixels).save(stream, format="JPEG", quality=95)
    before = len(film.PixelData)
    film.PixelData = encapsulate([stream.getvalue()])
    film["PixelData"].VR = "OB"
    film["PixelData"].is_undefined_length = True
    film.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    _mark_lossy(film, "ISO_10918_1", before / stream.tell())


ENCODINGS: dict[str, Callable[[FileDataset], None]] = {
    "explicit-little": partial(_native, syntax=ExplicitVRLittleEndian),
    "implicit-little": partial(_native, syntax=ImplicitVRLittleEndian),
    "explicit-big": partial(_native, syntax=ExplicitVRBigEndian),
    "deflated": partial(_native, syntax=DeflatedExplicitVRLittleEndian),
    "rle": partial(_compressed, syntax=RLELossless),
    "jpeg-ls": partial(_compressed, syntax=JPEGLSLossless),
    "jpeg-ls-near": partial(_compressed, syntax=JPEGLSNearLossless, lossy="ISO_14495_1", jls_error=2),
    "jpeg-2000": partial(_compressed, syntax=JPEG2000Lossless),
    "jpeg-2000-lossy": partial(_compressed, syntax=JPEG2000, lossy="ISO_15444_1", j2k_cr=[10]),
    "jpeg-baseline": _jpeg_baseline,
}
"""By name; JPEG lossless is missing because no encoder of it can be installed from the package index."""
