"""What lies behind a display shutter is not shown, and changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from certdicom.errors import ImageRefusedError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.shutter import shutter_of
from certdicom.imaging.synthetic import film_bytes, synthetic_film

ROWS, COLUMNS = 96, 80
RECTANGLE = {
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 11,
    "ShutterRightVerticalEdge": 70,
    "ShutterUpperHorizontalEdge": 21,
    "ShutterLowerHorizontalEdge": 80,
}
CIRCLE = {"ShutterShape": "CIRCULAR", "CenterOfCircularShutter": [48, 40], "RadiusOfCircularShutter": 30}
POLYGON = {"ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": [10, 10, 10, 70, 90, 40]}


def film(**changes: object) -> Dataset:
    dataset, _ = synthetic_film(rows=ROWS, columns=COLUMNS)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def hidden(**changes: object) -> np.ndarray:
    mask, _ = shutter_of(film(**changes), rows=ROWS, columns=COLUMNS)
    assert mask is not None
    return mask


def test_a_rectangle_shows_its_edges_and_what_is_between() -> None:
    wanted = np.ones((ROWS, COLUMNS), bool)
    wanted[20:80, 10:70] = False
    np.testing.assert_array_equal(hidden(**RECTANGLE), wanted)


def test_a_circle_and_a_polygon() -> None:
    shown = ~hidden(**CIRCLE)
    assert shown.sum() == pytest.approx(np.pi * 30**2, rel=0.01)
    assert shown[47, 39], "its centre, counted from 1"
    assert shown[47, 9], "its edge"
    assert not shown[47, 8]
    triangle = ~hidden(**POLYGON)
    assert triangle.sum() == pytest.approx(60 * 80 / 2, rel=0.03)
    assert triangle[20, 39]
    assert not triangle[85, 20]
    assert not triangle[5, 39]


def test_several_shapes_show_what_all_of_them_show() -> None:
    both = hidden(**{**CIRCLE, **RECTANGLE, "ShutterShape": ["RECTANGULAR", "CIRCULAR"]})
    np.testing.assert_array_equal(both, hidden(**RECTANGLE) | hidden(**CIRCLE))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("windowed", [True, False])
def test_behind_the_shutter_it_is_black_and_a_change_there_changes_nothing(photometric: str, windowed: bool) -> None:
    dataset = film(**RECTANGLE, PhotometricInterpretation=photometric)
    if not windowed:
        del dataset.WindowCenter, dataset.WindowWidth
    before = read_radiograph(film_bytes(dataset))
    assert any("lie behind the display shutter and were held black" in note for note in before.notes)
    mask = hidden(**RECTANGLE)
    assert (before.display()[mask] == 0).all()
    assert before.display()[~mask].max() > 0.5
    pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(ROWS, COLUMNS).copy()
    pixels[mask] = 4095 - pixels[mask]
    dataset.PixelData = pixels.tobytes()
    after = read_radiograph(film_bytes(dataset))
    np.testing.assert_array_equal(to_grid(before, 32).u, to_grid(after, 32).u)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ShutterShape": "BITMAP"}, "is not RECTANGULAR, CIRCULAR or POLYGONAL"),
        ({"ShutterShape": "RECTANGULAR"}, "its attributes make no rectangular shape"),
        ({**RECTANGLE, "ShutterLeftVerticalEdge": 90}, "its attributes make no rectangular shape"),
        ({**CIRCLE, "RadiusOfCircularShutter": 0}, "its attributes make no circular shape"),
        ({**POLYGON, "VerticesOfThePolygonalShutter": [1, 2, 3]}, "its attributes make no polygonal shape"),
    ],
)
def test_a_shutter_that_means_nothing_is_not_used_and_told(changes: dict, reason: str) -> None:
    image = read_radiograph(film_bytes(film(**changes)))
    assert any(note.startswith("the display shutter was not used: ") and reason in note for note in image.notes)
    np.testing.assert_array_equal(to_grid(image, 32).u, to_grid(read_radiograph(film_bytes(film())), 32).u)


def test_a_shutter_around_the_whole_film_is_nothing_to_speak_of() -> None:
    whole = {
        **RECTANGLE,
        "ShutterLeftVerticalEdge": 1,
        "ShutterRightVerticalEdge": COLUMNS,
        "ShutterUpperHorizontalEdge": 1,
        "ShutterLowerHorizontalEdge": ROWS,
    }
    assert shutter_of(film(**whole), rows=ROWS, columns=COLUMNS) == (None, ())


def test_a_shutter_that_hides_everything_is_refused() -> None:
    with pytest.raises(ImageRefusedError, match="hides the whole image"):
        read_radiograph(film_bytes(film(**{**CIRCLE, "CenterOfCircularShutter": [500, 500]})))
