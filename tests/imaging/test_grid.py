"""The way to the model grid and back is exact, and no change of the film moves the grid further than it claims."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data.meta_tensor import MetaTensor

from certdicom.certification.certificate import Window
from certdicom.errors import UsageError
from certdicom.imaging.grid import operator_norm, to_film, to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.monai_transforms import SquashToGrid, image_to_grid
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.rendering import Presentation, Rendering
from certdicom.imaging.resampling import box_average, box_matrix, cells
from certdicom.imaging.synthetic import film_bytes, synthetic_film

SIZES = [(64, 64, 16), (120, 96, 32), (97, 131, 32), (33, 20, 32), (65, 64, 64), (50, 200, 7), (31, 31, 31), (10, 12, 1)]
sizes = st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40))


def averages_by_hand(size: int, grid: int) -> list[list[Fraction]]:
    """Overlap of sample j, [j, j + 1), with the interval [i size / grid, (i + 1) size / grid), as exact fractions."""
    rows = []
    for i in range(grid):
        lower, upper = Fraction(i * size, grid), Fraction((i + 1) * size, grid)
        rows.append([max(Fraction(0), min(upper, j + 1) - max(lower, j)) / (upper - lower) for j in range(size)])
    return rows


@given(st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_each_cell_averages_exactly_its_interval(size, grid):
    expected = np.array([[float(weight) for weight in row] for row in averages_by_hand(size, grid)])
    np.testing.assert_allclose(box_matrix(size, grid), expected, rtol=1e-14)


def test_a_whole_factor_is_the_block_mean():
    image = np.random.default_rng(0).random((96, 64)).astype(np.float32)
    np.testing.assert_allclose(box_average(image, 32), image.reshape(32, 3, 32, 2).mean(axis=(1, 3), dtype=np.float64), rtol=1e-14)


@pytest.mark.parametrize(("rows", "columns", "grid"), [(64, 64, 16), (33, 20, 32), (31, 31, 31), (50, 200, 7), (10, 12, 1), (61, 83, 16)])
def test_the_norm_is_that_of_the_whole_operator(rows, columns, grid):
    whole = np.kron(box_matrix(rows, grid), box_matrix(columns, grid))
    assert operator_norm(rows, columns, grid) == pytest.approx(np.linalg.norm(whole, 2), rel=1e-12)


@pytest.mark.parametrize("factor", [1, 2, 3, 8])
def test_the_norm_of_a_block_mean_is_one_over_the_factor(factor):
    assert operator_norm(32 * factor, 32 * factor, 32) == pytest.approx(1 / factor, rel=1e-15)


@pytest.mark.parametrize(("rows", "columns", "grid"), [(2048, 2500, 256), (1955, 1841, 256), (300, 200, 256)])
def test_power_iteration_reaches_the_norm_and_never_passes_it(rows, columns, grid):
    left, right = box_matrix(rows, grid), box_matrix(columns, grid)
    norm = operator_norm(rows, columns, grid)
    draw = np.random.default_rng(0)
    for direction in (draw.normal(size=(rows, columns)), draw.random((rows, columns)), np.ones((rows, columns))):
        assert np.linalg.norm(left @ direction @ right.T) <= norm * np.linalg.norm(direction) * (1 + 1e-12)
    direction = np.outer(power_iteration(left), power_iteration(right))
    reached = np.linalg.norm(left @ direction @ right.T) / np.linalg.norm(direction)
    assert norm * (1 - 1e-6) <= reached <= norm * (1 + 1e-12)


def power_iteration(matrix: np.ndarray) -> np.ndarray:
    """The input direction that the matrix carries furthest, by repeated squaring of its Gram matrix."""
    gram = matrix @ matrix.T
    for _ in range(16):  # 65536 steps
        gram = gram @ gram
        gram /= np.linalg.norm(gram)
    return matrix.T @ (gram @ np.random.default_rng(0).random(len(matrix)))


def film_of(stored: np.ndarray, rendering: Rendering) -> Radiograph:
    from pydicom.dataset import Dataset

    return Radiograph(Dataset(), stored.astype(np.int32), Presentation.always(rendering, is_film=True), "")


def worst_direction(rows: int, columns: int, grid: int) -> np.ndarray:
    _, _, down = np.linalg.svd(box_matrix(rows, grid))
    _, _, across = np.linalg.svd(box_matrix(columns, grid))
    return np.outer(down[0], across[0])


@pytest.mark.parametrize(("rows", "columns", "grid"), [(128, 96, 32), (150, 97, 32), (90, 75, 64)])
@pytest.mark.parametrize("table", [None, "SIGMOID", "VOI LUT"])
@pytest.mark.parametrize("inverted", [False, True])
def test_no_change_of_the_stored_values_moves_the_grid_further_than_the_native_scale_allows(film, rows, columns, grid, table, inverted):
    arguments = {"window": table} if table == "SIGMOID" else {"voi_lut_bits": 12} if table else {}
    native = film(rows=rows, columns=columns, photometric="MONOCHROME1" if inverted else "MONOCHROME2", **arguments)
    read = read_radiograph(film_bytes(native))
    before = to_grid(read, grid)
    draw = np.random.default_rng(5)
    worst = 0.0
    for size in (1, 5, 300):
        for direction in (
            draw.normal(size=(rows, columns)),
            draw.choice([-1.0, 1.0], (rows, columns)),
            np.ones((rows, columns)),
            worst_direction(rows, columns, grid),
            np.abs(worst_direction(rows, columns, grid)),
        ):
            change = np.rint(size * direction / np.abs(direction).max()).astype(np.int32)
            after = to_grid(film_of(read.stored_values + change, read.rendering), grid)
            moved = float(np.linalg.norm((after.u - before.u).astype(np.float64)))
            allowed = float(np.linalg.norm(change.astype(np.float64))) / before.native_radius(1.0)
            assert moved <= allowed * (1 + 1e-12)
            worst = max(worst, moved / allowed) if allowed else worst
    assert worst > 0.3  # the attack comes near, so that a wrong scale would be found


def test_the_native_scale_is_reached_where_nothing_is_clipped():
    rows, columns, grid = 150, 97, 32
    rendering = Rendering(window=Window(-1e6, 1e6, "test"))
    direction = np.rint(3e5 * worst_direction(rows, columns, grid) / np.abs(worst_direction(rows, columns, grid)).max())
    zero = to_grid(film_of(np.zeros((rows, columns)), rendering), grid)
    moved = to_grid(film_of(direction, rendering), grid)
    distance = float(np.linalg.norm((moved.u - zero.u).astype(np.float64)))
    assert distance * zero.native_radius(1.0) == pytest.approx(float(np.linalg.norm(direction)), rel=1e-9)


def test_padding_may_hold_anything(film):
    read = read_radiograph(film_bytes(film(padding=20, photometric="MONOCHROME1")))
    before = to_grid(read, 32)
    changed = read.stored_values.copy()
    changed[read.rendering.levels.hidden] = 2000
    np.testing.assert_array_equal(to_grid(film_of(changed, read.rendering), 32).u, before.u)
    assert np.all(before.u[0, :, 0] == 0)


@pytest.mark.parametrize("grid", [32, 100, 256])
def test_the_grid_is_the_average_of_what_is_shown_where_nothing_is_clipped(film, words, grid):
    native = film(rows=130, columns=110, bits_stored=16)
    native.WindowCenter, native.WindowWidth = 32768, 65536
    read = read_radiograph(film_bytes(native))
    image = to_grid(read, grid)
    expected = box_matrix(130, grid) @ (words(native) / 65535) @ box_matrix(110, grid).T
    assert image.u.shape == (1, grid, grid)
    assert image.u.dtype == np.float64
    np.testing.assert_allclose(image.u[0], expected, atol=1e-12)
    assert image.window == read.rendering.window
    assert image.native_unit == "stored values"
    assert image.native_radius(1.0) == pytest.approx(65535 / operator_norm(130, 110, grid))


@given(sizes)
@settings(deadline=None)
def test_a_stored_pixel_takes_the_cell_that_holds_its_centre(size):
    rows, columns, grid = size
    labels = np.arange(grid * grid).reshape(grid, grid)
    film = to_film(labels, rows=rows, columns=columns)
    for row in {0, rows // 2, rows - 1}:
        for column in {0, columns // 3, columns - 1}:
            cell = (int(Fraction(2 * row + 1, 2) * grid / rows), int(Fraction(2 * column + 1, 2) * grid / columns))
            assert film[row, column] == labels[cell]


@pytest.mark.parametrize("factor", [1, 2, 7])
def test_a_whole_factor_makes_every_block_constant(factor):
    decisions = np.random.default_rng(0).integers(0, 3, (3, 16, 16), np.uint8)
    film = to_film(decisions, rows=16 * factor, columns=16 * factor)
    assert film.dtype == np.uint8
    np.testing.assert_array_equal(film, decisions.repeat(factor, axis=1).repeat(factor, axis=2))


def test_a_film_smaller_than_the_grid_keeps_one_decision_a_pixel():
    np.testing.assert_array_equal(cells(4, 12), [1, 4, 7, 10])


@pytest.mark.parametrize(("rows", "columns", "grid"), [size for size in SIZES if min(size[:2]) >= size[2]])
def test_every_decision_of_a_finer_film_comes_back_when_it_is_averaged(rows, columns, grid):
    """Where each cell holds at least one centre, the average of the inverse is nearest to the decision itself."""
    decisions = np.random.default_rng(0).integers(0, 2, (grid, grid))
    film = to_film(decisions, rows=rows, columns=columns)
    assert {int(value) for value in np.unique(cells(rows, grid))} == set(range(grid))
    centres = [[film[rows_of[0], columns_of[0]] for columns_of in _members(columns, grid)] for rows_of in _members(rows, grid)]
    np.testing.assert_array_equal(np.array(centres), decisions)


def _members(size: int, grid: int) -> list[np.ndarray]:
    return [np.flatnonzero(cells(size, grid) == cell) for cell in range(grid)]


@pytest.mark.parametrize(("rows", "columns", "grid"), SIZES)
def test_the_inverse_of_monai_is_the_same_as_to_film(rows, columns, grid):
    rendering = Rendering(window=Window(0, 4095, "test"))
    pipeline = image_to_grid(rendering, grid=grid)
    u = pipeline(np.random.default_rng(0).integers(0, 4096, (1, rows, columns)).astype(np.int32))
    assert [record["class"] for record in u.applied_operations] == ["SquashToGrid"]
    decisions = torch.from_numpy(np.random.default_rng(1).integers(0, 3, (2, grid, grid), np.uint8))
    back = pipeline.inverse(MetaTensor(decisions, applied_operations=u.applied_operations))
    assert back.applied_operations == []
    assert back.dtype == torch.uint8
    np.testing.assert_array_equal(back.as_tensor().numpy(), to_film(decisions.numpy(), rows=rows, columns=columns))


def test_what_was_not_squashed_cannot_be_inverted():
    with pytest.raises(UsageError, match="carries what was applied"):
        SquashToGrid(8).inverse(torch.zeros(1, 8, 8))


@pytest.mark.parametrize("grid", [0, -1, 4097, 2.5, True, "256", (16, 0), (16, 16, 16)])
def test_an_impossible_grid_is_named(film, grid):
    with pytest.raises(UsageError, match="model grid"):
        to_grid(film_of(np.zeros((8, 8)), Rendering(window=Window(0, 1, "test"))), grid)


@pytest.mark.parametrize(("rows", "columns", "grid"), [(97, 64, 32), (70, 130, (24, 64)), (65, 71, 68)])
def test_the_preprocessing_in_numpy_is_that_of_monai_bit_for_bit(rows, columns, grid):
    film = read_radiograph(film_bytes(synthetic_film(rows=rows, columns=columns, seed=rows)[0]), accept_any=True)
    squashed = image_to_grid(film.rendering, grid=grid)(film.planes)
    np.testing.assert_array_equal(to_grid(film, grid).u, squashed.numpy())


@pytest.mark.parametrize("shape", [(4,), (3, 0, 5)])
def test_what_is_no_map_is_named(shape):
    with pytest.raises(UsageError, match="rows and columns of the grid"):
        to_film(np.zeros(shape), rows=10, columns=10)


@pytest.mark.parametrize("module", ["", ".reading", ".describe", ".grid", ".synthetic"])
def test_importing_the_room_does_not_import_torch(module):
    code = f"import sys, certdicom.imaging{module}; print(sorted({{'torch', 'monai'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
