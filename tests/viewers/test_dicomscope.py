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
DARK, BRIGHT = 40, 215
"""No pixel of the film itself is darker or brighter: what is, was drawn."""


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

    gray = ndimage.binary_opening((picture > DARK) & (picture < BRIGHT), np.ones((5, 5)))
    rows, columns = np.flatnonzero(gray.any(axis=1)), np.flatnonzero(gray.any(axis=0))
    top, left = rows[0], columns[0]
    scale = (columns[-1] + 1 - left) / COLUMNS
    assert (rows[-1] + 1 - top) / ROWS == pytest.approx(scale, rel=0.01)
    shown = picture[top : rows[-1] + 1, left : columns[-1] + 1].astype(int)
    edge, middle = np.median(shown[:, 5:25]), np.median(shown[:, -25:-5])
    assert (edge, middle) == pytest.approx((255 * 1000 / 4095, 255 * 3000 / 4095), abs=8)

    state = pydicom.dcmread(file)
    white, black = shown >= 250, shown <= 5
    to_white, to_black = (np.minimum(ndimage.distance_transform_edt(~drawn), 9) for drawn in (white, black))

    def apart(layer: str, distances: np.ndarray) -> np.ndarray:
        places = np.clip(points(state, layer)[:, ::-1] * scale, 0, np.array(shown.shape) - 1)
        return ndimage.map_coordinates(distances, places.T, order=1)

    for layer in ("LUNGS", "HEART", "CLAVICLES", "ABSTAIN"):
        assert (apart(layer, to_white) <= 1.5).mean() > 0.999, layer
    assert (apart("CASING", to_black) <= 2.5).mean() > 0.95  # white lines cross it

    drawn = np.ones(shown.shape, bool)
    for layer in ("LUNGS", "HEART", "CLAVICLES", "ABSTAIN"):
        row, column = np.clip(np.rint(points(state, layer)[:, ::-1] * scale).astype(int), 0, np.array(shown.shape) - 1).T
        drawn[row, column] = False
    stray = white & (ndimage.distance_transform_edt(drawn) > 3)
    words = 0
    for annotation in state.GraphicAnnotationSequence:
        for text in annotation.get("TextObjectSequence", []):
            unit = np.array(shown.shape[::-1]) if text.BoundingBoxAnnotationUnits == "DISPLAY" else scale
            (x, y), (right, bottom) = (
                np.rint(np.array(corner) * unit).astype(int)
                for corner in (text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner)
            )
            box = slice(max(0, y - 12), bottom + 12), slice(max(0, x - 12), right + 12)
            assert (white[box] | black[box]).mean() > 0.01, "a text is not seen"
            stray[box] = False
            words += 1
    assert words == 1 + 3
    assert stray.mean() < 1e-4, "something was drawn that the state does not say"
