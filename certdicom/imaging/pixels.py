"""From the pixel data element to stored values: sizes are checked first, then decoded, then bits are put in place.

Gray films here; what colour adds is in `certdicom.imaging.colour`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import get_decoder
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1, RLELossless

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.codestream import Codestream, read_codestream
from certdicom.imaging.decoding import DECODER, DecodingError, DecodingRequest
from certdicom.imaging.voi import StoredRange

LEAST_SIDE = 64
"""Rows and columns below which no radiograph or photograph is."""

MOST_PIXELS = 50_000_000
"""Twice what the largest detectors and film scanners give: more are refused before anything is allocated."""

_OVERLAY_BIT_POSITION = 0x0102

MOST_ELONGATED = 2.0
"""Largest ratio of the sides; a longer one is a strip, a spine or a leg film, or several pictures side by side."""


@dataclass(frozen=True)
class PixelFormat:
    """How the pixels lie in memory (PS3.3 C.7.6.3), checked; `samples` in each pixel, 1 or 3."""

    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    samples: int = 1

    @property
    def limits(self) -> StoredRange:
        """The values that a pixel can hold."""
        half = 1 << (self.bits_stored - 1)
        return StoredRange(-half, half - 1) if self.signed else StoredRange(0, 2 * half - 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the decoded words: (rows, columns), with several samples (rows, columns, samples)."""
        return (self.rows, self.columns) if self.samples == 1 else (self.rows, self.columns, self.samples)

    def interpret(self, words: NDArray[np.integer]) -> NDArray[np.int32]:
        """Words as allocated → stored values: unused and overlay bits dropped, sign extended from HighBit."""
        stored = words.astype(np.int32)  # and in place from here on, since films are large
        stored >>= self.high_bit + 1 - self.bits_stored
        stored &= (1 << self.bits_stored) - 1
        if self.signed:
            sign = 1 << (self.bits_stored - 1)
            stored ^= sign
            stored -= sign
        return stored


@dataclass(frozen=True, eq=False)
class DecodedPixels:
    """`stored` (rows, columns) values; `words`: the words as allocated, where the pixel data was not compressed."""

    stored: NDArray[np.int32]
    words: NDArray[np.integer] | None
    notes: tuple[str, ...]


def pixel_format(dataset: Dataset) -> PixelFormat:
    """The checked pixel format of a gray, single-frame film; ImageRefusedError with the reason otherwise."""
    check_one_frame(dataset)
    samples = header.whole(dataset, "SamplesPerPixel")
    photometric = header.text(dataset, "PhotometricInterpretation")
    if (samples is not None and samples != 1) or photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise header.refusal(
            f"the image is not gray (PhotometricInterpretation {{photometric}}, SamplesPerPixel {samples}):"
            " send a MONOCHROME1 or MONOCHROME2 film",
            photometric=photometric or "missing",
        )
    return memory_layout(dataset, samples=1)


def check_one_frame(dataset: Dataset) -> None:
    """ImageRefusedError unless there are pixels, of one frame."""
    if "PixelData" not in dataset:
        raise ImageRefusedError("the file has no pixel data: send the image itself")
    frames = header.whole(dataset, "NumberOfFrames")
    if frames is not None and frames != 1:
        raise ImageRefusedError(f"the image has {frames} frames; only single images can be certified: send the frame that is meant")


def memory_layout(dataset: Dataset, *, samples: int) -> PixelFormat:
    """The checked layout of pixels of so many samples; ImageRefusedError for one that is impossible or too large."""
    rows, columns = _required(dataset, "Rows"), _required(dataset, "Columns")
    _check_size(rows, columns)
    allocated, stored = _required(dataset, "BitsAllocated"), _required(dataset, "BitsStored")
    high = header.whole(dataset, "HighBit")
    high = stored - 1 if high is None else high
    if allocated not in (8, 16) or not 2 <= stored <= allocated or not stored - 1 <= high < allocated:
        raise ImageRefusedError(f"BitsAllocated {allocated}, BitsStored {stored}, HighBit {high} cannot be read: 8 or 16 bits can")
    representation = header.whole(dataset, "PixelRepresentation")
    if representation not in (None, 0, 1):
        raise ImageRefusedError(f"PixelRepresentation {representation} is neither 0 nor 1: correct the header")
    return PixelFormat(rows, columns, allocated, stored, high, representation == 1, samples)


def _required(dataset: Dataset, keyword: str) -> int:
    value = header.whole(dataset, keyword)
    if value is None:
        raise ImageRefusedError(f"{keyword} is missing, so the pixels cannot be read: correct the header")
    return value


def _check_size(rows: int, columns: int) -> None:
    if min(rows, columns) < LEAST_SIDE:
        raise ImageRefusedError(f"the image has {rows} x {columns} pixels; at least {LEAST_SIDE} are needed on each side")
    if rows * columns > MOST_PIXELS:
        raise ImageRefusedError(f"the image has {rows} x {columns} pixels, more than the {MOST_PIXELS:,} that can be read")
    if max(rows, columns) > MOST_ELONGATED * min(rows, columns):
        raise ImageRefusedError(f"the image has {rows} x {columns} pixels, too elongated for one picture (at most 2 to 1)")


def decode(dataset: Dataset, layout: PixelFormat, *, transfer_syntax: UID) -> DecodedPixels:
    """The stored values of the only frame; ImageRefusedError if they are cut off or do not decode."""
    if transfer_syntax.is_encapsulated:
        return _decode_compressed(dataset, layout, transfer_syntax=transfer_syntax)
    words, notes = native_words(dataset, layout, count=layout.rows * layout.columns, transfer_syntax=transfer_syntax)
    words = words.reshape(layout.shape)
    return DecodedPixels(layout.interpret(words), words, (*notes, *_unused_bits(dataset, layout, words)))


def _pixel_data(dataset: Dataset) -> bytes | bytearray:
    data = header.raw(dataset, "PixelData")
    if not isinstance(data, (bytes, bytearray)) or not data:
        raise ImageRefusedError("the pixel data is empty: send the image again")
    return data


def native_words(dataset: Dataset, layout: PixelFormat, *, count: int, transfer_syntax: UID) -> tuple[NDArray[np.integer], tuple[str, ...]]:
    """The first `count` words of uncompressed pixel data, as allocated, and what is odd about them; refused if there are fewer."""
    data = _pixel_data(dataset)
    expected = count * layout.bits_allocated // 8
    if len(data) < expected:
        raise ImageRefusedError(
            f"the pixel data has {len(data)} bytes instead of {expected} for {layout.rows} x {layout.columns} pixels:"
            " the file is truncated, send it again"
        )
    notes: tuple[str, ...] = ()
    if len(data) >= 2 * expected:
        raise ImageRefusedError(f"the pixel data has {len(data)} bytes, room for several images of {expected}: send a single film")
    if len(data) > expected + 1:
        notes = (f"{len(data) - expected} bytes after the last pixel were ignored",)
    order = "<" if transfer_syntax.is_little_endian else ">"
    if layout.bits_allocated == 8:
        words: NDArray[np.integer] = np.frombuffer(data, dtype=np.uint8)
        if order == ">" and dataset["PixelData"].VR == "OW":
            # PS3.5 8.1.1: two 8-bit pixels share an OW word, whose bytes are swapped as a whole.
            words = words[: len(words) // 2 * 2].view(">u2").astype("<u2").view(np.uint8)
        if len(words) < expected:
            raise ImageRefusedError(
                f"the pixel data has {len(words)} whole words for {expected} pixels: the file is truncated, send it again"
            )
        words = words[:expected]
    else:
        words = np.frombuffer(data, dtype=f"{order}u2", count=expected // 2)
    return words, notes


def _decode_compressed(dataset: Dataset, layout: PixelFormat, *, transfer_syntax: UID) -> DecodedPixels:
    words, stream, notes = decompress(dataset, layout, transfer_syntax=transfer_syntax, jpeg_options=lambda _: {})
    lossy = stream is not None and (stream.lossy or str(transfer_syntax) not in _LOSSLESS)
    if lossy and stream is not None and stream.precision > layout.bits_stored and layout.high_bit == layout.bits_stored - 1:
        # Lossy coding overshoots; dropping the bits above BitsStored would turn white into black.
        limits = layout.limits
        return DecodedPixels(np.clip(words.astype(np.int32), limits.lowest, limits.highest), None, notes)
    return DecodedPixels(layout.interpret(words), None, (*notes, *_unused_bits(dataset, layout, words)))


def _unused_bits(dataset: Dataset, layout: PixelFormat, words: NDArray[np.integer]) -> tuple[str, ...]:
    """A note where bits that no pixel value uses are neither what they should be nor an overlay's (PS3.5 8.1.1, PS3.3 C.9.2)."""
    surplus = layout.bits_allocated - layout.bits_stored
    overlays = any(tag.group & 0xFF00 == 0x6000 and tag.element == _OVERLAY_BIT_POSITION for tag in dataset.keys())  # noqa: SIM118  # iterating a data set decodes it
    if not surplus or layout.high_bit != layout.bits_stored - 1 or overlays:
        return ()
    above = words.astype(np.int32) >> layout.bits_stored & (1 << surplus) - 1
    wrong = above != 0
    if layout.signed:
        wrong &= above != (1 << surplus) - 1  # the sign, drawn out
    share = float(wrong.mean())
    return (f"{share:.1%} of the pixels use bits above BitsStored, which were left out",) if share else ()


def was_lossy(dataset: Dataset) -> bool:
    """Whether the pixels went through a coding that loses, whatever the header says of it: by transfer syntax, or by the stream itself."""
    meta = getattr(dataset, "file_meta", None)
    syntax = meta.get("TransferSyntaxUID") if meta is not None else None
    if syntax is None or "PixelData" not in dataset or not UID(syntax).is_encapsulated or syntax == RLELossless:
        return False
    try:
        return read_codestream(get_frame(_pixel_data(dataset), 0, number_of_frames=1)).lossy
    except Exception:  # noqa: BLE001  # pydicom raises several types for damaged items; nobody gets here with an image that was decoded
        return False


def decompress(
    dataset: Dataset, layout: PixelFormat, *, transfer_syntax: UID, jpeg_options: Callable[[Codestream], Mapping[str, str]]
) -> tuple[NDArray[np.integer], Codestream | None, tuple[str, ...]]:
    """The words of compressed pixel data as they decode, of `layout.shape`, what the codestream says of itself (RLE: None), and notes.

    `jpeg_options`: libjpeg-turbo's for a JPEG stream (process 1, 2, 4 or 14). ImageRefusedError for pixel data that are cut off, damaged,
    of another size than the header says, or that take more memory or time to decode than an image does.
    """
    data = bytes(_pixel_data(dataset))
    name = transfer_syntax.name
    jpeg = transfer_syntax in _JPEG
    try:
        decoder = get_decoder(transfer_syntax)
    except NotImplementedError as problem:
        raise ImageRefusedError(f"transfer syntax {name} cannot be read: send the film uncompressed") from problem
    if not (jpeg or decoder.is_available):
        raise ImageRefusedError(f"no decoder for transfer syntax {name} is installed: send the film uncompressed")
    try:
        frame = get_frame(data, 0, number_of_frames=1)
    except Exception as problem:
        # pydicom raises several types for items that do not add up; each means the same here.
        raise ImageRefusedError(f"the {name} pixel data is not made of whole fragments: the file is truncated or damaged") from problem
    stream = None if transfer_syntax == RLELossless else read_codestream(frame)
    if stream is not None:
        _check_codestream(stream, layout)
    request = DecodingRequest(
        str(transfer_syntax),
        {
            "Rows": layout.rows,
            "Columns": layout.columns,
            "BitsAllocated": layout.bits_allocated,
            "BitsStored": layout.bits_stored,
            "HighBit": layout.high_bit,
            "PixelRepresentation": int(layout.signed),
            "SamplesPerPixel": layout.samples,
            "PhotometricInterpretation": header.text(dataset, "PhotometricInterpretation"),
            "PlanarConfiguration": header.whole(dataset, "PlanarConfiguration") or 0,
        },
        jpeg_options(stream) if jpeg and stream is not None else None,
    )
    notes: tuple[str, ...] = ()
    if stream is not None and stream.lossy and str(transfer_syntax) in _LOSSLESS:
        notes = (f"the transfer syntax, {name}, promises no loss, but the {stream.kind} stream is of a coding that loses",)
    try:
        words = DECODER.decode(request, data)
    except DecodingError as problem:
        tidied = _without_zeros(frame)
        if stream is None or tidied == frame:
            raise ImageRefusedError(f"the {name} pixel data {problem}") from problem
        try:
            words = DECODER.decode(request, encapsulate([tidied]))
        except DecodingError:
            raise ImageRefusedError(f"the {name} pixel data {problem}") from problem
        notes = (*notes, "zeros before the end marker of the pixel data were left out")
    if words.shape != layout.shape:
        raise ImageRefusedError(f"the {name} pixel data decodes to {words.shape} instead of {layout.shape}")
    return words, stream, notes


def _without_zeros(stream: bytes) -> bytes:
    """A codestream without zeros around its end marker, which some encoders put there to fill up and some decoders stumble over."""
    body = stream.rstrip(b"\0")
    return body[:-2].rstrip(b"\0") + body[-2:] if body.endswith(b"\xff\xd9") else stream


def _check_codestream(stream: Codestream, layout: PixelFormat) -> None:
    if (stream.rows, stream.columns) != (layout.rows, layout.columns):
        raise ImageRefusedError(
            f"the {stream.kind} pixel data has {stream.rows} x {stream.columns} pixels but the header says"
            f" {layout.rows} x {layout.columns}: the file is damaged"
        )
    if stream.components != layout.samples:
        raise ImageRefusedError(
            f"the {stream.kind} pixel data has {stream.components} components but the header says {layout.samples}: the file is damaged"
        )
    if not 2 <= stream.precision <= layout.bits_allocated:
        raise ImageRefusedError(
            f"the {stream.kind} pixel data has {stream.precision} bits but the header allocates {layout.bits_allocated}: it is damaged"
        )


_JPEG = {JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLossless, JPEGLosslessSV1}

_LOSSLESS = {
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.201",
    "1.2.840.10008.1.2.4.202",
    str(RLELossless),
}
