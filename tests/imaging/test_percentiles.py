"""The window in which a reader sees a film whose header has none ignores padding and collimation borders."""

from __future__ import annotations

import numpy as np
import pytest

from certdicom.errors import ImageRefusedError
from certdicom.imaging.percentiles import percentile_window
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.resampling import box_average
from certdicom.imaging.synthetic import film_bytes


@pytest.fixture
def chest(film, words):
    """Stored values of a film that fills its grid: no border of it is flat."""
    return words(film(rows=512, columns=512)).astype(np.int32)[60:460, 30:480]


def test_without_borders_it_is_the_percentiles_of_the_grid(chest):
    averages = box_average(chest, 256)
    assert percentile_window(chest, padding=None) == pytest.approx(tuple(np.percentile(averages, (1, 99))), rel=1e-5)


@pytest.mark.parametrize("border", [0, 4095])
@pytest.mark.parametrize("sides", [(40, 40, 40, 40), (100, 0, 0, 0), (0, 0, 0, 150), (30, 60, 0, 10)])
def test_flat_borders_hardly_move_the_window(chest, border, sides):
    top, bottom, left, right = sides
    bordered = np.pad(chest, ((top, bottom), (left, right)), constant_values=border)
    np.testing.assert_allclose(percentile_window(bordered, padding=None), percentile_window(chest, padding=None), atol=60)


def test_noise_and_a_marker_do_not_hide_a_border(chest):
    bordered = np.pad(chest, 50, constant_values=4000) + np.random.default_rng(0).integers(-8, 9, (500, 550))
    bordered[10:30, 20:34] = 300
    np.testing.assert_allclose(percentile_window(bordered, padding=None), percentile_window(chest, padding=None), atol=60)


def test_a_border_in_the_middle_of_the_range_is_part_of_the_film(chest):
    bordered = np.pad(chest, 40, constant_values=2000)
    averages = box_average(bordered, 256)
    assert percentile_window(bordered, padding=None) == pytest.approx(tuple(np.percentile(averages, (1, 99))), rel=1e-5)


@pytest.mark.parametrize("value", [0, 4095, 2000])
def test_padding_of_any_value_does_not_count(chest, value):
    padding = np.zeros((500, 700), bool)
    padding[:, :250] = True
    padded = np.full(padding.shape, value, np.int32)
    padded[:400, 250:] = chest
    padded[400:, 250:] = chest[:100]
    inner = padded[:, 250:]
    np.testing.assert_allclose(percentile_window(padded, padding=padding), percentile_window(inner, padding=None), atol=40)


def test_scattered_padding_leaves_the_pixels_between_it_to_decide(chest):
    padding = np.random.default_rng(1).random(chest.shape) < 0.9
    lo, hi = percentile_window(chest, padding=padding)
    assert (lo, hi) == tuple(np.percentile(chest[~padding], (1, 99)))


def test_the_window_follows_a_shift_of_the_stored_values(chest):
    lo, hi = percentile_window(chest, padding=None)
    assert percentile_window(3 * chest - 5000, padding=None) == pytest.approx((3 * lo - 5000, 3 * hi - 5000), abs=0.1)


def test_one_odd_pixel_is_shown_by_the_whole_range():
    flat = np.full((200, 200), 7, np.int32)
    flat[100, 100] = 4000
    assert percentile_window(flat, padding=None) == (7, 4000), "what there is to see is shown"


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("signed", [False, True])
def test_padded_pixels_are_black_whatever_they_hold(film, photometric, signed):
    read = read_radiograph(film_bytes(film(modality="CR", padding=20, photometric=photometric, signed=signed)))
    padding = read.rendering.levels.hidden
    assert padding is not None
    assert padding.sum() == 120 * 40
    shown = read.rendering.display(read.stored_values)
    assert np.all(shown[:, :20] == 0)
    assert np.all(shown[:, -20:] == 0)
    assert "41.7% of the pixels are padding" in read.notes[0]


def test_padding_is_black_through_a_table_too(film):
    read = read_radiograph(film_bytes(film(padding=20, voi_lut_bits=12, photometric="MONOCHROME1")))
    assert np.all(read.rendering.display(read.stored_values)[:, :20] == 0)


def test_a_padding_range_covers_the_values_between_its_limits(film, words):
    native = film(modality="CR", noise=0.0)
    native.PixelPaddingValue, native.PixelPaddingRangeLimit = 0, 200
    read = read_radiograph(film_bytes(native))
    np.testing.assert_array_equal(read.rendering.levels.hidden, words(native) <= 200)


def test_a_padding_range_may_be_written_downwards(film, words):
    native = film(modality="CR", noise=0.0)
    native.PixelPaddingValue, native.PixelPaddingRangeLimit = 4095, 3500
    read = read_radiograph(film_bytes(native))
    np.testing.assert_array_equal(read.rendering.levels.hidden, words(native) >= 3500)


def test_a_padding_value_beyond_the_stored_bits_is_found_in_the_whole_word(film):
    """As some scanners write -2000 into 12-bit films."""
    native = film(modality="CR")
    raw = np.frombuffer(native.PixelData, "<u2").copy().reshape(120, 96)
    raw[:, :10] = 65536 - 2000
    native.PixelData = raw.tobytes()
    native.add_new("PixelPaddingValue", "US", 65536 - 2000)
    read = read_radiograph(film_bytes(native))
    assert read.rendering.levels.hidden.sum() == 1200
    assert read.rendering.levels.hidden[:, :10].all()


def test_a_signed_padding_value_written_unsigned_is_understood(film):
    native = film(modality="CR", signed=True, padding=8, bits_stored=16)
    value = native.PixelPaddingValue
    assert value == -32768
    native.add_new("PixelPaddingValue", "US", value + 65536)
    assert read_radiograph(film_bytes(native)).rendering.levels.hidden.sum() == 120 * 16


def test_a_padding_value_that_occurs_nowhere_changes_nothing(read):
    film = read(lambda header: header.add_new("PixelPaddingValue", "US", 0))
    assert film.rendering.levels.hidden is None
    assert film.notes == ()


def test_a_film_that_is_all_padding_is_refused(film):
    native = film()
    native.PixelPaddingValue, native.PixelPaddingRangeLimit = 0, 4095
    with pytest.raises(ImageRefusedError, match="every pixel of the film is padding"):
        read_radiograph(film_bytes(native))


def test_padding_does_not_hide_a_constant_film(film):
    native = film()
    raw = np.full((120, 96), 1000, "<u2")
    raw[:, :30] = 0
    native.PixelData, native.PixelPaddingValue = raw.tobytes(), 0
    with pytest.raises(ImageRefusedError, match=r"same value \(1000\)"):
        read_radiograph(film_bytes(native))
