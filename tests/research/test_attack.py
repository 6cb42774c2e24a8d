"""An attack from the stored values on: its gradients are right, it stays in the ball, and no certified decision is turned round by it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certdicom.certification.window import Moments
from certdicom.imaging.displayed import displayed_window
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import film_bytes, synthetic_film, write_film
from certdicom.models.bundle import load_bundle
from certdicom.pipeline import Certifier
from certdicom.research.attack import Attack, compare, through_window

ROOT = Path(__file__).resolve().parents[2]
PARAMETERS = {"sigma": 0.25}


@pytest.mark.parametrize("displayed", [False, True])
def test_the_slope_through_the_window_is_that_of_finite_differences(displayed: bool) -> None:
    draw = np.random.default_rng(0)
    y = draw.normal(size=(20, 20)) * 100
    target = draw.normal(size=(20, 20))
    lo, hi = displayed_window(y.ravel(), Moments())

    def shown(cells: np.ndarray) -> np.ndarray:
        ends = displayed_window(cells.ravel(), Moments()) if displayed else (lo, hi)
        return np.clip((cells - ends[0]) / (ends[1] - ends[0]), 0, 1)

    slope = through_window(target, shown(y), displayed=displayed) / (hi - lo)
    for _ in range(8):
        step = draw.normal(size=y.shape) * 1e-4
        change = (target * (shown(y + step) - shown(y - step))).sum() / 2
        assert change == pytest.approx((slope * step).sum(), rel=0.02, abs=1e-9)


@pytest.fixture(scope="module")
def certified():
    bundle = load_bundle()
    film = read_radiograph(film_bytes(synthetic_film(rows=256, columns=256, modality="CR", window=None, bits_stored=16)[0]))
    return bundle, film, Certifier(bundle, sigma=0.25).certify(film, accept_any=True)


def test_the_change_is_whole_numbers_inside_the_ball_and_aims(certified) -> None:
    bundle, film, result = certified
    attack = Attack(bundle, sigma=0.25)
    stored = attack.changed(film, result, steps=6, draws=1)
    distance = np.linalg.norm((stored - film.stored_values).astype(float))
    native = result.certificate.native_radius
    assert 0.9 * native < distance < native
    assert stored.dtype == np.int32
    further = attack.changed(film, result, steps=6, draws=1, times=4.0)
    assert np.linalg.norm((further - film.stored_values).astype(float)) > 3 * native
    same = compare(result, result)
    assert (same.flipped, same.silenced) == (0, 0)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_four_films_are_attacked_written_read_and_certified_again_and_no_decision_is_turned_round(tmp_path: Path) -> None:
    """Two with a window in their header and two without. The control shows what the attack can do: at 16 R it turns decisions round."""
    films = []
    for seed, options in enumerate([{}, {"window": None}, {"photometric": "MONOCHROME1"}, {"window": None, "rescale": (-1.0, 65535.0)}]):
        films.append(tmp_path / f"film-{seed}.dcm")
        write_film(synthetic_film(rows=1024, columns=896, bits_stored=16, modality="CR", seed=seed, **options)[0], films[-1])
    command = [sys.executable, str(ROOT / "scripts" / "attack"), *map(str, films), "--times", "1", "16", "--steps", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in done.stdout.splitlines() if re.match(r"\| film-", line)]
    inside = [row for row in rows if float(row[2]) <= 1]
    beyond = [row for row in rows if float(row[2]) > 1]
    assert len(inside) == len(beyond) == 4
    assert [int(row[3]) for row in inside] == [0] * 4
    assert sum(int(row[3]) for row in beyond) > 1000, "the attack turns decisions round where nothing is promised"
    assert {row[1] for row in rows} == {"header", "displayed"}
