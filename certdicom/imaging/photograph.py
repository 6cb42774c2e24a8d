"""A colour photograph as certdicom sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Medium
from certdicom.imaging.image import SourceImage


@dataclass(frozen=True, eq=False)
class Photograph(SourceImage):
    """One colour photograph: of the skin, of what an endoscope sees, or captured from elsewhere.

    `stored_values` (3, rows, columns) uint8 or uint16: red, green and blue after decompression, conversion from YBR and the
    palette. Its rendering shows the full range of its bits, the same for all three and for every photograph.
    """

    stored_values: NDArray[np.unsignedinteger]

    medium: ClassVar[Medium] = "photograph"
    native_unit: ClassVar[str] = "RGB values"
