"""The part of an image that is certified, where that is not all of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from certdicom.errors import ImageRefusedError, UsageError

LEAST_SIDE = 64
"""Rows and columns below which no part of a film shows a chest."""

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Crop:
    """A rectangle of stored pixels: `top` row and `left` column counted from 0, and how many rows and columns. UsageError for none."""

    top: int
    left: int
    rows: int
    columns: int

    def __post_init__(self) -> None:
        if min(self.top, self.left) < 0 or min(self.rows, self.columns) < LEAST_SIDE:
            raise UsageError(
                f"a crop is TOP LEFT ROWS COLUMNS in stored pixels, of at least {LEAST_SIDE} rows and columns, not {self.told}"
            )

    @classmethod
    def read(cls, text: str) -> Crop:
        """What people write: "TOP LEFT ROWS COLUMNS". UsageError for anything else."""
        try:
            top, left, rows, columns = map(int, text.replace(",", " ").split())
        except ValueError as error:
            raise UsageError(f"a crop is four whole numbers, TOP LEFT ROWS COLUMNS, not {text!r}") from error
        return cls(top, left, rows, columns)

    @property
    def told(self) -> str:
        return f"{self.top} {self.left} {self.rows} {self.columns}"

    def require_inside(self, rows: int, columns: int) -> None:
        """ImageRefusedError for an image that the crop reaches beyond."""
        if self.top + self.rows > rows or self.left + self.columns > columns:
            raise ImageRefusedError(
                f"the crop {self.told} (top, left, rows, columns) reaches beyond the image of {rows} x {columns} pixels"
            )

    def of(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """What of (…, rows, columns) lies inside; a view."""
        return array[..., self.top : self.top + self.rows, self.left : self.left + self.columns]

    def around(self, part: NDArray[Scalar], *, rows: int, columns: int, outside: int) -> NDArray[Scalar]:
        """(…, rows, columns) of `part` inside and the value `outside` elsewhere."""
        whole = np.full((*part.shape[:-2], rows, columns), outside, part.dtype)
        self.of(whole)[...] = part
        return whole
