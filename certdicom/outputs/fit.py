"""Whether decisions are of the size of the image that they are drawn on or written for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError


def require_fit(maps: NDArray[np.uint8], certificate: Certificate, *, rows: int, columns: int) -> None:
    """UsageError unless `maps` is (structures, rows, columns) for the structures of the certificate."""
    wanted = (len(certificate.structures), rows, columns)
    if maps.shape != wanted or not maps.size:
        raise UsageError(f"decisions have the shape {maps.shape}, not {wanted} (structures, rows, columns); resample them to the image")
