"""Headers that are made to cost memory and minutes are refused at once; those of real films are far from it."""

from __future__ import annotations

import struct
import time

import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from certdicom.errors import ImageRefusedError
from certdicom.imaging.reading import image_of
from certdicom.imaging.structure import MOST_ELEMENTS, MOST_NESTED, check_structure
from certdicom.imaging.synthetic import film_bytes, synthetic_film

PIXELS = b"\xe0\x7f\x10\x00"


def elements(count: int) -> bytes:
    """Private elements of two letters each."""
    block = 0xFF00
    return b"".join(struct.pack("<HH2sH2s", 0x2101 + 2 * (k // block), 0x10 + k % block, b"LO", 2, b"ab") for k in range(count))


def nested(depth: int, *, vr: bytes = b"SQ", defined: bool = False) -> bytes:
    """Sequences of one item within each other."""
    inner = b""
    for _ in range(depth):
        ends = (b"", b"") if defined else (struct.pack("<HHI", 0xFFFE, 0xE00D, 0), struct.pack("<HHI", 0xFFFE, 0xE0DD, 0))
        item = struct.pack("<HHI", 0xFFFE, 0xE000, len(inner) if defined else 0xFFFFFFFF) + inner + ends[0]
        inner = struct.pack("<HH2sHI", 0x2101, 0x1010, vr, 0, len(item) if defined else 0xFFFFFFFF) + item + ends[1]
    return inner


def items(count: int) -> bytes:
    return struct.pack("<HH2sHI", 0x2101, 0x1010, b"SQ", 0, 8 * count) + struct.pack("<HHI", 0xFFFE, 0xE000, 0) * count


def with_header(extra: bytes, *, after_pixels: bool = False) -> bytes:
    dataset, _ = synthetic_film(rows=96, columns=80)
    data = film_bytes(dataset)
    place = len(data) if after_pixels else data.rindex(PIXELS)
    return data[:place] + extra + data[place:]


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (elements(1_000_000), "elements"),
        (items(1_000_000), "elements"),
        (nested(MOST_NESTED + 1), "deep"),
        (nested(MOST_NESTED + 1, defined=True), "deep"),
        (nested(MOST_NESTED + 1, vr=b"UN"), "deep"),
        (nested(20_000), "deep"),
    ],
    ids=["elements", "items", "nested", "nested by length", "nested in UN", "nested 20,000 times"],
)
@pytest.mark.parametrize("after_pixels", [False, True])
def test_what_no_image_needs_is_refused_at_once(extra: bytes, reason: str, after_pixels: bool) -> None:
    data = with_header(extra, after_pixels=after_pixels)
    started = time.perf_counter()
    with pytest.raises(ImageRefusedError, match=reason):
        image_of(data, accept_any=False)
    assert time.perf_counter() - started < 2


@pytest.mark.parametrize("extra", [elements(MOST_ELEMENTS - 1000), items(10_000), nested(MOST_NESTED - 1)])
@pytest.mark.filterwarnings("ignore")
def test_what_is_within_the_limits_is_read(extra: bytes) -> None:
    assert image_of(with_header(extra), accept_any=False).rows == 96


def test_a_deflated_header_is_looked_at_inflated() -> None:
    import zlib

    dataset, _ = synthetic_film(rows=96, columns=80)
    data = film_bytes(dataset)
    meta_end = data.index(b"\x08\x00\x05\x00") if b"\x08\x00\x05\x00" in data else data.index(b"\x08\x00\x08\x00")
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    body = squeeze.compress(elements(1_000_000) + data[meta_end:]) + squeeze.flush()
    explicit = b"1.2.840.10008.1.2.1\0"
    place = data.index(explicit)
    meta = data[: place - 2] + len(DeflatedExplicitVRLittleEndian + " ").to_bytes(2, "little")
    meta += DeflatedExplicitVRLittleEndian.encode() + b"\0" + data[place + len(explicit) : meta_end]
    with pytest.raises(ImageRefusedError, match="elements"):
        image_of(meta + body, accept_any=False)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_walk_follows_every_encoding(syntax: str) -> None:
    """Of an item too many in each: the count is the same whatever the encoding."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    many = struct.pack(f"{order}HHI", 0xFFFE, 0xE000, 0) * (MOST_ELEMENTS + 1)
    if syntax == ImplicitVRLittleEndian:
        head = struct.pack("<HHI", 0x0040, 0x0555, len(many))
    else:
        head = struct.pack(">HH2sHI", 0x0040, 0x0555, b"SQ", 0, len(many))
    with pytest.raises(ImageRefusedError, match="elements"):
        check_structure(head + many, order=order)
    check_structure(head + many[: 8 * 100], order=order)
