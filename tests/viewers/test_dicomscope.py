"""DICOMscope draws what a presentation state says: outlines and hatching where they are, and the certificate's words.

Slow: Debian's dicomscope, xvfb and xdotool are needed.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pydicom
import pytest
from PIL import Image
from scipy import ndimage

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.outputs.result import Result
from tests.viewers import dicomscope

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROWS, COLUMNS = 800, 640
DARK, BLACK, WHITE = 40, 5, 250
"""No pixel of the film itself is darker than the first, or as black or white as the others: what is, was drawn."""
OUTLINES = ("LUNGS", "HEART", "CLAVICLES")


def points(state: pydicom.Dataset, layer: str) -> np.ndarray:
    """(points, 2) of columns and rows, a few pixels apart, along all lines of a layer."""
    found = []
    for annotation in state.GraphicAnnotationSequence:
        for item in annotation.get("GraphicObjectSequence", []) if annotation.GraphicLayer == layer else []:
            for start, end in pairwise(np.reshape(item.GraphicData, (-1, 2))):
                steps = max(2, int(np.hypot(*(end - start)) / 3))
                found.append(start + (end - start) * np.linspace(0, 1, steps)[:, None])
    return np.concatenate(found)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
def test_lines_and_words_are_seen_where_they_belong(make_certificate, tmp_path, photometric):
    if not dicomscope.is_installed():
        pytest.skip("DICOMscope is not installed (Debian: apt install dicomscope xvfb xdotool dcmtk)")
    film, _ = synthetic_film(modality="CR", rows=ROWS, columns=COLUMNS, photometric=photometric)
    film.WindowCenter, film.WindowWidth = "2048", "4096"
    ramp = np.tile(np.linspace(1000, 3000, COLUMNS), (ROWS, 1)).astype("<u2")
    film.PixelData = (ramp if photometric == "MONOCHROME2" else 4095 - ramp).tobytes()
    path = tmp_path / "film.dcm"
    path.write_bytes(film_bytes(film))
    decisions = np.zeros((3, 100, 80), np.uint8)
    decisions[0, 10:60, 8:28], decisions[1, 45:75, 24:52], decisions[2, 8:16, 55:75] = PRESENT, PRESENT, PRESENT
    decisions[0, 60:66, 8:28], decisions[2, 30:40, 60:72] = ABSTAIN, ABSTAIN
    file = Result(read_image(path, accept_any=True), make_certificate(decisions=decisions)).save(tmp_path / "state.gsps.dcm")
    picture = dicomscope.show(path, file, tmp_path / "dicomscope")
    Image.fromarray(picture).save(tmp_path / "dicomscope.png")

    ramp_shown = np.median(picture[:, 5:25]), np.median(picture[:, 680:700])
    assert ramp_shown == pytest.approx((255 * 1050 / 4095, 255 * 2890 / 4095), abs=8)
    state = pydicom.dcmread(file)
    film_area = ndimage.binary_fill_holes(ndimage.binary_closing(picture > DARK, np.ones((15, 15))))
    white, black = (picture >= WHITE) & film_area, (picture <= BLACK) & film_area
    to_white, to_black = (np.minimum(ndimage.distance_transform_edt(~drawn), 9) for drawn in (white, black))
    scale, offset = fitted(np.concatenate([points(state, layer) for layer in OUTLINES]), to_white)

    def apart(layer: str, distances: np.ndarray) -> np.ndarray:
        return at(distances, points(state, layer) * scale + offset)

    for layer in (*OUTLINES, "ABSTAIN"):
        assert (apart(layer, to_white) <= 1.5).mean() > 0.999, layer
    assert (apart("CASING", to_black) <= 2.5).mean() > 0.95  # white lines cross it

    drawn = np.ones(picture.shape, bool)
    for layer in (*OUTLINES, "ABSTAIN"):
        column, row = np.rint(points(state, layer) * scale + offset).astype(int).T
        drawn[row, column] = False
    stray = white & (ndimage.distance_transform_edt(drawn) > 4)
    for annotation in state.GraphicAnnotationSequence:
        for text in annotation.get("TextObjectSequence", []):
            unit = (COLUMNS, ROWS) if text.BoundingBoxAnnotationUnits == "DISPLAY" else (1, 1)
            corners = np.array([text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner])
            (left, top), (right, bottom) = np.rint(corners * unit * scale + offset).astype(int)
            box = slice(max(0, top - 12), bottom + 12), slice(max(0, left - 12), right + 30)
            assert ((picture[box] > 220) | (picture[box] < 30)).mean() > 0.01, "a text is not seen"  # letters have soft edges
            stray[box] = False
    assert stray.mean() < 1e-4, "something was drawn that the state does not say"


def at(distances: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The distance at each place (column, row)."""
    return ndimage.map_coordinates(distances, places[:, ::-1].T, order=1, mode="nearest")


def fitted(lines: np.ndarray, distances: np.ndarray) -> tuple[float, np.ndarray]:
    """The zoom and the place of the film's corner, which the viewer does not tell, by the lines."""
    tried = ((scale, np.array([x, y])) for scale in np.arange(1.1, 1.18, 0.002) for x in range(-8, 5) for y in range(-8, 5))
    return min(tried, key=lambda way: at(distances, lines * way[0] + way[1]).mean())
