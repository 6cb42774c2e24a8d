"""The displayed window: it has its moments, it is where the potential is least, and no change moves u further than the theorem allows."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from scipy.optimize import minimize

from certdicom.certification.window import Moments, WindowRule
from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.displayed import _spread_floor, displayed_window, level_radius, require_moments
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.monai_transforms import image_to_grid
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.rendering import Levels, Presentation
from certdicom.imaging.resampling import operator_norm
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.research.attack import through_window

MOMENTS = Moments()
DRAW = np.random.default_rng


def shown(cells: np.ndarray, moments: Moments = MOMENTS) -> tuple[np.ndarray, float]:
    """u, checked for its moments, and the width of the window."""
    lo, hi = displayed_window(cells, moments)
    u = np.clip((cells - lo) / (hi - lo), 0, 1)
    require_moments(u, moments)
    return u, hi - lo


def random_cells(draw: np.random.Generator, count: int) -> np.ndarray:
    """A small film: smooth, in steps, with atoms at its ends, or of a few values only."""
    kind = draw.integers(5)
    cells = draw.normal(size=count) * draw.uniform(5, 3000) + draw.uniform(-1e4, 1e5)
    if kind == 1:
        cells = np.round(cells / 50) * 50
    if kind == 2:
        cells[: count // 5] = cells.min()
    if kind == 3:
        cells = np.clip(cells, *np.percentile(cells, (15, 90)))
    if kind == 4:
        cells = draw.choice(draw.normal(size=4) * 100, count)
    return cells


@pytest.mark.parametrize("seed", range(40))
def test_it_has_its_moments_whatever_the_film_and_its_constants(seed: int) -> None:
    draw = DRAW(seed)
    mean = draw.uniform(0.25, 0.75)
    moments = Moments(mean, draw.uniform(0.3, 0.7) * np.sqrt(mean * (1 - mean)))
    try:
        u, width = shown(random_cells(draw, int(draw.integers(30, 3000))), moments)
    except ImageRefusedError:
        return
    assert abs(u.mean() - moments.mean) <= 1e-12
    assert abs((u * u).mean() - moments.square) <= 1e-12
    assert width > 0


def test_few_films_are_refused() -> None:
    refused = 0
    for seed in range(60):
        try:
            shown(DRAW(seed).normal(size=500) * 300)
        except ImageRefusedError:
            refused += 1
    assert refused == 0


@pytest.mark.parametrize("seed", range(12))
def test_it_is_where_the_potential_is_least(seed: int) -> None:
    """F = Σ [W Φ((y - lo) / W) - μ (y - lo) + (μ² + s²) W / 2], Φ' = clip(·, 0, 1), found without the two conditions."""
    cells = random_cells(DRAW(seed), 200)
    scale = cells.std()
    cells = (cells - cells.mean()) / scale

    def potential(at: np.ndarray) -> float:
        lo, width = at[0], np.exp(at[1])
        t = (cells - lo) / width
        phi = np.where(t <= 0, 0, np.where(t < 1, t * t / 2, t - 0.5))
        return float((width * phi - MOMENTS.mean * (cells - lo) + MOMENTS.square * width / 2).sum())

    lo, hi = displayed_window(cells, MOMENTS)
    found = potential(np.array([lo, np.log(hi - lo)]))
    best = min(minimize(potential, [lo + dl, np.log(hi - lo) + dw], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}).fun
               for dl, dw in ((0.3, 0.3), (-0.3, -0.2), (0.0, 0.5)))  # fmt: skip
    assert found <= best + 1e-7 * abs(best)


@pytest.mark.parametrize(
    "cells",
    [np.zeros(100), np.r_[np.zeros(95), np.ones(5)], np.r_[np.zeros(10), np.ones(90)], np.full(50, 65535.0)],
    ids=["constant", "nearly black", "nearly white", "white"],
)
def test_where_no_window_exists_the_film_is_refused(cells: np.ndarray) -> None:
    with pytest.raises(ImageRefusedError):
        shown(cells)


def test_a_window_of_no_picture_is_refused() -> None:
    assert shown(np.r_[DRAW(0).normal(size=2000), np.full(10, 4.0)])[1] > 0
    mostly_black = np.r_[DRAW(0).normal(size=600) * 0.1 + 1, np.zeros(4000)]
    with pytest.raises(ImageRefusedError, match=r"times as wide as the image's 1st to 99th percentile|no window shows"):
        shown(mostly_black)


@pytest.mark.parametrize(("mean", "deviation"), [(0, 0.1), (1, 0.1), (0.5, 0), (0.5, 0.5), (0.5, 0.6), (0.9, 0.31)])
def test_impossible_moments_are_refused(mean: float, deviation: float) -> None:
    with pytest.raises(UsageError, match="no picture in"):
        Moments(mean, deviation)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_the_theorem_holds_for_changes_of_any_size(seed: int) -> None:
    """‖u' - u‖ <= ‖y' - y‖ / ((W + W') / 2), for ties, atoms, films of few values and changes from tiny to larger than the film."""
    draw = DRAW(seed)
    cells = random_cells(draw, int(draw.integers(20, 400)))
    change = draw.normal(size=len(cells)) * np.ptp(cells) * 10 ** draw.uniform(-6, 0.5)
    if draw.random() < 0.5:
        change[draw.random(len(cells)) < 0.9] = 0
    moved = draw.permutation(cells) if draw.random() < 0.1 else cells + change
    try:
        (u, width), (v, other) = shown(cells), shown(moved)
    except ImageRefusedError:
        return
    allowed = np.linalg.norm(moved - cells) / ((width + other) / 2)
    assert np.linalg.norm(v - u) <= allowed * (1 + 1e-9) + 1e-10


def attack(cells: np.ndarray, radius: float, rho: float, draw: np.random.Generator) -> float:
    """The furthest that u was moved by a change of the averages of length rho: along the gradient through the window, and by chance."""
    u, _ = shown(cells)
    best = 0.0
    for start in range(4):
        direction = draw.normal(size=len(cells))
        if start == 0:  # order statistics: the cells about the ends
            direction = np.where((u < 0.02) | (u > 0.98), np.sign(u - 0.5), 0.0)
        elif start == 1:  # contrast
            direction = u - u.mean()
        for _ in range(60):
            norm = np.linalg.norm(direction)
            if norm == 0:
                break
            change = direction / norm * rho
            try:
                moved, _ = shown(cells + change)
            except ImageRefusedError:
                break
            gap = moved - u
            best = max(best, float(np.linalg.norm(gap)) / radius)
            wanted = through_window(gap, moved, displayed=True)  # d‖gap‖² / dy
            direction = change / rho + 2 * wanted / (np.linalg.norm(wanted) or 1)
    return best


@pytest.mark.parametrize("seed", range(8))
def test_attacks_inside_the_radius_never_pass_it_and_come_near(seed: int) -> None:
    draw = DRAW(seed)
    cells = draw.normal(size=4096) * 200 + 1000 if seed % 2 else np.cumsum(draw.normal(size=4096)) * 20
    u, width = shown(cells)
    for radius in (0.05, 0.1686, 0.674):
        rho = level_radius(u, width, radius)
        assert 0.9 * radius * width < rho <= radius * width
        reached = attack(cells, radius, rho, draw)
        assert reached <= 1
        assert reached > 0.9, "the bound is tight"


@pytest.mark.parametrize("seed", range(20))
def test_the_least_spread_is_below_what_any_lost_cells_leave(seed: int) -> None:
    draw = DRAW(seed)
    inside = np.sort(draw.uniform(0, 1, 60))
    bound = draw.uniform(0.05, 0.6)
    floor = _spread_floor(inside, bound)
    for _ in range(300):
        moved = inside + draw.normal(size=60) * draw.choice([0.01, 0.1, 1])
        step = moved - inside
        step *= bound / max(np.linalg.norm(step), 1e-12)
        still = (inside + step > 0) & (inside + step < 1)
        left = inside[still]
        assert ((left - left.mean()) ** 2).sum() >= floor - 1e-12


# on films


def film(**options: object) -> Radiograph:
    return read_radiograph(film_bytes(synthetic_film(modality="CR", window=None, rows=120, columns=97, **options)[0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"photometric": "MONOCHROME1"},
        {"rescale": (-2.0, 5.0)},
        {"padding": 12},
        {"padding": 12, "photometric": "MONOCHROME1"},
        {"modality_lut": True},
        {"modality_lut": True, "photometric": "MONOCHROME1", "padding": 9},
        {"bits_stored": 16, "signed": True},
    ],
    ids=str,
)
def test_a_film_without_a_window_gets_it_and_monai_gives_the_same_bit_for_bit(options: dict) -> None:
    read = film(**options)
    image = to_grid(read, 32)
    assert image.window.source.startswith("displayed")
    assert image.u.dtype == np.float64
    levels = read.presentation.levels
    np.testing.assert_array_equal(image_to_grid(levels, grid=32)(read.planes).numpy(), image.u)
    if levels.hidden is None:
        assert abs(image.u.mean() - 0.53) < 1e-12
        assert abs(image.u.std() - 0.25) < 1e-11
    lungs_dark = read.display()
    assert np.corrcoef(image.u[0].ravel(), to_grid(read, 32, WindowRule("given", _ends(read))).u[0].ravel())[0, 1] > 0.9
    assert lungs_dark.shape == (120, 97)


def _ends(read: Radiograph) -> tuple[float, float]:
    """The reader's window in modality values."""
    slope, intercept = read.presentation.rescale
    lo, hi = read.rendering.shown
    if read.presentation.levels.table is not None:
        return lo, hi
    return tuple(sorted((slope * lo + intercept, slope * hi + intercept)))  # type: ignore[return-value]


def test_the_sign_is_that_of_the_display() -> None:
    plain, inverted, falling = film(), film(photometric="MONOCHROME1"), film(rescale=(-1.0, 0.0))
    assert to_grid(plain, 32).u[0, :, :4].mean() == pytest.approx(to_grid(inverted, 32).u[0, :, :4].mean(), abs=0.05)
    assert np.corrcoef(to_grid(plain, 32).u.ravel(), to_grid(falling, 32).u.ravel())[0, 1] < 0


@pytest.mark.parametrize("options", [{}, {"photometric": "MONOCHROME1"}, {"modality_lut": True}, {"padding": 12}], ids=str)
def test_no_change_of_stored_values_inside_the_native_radius_moves_u_beyond_r(options: dict) -> None:
    read, radius = film(**options), 0.1686
    before = to_grid(read, 32)
    native = before.native_radius(radius)
    draw, moved = DRAW(0), []
    hidden = read.presentation.levels.hidden
    for kind in range(12):
        direction = draw.normal(size=read.stored_values.shape)
        if kind < 6:  # blocks, which averaging keeps
            direction = np.kron(draw.normal(size=(31, 31)), np.ones((4, 4)))[: read.rows, : read.columns]
        if hidden is not None:
            direction[hidden] = 0
        change = np.trunc(direction * native / np.linalg.norm(direction)).astype(np.int32)
        stored = np.clip(read.stored_values + change, 0, 4095)
        if hidden is not None:
            stored[~hidden & (stored == 0)] = 1  # the same pixels are padding
        assert np.linalg.norm((stored - read.stored_values).astype(float)) <= native
        after = to_grid(Radiograph(Dataset(), stored, read.presentation, ""), 32)
        moved.append(float(np.linalg.norm(after.u - before.u)))
    assert max(moved) <= radius
    if not options.get("modality_lut"):
        assert max(moved) > 0.25 * radius


def test_the_scale_is_almost_that_of_a_fixed_window_as_wide() -> None:
    read = read_radiograph(film_bytes(synthetic_film(modality="CR", window=None, rows=512, columns=512)[0]))
    image = to_grid(read, 256)
    fixed = to_grid(read, 256, WindowRule("given", (image.window.lo, image.window.hi)))
    np.testing.assert_allclose(fixed.u, image.u, atol=1e-12)
    for radius in (0.05, 0.1686, 0.674):
        assert 0.97 < image.native_radius(radius) / fixed.native_radius(radius) < 1
    assert fixed.native_radius(1.0) == pytest.approx((image.window.hi - image.window.lo) / operator_norm(512, 512, 256))


def test_cells_that_show_nothing_have_no_part_in_the_moments() -> None:
    stored = DRAW(0).integers(500, 3500, (128, 128)).astype(np.int32)
    hidden = np.zeros((128, 128), bool)
    hidden[:, :32] = True
    presentation = Presentation(levels=Levels(hidden=hidden), fixed=None)
    image = to_grid(Radiograph(Dataset(), stored, presentation, ""), 32)
    assert (image.u[0, :, :8] == 0).all()
    assert abs(image.u[0, :, 8:].mean() - 0.53) < 1e-12
    alone = to_grid(Radiograph(Dataset(), stored[:, 32:], Presentation(levels=Levels(), fixed=None), ""), (32, 24))
    np.testing.assert_allclose(image.u[0, :, 8:], alone.u[0], atol=1e-12)
    changed = stored.copy()
    changed[:, :32] = 4095
    np.testing.assert_array_equal(to_grid(Radiograph(Dataset(), changed, presentation, ""), 32).u, image.u)
