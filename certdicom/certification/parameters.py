"""What a certificate is asked for: noise, confidence, number of draws, and how the hypotheses are tested."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import NormalDist

from certdicom.errors import UsageError

_ALWAYS_NAMED = ("sigma", "tau", "n0", "n", "alpha")


@dataclass(frozen=True, kw_only=True)
class SmoothingParameters:
    """Parameters of randomized smoothing for segmentation (Fischer et al. 2021, SegCertify; Laousy et al. 2023).

    `sigma`: standard deviation of the noise on the model grid, whose values span [0, 1]; `tau`: the share of
    draws that a certified decision must exceed, in [0.5, 1); `n0`: draws that select a decision; `n`: fresh draws that
    test it; `alpha`: probability of any wrong certificate in the image, over the random draws.

    `looks`: numbers of draws at which the hypotheses are tested, rising, the last one `n`; empty for one test at n. Each look
    spends an equal part of alpha. `abstain_target`: stop at a look after which at most this share of the grid's pixels abstains.
    `unions`: tuples of structure indices; each adds, at every pixel, the hypothesis "any of these is present" to the family.

    Raises UsageError for a value outside its range.
    """

    sigma: float = 0.25
    tau: float = 0.75
    n0: int = 10
    n: int = 100
    alpha: float = 1e-3
    looks: tuple[int, ...] = ()
    abstain_target: float = 0.0
    unions: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        looks = self.planned_looks
        checks = (
            ("sigma", math.isfinite(self.sigma) and self.sigma > 0, "a positive number"),
            ("tau", 0.5 <= self.tau < 1, "at least 0.5 and below 1"),
            ("n0", _is_count(self.n0), "a whole number of at least 1"),
            ("n", _is_count(self.n), "a whole number of at least 1"),
            ("alpha", 0 < self.alpha < 1, "between 0 and 1"),
            ("looks", all(map(_is_count, looks)) and list(looks) == sorted(set(looks)), "rising whole numbers of at least 1"),
            ("looks", looks[-1] == self.n, f"a list whose last entry is n = {self.n}"),
            ("abstain_target", 0 <= self.abstain_target < 1, "at least 0 and below 1"),
            ("abstain_target", self.abstain_target == 0 or len(looks) > 1, "0 where there is one look, at which it cannot stop earlier"),
            ("unions", all(map(_is_union, self.unions)) and len({*map(frozenset, self.unions)}) == len(self.unions), _UNIONS),
        )
        for name, holds, wanted in checks:
            if not holds:
                raise UsageError(f"{name} must be {wanted}, not {getattr(self, name)!r}")

    @property
    def radius(self) -> float:
        """R = sigma · Φ⁻¹(tau), the certified L2 radius on the model grid (Fischer et al. 2021, Theorem 5.1)."""
        return self.sigma * NormalDist().inv_cdf(self.tau)

    @property
    def largest_radius(self) -> float:
        """No decision of n draws can be certified at a larger radius: the lower bound of p is at most alpha^(1/n), all n agreeing."""
        return max(self.radius, self.sigma * NormalDist().inv_cdf(self.alpha ** (1 / self.n)))

    @property
    def planned_looks(self) -> tuple[int, ...]:
        """Numbers of draws at which the hypotheses are tested, fixed before the first draw; the last one is n."""
        return self.looks or (self.n,)

    @property
    def look_alpha(self) -> float:
        """What each look may spend: alpha over the number of planned looks, whether or not all of them are reached."""
        return self.alpha / len(self.planned_looks)

    def as_dict(self) -> dict[str, object]:
        """Names and values; what goes beyond one Holm test at n is there only where it was asked for.

        Seeds and identities are made from this, so that a parameter that changes nothing must not appear.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if len(self.planned_looks) == 1:
            del values["looks"]
        neutral = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in values.items() if name in _ALWAYS_NAMED or value != neutral[name]}


_UNIONS = "different groups of at least two different structure indices each"


def _is_count(value: object) -> bool:
    return isinstance(value, int) and value >= 1


def _is_union(members: tuple[int, ...]) -> bool:
    return len(members) >= 2 and len(set(members)) == len(members) and all(isinstance(index, int) and index >= 0 for index in members)
