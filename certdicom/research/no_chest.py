"""Pictures that are no upright frontal chest film, drawn or made of films that are: what the picture check has to refuse.

The drawn ones are sums of simple bodies: a body of half-thickness z at a pixel weakens the rays by z times its density, as bone and soft
tissue do. They are no anatomy; they have what a network could take for lungs, a heart and clavicles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Picture = NDArray[np.float64]
"""(H, W) in [0, 1], bone bright."""

SIDE: Final = 256


class _Canvas:
    """A square of -1 to 1 in both directions on which bodies are laid, turned and moved a little by chance."""

    def __init__(self, chance: np.random.Generator) -> None:
        y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
        angle, scale = chance.normal(0, 0.08), 1 + chance.normal(0, 0.07)
        shift_x, shift_y = chance.normal(0, 0.05, 2)
        self.x = scale * (np.cos(angle) * x - np.sin(angle) * y) + shift_x
        self.y = scale * (np.sin(angle) * x + np.cos(angle) * y) + shift_y
        self.depth = np.zeros((SIDE, SIDE))
        self._chance = chance

    def ellipse(self, x: float, y: float, half_x: float, half_y: float, density: float) -> None:
        """An ellipsoid; a density below 0 takes away, as air does."""
        inside = 1 - ((self.x - x) / half_x) ** 2 - ((self.y - y) / half_y) ** 2
        self.depth += density * np.sqrt(np.maximum(inside, 0)) * min(half_x, half_y)

    def rod(self, start: tuple[float, float], end: tuple[float, float], radius: float, density: float) -> None:
        """A round rod with round ends."""
        along = np.subtract(end, start)
        share = np.clip(((self.x - start[0]) * along[0] + (self.y - start[1]) * along[1]) / max(float(along @ along), 1e-9), 0, 1)
        distance = np.hypot(self.x - start[0] - share * along[0], self.y - start[1] - share * along[1])
        self.depth += density * np.sqrt(np.maximum(radius**2 - distance**2, 0))

    def shell(self, x: float, y: float, half_x: float, half_y: float, thickness: float, density: float) -> None:
        """A hollow ellipsoid."""
        self.ellipse(x, y, half_x, half_y, density)
        self.ellipse(x, y, half_x - thickness, half_y - thickness, -density)

    def picture(self) -> Picture:
        """The rays that were stopped, with the noise of those that came through."""
        shown = 1 - np.exp(-2.5 * np.maximum(self.depth, 0))
        shown += self._chance.normal(0, 0.015, shown.shape)
        low, high = np.percentile(shown, (0.5, 99.5))
        return np.asarray(np.clip((shown - low) / (high - low), 0, 1))


def _hand(chance: np.random.Generator) -> Picture:
    canvas = _Canvas(chance)
    canvas.ellipse(0, 0.25, 0.42, 0.4, 0.7)
    canvas.rod((0, 0.5), (0, 1.2), 0.28, 0.7)
    for number in range(5):
        base = (-0.36 + 0.17 * number, 0.05 + (0.25 if number == 0 else 0.0))
        length = (0.45, 0.75, 0.85, 0.78, 0.6)[number]
        tip = (base[0] * 1.5 - (0.25 if number == 0 else 0), base[1] - length)
        canvas.rod(base, tip, 0.085, 0.9)
        for first, last in ((-0.5, -0.05), (0.02, 0.4), (0.45, 0.7), (0.75, 0.95)):
            start, end = (tuple(np.add(base, share * np.subtract(tip, base))) for share in (first, last))
            canvas.rod(start, end, 0.035, 4.0)
    return canvas.picture()


def _leg(chance: np.random.Generator) -> Picture:
    canvas = _Canvas(chance)
    for side in (-0.45, 0.45) if chance.random() < 0.5 else (0.0,):
        canvas.rod((side, -1.3), (side, 1.3), 0.34, 0.8)
        canvas.rod((side, -1.3), (side, -0.12), 0.11, 2.5)
        canvas.rod((side, 0.06), (side - 0.04, 1.3), 0.1, 2.5)
        canvas.rod((side + 0.17, 0.12), (side + 0.15, 1.3), 0.045, 2.5)
        canvas.ellipse(side, -0.05, 0.2, 0.16, 2.2)
    return canvas.picture()


def _skull(chance: np.random.Generator) -> Picture:
    canvas = _Canvas(chance)
    canvas.ellipse(0, -0.1, 0.7, 0.85, 0.5)
    canvas.shell(0, -0.1, 0.7, 0.85, 0.05, 2.5)
    for side in (-1, 1):
        canvas.ellipse(0.27 * side, 0.1, 0.17, 0.14, -0.9)
        canvas.ellipse(0.25 * side, 0.38, 0.14, 0.12, -0.9)
        canvas.rod((0.5 * side, 0.5), (0.15 * side, 0.85), 0.07, 2.5)
    canvas.rod((-0.2, 0.62), (0.2, 0.62), 0.08, 3.0)
    canvas.rod((0, 0.75), (0, 1.3), 0.2, 1.2)
    return canvas.picture()


def _lateral_chest(chance: np.random.Generator) -> Picture:
    canvas = _Canvas(chance)
    canvas.ellipse(0, 0.1, 0.75, 1.2, 0.9)
    canvas.ellipse(0.02, -0.05, 0.5, 0.75, -0.75)
    canvas.ellipse(-0.22, 0.25, 0.24, 0.3, 0.9)
    for number in range(12):
        canvas.rod((0.5, -1 + 0.18 * number), (0.56, -0.88 + 0.18 * number), 0.09, 1.5)
        canvas.rod((0.5, -0.8 + 0.14 * number), (-0.5, -0.6 + 0.14 * number), 0.02, 1.5)
    canvas.rod((-0.62, -0.5), (-0.62, 0.4), 0.05, 1.5)
    canvas.ellipse(0, 1.0, 0.7, 0.45, 0.6)
    return canvas.picture()


def _pelvis(chance: np.random.Generator) -> Picture:
    canvas = _Canvas(chance)
    canvas.ellipse(0, 0, 1.0, 1.3, 0.7)
    for side in (-1, 1):
        canvas.shell(0.45 * side, -0.25, 0.36, 0.42, 0.12, 1.4)
        canvas.shell(0.28 * side, 0.42, 0.2, 0.2, 0.08, 1.8)
        canvas.ellipse(0.62 * side, 0.25, 0.13, 0.13, 2.0)
        canvas.rod((0.72 * side, 0.35), (0.7 * side, 1.3), 0.1, 2.0)
        canvas.ellipse(0.3 * side, -0.5, 0.12, 0.16, -0.5)
    canvas.rod((0, -1.3), (0, -0.1), 0.13, 1.8)
    return canvas.picture()


def _white_noise(chance: np.random.Generator) -> Picture:
    return chance.random((SIDE, SIDE))


def _smooth_noise(chance: np.random.Generator) -> Picture:
    smooth = ndimage.gaussian_filter(chance.normal(size=(SIDE, SIDE)), chance.uniform(4, 24), mode="wrap")
    return np.asarray((smooth - smooth.min()) / np.ptp(smooth))


def _ramp(chance: np.random.Generator) -> Picture:
    angle = chance.uniform(0, 2 * np.pi)
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return np.asarray(np.clip(0.5 + 0.4 * (np.cos(angle) * x + np.sin(angle) * y) + chance.normal(0, 0.02, x.shape), 0, 1))


def _test_pattern(chance: np.random.Generator) -> Picture:
    cells = int(chance.integers(4, 24))
    board = np.indices((cells, cells)).sum(0) % 2
    return np.asarray(np.kron(board, np.ones((SIDE // cells + 1,) * 2))[:SIDE, :SIDE], dtype=np.float64)


DRAWN: Final[Mapping[str, Callable[[np.random.Generator], Picture]]] = {
    "hand": _hand,
    "leg or knee": _leg,
    "skull": _skull,
    "lateral chest": _lateral_chest,
    "pelvis": _pelvis,
    "white noise": _white_noise,
    "smooth noise": _smooth_noise,
    "ramp": _ramp,
    "test pattern": _test_pattern,
}
"""Kind → a drawing of it, by chance."""

ALTERED: Final[Mapping[str, Callable[[Picture], Picture]]] = {
    "chest upside down": lambda film: film[::-1],
    "chest on its side": np.rot90,
    "chest, black for white": lambda film: 1 - film,
    "left half of a chest": lambda film: film[:, : film.shape[1] // 2],
    "right half of a chest": lambda film: film[:, film.shape[1] // 2 :],
    "upper third of a chest": lambda film: film[: film.shape[0] // 3],
    "lower third of a chest": lambda film: film[2 * film.shape[0] // 3 :],
    "middle quarter of a chest": lambda film: film[
        film.shape[0] // 4 : 3 * film.shape[0] // 4, film.shape[1] // 4 : 3 * film.shape[1] // 4
    ],
    "two chests side by side": lambda film: np.hstack([film, film]),
    "chest in rows out of order": lambda film: np.vstack(np.array_split(film, 8)[::-1]),
}
"""Kind → what is made of a film."""


def pictures(films: Iterable[Picture], *, each: int) -> Iterator[tuple[str, Picture]]:
    """`each` drawings of every kind, the same at every call, and every alteration of every film, with their kinds."""
    for number, (kind, draw) in enumerate(DRAWN.items()):
        for seed in range(each):
            yield kind, draw(np.random.default_rng([number, seed]))
    for film in films:
        for kind, alter in ALTERED.items():
            yield kind, np.ascontiguousarray(alter(film))
