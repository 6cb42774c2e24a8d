"""What a certificate is asked for: noise, confidence and number of draws."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist

from certdicom.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class SmoothingParameters:
    """Parameters of randomized smoothing for segmentation (Fischer et al. 2021, SegCertify; Laousy et al. 2023).

    `sigma`: standard deviation of the noise on the model grid, whose values span [0, 1]; `tau`: the share of
    draws that a certified decision must exceed, in [0.5, 1); `n0`: draws that select a decision; `n`: fresh draws that
    test it; `alpha`: probability of any wrong certificate in the image, over the random draws.
    Raises UsageError for a value outside its range.
    """

    sigma: float = 0.25
    tau: float = 0.75
    n0: int = 10
    n: int = 100
    alpha: float = 1e-3

    def __post_init__(self) -> None:
        checks = (
            ("sigma", math.isfinite(self.sigma) and self.sigma > 0, "a positive number"),
            ("tau", 0.5 <= self.tau < 1, "at least 0.5 and below 1"),
            ("n0", isinstance(self.n0, int) and self.n0 >= 1, "a whole number of at least 1"),
            ("n", isinstance(self.n, int) and self.n >= 1, "a whole number of at least 1"),
            ("alpha", 0 < self.alpha < 1, "between 0 and 1"),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    @property
    def radius(self) -> float:
        """R = sigma · Φ⁻¹(tau), the certified L2 radius on the model grid (Fischer et al. 2021, Theorem 5.1)."""
        return self.sigma * NormalDist().inv_cdf(self.tau)

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)
