"""The picture shows what is certified and what is not, on dark and on bright film, and says what it is worth."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont
from pydicom.data import get_testdata_file

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.errors import UsageError
from certdicom.outputs import palette
from certdicom.outputs.labels import inner_places, point_at, write_names
from certdicom.outputs.overlay import canvas_of, draw_hatch, draw_outlines, resize_nearest
from certdicom.outputs.panel import PANEL_WIDTH, wrap
from certdicom.outputs.picture_file import jpeg, png
from certdicom.outputs.preview import LONG_SIDE, percent, render_preview


def luminance(rgb) -> float:
    """Relative luminance of WCAG 2.1, 0 to 1."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (component / 255 for component in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first, second) -> float:
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def flat_film(gray: float, rows: int = 200, columns: int = 200) -> np.ndarray:
    return np.full((rows, columns), gray, np.float32)


@pytest.mark.parametrize("shape", [(64, 64), (64, 4000), (4000, 64), (1, 1), (300, 200), (1800, 1500)])
def test_the_long_side_of_the_film_is_1400_whatever_its_size(make_certificate, shape):
    picture = render_preview(np.zeros(shape, np.float32), np.zeros((3, *shape), np.uint8), make_certificate())
    rows, columns = (max(1, round(size * LONG_SIDE / max(shape))) for size in shape)
    assert picture.mode == "RGB"
    assert picture.width == columns + PANEL_WIDTH
    assert picture.height >= rows


@pytest.mark.parametrize("gray", [0.0, 0.5, 1.0])
def test_abstention_is_hatched_and_stands_out_on_any_film(make_certificate, gray):
    decisions = np.zeros((3, 200, 200), np.uint8)
    decisions[1, :, 100:] = ABSTAIN
    pixels = np.asarray(render_preview(flat_film(gray), decisions, make_certificate()))[:, :LONG_SIDE]
    plain, hatched = pixels[20:190, 20:420], pixels[20:190, 800:1300]
    assert np.unique(plain.reshape(-1, 3), axis=0).shape[0] == 1
    film = plain[0, 0]
    strokes = np.unique(hatched.reshape(-1, 3), axis=0)
    assert max(contrast(film, stroke) for stroke in strokes) > 3
    # Diagonal: the pattern repeats along one diagonal and not along rows.
    np.testing.assert_array_equal(hatched[1:, :-1], hatched[:-1, 1:])
    assert (hatched[0] != hatched[0, 0]).any()


@pytest.mark.parametrize("gray", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_outline_has_its_colour_and_a_border_that_stands_out(make_certificate, gray, number):
    certificate = make_certificate()
    decisions = np.zeros((3, 200, 200), np.uint8)
    decisions[number, 50:150, 50:150] = PRESENT
    pixels = np.asarray(render_preview(flat_film(gray), decisions, certificate))[:, :LONG_SIDE]
    line = pixels[500]  # above the name in its middle
    film, colour = line[0], np.asarray(certificate.structures[number].rgb)
    assert (line == colour).all(axis=-1).sum() == 6  # three pixels at either side
    assert (line[700] == film).all()  # the inside is left as it is
    drawn = [pixel for pixel in line if (pixel != film).any()]
    assert max(contrast(film, pixel) for pixel in drawn) > 2


def test_colours_are_told_apart_and_none_is_abstentions():
    colours = [palette.LUNGS, palette.HEART, palette.CLAVICLES, palette.ABSTAIN]
    assert len(set(colours)) == 4
    okabe_ito = {
        *(palette.ORANGE, palette.SKY_BLUE, palette.BLUISH_GREEN, palette.YELLOW),
        *(palette.BLUE, palette.VERMILLION, palette.REDDISH_PURPLE),
    }
    assert set(colours) <= okabe_ito


def test_structures_that_overlap_are_both_outlined(make_certificate):
    decisions = np.zeros((3, 100, 100), np.uint8)
    decisions[0, 20:80, 10:60] = PRESENT
    decisions[1, 30:70, 40:90] = PRESENT
    certificate = make_certificate()
    pixels = np.asarray(render_preview(flat_film(0.5, 100, 100), decisions, certificate))[:, :LONG_SIDE].reshape(-1, 3)
    for structure in certificate.structures[:2]:
        assert (pixels == structure.rgb).all(axis=1).any()
    assert not (pixels == certificate.structures[2].rgb).all(axis=1).any()


def test_a_structure_cut_by_the_films_edge_is_left_open_there():
    canvas = np.zeros((40, 40, 3), np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[:, :20] = True
    draw_outlines(canvas, [mask], [(255, 0, 0)])
    assert (canvas[:, :15] == 0).all()
    assert (canvas[20, 17:20] == (255, 0, 0)).all()


def test_a_thin_band_of_abstention_is_seen():
    canvas = np.full((60, 60, 3), 255, np.uint8)
    mask = np.zeros((60, 60), bool)
    mask[30] = True
    draw_hatch(canvas, mask)
    assert (canvas[30] != 255).any(axis=1).all()


def test_values_outside_the_display_range_do_not_wrap_around():
    canvas = canvas_of(np.array([[-1.0, 0.0, 1.0, 7.0, np.nan]], np.float32), long_side=5)
    assert canvas[0, :, 0].tolist() == [0, 0, 255, 255, 0]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_resizing_decisions_invents_no_value_and_keeps_uniform_maps(rows, columns, new_rows, new_columns):
    decisions = np.random.default_rng(rows * 41 + columns).integers(0, 3, (2, rows, columns), np.uint8)
    resized = resize_nearest(decisions, rows=new_rows, columns=new_columns)
    assert resized.shape == (2, new_rows, new_columns)
    assert set(np.unique(resized)) <= set(np.unique(decisions))
    np.testing.assert_array_equal(resize_nearest(decisions, rows=rows, columns=columns), decisions)


@settings(max_examples=30)
@given(st.text(alphabet="abcWi ", max_size=200), st.integers(40, 400))
def test_wrapped_lines_fit_and_lose_no_letter(text, width):
    font = ImageFont.load_default(size=20)
    lines = wrap(text, font, width)
    assert all(font.getlength(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_long_names_and_many_notes_stay_inside_the_panel(make_certificate):
    from certdicom.certification.certificate import Structure

    structure = Structure("a" * 120, ("39607008", "SCT", "Lung"), palette.LUNGS)
    certificate = make_certificate(structures=(structure,) * 12, notes=("word " * 60,) * 9, bundle_name="b" * 90)
    picture = render_preview(flat_film(0.2, 64, 64), np.zeros((12, 64, 64), np.uint8), certificate)
    panel = np.asarray(picture)[:, LONG_SIDE:]
    assert picture.height > LONG_SIDE  # the page grows with the words
    paper = panel[0, 0]
    assert (panel[:, -20:] == paper).all()
    assert (panel[-20:] == paper).all()


def test_what_does_not_fit_together_is_refused(make_certificate):
    for shape in [(3, 9, 10), (2, 10, 10), (10, 10)]:
        with pytest.raises(UsageError, match="shape"):
            render_preview(flat_film(0.5, 10, 10), np.zeros(shape, np.uint8), make_certificate())


def test_the_picture_is_written_as_png_and_as_jpeg(make_certificate):
    picture = render_preview(flat_film(0.5, 64, 64), np.zeros((3, 64, 64), np.uint8), make_certificate())
    with Image.open(BytesIO(png(picture))) as opened:
        assert opened.format == "PNG"
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(picture))
    with Image.open(BytesIO(jpeg(picture))) as opened:
        assert opened.format == "JPEG"
        assert np.abs(np.asarray(opened).astype(int) - np.asarray(picture)).mean() < 1


def test_a_real_film_is_shown_behind_the_overlay(make_certificate):
    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    film = pydicom.dcmread(path)
    display = 1 - np.clip(film.pixel_array.astype(np.float32) / 30000, 0, 1)
    decisions = np.zeros((3, film.Rows, film.Columns), np.uint8)
    decisions[0, 300:1500, 200:800] = PRESENT
    decisions[0, 1400:1500, 200:800] = ABSTAIN
    pixels = np.asarray(render_preview(display, decisions, make_certificate())).astype(int)
    shown = pixels[:, : round(film.Columns * LONG_SIDE / film.Rows)]
    above = shown[20:190]
    assert (above == above[..., :1]).all()  # gray where nothing is drawn
    assert np.ptp(above) > 60  # and not flat
    assert (shown[1010:1060, 200:500] != shown[1010:1060, 200:500, :1]).any()


@pytest.mark.parametrize(("count", "wanted"), [(0, "0.0 %"), (1, "under 0.1 %"), (50, "0.5 %"), (9999, "over 99.9 %"), (10_000, "100.0 %")])
def test_shares_are_not_rounded_to_all_or_nothing(count, wanted):
    assert percent(np.arange(10_000) < count) == wanted


def test_names_stand_inside_what_they_name_once_for_each_large_part():
    mask = np.zeros((300, 400), bool)
    mask[50:250, 20:150], mask[50:250, 250:380], mask[0:5, 190:195] = True, True, True
    places = list(inner_places(mask))
    assert len(places) == 2  # and not for the speck
    assert all(mask[place] for place in places)
    assert list(inner_places(np.zeros((5, 5), bool))) == []
    picture = Image.new("RGB", (400, 300), (128, 128, 128))
    write_names(picture, [mask], ["lungs"], [palette.LUNGS])
    changed = (np.asarray(picture) != 128).any(axis=2)
    assert changed[:, :200].any()
    assert changed[:, 200:].any()
    assert not (changed & ~mask).any()


@pytest.mark.parametrize("place", [(30, 30), (150, 200), (280, 390)])
def test_abstention_is_named_beside_it_and_not_on_it(place):
    picture = Image.new("RGB", (400, 300))
    mask = np.zeros((300, 400), bool)
    mask[max(0, place[0] - 12) : place[0] + 12, max(0, place[1] - 12) : place[1] + 12] = True
    point_at(picture, mask, "abstain", palette.ABSTAIN, avoid=mask)
    drawn = (np.asarray(picture) == palette.ABSTAIN).all(axis=2)
    assert drawn.sum() > 200
    assert (drawn & mask).sum() < 60  # the end of the pointer
    point_at(picture, np.zeros_like(mask), "nothing", (1, 2, 3), avoid=mask)
    assert not (np.asarray(picture) == (1, 2, 3)).all(axis=2).any()


def test_the_plain_words_come_first_and_tell_hatched_from_not(make_certificate):
    from certdicom.outputs import statements

    stable, open_, limit = statements.plain(make_certificate())
    assert stable.startswith("Not hatched: stable. With 99.9 % confidence")
    assert "Not a finding, and not the absence of one" in open_
    assert limit.startswith("Stability, not correctness.")
