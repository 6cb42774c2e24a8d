"""From the bytes of a file to a data set, whatever the bytes are.

pydicom reads what it can and is silent about what is missing; here a file that is cut off anywhere is refused.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from io import BytesIO
from mmap import mmap

from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSNearLossless,
    RLELossless,
)

from certdicom.errors import ImageRefusedError, NoImageError
from certdicom.imaging.codestream import read_codestream
from certdicom.imaging.header import refusal
from certdicom.imaging.structure import LONG_VRS, Tag, check_structure

MOST_BYTES = 512 * 1024**2
"""Largest file or inflated data set that is read: more than twice the largest film."""

_PREAMBLE = 128
_UNDEFINED = 0xFFFFFFFF
_ENCAPSULATED = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff"
"""PixelData of undefined length, in Explicit VR Little Endian as all encapsulated pixel data are (PS3.5 A.4)."""
_ITEM, _DELIMITER = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_DELIMITER_BYTES = len(_DELIMITER)
_TRUNCATED = "the file ends in the middle of its data: it is truncated, send it again"


class FileBytes(bytes):
    """The bytes of a file, which tracebacks that show local variables must not print."""

    def __repr__(self) -> str:
        return f"<{len(self):,} bytes>"


class QuietDataset(FileDataset):  # type: ignore[misc]  # pydicom has no types
    """A data set of which such tracebacks, and notebooks, show one line; `print` shows the header to whoever asks for it."""

    def __repr__(self) -> str:
        return f"<data set of {len(self)} elements>"


@dataclass(frozen=True, eq=False)
class ParsedFile:
    """A data set, how its bytes are to be taken, and what was odd about the file."""

    dataset: FileDataset
    transfer_syntax: UID
    notes: tuple[str, ...]


def parse(data: bytes) -> ParsedFile:
    """The data set in `data`; ImageRefusedError if it is not DICOM, damaged, or cut off at any byte."""
    if not data:
        raise ImageRefusedError("the file is empty: send it again")
    if len(data) > MOST_BYTES:
        raise ImageRefusedError(f"the file has {len(data):,} bytes, more than the {MOST_BYTES:,} that are read")
    data, notes = _with_delimiter(data)
    start = _start_of_elements(data)
    end_of_meta, stated = _read_meta(data, start)
    elements = _inflated(data[end_of_meta:]) if stated == DeflatedExplicitVRLittleEndian else memoryview(data)[end_of_meta:]
    size = len(elements) if stated == DeflatedExplicitVRLittleEndian else len(data)
    check_structure(elements, order=_order(stated))
    try:
        dataset = dcmread(BytesIO(data), force=True)
    except (Exception, MemoryError) as problem:
        # Damaged bytes make pydicom raise nearly every built-in type, RecursionError included.
        raise ImageRefusedError("the file cannot be read as DICOM: it is damaged, send it again") from problem
    if not isinstance(dataset, FileDataset) or not len(dataset):
        raise ImageRefusedError(_TRUNCATED if start else "the file holds no DICOM data set: it is damaged")
    dataset.__class__ = QuietDataset
    excess = _check_complete(dataset, size)
    if excess:
        # Before the pixels such bytes are the start of an element that was cut off; after them they mean nothing.
        zeros = not data[len(data) - excess :].strip(b"\0")
        if excess < 0 or not (zeros or "PixelData" in dataset):
            raise ImageRefusedError(_TRUNCATED)
        notes.append(f"{excess} {'zero ' if zeros else ''}bytes after the data set were ignored")
    if not start:
        notes.append("the file has no DICOM preamble")
    transfer_syntax = UID(str(stated)) if stated else _guess_transfer_syntax(dataset)
    if not stated:
        notes.append(f"the file names no transfer syntax; it was taken as {transfer_syntax.name}")
        _complete_meta(dataset, transfer_syntax)
    _check_known(transfer_syntax)
    return ParsedFile(dataset, transfer_syntax, tuple(notes))


def _with_delimiter(data: bytes) -> tuple[bytes, list[str]]:
    """The file with the delimiter after the last fragment of its pixel data (PS3.5 A.4), and a note where it was missing or zero."""
    begin = data.rfind(_ENCAPSULATED)
    position = begin + len(_ENCAPSULATED)
    while begin >= 0 and data[position : position + 4] == _ITEM:
        position += 8 + int.from_bytes(data[position + 4 : position + 8], "little")
    rest = data[position:]
    if begin < 0 or position > len(data) or rest.strip(b"\0") or len(rest) > _DELIMITER_BYTES:
        return data, []
    note = "the pixel data have no sequence delimiter; their fragments are whole, and were read"
    return FileBytes(data[:position] + _DELIMITER), [note]


def check_header(data: bytes | mmap, *, last: Tag) -> None:
    """ImageRefusedError for a file whose elements up to the tag `last` are more, or nested deeper, than `check_structure` allows."""
    start, syntax = _read_meta(data, _start_of_elements(data))
    with memoryview(data) as view, view[start:] as elements:
        check_structure(elements, order=_order(syntax), last=last)


def _order(transfer_syntax: str | None) -> str:
    """Of the bytes of numbers, as struct has it."""
    return ">" if transfer_syntax == ExplicitVRBigEndian else "<"


def _start_of_elements(data: bytes | mmap) -> int:
    """Where the first element is: after the preamble, or at 0 in a file without one that starts like a data set."""
    if data[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return _PREAMBLE + 4
    for order in "<>":
        if len(data) >= 8:
            group, element, length = struct.unpack_from(f"{order}HHI", data)
            explicit = data[4:6].isalpha() and data[4:6].isupper()
            if group in (0x0002, 0x0008) and element <= 0x0070 and (explicit or (order == "<" and length <= len(data))):
                return 0
    raise NoImageError("this is not a DICOM file: there is no DICM prefix and no data set at its start")


def _read_meta(data: bytes | mmap, start: int) -> tuple[int, str | None]:
    """Where the file meta group (0002, explicit little endian) ends, and the TransferSyntaxUID in it."""
    position, syntax = start, None
    while position + 8 <= len(data) and data[position : position + 2] == b"\x02\x00":
        (element,) = struct.unpack_from("<H", data, position + 2)
        vr = data[position + 4 : position + 6]
        if vr in LONG_VRS:
            if position + 12 > len(data):
                raise ImageRefusedError(_TRUNCATED)
            (length,) = struct.unpack_from("<I", data, position + 8)
            value = position + 12
        elif vr.isalpha():
            (length,) = struct.unpack_from("<H", data, position + 6)
            value = position + 8
        else:  # a file meta group in implicit VR, which is wrong but exists
            (length,) = struct.unpack_from("<I", data, position + 4)
            value = position + 8
        if value + length > len(data):
            raise ImageRefusedError(_TRUNCATED)
        if element == 0x0010:
            syntax = data[value : value + length].decode("latin-1").strip(" \0") or None
        position = value + length
    return position, syntax


def _inflated(deflated: bytes) -> bytes:
    """The inflated data set; refuses a stream that is cut off, damaged, or would fill the memory."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    found, rest = bytearray(), deflated
    try:
        while not inflater.eof:
            piece = inflater.decompress(rest, 1 << 20)
            found += piece
            if len(found) > MOST_BYTES:
                raise ImageRefusedError(f"the deflated data set grows beyond the {MOST_BYTES:,} bytes that are read")
            rest = inflater.unconsumed_tail
            if not rest and not piece:
                break
    except zlib.error as problem:
        raise ImageRefusedError("the deflated data set does not inflate: the file is damaged, send it again") from problem
    if not inflater.eof:
        raise ImageRefusedError(_TRUNCATED)
    return bytes(found)


def _check_complete(dataset: FileDataset, size: int) -> int:
    """How many bytes follow the last element; refuses a data set in which an element is shorter than it says."""
    end, exact = 0, True
    pixels = _end_of_pixels(dataset)
    for tag in list(dataset.keys()):
        try:
            element = dataset.get_item(tag)
        except Exception as problem:
            # An element that was left unread is converted here, and may raise whatever its conversion raises.
            raise ImageRefusedError("the file cannot be read as DICOM: it is damaged, send it again") from problem
        if isinstance(element, RawDataElement):
            held = len(element.value or b"")
            undefined = element.length == _UNDEFINED
            if not undefined and held < element.length:
                if pixels is None or element.value_tell <= pixels:
                    raise ImageRefusedError(_TRUNCATED)
                del dataset[tag]  # what follows the pixels was cut off, or is no element
                continue
            # The delimiter that ends an undefined length has 8 bytes.
            tail, known = element.value_tell + held + (8 if undefined else 0), True
        else:
            # A sequence of undefined length is read to its delimiter at once, or fails; its end is not recorded.
            tail, known = getattr(element, "file_tell", None) or 0, False
        if tail > end:
            end, exact = tail, known
    return size - end if exact else 0


def _end_of_pixels(dataset: FileDataset) -> int | None:
    """Where PixelData ends in the file; None where they are not whole, or not there."""
    try:
        element = dataset.get_item("PixelData") if "PixelData" in dataset else None
    except Exception:  # noqa: BLE001  # whatever its conversion raises: the loop over all elements says so
        return None
    if not isinstance(element, RawDataElement):
        return None
    held = len(element.value or b"")
    whole = element.length == _UNDEFINED or held >= element.length
    return element.value_tell + held if whole else None


def _guess_transfer_syntax(dataset: FileDataset) -> UID:
    """The transfer syntax of a file that names none, from how pydicom found it written and how the pixels begin."""
    implicit, little = dataset.original_encoding
    pixels = dataset.get_item("PixelData") if "PixelData" in dataset else None
    if pixels is not None and getattr(pixels, "length", 0) == _UNDEFINED:
        return _guess_compression(bytes(pixels.value or b""))
    if implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if little else ExplicitVRBigEndian


def _guess_compression(items: bytes) -> UID:
    try:
        frame = get_frame(items, 0, number_of_frames=1)
    except Exception as problem:
        raise ImageRefusedError("the compressed pixel data is not made of whole fragments: the file is truncated or damaged") from problem
    if frame[:2] != b"\xff\xd8" and frame[:2] != b"\xff\x4f" and frame[4:8] != b"jP  ":
        return RLELossless
    stream = read_codestream(frame)
    baseline = JPEGBaseline8Bit if stream.precision == 8 else JPEGExtended12Bit
    return {"JPEG 2000": JPEG2000, "JPEG-LS": JPEGLSNearLossless, "JPEG lossless": JPEGLosslessSV1}.get(stream.kind, baseline)


def _complete_meta(dataset: FileDataset, transfer_syntax: UID) -> None:
    """Fills in the file meta that a bare data set lacks, so that others can read the data set as if it had it."""
    if not hasattr(dataset, "file_meta"):
        dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = transfer_syntax


def _check_known(transfer_syntax: UID) -> None:
    if not transfer_syntax.is_transfer_syntax or transfer_syntax.is_private:
        raise refusal("transfer syntax {syntax} is not known: send the film as Explicit VR Little Endian", syntax=str(transfer_syntax))
