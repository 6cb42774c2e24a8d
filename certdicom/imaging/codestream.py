"""What a compressed codestream says of itself: its size, before a decoder allocates anything for it.

JPEG family: ISO 10918-1 B.2.2 (frame header), ISO 14495-1 C.2.2 (JPEG-LS). JPEG 2000: ISO 15444-1 A.5.1 (SIZ).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from certdicom.errors import ImageRefusedError

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_APP0, _APP14 = 0xE0, 0xEE
_ADOBE_TRANSFORM = 11
"""Where in an Adobe segment it stands whether colours were transformed."""

_JPEG_LS_FRAME = 0xF7
_NOT_FRAMES = {0xC4, 0xC8, 0xCC}
"""DHT, JPG and DAC share the code range of the frame headers."""

MOST_TILES = 65535
"""ISO 15444-1 A.4.2: tile indices have 16 bits."""


@dataclass(frozen=True)
class Codestream:
    """`kind` of coding ("JPEG", "JPEG lossless", "JPEG-LS", "JPEG 2000"); `rows`, `columns`, `components`; `precision` in bits.

    `says_ycbcr`: a JFIF or Adobe segment says that colours were transformed to YCbCr (ISO 10918-5 6.1, ISO 10918-6 6.5.3);
    `lossy`: the coding itself loses: the discrete cosine transform, JPEG-LS with NEAR above 0, the irreversible wavelet.
    """

    kind: str
    rows: int
    columns: int
    components: int
    precision: int
    says_ycbcr: bool = False
    lossy: bool = False


def read_codestream(data: bytes) -> Codestream:
    """The frame header of a JPEG, JPEG-LS or JPEG 2000 codestream; ImageRefusedError if it is damaged or cut off."""
    start = _jp2_codestream(data)
    try:
        if data[start : start + 4] == b"\xff\x4f\xff\x51":
            found = _read_siz(data, start)
        elif data[:2] == bytes((0xFF, _SOI)):
            found = _read_frame_header(data)
        else:
            raise ImageRefusedError("the compressed pixel data starts with no JPEG marker: the file is damaged")
    except (struct.error, IndexError) as problem:
        raise ImageRefusedError("the compressed pixel data ends within its own header: the file is truncated") from problem
    # Decoders fill what is missing with whatever they like, without a word.
    if bytes((0xFF, _EOI)) not in data[-64:]:
        raise ImageRefusedError(f"the {found.kind} pixel data has no end marker: the file is truncated")
    return found


def _jp2_codestream(data: bytes) -> int:
    """Where the codestream starts: 0, or inside the boxes of a JP2 file, which some writers leave around it."""
    if data[4:8] != b"jP  ":
        return 0
    return max(data.find(b"\xff\x4f\xff\x51"), 0)


def _read_siz(data: bytes, start: int) -> Codestream:
    width, height, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(">8IH", data, start + 8)
    if width <= left or height <= top or not tile_width or not tile_height:
        raise ImageRefusedError("the JPEG 2000 pixel data has no size: the file is damaged")
    across = -(-(width - tile_left) // tile_width)
    down = -(-(height - tile_top) // tile_height)
    if across * down > MOST_TILES:
        raise ImageRefusedError(f"the JPEG 2000 pixel data has {across * down} tiles, more than the format allows: the file is damaged")
    sampling_x, sampling_y = data[start + 43], data[start + 44]
    if (sampling_x, sampling_y) != (1, 1):
        raise ImageRefusedError(f"the JPEG 2000 pixel data is subsampled {sampling_x} x {sampling_y}: it cannot be a radiograph")
    # ISO 15444-1 A.6.1: the last byte of COD's fixed part tells the wavelet, 0 for the irreversible 9-7.
    coding = data.find(b"\xff\x52", start)
    irreversible = coding >= 0 and data[coding + 13] == 0
    return Codestream("JPEG 2000", height - top, width - left, components, (data[start + 42] & 0x7F) + 1, lossy=irreversible)


def _read_frame_header(data: bytes) -> Codestream:
    position, says_ycbcr = 2, False
    while True:
        while data[position] == 0xFF and data[position + 1] == 0xFF:  # fill bytes
            position += 1
        if data[position] != 0xFF:
            raise ImageRefusedError("the JPEG pixel data has no marker where one is due: the file is damaged")
        marker = data[position + 1]
        if marker in (_EOI, _SOS):
            raise ImageRefusedError("the JPEG pixel data has no frame header: the file is damaged")
        if (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or marker == _JPEG_LS_FRAME:
            precision, rows, columns, components = struct.unpack_from(">BHHB", data, position + 4)
            kind = "JPEG-LS" if marker == _JPEG_LS_FRAME else "JPEG lossless" if marker in (0xC3, 0xC7, 0xCB, 0xCF) else "JPEG"
            lossy = kind == "JPEG" or (kind == "JPEG-LS" and _near(data, position) > 0)
            return Codestream(kind, rows, columns, components, precision, says_ycbcr, lossy)
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a segment
            position += 2
            continue
        (length,) = struct.unpack_from(">H", data, position + 2)
        segment = data[position + 4 : position + 2 + length]
        if marker == _APP0 and segment.startswith(b"JFIF\0"):
            says_ycbcr = True
        elif marker == _APP14 and segment.startswith(b"Adobe") and len(segment) > _ADOBE_TRANSFORM:
            says_ycbcr = segment[_ADOBE_TRANSFORM] != 0
        position += 2 + max(length, 2)


def _near(data: bytes, position: int) -> int:
    """NEAR of the first scan of a JPEG-LS stream, by which a sample may be off (ISO 14495-1 C.2.3)."""
    while data[position + 1] != _SOS:
        position += 2 + max(struct.unpack_from(">H", data, position + 2)[0], 2)
    return data[position + 5 + 2 * data[position + 4]]
