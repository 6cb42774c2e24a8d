"""The radius at which another run answers again, against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom, norm

from certdicom.certification.answer import answer_of, needed_probability
from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import holm_reject, simultaneous_lower_bounds

K = 3 * 256 * 256


def test_the_figures_of_the_design() -> None:
    """None at n = 100, and at 300 and 1000 the shares of sigma that the page states, for decisions on which all draws agree."""
    found = {}
    for n in (100, 300, 1000):
        parameters = SmoothingParameters(n=n)
        p_low = (parameters.alpha / K) ** (1 / n)
        found[n] = norm.ppf(p_low) - norm.ppf(needed_probability(parameters, hypotheses=K, power=0.9))
    assert found[100] < 0
    assert found[300] == pytest.approx(0.219, abs=0.001)
    assert found[1000] == pytest.approx(1.073, abs=0.001)


@pytest.mark.parametrize("n", [100, 300, 1000])
@pytest.mark.parametrize("n0", [1, 10, 11])
def test_the_needed_probability_is_the_least_with_that_power(n: int, n0: int) -> None:
    parameters = SmoothingParameters(n=n, n0=n0)
    needed = needed_probability(parameters, hypotheses=K, power=0.9)
    enough = next(k for k in range(n + 1) if binom.sf(k - 1, n, parameters.tau) <= parameters.alpha / K)
    for p, reached in ((needed, True), (needed - 1e-4, False)):
        power = binom.sf(enough - 1, n, p) * binom.sf(n0 // 2, n0, p)
        assert (power >= 0.9 - 1e-9) == reached


@pytest.mark.parametrize("n", [300, 1000])
@pytest.mark.parametrize("looks", [False, True])
def test_a_rerun_at_that_distance_certifies_the_decision_as_often_as_promised(n: int, looks: bool, make_certificate) -> None:
    """An image whose decisions have known probabilities is certified; at the worst image at each one's radius it is certified anew."""
    draw = np.random.default_rng(n)
    parameters = SmoothingParameters(n=n, looks=(n // 2, n) if looks else ())
    truth = draw.choice([0.9, 0.97, 0.995, 0.9999], (1, 64, 64))
    counts = draw.binomial(n, truth).astype(np.int32)
    rejected = holm_reject(counts, n=n, tau=parameters.tau, alpha=parameters.look_alpha)
    decisions = np.where(rejected, 0, ABSTAIN).astype(np.uint8)
    certificate = make_certificate(decisions=decisions, counts=counts, parameters=parameters, structures=make_certificate().structures[:1])
    answer = answer_of(certificate)
    assert answer.share > 0
    assert answer.radii.max() <= answer.largest + 1e-12
    bounds = simultaneous_lower_bounds(counts, n=n, alpha=parameters.look_alpha)
    assert (bounds <= truth).all(), "with confidence 1 - alpha"
    radii = parameters.sigma * (norm.ppf(bounds) - norm.ppf(answer.needed))
    chosen = rejected & (radii > 0)
    moved = norm.cdf(norm.ppf(truth) - np.where(chosen, radii, 0) / parameters.sigma)
    assert moved[chosen].min() >= answer.needed - 1e-12
    again = np.zeros(int(chosen.sum()))
    runs = 60
    for _ in range(runs):
        selected = draw.binomial(parameters.n0, moved) > parameters.n0 // 2
        votes = draw.binomial(n, moved)
        again += (holm_reject(votes, n=n, tau=parameters.tau, alpha=parameters.look_alpha) & selected)[chosen]
    assert (again / runs).mean() >= 0.9
    worst = np.abs(moved - answer.needed) < 1e-3
    if (worst & chosen).any():
        assert (again / runs)[worst[chosen]].mean() > 0.85


def test_few_draws_have_no_such_radius(make_certificate) -> None:
    certificate = make_certificate(decisions=np.zeros((3, 256, 256), np.uint8))
    answer = answer_of(certificate)
    assert (answer.largest, answer.share, answer.radii.size) == (0.0, 0.0, 0)
    more = replace(certificate, parameters=SmoothingParameters(n=300), counts=np.full((3, 256, 256), 300, np.int32))
    assert answer_of(more).largest == pytest.approx(0.219 * 0.25, abs=0.001)
    assert answer_of(more).share == 1
