"""The certified radius at every pixel, which the map holds and the picture shows.

R_i = σ·Φ⁻¹(p_low,i) with Clopper-Pearson lower bounds p_low,i at α / K for all K decisions at once: with confidence 1 - α
no radius of the map is too large. That is a statement of its own beside the certificate, which spends another α: both hold
together with confidence 1 - 2α. After a test with several looks, of which the draws themselves chose the last, the bounds are
taken at α / (K · looks). K is here the number of structures' decisions: unions have no radius. A radius of 0 says that not even the
majority is sure.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from certdicom.certification.certificate import Certificate
from certdicom.certification.statistics import simultaneous_lower_bounds
from certdicom.imaging.grid import spread_on


def radii_on_image(certificate: Certificate, *, rows: int, columns: int) -> NDArray[np.float32]:
    """(rows, columns) `joint_radii` brought to the image's own pixels; 0 outside the analysed part."""
    return spread_on(certificate, joint_radii(certificate).astype(np.float32, copy=False), rows=rows, columns=columns, outside=0)


def joint_radii(certificate: Certificate) -> NDArray[np.float32]:
    """(H, W) the smallest certified radius over the structures, on the grid; 0 where nothing is sure, rounded down to float32."""
    parameters = certificate.parameters
    lower = simultaneous_lower_bounds(certificate.counts, n=certificate.draws, alpha=parameters.look_alpha).min(axis=0)
    exact = np.where(lower > 0.5, parameters.sigma * ndtri(np.maximum(lower, 0.5)), 0.0)
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(0)), rounded)


def largest_radius(certificate: Certificate) -> float:
    """What a unanimous vote of all draws is worth: no radius of the map can be larger."""
    unanimous = certificate.unanimous_bound
    return certificate.parameters.sigma * float(ndtri(unanimous)) if unanimous > 0.5 else 0.0
