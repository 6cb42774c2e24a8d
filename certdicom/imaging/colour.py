"""From the pixel data of a colour photograph to red, green and blue.

PhotometricInterpretation decides how samples are taken (PS3.3 C.7.6.3.1.2), the same way whether they come from an uncompressed,
an RLE or a JPEG-LS image or from lossless JPEG. Lossy JPEG is converted by its own decoder, which also fills in the colours
that it shares between neighbours, and JPEG 2000 undoes its transforms by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import expand_ybr422
from pydicom.uid import UID, JPEG2000TransferSyntaxes

from certdicom.certification.certificate import Window
from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.codestream import Codestream
from certdicom.imaging.pixels import PixelFormat, check_one_frame, decode, decompress, memory_layout, native_words
from certdicom.imaging.rendering import Presentation, Rendering
from certdicom.imaging.voi import LookupTable, read_table

PALETTE: Final = "PALETTE COLOR"
_RGB, _YBR_FULL, _YBR_FULL_422 = "RGB", "YBR_FULL", "YBR_FULL_422"
_JPEG_2000_TRANSFORMS: Final = ("YBR_RCT", "YBR_ICT")

COLOURS: Final = (_RGB, _YBR_FULL, _YBR_FULL_422, *_JPEG_2000_TRANSFORMS, PALETTE)
"""Values of PhotometricInterpretation that can be read as colours."""


@dataclass(frozen=True, eq=False)
class ColourPixels:
    """`planes` (3, rows, columns) uint8 or uint16: red, green, blue, each from 0 to 2^`bits` - 1; `notes`: what was odd."""

    planes: NDArray[np.unsignedinteger]
    bits: int
    notes: tuple[str, ...]

    @property
    def presentation(self) -> Presentation:
        """The full range of the bits: fixed, so that no pixel decides how another is shown."""
        window = Window(0.0, float((1 << self.bits) - 1), f"the full range of {self.bits} bits")
        return Presentation.always(Rendering(window=window), is_film=False)


def decode_colour(dataset: Dataset, *, transfer_syntax: UID) -> ColourPixels:
    """The colours of the only frame; ImageRefusedError with the reason for pixels that are cut off or are no such colours."""
    check_one_frame(dataset)
    photometric = header.text(dataset, "PhotometricInterpretation")
    samples = header.whole(dataset, "SamplesPerPixel")
    expected = 1 if photometric == PALETTE else 3
    if photometric not in COLOURS or samples not in (None, expected):
        raise header.refusal(
            f"PhotometricInterpretation {{photometric}} with SamplesPerPixel {samples} cannot be read: send it as RGB",
            photometric=photometric,
        )
    layout = memory_layout(dataset, samples=expected)
    if photometric == PALETTE:
        return _through_palette(dataset, layout, transfer_syntax=transfer_syntax)
    if layout.signed or layout.high_bit != layout.bits_stored - 1:
        raise ImageRefusedError(
            f"colours must be unsigned with HighBit {layout.bits_stored - 1}, not {layout.high_bit}: send the image as RGB of 8 bits"
        )
    if photometric != _RGB and layout.bits_stored != 8:
        raise ImageRefusedError(f"{photometric} with {layout.bits_stored} bits cannot be read: send the image as RGB")
    if photometric != _RGB and (photometric in _JPEG_2000_TRANSFORMS) != (transfer_syntax in JPEG2000TransferSyntaxes):
        raise ImageRefusedError(f"{photometric} does not go with transfer syntax {transfer_syntax.name}: send the image as RGB")
    if transfer_syntax.is_encapsulated:
        words, notes = _decompressed(dataset, layout, photometric=photometric, transfer_syntax=transfer_syntax)
    else:
        words, notes = _native(dataset, layout, photometric=photometric, transfer_syntax=transfer_syntax)
    unused = (1 << layout.bits_stored) - 1
    values = (words & unused).astype(np.uint8 if layout.bits_stored <= 8 else np.uint16)
    return ColourPixels(np.ascontiguousarray(np.moveaxis(values, -1, 0)), layout.bits_stored, notes)


def _native(
    dataset: Dataset, layout: PixelFormat, *, photometric: str, transfer_syntax: UID
) -> tuple[NDArray[np.integer], tuple[str, ...]]:
    """(rows, columns, 3) from uncompressed pixels, by pixel or by plane (PlanarConfiguration), or two pixels with shared colours."""
    rows, columns = layout.rows, layout.columns
    shared = photometric == _YBR_FULL_422
    if shared and columns % 2:
        raise ImageRefusedError(f"YBR_FULL_422 shares colours between two columns, but there are {columns}: send the image as RGB")
    count = rows * columns * (2 if shared else 3)
    words, notes = native_words(dataset, layout, count=count, transfer_syntax=transfer_syntax)
    planar = header.whole(dataset, "PlanarConfiguration")
    if shared:
        words = np.frombuffer(expand_ybr422(words.tobytes(), 8), np.uint8).reshape(rows, columns, 3)
    elif planar == 1:
        words = np.moveaxis(words.reshape(3, rows, columns), 0, -1)
    elif planar in (0, None):
        words = words.reshape(rows, columns, 3)
    else:
        raise ImageRefusedError(f"PlanarConfiguration {planar} is neither 0 nor 1: correct the header")
    return (words if photometric == _RGB else convert_color_space(words, _YBR_FULL, _RGB)), notes


def _decompressed(
    dataset: Dataset, layout: PixelFormat, *, photometric: str, transfer_syntax: UID
) -> tuple[NDArray[np.integer], tuple[str, ...]]:
    """(rows, columns, 3) from compressed pixels."""

    def jpeg_options(stream: Codestream) -> dict[str, str]:
        # Lossless JPEG knows no transform: its samples are what PhotometricInterpretation says.
        coded = "YCBCR" if stream.kind == "JPEG" and (photometric != _RGB or stream.says_ycbcr) else "RGB"
        return {"colorspace": coded, "outcolorspace": "RGB"}

    words, stream, notes = decompress(dataset, layout, transfer_syntax=transfer_syntax, jpeg_options=jpeg_options)
    lossy_jpeg = stream is not None and stream.kind == "JPEG"
    if photometric in (_YBR_FULL, _YBR_FULL_422) and not lossy_jpeg:
        words = convert_color_space(words, _YBR_FULL, _RGB)
    if lossy_jpeg and stream is not None and photometric == _RGB and stream.says_ycbcr:
        notes = (*notes, "PhotometricInterpretation says RGB and the JPEG stream itself says YCbCr; it was taken as YCbCr")
    return words, notes


def _through_palette(dataset: Dataset, layout: PixelFormat, *, transfer_syntax: UID) -> ColourPixels:
    """The colours that the palette has for the stored values (PS3.3 C.7.6.3.1.5 and .6)."""
    if "RedPaletteColorLookupTableData" not in dataset:
        raise ImageRefusedError("the palette is segmented or missing and cannot be read: send the image as RGB")
    pixels = decode(dataset, layout, transfer_syntax=transfer_syntax)
    tables = [
        _palette_table(dataset, colour, layout, little_endian=transfer_syntax.is_little_endian) for colour in ("Red", "Green", "Blue")
    ]
    if len({table.maximum for table in tables}) > 1:
        raise ImageRefusedError("the colours of the palette have different numbers of bits: send the image as RGB")
    bits = tables[0].maximum.bit_length()
    planes = [
        table.entries.astype(np.uint8 if bits <= 8 else np.uint16)[np.clip(pixels.stored - table.first, 0, len(table.entries) - 1)]
        for table in tables
    ]
    return ColourPixels(np.stack(planes), bits, pixels.notes)


def _palette_table(dataset: Dataset, colour: str, layout: PixelFormat, *, little_endian: bool) -> LookupTable:
    item = Dataset()
    for keyword in ("LUTDescriptor", "LUTData"):
        element = dataset.get(f"{colour}PaletteColorLookupTable{keyword.removeprefix('LUT')}")
        if element is not None:
            setattr(item, keyword, element)
    limits = layout.limits
    name = f"{colour.lower()} palette"
    table = read_table(item, name=name, lowest=limits.lowest, highest=limits.highest, little_endian=little_endian)
    if table.reached > table.maximum:
        raise ImageRefusedError(f"the {name} has an entry that needs more bits than LUTDescriptor says: correct the header")
    return table
