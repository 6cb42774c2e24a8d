"""Which window a film gets is decided by header, request and bundle; whatever looks at pixels may refuse, and never choose.

The attacks are those by which an audit contradicted the claim inside its own radius: across each threshold that once looked at pixels.
"""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Window
from certdicom.certification.window import Moments, WindowRule
from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.grid import GridImage, to_grid
from certdicom.imaging.reading import read_image, read_radiograph
from certdicom.imaging.synthetic import film_bytes, synthetic_film

RADIUS = 0.1686
ROWS, COLUMNS, GRID = 256, 224, 64


def film(**changes: object) -> Dataset:
    options = {key: changes.pop(key) for key in ("window", "padding", "photometric", "modality_lut", "rescale") if key in changes}
    dataset, _ = synthetic_film(modality="CR", rows=ROWS, columns=COLUMNS, **options)
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    return dataset


def pixels_of(dataset: Dataset) -> np.ndarray:
    return np.frombuffer(dataset.PixelData, "<u2").reshape(ROWS, COLUMNS).astype(np.int64)


def shown(dataset: Dataset, pixels: np.ndarray, rule: WindowRule | None = None) -> GridImage:
    """Through the file, as somebody who sends the changed film would have it."""
    dataset.PixelData = pixels.astype("<u2").tobytes()
    return to_grid(read_radiograph(film_bytes(dataset)), GRID, rule)


def moved(dataset: Dataset, pixels: np.ndarray, changed: np.ndarray, rule: WindowRule | None = None) -> float:
    """By how much of R a change moves u, over the share of the native radius that it is; 0 where it is refused. At most 1 is sound."""
    before = shown(dataset, pixels, rule)
    share = np.linalg.norm((changed - pixels).astype(float)) / before.native_radius(RADIUS)
    try:
        after = shown(dataset, changed, rule)
    except ImageRefusedError:
        return 0.0
    assert after.window.source == before.window.source, "the pixels chose another rendering"
    return float(np.linalg.norm(after.u - before.u)) / RADIUS / share


@pytest.mark.parametrize("width", [8, 30, 120])
def test_a_header_window_is_never_dropped_for_another_however_little_it_shows(width: int) -> None:
    """The gate that once dropped it: 334 changed pixels moved u by 645 R."""
    dataset = film(window=None)
    pixels = pixels_of(dataset)
    dataset.WindowCenter, dataset.WindowWidth = int(np.median(pixels)), width
    inside = np.abs(pixels - np.median(pixels)) < width / 2
    changed = pixels.copy()
    changed[inside] += np.where(np.random.default_rng(0).random(inside.sum()) < 0.7, width, 0)
    windows, refusals = [], []
    for content in (pixels, changed):
        try:
            windows.append(shown(dataset, content).window)
        except ImageRefusedError as refusal:
            refusals.append(str(refusal))
    assert len(set(windows)) <= 1
    assert all(window.source == "WindowCenter/WindowWidth (LINEAR)" for window in windows)
    assert all("give a window (--window LO HI), or have one found (--window displayed)" in refusal for refusal in refusals)
    assert refusals or width == 120


@pytest.mark.parametrize("side", ["left", "top", "all"])
@pytest.mark.parametrize("border", [0, 4095])
def test_a_painted_border_cannot_be_made_part_of_the_film(side: str, border: int) -> None:
    """The audit's attack: a few pixels of a flat border changed, so that border removal would stop, moved u by 316 R."""
    dataset = film(window=None)
    pixels = pixels_of(dataset)
    pixels[:, :24] = border
    if side != "left":
        pixels[:24] = border
    if side == "all":
        pixels[:, -24:] = pixels[-24:] = border
    native = shown(dataset, pixels).native_radius(RADIUS)
    changed = pixels.copy()
    places = np.argwhere(pixels == border)[:: max(1, int((pixels == border).sum() // 300))]
    step = int(min(4000, native / np.sqrt(len(places))))
    changed[tuple(places.T)] += step if border == 0 else -step
    assert 0 < moved(dataset, pixels, changed) <= 1


@pytest.mark.parametrize("options", [{}, {"photometric": "MONOCHROME1"}, {"modality_lut": True}, {"rescale": (-0.5, 100.0)}], ids=str)
@pytest.mark.parametrize("size", [0.05, 1.0, 20.0])
def test_order_statistics_carry_nothing(options: dict, size: float) -> None:
    """The cells about the 1st and the 99th percentile, pushed outwards: no window is taken from them."""
    dataset = film(window=None, **options)
    pixels = pixels_of(dataset)
    low, high = np.percentile(pixels, (1.5, 98.5))
    direction = np.where(pixels <= low, -1.0, np.where(pixels >= high, 1.0, 0.0))
    native = shown(dataset, pixels).native_radius(RADIUS)
    change = np.rint(direction / np.linalg.norm(direction) * native * size)
    changed = np.clip(pixels + change, 0, 4095).astype(np.int64)
    if (changed != pixels).any():
        assert moved(dataset, pixels, changed) <= 1 or size > 1
    assert moved(dataset, pixels, np.clip(pixels + direction, 0, 4095).astype(np.int64)) <= 1


def test_padding_may_change_where_its_set_does_not() -> None:
    dataset = film(window=None, padding=20)
    pixels = pixels_of(dataset)
    value = int(dataset.PixelPaddingValue)
    image = read_radiograph(film_bytes(dataset))
    assert image.declares_padding
    native = to_grid(image, GRID).native_radius(RADIUS)
    inner = pixels != value
    direction = np.where(inner, np.random.default_rng(1).normal(size=pixels.shape), 0)
    changed = pixels + np.trunc(direction / np.linalg.norm(direction) * native).astype(np.int64)
    changed[inner & (changed == value)] = value + 1
    assert moved(dataset, pixels, np.clip(changed, 0, 4095)) <= 1


def test_a_film_without_a_padding_value_declares_none() -> None:
    assert not read_radiograph(film_bytes(film())).declares_padding


@pytest.mark.parametrize("seed", range(6))
def test_a_displayed_window_is_refused_or_displayed_and_nothing_else(seed: int) -> None:
    """Across the gate on its width, and to a constant film."""
    dataset, draw = film(window=None), np.random.default_rng(seed)
    pixels = pixels_of(dataset)
    for share in (0.0, 0.3, 0.6, 0.9, 0.99, 1.0):
        content = pixels.copy()
        content[draw.random(pixels.shape) < share] = draw.integers(0, 4096)
        content[: int(share * ROWS)] = 0
        try:
            image = shown(dataset, content)
        except ImageRefusedError:
            continue
        assert image.window.displayed


# what may be asked for


def test_a_given_window_is_in_modality_values_and_holds_for_every_film() -> None:
    plain, rescaled = film(window="LINEAR"), film(window="LINEAR", rescale=(0.5, -100.0))
    rule = WindowRule("given", (200.0, 1800.0))
    assert shown(plain, pixels_of(plain), rule).window == Window(200.0, 1800.0, "given with the request")
    assert shown(rescaled, pixels_of(rescaled), rule).window == Window(600.0, 3800.0, "given with the request")
    dark = pixels_of(plain) // 4
    assert shown(plain, dark, rule).window == Window(200.0, 1800.0, "given with the request")


def test_displayed_ignores_header_window_and_voi_lut_alike() -> None:
    bare, windowed = film(window=None), film(window="LINEAR")
    lut, _ = synthetic_film(modality="CR", rows=ROWS, columns=COLUMNS, voi_lut_bits=12)
    rule = WindowRule("displayed")
    found = [shown(dataset, pixels_of(dataset), rule).u for dataset in (bare, windowed, lut)]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_a_window_that_a_header_states_uselessly_gives_way_by_the_header_alone() -> None:
    dataset = film(window=None, WindowCenter=2000, WindowWidth=0)
    assert shown(dataset, pixels_of(dataset)).window.displayed


@pytest.mark.parametrize("kind", ["XC", "SC"])
def test_a_photograph_keeps_its_full_range(make_photograph, kind: str) -> None:
    image = read_image(film_bytes(make_photograph(kind)))
    for rule in (None, WindowRule("displayed")):
        assert to_grid(image, GRID, rule).window == Window(0.0, 255.0, "the full range of 8 bits")
    with pytest.raises(UsageError, match="a colour photograph is shown by the full range"):
        to_grid(image, GRID, WindowRule("given", (0.0, 100.0)))


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("0 4095", WindowRule("given", (0.0, 4095.0))),
        ("-1000,400.5", WindowRule("given", (-1000.0, 400.5))),
        ("displayed", WindowRule("displayed")),
        (" header-or-displayed ", WindowRule()),
    ],
)
def test_what_people_write(text: str, rule: WindowRule) -> None:
    assert WindowRule.read(text, Moments()) == rule


@pytest.mark.parametrize("text", ["", "400", "400 0", "1 1", "a b", "0 1 2", "percentiles", "nan 3", "-inf inf"])
def test_what_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="window"):
        WindowRule.read(text, Moments())
