"""Lookup tables of Modality LUT and VOI LUT sequences (PS3.3 C.11.1 and C.11.2), read from their items."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header


@dataclass(frozen=True, eq=False)
class LookupTable:
    """`entries` (N,) float64 for the inputs `first`, `first + 1`, …; inputs outside take the nearest end.

    `maximum`: the largest value that an entry of this many bits can have.
    """

    first: int
    entries: NDArray[np.float64]
    maximum: int

    def __call__(self, inputs: NDArray[np.float64]) -> NDArray[np.float64]:
        """The entry of each input; a fractional input takes the entry at or below it."""
        index = np.clip(np.floor(inputs) - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return np.asarray(self.entries[index])


def read_table(item: Dataset, *, name: str, lowest: float, highest: float, little_endian: bool) -> LookupTable:
    """The table of one sequence item.

    `name` for messages; `lowest`, `highest`: the range of inputs that can occur, which tells whether the first input
    mapped was meant signed. ImageRefusedError for a table that is missing, empty or shorter than it says.
    """
    descriptor = header.numbers(item, "LUTDescriptor")
    if len(descriptor) != 3:
        raise ImageRefusedError(f"the {name} has {len(descriptor)} values in LUTDescriptor instead of 3: correct the header")
    count = int(descriptor[0]) & 0xFFFF or 65536
    bits = int(descriptor[2]) & 0xFFFF
    if not 8 <= bits <= 16:
        raise ImageRefusedError(f"the {name} has {bits} bits for each entry; 8 to 16 can be read: correct LUTDescriptor")
    entries = _entries(item, count=count, bits=bits, name=name, little_endian=little_endian)
    if int(entries.max()) >= 1 << bits:
        raise ImageRefusedError(f"the {name} has an entry of {int(entries.max())}, more than {bits} bits hold: correct LUTDescriptor")
    first = _first_input(int(descriptor[1]), count=count, lowest=lowest, highest=highest)
    return LookupTable(first, entries.astype(np.float64), (1 << bits) - 1)


def _first_input(stated: int, *, count: int, lowest: float, highest: float) -> int:
    """The first input mapped; its 16 bits may have been written signed or unsigned (VR "US or SS").

    The reading as stated wins; the other one is taken if only it reaches inputs that can occur.
    """
    other = stated - 65536 if stated >= 32768 else stated + 65536 if stated < 0 else stated
    for first in (stated, other):
        if first <= highest and first + count - 1 >= lowest:
            return first
    return stated


def _entries(item: Dataset, *, count: int, bits: int, name: str, little_endian: bool) -> NDArray[np.int64]:
    """The `count` entries of LUTData, which may be US values or the bytes of an OW."""
    data = header.raw(item, "LUTData")
    if isinstance(data, (bytes, bytearray)):
        words = np.frombuffer(bytes(data[: len(data) // 2 * 2]), dtype="<u2" if little_endian else ">u2").astype(np.int64)
        size = len(data)
    else:
        words = np.asarray([int(word) & 0xFFFF for word in header.numbers(item, "LUTData")], dtype=np.int64)
        size = 2 * len(words)
    # 8-bit entries are packed two to a word; some writers give each a word of its own, which only the length tells.
    if bits == 8 and size < 2 * count:
        words = np.stack([words & 0xFF, words >> 8], axis=1).ravel()
    if len(words) < count:
        raise ImageRefusedError(f"the {name} has {len(words)} entries instead of the {count} that LUTDescriptor says: correct the header")
    return words[:count]
