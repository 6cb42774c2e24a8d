"""How many elements a data set has, and how deeply they are nested: looked at before it is read.

Each element of a header costs pydicom microseconds and hundreds of bytes, and each sequence within a sequence a call within a call: a
small file can hold millions. The walk here costs a microsecond an element; what it does not understand it leaves to pydicom.
"""

from __future__ import annotations

import struct
from typing import Final

from certdicom.errors import ImageRefusedError

MOST_ELEMENTS: Final = 50_000
"""Elements and items of a data set; films have hundreds."""

MOST_NESTED: Final = 50
"""Sequences within sequences; films have a handful."""

LONG_VRS: Final = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
"""Value representations whose lengths have 32 bits (PS3.5 table 7.1-1)."""

_SHORT_VRS: Final = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
_UNDEFINED: Final = 0xFFFFFFFF
_PIXEL_DATA: Final = (0x7FE0, 0x0010)
_ITEMS: Final = 0xFFFE
_ITEM: Final = (_ITEMS, 0xE000)

Tag = tuple[int, int]


def check_structure(data: bytes | memoryview, *, order: str, last: Tag = (0xFFFF, 0xFFFF)) -> None:
    """ImageRefusedError for more elements, or deeper nesting, than images have, up to the tag `last`. `order` of the bytes: "<" or ">"."""
    item = struct.pack(f"{order}HH", *_ITEM)
    ends: list[int] = []  # of the sequences and items that are open; those of undefined length end with a delimiter, or the data
    count, position = 0, 0
    while position + 8 <= len(data):
        while ends and position >= ends[-1]:
            ends.pop()
        tag, length, value = _element(data, position, order)
        count += 1
        if not ends and (tag > last or (tag == _PIXEL_DATA and length == _UNDEFINED)):
            break
        position = value
        if tag[0] == _ITEMS and tag != _ITEM:
            del ends[-1:]
        elif tag == _ITEM or length == _UNDEFINED or data[value : value + 4] == item:
            ends.append(len(data) if length == _UNDEFINED else value + length)
        else:
            position += length
        if count > MOST_ELEMENTS:
            raise ImageRefusedError(f"the header has more than {MOST_ELEMENTS:,} elements, which no image needs")
        if len(ends) > 2 * MOST_NESTED:  # a sequence and its item
            raise ImageRefusedError(f"the header nests sequences more than {MOST_NESTED} deep, which no image needs")


def _element(data: bytes | memoryview, position: int, order: str) -> tuple[Tag, int, int]:
    """Tag and length of the element at `position`, with explicit VR or without, and where its value begins."""
    group, element, length = struct.unpack_from(f"{order}HHI", data, position)
    vr = bytes(data[position + 4 : position + 6])
    if group == _ITEMS or vr not in LONG_VRS | _SHORT_VRS:
        return (group, element), length, position + 8
    if vr in _SHORT_VRS:
        return (group, element), struct.unpack_from(f"{order}H", data, position + 6)[0], position + 8
    if position + 12 > len(data):
        return (group, element), 0, len(data)
    return (group, element), struct.unpack_from(f"{order}I", data, position + 8)[0], position + 12
