"""A radiograph as certdicom sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Medium
from certdicom.imaging.image import SourceImage


@dataclass(frozen=True, eq=False)
class Radiograph(SourceImage):
    """One frontal radiograph.

    `stored_values` (rows, columns) int32: pixel values after decompression, sign-extended and without unused or overlay bits.
    """

    stored_values: NDArray[np.int32]

    medium: ClassVar[Medium] = "film"
    native_unit: ClassVar[str] = "stored values"
