"""How a stored value becomes a display value from 0 (black) to 1 (white).

Modality LUT, then VOI LUT or window, then polarity (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2). Levels are averaged to the model grid and
windowed after, u = clip((A·x - lo) / (hi - lo)), so that a distance of the stored values is a distance on the grid. Levels are the
stored values, or what a table makes of each of them before it is averaged; the table's steepest step bounds how far it can carry a
change. All of it is float64: in float32 u would be off by a ten-thousandth of a radius.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Window
from certdicom.errors import ImageRefusedError

_STRIP_ROWS = 512


@dataclass(frozen=True, eq=False)
class LevelTable:
    """Levels (N,) float64 of the stored values `first`, `first + 1`, …

    `steepest`: the largest change of the level per stored value.
    """

    first: int
    levels: NDArray[np.float64]
    steepest: float

    def __call__(self, stored: NDArray[np.integer]) -> NDArray[np.float64]:
        return np.asarray(self.levels[np.clip(stored - self.first, 0, len(self.levels) - 1)])


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Levels:
    """From stored values to what is averaged and windowed.

    `table`: where levels are not the stored values themselves; `inverted`: the larger level is the darker; `hidden` (rows, columns):
    pixels that belong to no image (PixelPaddingValue) or lie behind the display shutter, which are black whatever they hold; `black`: the
    darkest level that any pixel can have, known from the header alone.
    """

    table: LevelTable | None = None
    inverted: bool = False
    hidden: NDArray[np.bool_] | None = None
    black: float = 0.0

    @property
    def steepest(self) -> float:
        """The largest change of the level per stored value."""
        return 1.0 if self.table is None else self.table.steepest

    def of(self, stored: NDArray[np.integer], *, black: float | None = None) -> NDArray[np.number]:
        """The levels of (…, rows, columns) stored values, hidden pixels at `black` (by default the darkest of all)."""
        if self.table is None and self.hidden is None:
            return stored
        levels = stored.astype(np.float64) if self.table is None else self.table(stored)
        if self.hidden is not None:
            levels[..., self.hidden] = self.black if black is None else black
        return levels


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rendering:
    """From stored values to [0, 1] by a window that was chosen.

    `window`: what people are told of it; `levels`: what is windowed; `shown`: the levels that are shown as 0 and 1, by default the
    window's.
    """

    window: Window
    levels: Levels = field(default_factory=Levels)
    shown: tuple[float, float] = (math.nan, math.nan)

    def __post_init__(self) -> None:
        if math.isnan(self.shown[0]):
            object.__setattr__(self, "shown", (self.window.lo, self.window.hi))
        lo, hi = self.shown
        if not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ImageRefusedError(f"a window from {lo:g} to {hi:g} shows nothing: correct WindowCenter and WindowWidth")

    def __repr__(self) -> str:
        kind = "linear" if self.levels.table is None else "by a table"
        return f"Rendering({kind}, {self.window.lo:g} to {self.window.hi:g}{', inverted' if self.levels.inverted else ''})"

    @property
    def steepest_slope(self) -> float:
        """L: the largest change of the display value per unit of the stored value."""
        lo, hi = self.shown
        return self.levels.steepest / (hi - lo)

    def before_averaging(self, stored: NDArray[np.integer]) -> NDArray[np.number]:
        """What may be averaged: (…, rows, columns) levels, hidden pixels at the level that is shown black."""
        return self.levels.of(stored, black=self.shown[1] if self.levels.inverted else self.shown[0])

    def after_averaging(self, averages: NDArray[np.float64]) -> NDArray[np.float64]:
        """Averages of levels → display values in [0, 1], same shape."""
        lo, hi = self.shown
        shown = (np.asarray(averages, np.float64) - lo) / (hi - lo)
        if self.levels.inverted:
            shown = 1.0 - shown
        return np.clip(shown, 0.0, 1.0)

    def display(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """The whole image as it is shown: (…, rows, columns) float32 in [0, 1]. In strips, since images are large."""
        shown = np.empty(stored.shape, np.float32)
        for first in range(0, stored.shape[-2], _STRIP_ROWS):
            strip = slice(first, first + _STRIP_ROWS)
            hidden = None if self.levels.hidden is None else self.levels.hidden[strip]
            part = replace(self, levels=replace(self.levels, hidden=hidden))
            shown[..., strip, :] = part.after_averaging(part.before_averaging(stored[..., strip, :]))
        return shown


@dataclass(frozen=True, eq=False, kw_only=True)
class Presentation:
    """The ways to show an image, none of which is chosen by its pixels but the reader's.

    `reader`: for people; `levels`: what a displayed or a given window is applied to; `fixed`: by the window or VOI LUT of the header, None
    where there is none that means anything; `objection`: why that shows next to nothing of this image; `rescale`: slope and
    intercept by which window values are told, of stored values.
    """

    reader: Rendering
    levels: Levels
    fixed: Rendering | None
    objection: str = ""
    rescale: tuple[float, float] = (1.0, 0.0)

    @classmethod
    def always(cls, rendering: Rendering) -> Presentation:
        """One rendering for everything, as photographs and data sets have it."""
        return cls(reader=rendering, levels=rendering.levels, fixed=rendering)

    def windowed(self, lo: float, hi: float, *, source: str) -> Rendering:
        """By a window in modality values, as viewers tell it."""
        ends = [lo, hi]
        if self.levels.table is None:
            slope, intercept = self.rescale
            ends = sorted((end - intercept) / slope for end in ends)
        return Rendering(window=Window(ends[0], ends[1], source), levels=self.levels)
