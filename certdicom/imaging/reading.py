"""Reading an image: from a file or bytes to a `Radiograph` or a `Photograph`, or one line that says why not."""

from __future__ import annotations

import hashlib
import stat
import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.errors import ImageRefusedError, UnreadableError
from certdicom.imaging import header
from certdicom.imaging.acceptance import is_photograph, judge_photograph, judge_radiograph, require_image
from certdicom.imaging.colour import decode_colour
from certdicom.imaging.image import Photograph, Radiograph
from certdicom.imaging.inheritance import inheritance_of
from certdicom.imaging.parsing import MOST_BYTES, FileBytes, ParsedFile, parse
from certdicom.imaging.pixels import DecodedPixels, PixelFormat, decode, pixel_format
from certdicom.imaging.plane import plane_notes
from certdicom.imaging.shutter import shutter_of
from certdicom.imaging.voi import presentation_of

Source = str | Path | bytes


def read_image(source: Source, *, accept_any: bool = False, body_parts: Collection[str] = ()) -> Radiograph | Photograph:
    """The radiograph or colour photograph in a file, or in the bytes of one.

    `accept_any` waives the judgements about what the image shows (modality, body part, view), and no other; `body_parts`: what else than
    the usual words BodyPartExamined may say for the chest. Raises
    UnreadableError for a path that cannot be read, ImageRefusedError with the reason for anything that is not
    one whole gray film or colour photograph.
    """
    return image_of(load(source), accept_any=accept_any, body_parts=body_parts)


def read_radiograph(source: Source, *, accept_any: bool = False) -> Radiograph:
    """The gray film in a file, or in the bytes of one, as `read_image` has it; ImageRefusedError for a colour photograph too."""
    image = read_image(source, accept_any=accept_any)
    if isinstance(image, Photograph):
        raise ImageRefusedError("the image is not gray but a colour photograph: send a MONOCHROME1 or MONOCHROME2 film")
    return image


def load(source: Source) -> bytes:
    """The bytes of a file; UnreadableError if it cannot be read, ImageRefusedError if it is too large to be a film."""
    if isinstance(source, bytes):
        return FileBytes(source)
    path = Path(source)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # asked before opening: opening a pipe would wait for its writer
            raise UnreadableError(f"{path} is not a regular file: give the path of a DICOM file")
        if status.st_size > MOST_BYTES:
            raise ImageRefusedError(f"the file has {status.st_size:,} bytes, more than the {MOST_BYTES:,} that are read")
        return FileBytes(path.read_bytes())
    except (OSError, ValueError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else "not a path"
        raise UnreadableError(f"cannot read {path}: {reason}") from problem


def parse_quietly(source: Source) -> ParsedFile:
    """What is in a file or in the bytes of one, without the warnings of pydicom, which quote values. Errors as of `load` and `parse`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return parse(load(source))


def image_of(data: bytes, *, accept_any: bool, body_parts: Collection[str] = ()) -> Radiograph | Photograph:
    """The image in the bytes of a file."""
    with warnings.catch_warnings(record=True) as met:
        warnings.simplefilter("always")
        parsed = parse(data)
        require_image(parsed.dataset)
        if not header.text(parsed.dataset, "SOPInstanceUID"):
            raise ImageRefusedError("SOPInstanceUID is missing, so a result could not refer to this film: correct the header")
        digest = hashlib.sha256(data).hexdigest()
        image: Radiograph | Photograph
        if is_photograph(parsed.dataset):
            image = _photograph(parsed, () if accept_any else judge_photograph(parsed.dataset), file_sha256=digest)
        else:
            judged = () if accept_any else judge_radiograph(parsed.dataset, body_parts=body_parts)
            image = _radiograph(parsed, judged, file_sha256=digest)
    if met:
        # pydicom's warnings quote values, which may be private: only their number is passed on.
        image = replace(image, notes=(*image.notes, f"{len(met)} header values break the rules of DICOM and were read as they are"))
    return image


def _photograph(parsed: ParsedFile, judged: tuple[str, ...], *, file_sha256: str) -> Photograph:
    pixels = decode_colour(parsed.dataset, transfer_syntax=parsed.transfer_syntax)
    if pixels.planes.min() == pixels.planes.max():
        raise ImageRefusedError(f"all pixels have the same value ({pixels.planes.min()}): there is nothing to certify")
    return Photograph(
        dataset=parsed.dataset,
        stored_values=pixels.planes,
        presentation=pixels.presentation,
        file_sha256=file_sha256,
        notes=(*parsed.notes, *judged, *pixels.notes, *header_notes(parsed.dataset)),
    )


def _radiograph(parsed: ParsedFile, judged: tuple[str, ...], *, file_sha256: str) -> Radiograph:
    dataset = parsed.dataset
    layout = pixel_format(dataset)
    pixels = decode(dataset, layout, transfer_syntax=parsed.transfer_syntax)
    padding, padding_notes = _padding(dataset, layout, pixels)
    shutter, shutter_notes = shutter_of(dataset, rows=layout.rows, columns=layout.columns)
    presentation, presentation_notes = presentation_of(
        dataset,
        pixels.stored,
        limits=layout.limits,
        hidden=shutter if padding is None else padding if shutter is None else padding | shutter,
        little_endian=parsed.transfer_syntax.is_little_endian,
    )
    return Radiograph(
        dataset=dataset,
        stored_values=pixels.stored,
        presentation=presentation,
        file_sha256=file_sha256,
        notes=(*parsed.notes, *judged, *pixels.notes, *padding_notes, *shutter_notes, *presentation_notes, *header_notes(dataset)),
    )


def header_notes(dataset: Dataset) -> tuple[str, ...]:
    """What of the header results read otherwise than it is written, or do not take over."""
    return (*plane_notes(dataset), *inheritance_of(dataset).notes)


def _padding(dataset: Dataset, layout: PixelFormat, pixels: DecodedPixels) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Which pixels are padding (PS3.3 C.7.5.1.1.2), None if none are, and a note if some are."""
    value = header.whole(dataset, "PixelPaddingValue")
    if value is None:
        return None, ()
    limit = header.whole(dataset, "PixelPaddingRangeLimit")
    first, last = (_as_stored(bound, layout) for bound in (value, value if limit is None else limit))
    mask = (pixels.stored >= min(first, last)) & (pixels.stored <= max(first, last))
    outside = value if layout.limits.lowest <= first <= layout.limits.highest else None
    if outside is None and limit is None and pixels.words is not None:
        # A padding value beyond BitsStored stands in the whole word, unused bits included.
        mask = pixels.words == (value & ((1 << layout.bits_allocated) - 1))
    if not mask.any():
        return None, ()
    return mask, (f"{mask.mean():.1%} of the pixels are padding (PixelPaddingValue) and were held black",)


def _as_stored(value: int, layout: PixelFormat) -> int:
    """A padding value as a stored value: it has the VR "US or SS" and may have been written with the wrong one."""
    if layout.signed and value > layout.limits.highest:
        return value - (1 << layout.bits_allocated)
    if not layout.signed and value < 0:
        return value + (1 << layout.bits_allocated)
    return value
