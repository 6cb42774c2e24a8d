"""How a stored value becomes a display value from 0 (black) to 1 (white).

Modality LUT, then VOI LUT or window, then polarity (PS3.3 C.11.1, C.11.2, C.7.6.3.1.2). Where all three are
linear, the film is averaged first and windowed after, u = clip((A·x - lo) / (hi - lo)), so that a distance of
the stored values is a distance on the grid. Any other rendering is a table over all values that the pixels
can take; it is applied to each pixel before averaging, and its steepest step bounds how far it can carry a change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Window
from certdicom.errors import ImageRefusedError


@dataclass(frozen=True, eq=False)
class DisplayTable:
    """Display values (N,) float32 of the stored values `first`, `first + 1`, …, polarity included.

    `steepest_slope`: the largest change of the display value per stored value.
    """

    first: int
    display: NDArray[np.float32]
    steepest_slope: float


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Rendering:
    """From stored values to [0, 1].

    `window`: the stored values shown as the two ends, and where they were found; `inverted`: the larger
    stored value is the darker; `table`: the display value of every stored value, where the rendering is not linear;
    `padding` (rows, columns): pixels that belong to no image (PixelPaddingValue) or lie behind the display shutter, shown black whatever
    they hold.
    """

    window: Window
    inverted: bool = False
    table: DisplayTable | None = None
    padding: NDArray[np.bool_] | None = None

    def __repr__(self) -> str:
        kind = "linear" if self.is_linear else "by a table"
        return f"Rendering({kind}, {self.window.lo:g} to {self.window.hi:g}{', inverted' if self.inverted else ''})"

    def __post_init__(self) -> None:
        lo, hi = self.window.lo, self.window.hi
        if self.table is None and not (math.isfinite(lo) and math.isfinite(hi) and lo < hi):
            raise ImageRefusedError(f"a window from {lo:g} to {hi:g} shows nothing: correct WindowCenter and WindowWidth")

    @property
    def is_linear(self) -> bool:
        """Whether the film may be averaged before it is windowed."""
        return self.table is None

    @property
    def steepest_slope(self) -> float:
        """L: the largest change of the display value per unit of the stored value."""
        if self.table is not None:
            return self.table.steepest_slope
        return 1.0 / (self.window.hi - self.window.lo)

    @property
    def _origin(self) -> int:
        # Subtracted before averaging, so that float32 keeps its digits for narrow windows far from zero.
        return math.floor(self.window.lo)

    def before_averaging(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """What may be averaged: (…, rows, columns) float32, stored values above a constant or, for a table, display values."""
        if self.table is not None:
            index = np.clip(stored - self.table.first, 0, len(self.table.display) - 1)
            ready = np.asarray(self.table.display[index])
            black = 0.0
        else:
            ready = np.subtract(stored, self._origin, dtype=np.float32, casting="unsafe")
            black = (self.window.hi if self.inverted else self.window.lo) - self._origin
        if self.padding is not None:
            ready[..., self.padding] = black
        return ready

    def after_averaging(self, averages: NDArray[np.float32]) -> NDArray[np.float32]:
        """Averages of what `before_averaging` gave → display values in [0, 1], float32, same shape."""
        if self.table is not None:
            return np.asarray(np.clip(averages, 0.0, 1.0), dtype=np.float32)
        lo, hi = self.window.lo, self.window.hi
        shown = (averages - np.float32(lo - self._origin)) * np.float32(1.0 / (hi - lo))
        if self.inverted:
            shown = np.float32(1.0) - shown
        return np.asarray(np.clip(shown, 0.0, 1.0), dtype=np.float32)

    def display(self, stored: NDArray[np.integer]) -> NDArray[np.float32]:
        """The whole image as it is shown: (…, rows, columns) float32 in [0, 1]."""
        return self.after_averaging(self.before_averaging(stored))
