"""Whatever the bytes, the result is a film or a refusal of one line: no other exception, no hang."""

from __future__ import annotations

import random
import time

import pytest

from certdicom.errors import ImageRefusedError
from certdicom.imaging.describe import describe
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import ENCODINGS, compress, film_bytes, synthetic_film

SECONDS = 2.0


def attempt(data: bytes) -> bool:
    """Whether the bytes were read as a film; anything but a film or a one-line refusal fails the test."""
    start = time.perf_counter()
    try:
        read = read_radiograph(data)
    except ImageRefusedError as refusal:
        message, accepted = str(refusal), False
    else:
        assert read.stored_values.shape == (read.dataset.Rows, read.dataset.Columns)
        assert read.rendering.steepest_slope > 0
        message, accepted = "accepted", True
    assert message.isprintable()
    assert time.perf_counter() - start < SECONDS
    return accepted


def whole_files():
    film = synthetic_film(rows=80, columns=72, bits_stored=8)[0]
    for encoding in ENCODINGS:
        yield pytest.param(film_bytes(compress(film, encoding)), id=encoding)
    tables = synthetic_film(modality="CR", rows=80, columns=72, voi_lut_bits=10, bits_stored=10, padding=4)[0]
    yield pytest.param(film_bytes(tables), id="tables")


FILES = list(whole_files())


@pytest.mark.parametrize("data", FILES)
def test_a_file_cut_off_anywhere_is_refused(data):
    assert attempt(data)
    delimiter = b"\xfe\xff\xdd\xe0\0\0\0\0"
    whole = len(data) - len(delimiter) if data.endswith(delimiter) else None  # without its delimiter a file has all of its pixels
    for end in [*range(0, len(data) - 40, 37), *range(len(data) - 40, len(data))]:
        if end == whole:
            continue
        # The deflate stream may end one byte early: its last byte can be a pad byte.
        assert not attempt(data[:end]) or (end == len(data) - 1 and attempt(data[:end] + b"\0")), f"cut at {end} of {len(data)}"


def test_a_file_cut_off_behind_its_pixels_is_read_for_the_pixels_are_whole():
    film = synthetic_film(rows=80, columns=72)[0]
    film.add_new(0xFFFCFFFC, "OB", bytes(range(100)))
    data = film_bytes(film)
    assert attempt(data)
    for missing in range(1, 101):  # in the value of the element behind them
        assert attempt(data[:-missing]), f"{missing} bytes missing"
    assert not attempt(data[:-113])


@pytest.mark.parametrize("data", FILES)
def test_random_damage_gives_a_film_or_a_refusal(data):
    chance = random.Random(20)  # noqa: S311 - repeatable damage
    accepted = 0
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 2, 8, 40))):
            place = chance.randrange(min(len(data), 1800)) if chance.random() < 0.6 else chance.randrange(len(data))
            damaged[place] = chance.choice((0, 255, damaged[place] ^ (1 << chance.randrange(8)), chance.randrange(256)))
        accepted += attempt(bytes(damaged))
    assert 0 < accepted < 120


@pytest.mark.parametrize("data", FILES)
def test_damage_to_the_header_of_the_pixel_data_gives_a_film_or_a_refusal(data):
    chance = random.Random(21)  # noqa: S311 - repeatable damage
    start = data.rfind(b"\xe0\x7f\x10\x00") if b"\xe0\x7f\x10\x00" in data else 0
    for _ in range(120):
        damaged = bytearray(data)
        for _ in range(chance.choice((1, 2, 4))):
            damaged[start + chance.randrange(min(200, len(data) - start))] = chance.choice((0, 255, chance.randrange(256)))
        attempt(bytes(damaged))


def test_random_bytes_after_a_valid_start_are_refused():
    chance = random.Random(22)  # noqa: S311 - repeatable damage
    data = film_bytes(synthetic_film(rows=80, columns=72)[0])
    for _ in range(100):
        assert not attempt(data[: chance.randrange(132, 700)] + chance.randbytes(3000))


def test_deeply_nested_sequences_are_no_crash():
    start = b"\0" * 128 + b"DICM" + b"\x02\x00\x10\x00UI\x14\x001.2.840.10008.1.2.1\0"
    nested = (b"\x08\x00\x18\x22SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff") * 20000
    assert not attempt(start + nested)


def test_describing_damaged_files_never_fails():
    chance = random.Random(23)  # noqa: S311 - repeatable damage
    data = film_bytes(synthetic_film(rows=80, columns=72)[0])
    refused = 0
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(20):
            damaged[chance.randrange(1500)] = chance.randrange(256)
        description = describe(bytes(damaged))
        assert description.accepted == (description.reason is None)
        refused += not description.accepted
    assert refused > 50
