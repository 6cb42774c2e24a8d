"""How far a film may be changed so that another run answers again, and not only not the opposite.

A certificate says that within R the majority decision does not change. Another run on a changed film may still abstain: near R the
decision's probability is near tau. Here is the smaller radius at which a run with the same parameters certifies the decision anew with
power beta. A decision with at least p_low at u has at least Φ(Φ⁻¹(p_low) - r / sigma) at any image within r. A run certifies it if n0
draws select it, and if at least as many of n draws repeat it as Holm's first and strictest level alpha / (looks · K) asks for. The
smallest probability p* at which both happen together with probability beta gives r = sigma · (Φ⁻¹(p_low) - Φ⁻¹(p*)).

p_low is a lower bound for all decisions of the image at once (`statistics.simultaneous_lower_bounds`), so that the statement is a second
one with an alpha of its own: beside the certificate both hold with confidence 1 - 2·alpha.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betainc, ndtri

from certdicom.certification.certificate import ABSTAIN, Certificate
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import p_values, simultaneous_lower_bounds

POWER: Final = 0.9
"""beta."""

_HALVINGS: Final = 60


@dataclass(frozen=True, eq=False)
class Answer:
    """`needed`: the probability p* that a decision needs; `radii`: of every decision that was certified and has more, on the grid (L2).

    `largest`: of a decision on which all draws agreed, 0 where even that does not suffice; `share`: of the certified decisions that
    have a radius at all.
    """

    power: float
    needed: float
    largest: float
    share: float
    radii: NDArray[np.float64]


def answer_of(certificate: Certificate, *, power: float = POWER) -> Answer:
    """The radii at which a run with the same parameters answers again with probability `power`, one decision at a time."""
    parameters, draws = certificate.parameters, certificate.draws
    hypotheses = certificate.hypotheses
    needed = needed_probability(parameters, hypotheses=hypotheses, power=power)
    bounds = simultaneous_lower_bounds(certificate.counts, n=draws, alpha=parameters.look_alpha)
    certified = certificate.decisions != ABSTAIN
    radii = parameters.sigma * (ndtri(bounds[certified]) - ndtri(needed))
    largest = max(0.0, parameters.sigma * float(ndtri(certificate.unanimous_bound) - ndtri(needed)))
    answering = radii[radii > 0]
    return Answer(power, needed, largest, float(len(answering) / max(certified.sum(), 1)), answering)


def needed_probability(parameters: SmoothingParameters, *, hypotheses: int, power: float) -> float:
    """p*: with this probability or more of repeating itself, a decision is selected and certified by a run with probability `power`."""
    level = parameters.look_alpha / hypotheses
    enough = int(np.argmax(p_values(n=parameters.n, tau=parameters.tau) <= level))  # votes; require_certifiable saw that n suffices
    low, high = parameters.tau, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        reached = _at_least(enough, parameters.n, middle) * _at_least(parameters.n0 // 2 + 1, parameters.n0, middle)
        low, high = (middle, high) if reached < power else (low, middle)
    return high


def _at_least(count: int, draws: int, probability: float) -> float:
    """P[Bin(draws, probability) ≥ count]."""
    return float(betainc(count, draws - count + 1, probability))
