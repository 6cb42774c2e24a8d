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
from certdicom.certification.crop import Crop
from certdicom.certification.window import WindowRule
from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.percentiles import SOURCE as PERCENTILES
from certdicom.imaging.percentiles import percentile_window

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

    def cropped(self, crop: Crop) -> Levels:
        """Of a part of the image."""
        return self if self.hidden is None else replace(self, hidden=crop.of(self.hidden))

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

    def after_averaging(self, averages: NDArray[np.number]) -> NDArray[np.float64]:
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
    """The ways to show an image that its pixels do not choose.

    `levels`: what a displayed or a given window is applied to; `fixed`: by the window or VOI LUT of the header, None where there is none
    that means anything; `objection`: why that shows next to nothing of this image; `rescale`: slope and intercept by which window
    values are told, of stored values; `is_film`: whether another window than that of `fixed` makes sense.
    """

    levels: Levels
    fixed: Rendering | None
    objection: str = ""
    is_film: bool = True
    rescale: tuple[float, float] = (1.0, 0.0)

    @classmethod
    def always(cls, rendering: Rendering, *, is_film: bool) -> Presentation:
        """One rendering that no header is needed for, as photographs and pictures of data sets have it."""
        return cls(levels=rendering.levels, fixed=rendering, is_film=is_film)

    def for_readers(self, stored: NDArray[np.integer]) -> Rendering:
        """How people see the image: by its header, or else from the 1st to the 99th percentile of the (rows, columns) stored values."""
        if self.fixed is not None and not self.objection:
            return self.fixed
        values = stored if self.levels.table is None else self.levels.table(stored)
        lo, hi = percentile_window(values, padding=self.levels.hidden)
        return Rendering(window=Window(lo, hi, PERCENTILES), levels=self.levels)

    def cropped(self, crop: Crop) -> Presentation:
        """The ways to show a part of the image."""
        levels = self.levels.cropped(crop)
        fixed = None if self.fixed is None else replace(self.fixed, levels=self.fixed.levels.cropped(crop))
        return replace(self, levels=levels, fixed=fixed)

    def fixed_by(self, rule: WindowRule) -> Rendering | None:
        """The rendering that a rule fixes; None for the displayed window. ImageRefusedError for a header whose window shows nothing."""
        if not self.is_film:
            if rule.given is not None:
                raise UsageError("a colour photograph is shown by the full range of its bits: leave the window out")
            return self.fixed
        if rule.given is not None:
            return self._windowed(*rule.given)
        if rule.kind == "displayed":
            return None
        if self.fixed is not None and self.objection:
            raise ImageRefusedError(f"{self.objection}: give a window (--window LO HI), or have one found (--window displayed)")
        return self.fixed

    def _windowed(self, lo: float, hi: float) -> Rendering:
        """By a window in modality values, as viewers tell it."""
        ends = [lo, hi]
        if self.levels.table is None:
            slope, intercept = self.rescale
            ends = sorted((end - intercept) / slope for end in ends)
        return Rendering(window=Window(ends[0], ends[1], "given with the request"), levels=self.levels)
