"""Which decisions are certified: exact binomial tests, Holm's correction, simultaneous lower bounds.

Counts are small integers, so nothing here works per pixel: one table of n + 1 entries, a histogram, a look-up.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv

from certdicom.errors import UsageError

Array = Any
"""A NumPy array or a tensor on any device."""


def p_values(*, n: int, tau: float) -> NDArray[np.float64]:
    """P[Bin(n, tau) ≥ k] for k = 0 … n, shape (n + 1,): the exact one-sided p-values of H0: p ≤ tau."""
    k = np.arange(1, n + 1)
    return np.concatenate(([1.0], betainc(k, n - k + 1, tau)))


def smallest_n(*, hypotheses: int, tau: float, alpha: float) -> int:
    """The fewest draws with which a unanimous decision can be certified among K `hypotheses`: tau^n ≤ alpha / K."""
    level = alpha / hypotheses
    n = max(1, math.ceil(math.log(level) / math.log(tau)))
    # The logarithm may be one off in either direction; the test itself decides.
    while n > 1 and tau ** (n - 1) <= level:
        n -= 1
    while tau**n > level:
        n += 1
    return n


def require_attainable(*, n: int, hypotheses: int, tau: float, alpha: float) -> None:
    """Raise UsageError when even n agreeing votes could not be certified, naming the smallest n that works."""
    needed = smallest_n(hypotheses=hypotheses, tau=tau, alpha=alpha)
    if n < needed:
        raise UsageError(
            f"n = {n} draws cannot certify any of {hypotheses} decisions at tau = {tau:g}, alpha = {alpha:g}; "
            f"the smallest n that can is {needed}"
        )


def holm_reject(counts: ArrayLike, *, n: int, tau: float, alpha: float) -> NDArray[np.bool_]:
    """Holm's step-down test of H0: p ≤ tau for every count at once, at family-wise error rate `alpha`.

    `counts`: votes out of n for the selected decision, integers of any shape; returns a bool array of that shape, True
    where H0 is rejected, that is, where the decision is certified. Valid under any dependence (Holm 1979). Equal counts
    are decided together at the level of their first rank, alpha / (K - rejected so far). UsageError for counts outside 0 … n.
    """
    votes = np.asarray(counts)
    if not np.issubdtype(votes.dtype, np.integer):
        raise UsageError(f"counts must be integers, not {votes.dtype}")
    return votes >= holm_least(histogram(votes, n=n), tau=tau, alpha=alpha)


def histogram(counts: Array, *, n: int) -> NDArray[np.int64]:
    """How many of `counts`, whole numbers in an array or a tensor, are 0, 1 … n: (n + 1,), on the host. UsageError for any other."""
    votes = counts.reshape(-1)
    if len(votes) and not 0 <= int(votes.min()) <= int(votes.max()) <= n:
        raise UsageError(f"counts must lie in 0 … n = {n}, found {int(votes.min())} … {int(votes.max())}")
    if hasattr(votes, "bincount"):  # a tensor, which is counted where it lies
        return np.asarray(votes.bincount(minlength=n + 1).cpu())
    return np.bincount(votes, minlength=n + 1)


def holm_least(histogram: NDArray[np.int64], *, tau: float, alpha: float) -> int:
    """The smallest count that Holm's test rejects, out of `n`, or n + 1 where it rejects none; `histogram` (n + 1,) of all counts."""
    n = len(histogram) - 1
    p = p_values(n=n, tau=tau)
    left, least = int(histogram.sum()), n + 1
    for count in range(n, -1, -1):
        if histogram[count] == 0:
            continue
        if p[count] > alpha / left:
            break
        left -= int(histogram[count])
        least = count
    return least


def simultaneous_lower_bounds(counts: ArrayLike, *, n: int, alpha: float) -> NDArray[np.float64]:
    """Clopper–Pearson lower bounds at alpha / K for all K counts: with confidence 1 - alpha, none exceeds its p.

    Same shape as `counts`. Unlike bounds read off a step-down test, these hold for every radius at once.
    """
    votes = np.asarray(counts)
    k = np.arange(1, n + 1)
    table = np.concatenate(([0.0], betaincinv(k, n - k + 1, alpha / max(votes.size, 1))))
    return table[votes]
