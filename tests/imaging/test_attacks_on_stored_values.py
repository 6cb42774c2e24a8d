"""A real film's stored values, changed in whole numbers inside its native radius, against the displayed window: by the gradient through
averaging and window. u never moves further than R, and the best attack comes near."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from pydicom.dataset import Dataset

from certdicom.certification.window import WindowRule
from certdicom.errors import ImageRefusedError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.resampling import box_matrix
from certdicom.research.attack import through_window

RADIUS, GRID, HIGHEST = 0.1686, 128, 32767
DISPLAYED = WindowRule("displayed")


def as_it_is(stored: np.ndarray) -> None:
    del stored


def black_shutter(stored: np.ndarray) -> None:
    """As the audit painted it; the film is MONOCHROME1, so that black is the largest value."""
    stored[:, :150] = stored[:60] = HIGHEST


def white_border(stored: np.ndarray) -> None:
    stored[-55:] = stored[:, -50:] = 0


def marker(stored: np.ndarray) -> None:
    stored[100:220, 1500:1700] = 0


@pytest.fixture(scope="module")
def film(real_film) -> Radiograph:
    return read_radiograph(real_film)


@pytest.fixture(scope="module")
def real_film():
    from pydicom.data import get_testdata_file

    path = get_testdata_file("RG1_UNCR.dcm", download=False)
    if path is None:
        pytest.skip("pydicom-data is not installed")
    return path


@pytest.mark.parametrize("paint", [as_it_is, black_shutter, white_border, marker], ids=lambda paint: paint.__name__)
def test_no_whole_numbers_inside_the_radius_move_u_beyond_r_and_the_best_come_near(film, paint: Callable[[np.ndarray], None]) -> None:
    stored = film.stored_values.copy()
    paint(stored)
    presentation, left, right = film.presentation, box_matrix(film.rows, GRID), box_matrix(film.columns, GRID)

    def shown(values: np.ndarray):
        return to_grid(Radiograph(Dataset(), values, presentation, ""), GRID, DISPLAYED)

    before = shown(stored)
    u, native = before.u[0], before.native_radius(RADIUS)
    sign = -1.0 if presentation.levels.inverted else 1.0
    draw, best = np.random.default_rng(0), 0.0
    starts = [draw.normal(size=u.shape), np.where((u < 0.03) | (u > 0.97), np.sign(u - 0.5), 0.0), u - u.mean()]
    for direction in starts:
        change = np.zeros(stored.shape)
        for _ in range(12):
            spread = sign * (left.T @ direction @ right)
            change += native * spread / max(np.linalg.norm(spread), 1e-30)
            change *= native / np.linalg.norm(change)
            attacked = np.clip(stored + np.trunc(change), 0, HIGHEST).astype(np.int32)
            assert np.linalg.norm((attacked - stored).astype(float)) <= native
            try:
                moved = shown(attacked).u[0]
            except ImageRefusedError:
                break
            distance = float(np.linalg.norm(moved - u))
            assert distance <= RADIUS
            best = max(best, distance / RADIUS)
            direction = through_window(moved - u, moved, displayed=True)  # noqa: PLW2901  # ascent
    assert best > 0.9, f"the bound is tight: {best:.4f}"
