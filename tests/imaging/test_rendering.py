"""What is shown equals what pydicom computes by its own reading of the standard, on every kind of header."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from certdicom.certification.certificate import Window
from certdicom.certification.window import WindowRule
from certdicom.errors import ImageRefusedError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.percentiles import SOURCE as PERCENTILES
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.rendering import Levels, LevelTable, Rendering
from certdicom.imaging.synthetic import compress, film_bytes


def expected_display(dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    """pydicom's Modality and VOI LUT, scaled to [0, 1] from the range that pydicom documents for its output."""
    header = deepcopy(dataset)
    if "VOILUTSequence" in header:
        lut = header.VOILUTSequence[0]
        count, first, bits = (int(value) for value in lut.LUTDescriptor)
        data = np.frombuffer(lut.LUTData, "u1" if bits == 8 else "<u2")
        index = np.clip(np.floor(apply_modality_lut(stored, header)) - first, 0, (count % 65536 or 65536) - 1).astype(int)
        shown = data[index] / ((1 << bits) - 1)
    else:
        if "ModalityLUTSequence" in header:
            low, high = 0, 65535
        else:
            slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
            ends = [
                -(1 << (header.BitsStored - 1)) if header.PixelRepresentation else 0,
                (1 << (header.BitsStored - header.PixelRepresentation)) - 1,
            ]
            low, high = sorted(slope * end + intercept for end in ends)
        if "RescaleSlope" not in header and "ModalityLUTSequence" not in header:
            header.RescaleSlope, header.RescaleIntercept = 1, 0
        windowed = apply_voi_lut(apply_modality_lut(stored, header), header).astype(float)
        # pydicom maps a window to the full range of the modality values when a Rescale is present, else of the stored bits.
        if "ModalityLUTSequence" in header:
            low, high = 0, 65535
        elif header.PixelRepresentation or "RescaleSlope" in header:
            bottom = -(2 ** (header.BitsStored - 1)) if header.PixelRepresentation else 0
            top = 2 ** (header.BitsStored - 1) - 1 if header.PixelRepresentation else 2**header.BitsStored - 1
            low = bottom * float(header.RescaleSlope) + float(header.RescaleIntercept)
            high = top * float(header.RescaleSlope) + float(header.RescaleIntercept)
        shown = (windowed - low) / (high - low)
    return 1 - shown if dataset.PhotometricInterpretation == "MONOCHROME1" else shown


HEADERS = {
    "LINEAR": {},
    "LINEAR, MONOCHROME1": {"photometric": "MONOCHROME1"},
    "LINEAR, 8 bits": {"bits_stored": 8},
    "LINEAR, 16 bits": {"bits_stored": 16},
    "LINEAR, signed": {"modality": "CR", "signed": True},
    "LINEAR, rescaled": {"modality": "CR", "rescale": (2.0, -1000.0)},
    "LINEAR_EXACT": {"window": "LINEAR_EXACT"},
    "LINEAR_EXACT, MONOCHROME1, rescaled": {
        "modality": "CR",
        "window": "LINEAR_EXACT",
        "photometric": "MONOCHROME1",
        "rescale": (0.25, 7.5),
    },
    "SIGMOID": {"window": "SIGMOID"},
    "SIGMOID, MONOCHROME1": {"window": "SIGMOID", "photometric": "MONOCHROME1"},
    "SIGMOID, signed, rescaled": {"modality": "CR", "window": "SIGMOID", "signed": True, "rescale": (3.0, 10.0)},
    "VOI LUT, 8 bits": {"voi_lut_bits": 8},
    "VOI LUT, 12 bits": {"voi_lut_bits": 12},
    "VOI LUT, 16 bits, MONOCHROME1": {"voi_lut_bits": 16, "photometric": "MONOCHROME1"},
    "VOI LUT, 16-bit pixels": {"voi_lut_bits": 16, "bits_stored": 16},
    "VOI LUT, signed": {"modality": "CR", "voi_lut_bits": 12, "signed": True},
    "VOI LUT, rescaled": {"modality": "CR", "voi_lut_bits": 12, "rescale": (0.37, -100.0)},
    "Modality LUT": {"modality": "CR", "modality_lut": True},
    "Modality LUT, 65536 entries": {"modality": "CR", "modality_lut": True, "bits_stored": 16},
    "Modality LUT, signed, 65536 entries": {"modality": "CR", "modality_lut": True, "bits_stored": 16, "signed": True},
    "Modality LUT, SIGMOID": {"modality": "CR", "modality_lut": True, "window": "SIGMOID"},
}


@pytest.mark.parametrize("name", HEADERS)
def test_the_film_is_shown_as_pydicom_computes_it(film, words, name):
    native = film(**HEADERS[name])
    read = read_radiograph(film_bytes(native))
    expected = expected_display(native, words(native).astype(np.int32))
    assert 0 <= expected.min() < 0.2
    assert 0.8 < expected.max() <= 1
    np.testing.assert_allclose(read.rendering.display(read.stored_values), expected, atol=2e-6)


@pytest.mark.parametrize("encoding", ["implicit-little", "explicit-big", "deflated"])
@pytest.mark.parametrize("name", ["VOI LUT, 12 bits", "VOI LUT, signed", "Modality LUT", "Modality LUT, signed, 65536 entries"])
def test_tables_do_not_depend_on_the_byte_order_of_the_file(film, name, encoding):
    native = film(**HEADERS[name])
    plain, other = (read_radiograph(film_bytes(compress(native, each))) for each in ("explicit-little", encoding))
    np.testing.assert_array_equal(other.rendering.display(other.stored_values), plain.rendering.display(plain.stored_values))


def test_a_linear_window_follows_the_formula_of_the_standard(read):
    def window(header):
        header.WindowCenter, header.WindowWidth = 2048, 1024

    rendering = read(window).rendering
    assert rendering.levels.table is None
    # PS3.3 C.11.2.1.2.1: black at c - 0.5 - (w - 1) / 2, white at c - 0.5 + (w - 1) / 2.
    assert rendering.window == Window(1536.0, 2559.0, "WindowCenter/WindowWidth (LINEAR)")
    assert rendering.steepest_slope == 1 / 1023


def test_slope_and_intercept_are_folded_into_stored_values(read):
    def rescaled(header):
        header.RescaleSlope, header.RescaleIntercept = 2, -1000
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = 1000, 2000, "LINEAR_EXACT"

    assert read(rescaled, modality="CR").rendering.window == Window(500.0, 1500.0, "WindowCenter/WindowWidth (LINEAR_EXACT)")


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope_turns_black_and_white_round(read, photometric):
    plain = read(modality="CR", photometric=photometric, rescale=(1.0, 0.0), window="LINEAR_EXACT")
    falling = read(modality="CR", photometric=photometric, rescale=(-1.0, 4095.0), window="LINEAR_EXACT")
    assert falling.rendering.levels.inverted != plain.rendering.levels.inverted
    assert falling.rendering.levels.table is None
    np.testing.assert_allclose(
        falling.rendering.display(falling.stored_values), 1 - plain.rendering.display(plain.stored_values), atol=2e-3
    )


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_a_negative_slope_turns_percentiles_round_too(read, photometric):
    rising = read(modality="CR", photometric=photometric, rescale=(2.0, 5.0), window=None).rendering
    falling = read(modality="CR", photometric=photometric, rescale=(-2.0, 5.0), window=None).rendering
    assert falling.window == rising.window
    assert (falling.levels.inverted, rising.levels.inverted) == (photometric == "MONOCHROME2", photometric == "MONOCHROME1")


@pytest.mark.parametrize("slope", [1.0, -1.0])
def test_a_negative_slope_is_kept_in_tables(read, slope):
    film = read(modality="CR", window="SIGMOID", rescale=(slope, 0.0))
    table = film.rendering.levels.table
    assert table is not None
    assert np.all(slope * np.diff(table.levels) >= 0)
    assert not film.rendering.levels.inverted, "the table turns it already"


def test_the_first_of_several_windows_is_used(read):
    def windows(header):
        header.WindowCenter, header.WindowWidth = [2048, 100], [1024, 50]

    assert read(windows).rendering.window.lo == 1536.0


def test_a_voi_lut_is_preferred_over_a_window(read):
    def both(header):
        header.WindowCenter, header.WindowWidth = 2048, 1024

    assert read(both, voi_lut_bits=12).rendering.window.source == "VOI LUT sequence"


def test_empty_window_attributes_count_as_absent(read):
    def empty(header):
        header.WindowCenter, header.WindowWidth = None, None

    assert read(empty).rendering.window.source == PERCENTILES


def test_inverse_shape_is_applied_once(read):
    assert read(photometric="MONOCHROME1").dataset.PresentationLUTShape == "INVERSE"
    assert read(photometric="MONOCHROME1").rendering.levels.inverted


@pytest.mark.parametrize(("photometric", "shape"), [("MONOCHROME1", "IDENTITY"), ("MONOCHROME2", "INVERSE")])
def test_a_contradiction_about_polarity_is_noted(read, photometric, shape):
    film = read(lambda header: setattr(header, "PresentationLUTShape", shape), photometric=photometric)
    assert film.rendering.levels.inverted
    assert "contradict" in film.notes[0]


def set_window(centre, width, function=None):
    def change(header):
        header.WindowCenter, header.WindowWidth = centre, width
        if function:
            header.VOILUTFunction = function

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_window(2048, 0), "WindowWidth 0 is below 1"),
        (set_window(2048, -100), "WindowWidth -100 is below 1"),
        (set_window(2048, 0.5), "WindowWidth 0.5 is below 1"),
        (set_window(2048, 0, "LINEAR_EXACT"), "WindowWidth 0 is not above 0"),
        (set_window(2048, -1, "SIGMOID"), "WindowWidth -1 is not above 0"),
        (set_window(2048, 1000, "CUBIC"), "VOILUTFunction (a value that is not repeated here) is not known"),
        (lambda header: header.pop("WindowWidth"), "WindowCenter but no WindowWidth"),
        (lambda header: header.pop("WindowCenter"), "WindowWidth but no WindowCenter"),
    ],
)
def test_a_window_that_means_nothing_is_dropped_with_a_note(read, change, message):
    film = read(change)
    assert film.rendering.window.source.startswith("percentiles")
    assert message in film.notes[0]
    assert film.notes[0].endswith("the window was not used")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda header: setattr(header, "RescaleSlope", 0), "RescaleSlope is 0"),
        (lambda header: setattr(header, "RescaleSlope", 1e306), "leave no usable values"),
        (lambda header: setattr(header, "RescaleIntercept", 1e300), "leave no usable values"),
    ],
)
def test_a_senseless_rescale_is_refused(read, change, message):
    with pytest.raises(ImageRefusedError, match=message):
        read(change)


@pytest.fixture
def read_with(film):
    """The film whose attribute holds these bytes."""

    def read(keyword, value):
        dataset = film()
        setattr(dataset, keyword, 1111)
        return read_radiograph(film_bytes(dataset).replace(b"1111", value))

    return read


@pytest.mark.parametrize("value", [b"NAN ", b"INF ", b"-INF", b"ABC "])
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_rescale_that_is_no_number_is_refused(read_with, keyword, value):
    with pytest.raises(ImageRefusedError, match=f"{keyword}.*(number|cannot be read)"):
        read_with(keyword, value)


@pytest.mark.parametrize("value", [b"NAN ", b"INF ", b"-INF", b"ABC "])
@pytest.mark.parametrize("keyword", ["WindowCenter", "WindowWidth"])
def test_a_window_that_is_no_number_is_dropped_with_a_note(read_with, keyword, value):
    film = read_with(keyword, value)
    assert film.rendering.window.source.startswith("percentiles")
    assert any(keyword in note and note.endswith("the window was not used") for note in film.notes)


@pytest.mark.parametrize(("centre", "width"), [(-5000, 100), (60000, 100), (2048, 1), (2048.5, 2)])
def test_a_window_that_shows_nothing_gives_way_for_the_reader_and_is_not_certified(read, centre, width):
    film = read(set_window(centre, width))
    assert film.rendering.window.source.startswith("percentiles")
    with pytest.raises(ImageRefusedError, match=r"shows next to nothing of this film: give a window \(--window LO HI\)"):
        to_grid(film, 32)
    assert to_grid(film, 32, WindowRule("displayed")).window.source.startswith("displayed")
    assert to_grid(film, 32, WindowRule("given", (1000, 3000))).window == Window(1000, 3000, "given with the request")
    assert 0.9 < (np.abs(film.rendering.display(film.stored_values) - 0.5) < 0.5).mean() < 1


def edit_lut(**changes):
    def change(header):
        item = (header.get("VOILUTSequence") or header.get("ModalityLUTSequence"))[0]
        for keyword, value in changes.items():
            if value is None:
                del item[keyword]
            else:
                item[keyword].value = value(item[keyword].value) if callable(value) else value

    return change


@pytest.mark.parametrize("arguments", [{"voi_lut_bits": 12}, {"modality": "CR", "modality_lut": True}])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit_lut(LUTData=None), "0 entries instead of"),
        (edit_lut(LUTData=b""), "0 entries instead of"),
        (edit_lut(LUTData=lambda data: data[:-2]), "entries instead of"),
        (edit_lut(LUTDescriptor=None), "0 values in LUTDescriptor"),
        (edit_lut(LUTDescriptor=[4096, 0]), "2 values in LUTDescriptor"),
        (edit_lut(LUTDescriptor=lambda d: [d[0], d[1], 0]), "0 bits for each entry"),
        (edit_lut(LUTDescriptor=lambda d: [d[0], d[1], 17]), "17 bits for each entry"),
    ],
)
def test_a_damaged_table_is_refused(read, arguments, change, message):
    with pytest.raises(ImageRefusedError, match=message):
        read(change, **arguments)


def test_entries_may_be_written_as_numbers(film):
    native = film(voi_lut_bits=12)
    item = native.VOILUTSequence[0]
    entries = np.frombuffer(item.LUTData, "<u2").tolist()
    before = read_radiograph(film_bytes(native))
    item.add_new("LUTData", "US", entries)
    after = read_radiograph(film_bytes(native))
    np.testing.assert_array_equal(after.rendering.levels.table.levels, before.rendering.levels.table.levels)


def test_8_bit_entries_may_have_a_word_each(film):
    native = film(voi_lut_bits=8)
    item = native.VOILUTSequence[0]
    packed = read_radiograph(film_bytes(native))
    count = int(item.LUTDescriptor[0])
    item.LUTData = np.frombuffer(item.LUTData, "u1")[:count].astype("<u2").tobytes()
    spread = read_radiograph(film_bytes(native))
    np.testing.assert_array_equal(spread.rendering.levels.table.levels, packed.rendering.levels.table.levels)


def test_a_first_input_written_with_the_wrong_sign_is_understood(film):
    """Implicit VR has no room to say whether LUTDescriptor is US or SS, and Modality LUT output below zero makes it SS."""
    native = film(modality="CR", rescale=(1.0, -1024.0), voi_lut_bits=12)
    right = read_radiograph(film_bytes(native))
    first = int(native.VOILUTSequence[0].LUTDescriptor[1])
    assert first < 0
    descriptor = native.VOILUTSequence[0]["LUTDescriptor"]
    descriptor.VR, descriptor.value = "US", [descriptor.value[0], first + 65536, 12]
    wrong = read_radiograph(film_bytes(native))
    np.testing.assert_array_equal(wrong.rendering.levels.table.levels, right.rendering.levels.table.levels)


@pytest.mark.parametrize("name", [name for name in HEADERS if "VOI" in name or "Modality" in name or "SIGMOID" in name])
def test_no_pair_of_stored_values_is_shown_further_apart_than_the_steepest_slope_allows(film, name):
    rendering = read_radiograph(film_bytes(film(**HEADERS[name]))).rendering
    steps = np.abs(np.diff(rendering.levels.table.levels.astype(np.float64)))
    assert steps.max() <= rendering.levels.steepest * (1 + 1e-9)
    if "SIGMOID" not in name:
        assert steps.max() == pytest.approx(rendering.levels.steepest)
    shown = rendering.display(np.arange(-70000, 70000, dtype=np.int32)[None])[0].astype(np.float64)
    assert np.abs(np.diff(shown)).max() <= rendering.steepest_slope * (1 + 1e-6) + 1e-7


def test_the_steepest_slope_of_a_sigmoid_is_the_one_at_its_centre(read):
    film = read(set_window(2048, 1000, "SIGMOID"), modality="CR", rescale=(2.0, 0.0))
    assert film.rendering.steepest_slope == pytest.approx(2 / 1000)


def test_a_sigmoid_whose_centre_no_pixel_reaches_is_less_steep(read):
    film = read(set_window(5000, 4000, "SIGMOID"))
    slope = 1 / 4000 / np.cosh(2 * (5000 - 4095) / 4000) ** 2
    assert film.rendering.steepest_slope == pytest.approx(slope)


def test_a_modality_lut_is_named_with_the_window_that_follows_it(read):
    film = read(modality="CR", modality_lut=True)
    assert film.rendering.window.source == "WindowCenter/WindowWidth (LINEAR) after the Modality LUT sequence"
    unwindowed = read(modality="CR", modality_lut=True, window=None)
    assert unwindowed.rendering.window.source == PERCENTILES
    shown = unwindowed.rendering.display(unwindowed.stored_values)
    assert 0.9 < ((shown > 0) & (shown < 1)).mean() < 1


def test_rendering_refuses_a_window_of_no_width():
    with pytest.raises(ImageRefusedError, match="shows nothing"):
        Rendering(window=Window(5.0, 5.0, "test"))


@given(
    lo=st.floats(-3e4, 6e4),
    width=st.floats(0.5, 6e4),
    inverted=st.booleans(),
    values=st.lists(st.integers(-32768, 65535), min_size=1, max_size=50),
)
def test_linear_display_is_the_clipped_ramp(lo, width, inverted, values):
    rendering = Rendering(window=Window(lo, lo + width, "test"), levels=Levels(inverted=inverted))
    stored = np.array([values], np.int32)
    ramp = np.clip((stored - lo) / width, 0, 1)
    # float32 holds stored values above the window's floor exactly; only the division rounds.
    tolerance = 1e-6 + 1e-7 * float(np.abs(stored - lo).max()) / width
    np.testing.assert_allclose(rendering.display(stored), 1 - ramp if inverted else ramp, atol=tolerance)


def test_a_narrow_window_far_from_zero_keeps_its_digits():
    rendering = Rendering(window=Window(60000.25, 60002.25, "test"))
    stored = np.array([[60000, 60001, 60002, 60003]], np.int32)
    np.testing.assert_allclose(rendering.display(stored), [[0, 0.375, 0.875, 1]], atol=1e-7)


def test_stored_values_outside_a_table_take_its_ends():
    table = LevelTable(first=10, levels=np.array([0.25, 0.75]), steepest=0.5)
    rendering = Rendering(window=Window(10, 11, "test"), levels=Levels(table=table), shown=(0.0, 1.0))
    np.testing.assert_array_equal(rendering.display(np.array([[-5, 10, 11, 99]], np.int32)), [[0.25, 0.25, 0.75, 0.75]])
