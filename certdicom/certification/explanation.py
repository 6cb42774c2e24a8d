"""Why decisions abstain: too few draws, or truly unstable, or too close to tau to tell; from the counts alone.

A decision abstains when the test does not reject H0: p ≤ tau, p being the probability with which the base segmenter repeats
the selected decision under noise. From its count k of n draws this module says what further draws would do:

* **Too few draws.** The observed rate k / n exceeds tau. If that rate is kept, some larger n certifies the decision;
  `needed` is the smallest n' ≥ n at which Holm's test, applied to all counts of the image scaled to ⌊k·n' / n⌋, does. This is
  a forecast and no guarantee: the rate is an estimate of p.
* **Unstable.** The Clopper-Pearson upper bound of p at level alpha / K lies below tau, which is P[Bin(n, tau) ≤ k] < alpha / K.
  By the union bound over the K decisions of the image, with confidence 1 - alpha every decision that is called unstable has
  p < tau: H0 is true, and with any number of draws a certificate of it would be an error. This statement stands beside the
  certificate and spends an alpha of its own: both hold together with confidence 1 - 2·alpha.
* **Unsettled.** Neither: the rate does not exceed tau (or by next to nothing), and the bound does not lie below it. More draws would tell.

What is said is about the selected decision. Where p is far below 1 - tau the opposite decision could be certified; it was
not selected, which n0 draws make unlikely and a larger n0 more so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincc

from certdicom.certification.certificate import ABSTAIN, Certificate

CERTIFIED: Final = 0
TOO_FEW_DRAWS: Final = 1
UNSETTLED: Final = 2
UNSTABLE: Final = 3

FARTHEST: Final = 10**9
"""Draws beyond which nobody goes: a rate that exceeds tau by so little that more were needed counts as unsettled."""

_SCAN: Final = 64
"""How many values of n' are looked at together."""


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why each decision abstains, arrays of the shape of the counts.

    `reasons` uint8 of CERTIFIED, TOO_FEW_DRAWS, UNSETTLED, UNSTABLE; `needed` int64: n for what is certified, for
    TOO_FEW_DRAWS the smallest n at which the observed rates would be certified, 0 elsewhere.
    """

    reasons: NDArray[np.uint8]
    needed: NDArray[np.int64]


def explain(
    counts: ArrayLike, certified: NDArray[np.bool_], *, draws: int, tau: float, alpha: float, hypotheses: int | None = None
) -> Explanation:
    """Explain the decisions of one image.

    `counts`: votes among `draws` for the selected decisions, integers of any shape; `certified`: which of them are;
    `alpha`: what the test at `draws` might spend; `hypotheses`: K, if others (about unions) were tested with them.
    """
    votes = np.asarray(counts)
    family = max(votes.size if hypotheses is None else hypotheses, 1)
    k = np.arange(draws + 1)
    needed = _needed(np.bincount(votes.ravel(), minlength=draws + 1), family, n=draws, tau=tau, alpha=alpha)
    unstable = _at_most(k, n=draws, tau=tau) < alpha / family
    reason = np.where(needed > 0, TOO_FEW_DRAWS, np.where(unstable, UNSTABLE, UNSETTLED)).astype(np.uint8)
    return Explanation(
        np.where(certified, CERTIFIED, reason[votes]).astype(np.uint8), np.asarray(np.where(certified, draws, needed[votes]), np.int64)
    )


def explain_certificate(certificate: Certificate) -> Explanation:
    """Explain the decisions about structures; where several looks were planned, at the level of one of them."""
    parameters = certificate.parameters
    return explain(
        certificate.counts,
        certificate.decisions != ABSTAIN,
        draws=certificate.draws,
        tau=parameters.tau,
        alpha=parameters.look_alpha,
        hypotheses=certificate.hypotheses,
    )


def _at_most(k: NDArray[np.int64], *, n: int, tau: float) -> NDArray[np.float64]:
    """P[Bin(n, tau) ≤ k], elementwise; computed as a tail of its own, because 1 - P[> k] has no digits left."""
    return np.where(k >= n, 1.0, betaincc(np.minimum(k, n - 1) + 1, n - np.minimum(k, n - 1), tau))


def _needed(histogram: NDArray[np.int64], family: int, *, n: int, tau: float, alpha: float) -> NDArray[np.int64]:
    """(n + 1,) by count: the n' of the module's text where the rate exceeds tau, else 0; `histogram[k]`: how many have k votes."""
    table = np.zeros(n + 1, np.int64)
    greater = histogram[::-1].cumsum()[::-1] - histogram
    levels = alpha / np.maximum(family - greater, 1)  # 1 only below the least count, where nobody looks
    rising = np.array([k for k in np.flatnonzero(histogram) if k > n * tau], np.int64)
    first = n
    for place in range(len(rising) - 1, -1, -1):
        least = _least(int(rising[place]), float(levels[rising[place]]), n=n, tau=tau)
        if least is None:
            break
        # Holm rejects a count only together with all greater ones: their n' do not fall down the counts.
        among = rising[place:]
        first = _first_certified(among, levels[among], n=n, tau=tau, start=max(first, least))
        table[rising[place]] = first
    return table


def _least(k: int, level: float, *, n: int, tau: float) -> int | None:
    """A lower bound of n' for the count k alone: its tail without the rounding down of k·n' / n, which only raises it.

    None beyond FARTHEST.
    """

    def tail(draws: int) -> float:
        return float(betainc(k * draws / n, draws - k * draws / n + 1, tau))

    low, high = n, n
    while tail(high) > level:
        if high > FARTHEST:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if tail(middle) > level else (low, middle)
    return low


def _first_certified(among: NDArray[np.int64], levels: NDArray[np.float64], *, n: int, tau: float, start: int) -> int:
    """The smallest n' ≥ start at which every count of `among`, scaled to n', passes its level of Holm's test."""
    while True:
        draws = np.arange(start, start + _SCAN)
        scaled = among[:, np.newaxis] * draws // n
        passed = (betainc(scaled, draws - scaled + 1, tau) <= levels[:, np.newaxis]).all(axis=0)
        if passed.any():
            return int(draws[int(passed.argmax())])
        start += _SCAN
