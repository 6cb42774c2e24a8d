"""Why decisions abstain, against brute force and against exact binomial probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from certdicom import SmoothingParameters
from certdicom.certification.explanation import CERTIFIED, TOO_FEW_DRAWS, UNSETTLED, UNSTABLE, Explanation, explain_certificate
from certdicom.certification.explanation import explain as explain_counts
from certdicom.certification.statistics import holm_reject

FARTHEST = 300


def explain(counts: np.ndarray, parameters: SmoothingParameters) -> Explanation:
    certified = holm_reject(counts, n=parameters.n, tau=parameters.tau, alpha=parameters.alpha)
    return explain_counts(counts, certified, draws=parameters.n, tau=parameters.tau, alpha=parameters.alpha)


def by_trying(counts: np.ndarray, parameters: SmoothingParameters) -> np.ndarray:
    """The smallest n' at which Holm certifies the scaled counts, by trying them all; 0 where none up to FARTHEST does."""
    found = np.zeros(counts.shape, int)
    for draws in range(parameters.n, FARTHEST):
        rejected = holm_reject(counts * draws // parameters.n, n=draws, tau=parameters.tau, alpha=parameters.alpha)
        found[(found == 0) & rejected] = draws
    return found


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_the_needed_draws_are_the_fewest_that_certify_the_same_rates(data):
    n = data.draw(st.integers(1, 25))
    parameters = SmoothingParameters(
        n=n, tau=data.draw(st.sampled_from([0.5, 0.6, 0.75, 0.9])), alpha=data.draw(st.sampled_from([1e-3, 0.05, 0.4]))
    )
    counts = np.array(data.draw(st.lists(st.integers(0, n), min_size=1, max_size=40)))
    needed = explain(counts, parameters).needed
    rising = counts > n * parameters.tau
    expected = by_trying(counts, parameters)
    np.testing.assert_array_equal(np.where(needed < FARTHEST, needed, 0)[rising], expected[rising])
    certified = holm_reject(counts, n=n, tau=parameters.tau, alpha=parameters.alpha)
    assert (needed[~rising & ~certified] == 0).all()


@pytest.mark.parametrize(("n", "tau", "alpha"), [(100, 0.75, 1e-3), (30, 0.5, 0.05), (1000, 0.9, 1e-6)])
def test_a_decision_is_called_unstable_by_mistake_with_probability_alpha_at_most(n, tau, alpha):
    hypotheses = 5000
    counts = np.concatenate([np.arange(n + 1), np.full(hypotheses - n - 1, n)])
    reasons = explain(counts, SmoothingParameters(n=n, tau=tau, alpha=alpha)).reasons
    called = np.flatnonzero(reasons[: n + 1] == UNSTABLE)
    assert called.size
    # The worst case is p = tau at all of them: the union bound over exact probabilities.
    assert hypotheses * binom.cdf(called.max(), n, tau) <= alpha
    assert hypotheses * binom.cdf(called.max() + 1, n, tau) > alpha  # and no more careful than it must be


def test_every_decision_has_one_reason_and_reasons_follow_the_agreement():
    parameters = SmoothingParameters(n=100)
    counts = np.concatenate([np.arange(101), np.full(10_000, 100)]).reshape(1, -1)
    explanation = explain(counts, parameters)
    assert explanation.reasons.shape == explanation.needed.shape == counts.shape
    np.testing.assert_array_equal(explanation.reasons == CERTIFIED, holm_reject(counts, n=100, tau=0.75, alpha=1e-3))
    ordered = explanation.reasons.ravel()[:101].astype(int)
    assert set(ordered) == {CERTIFIED, TOO_FEW_DRAWS, UNSETTLED, UNSTABLE}
    assert (np.diff(ordered) <= 0).all()  # the more agreement, the better the reason
    assert (ordered[76:] <= TOO_FEW_DRAWS).all()
    assert (ordered[:76] >= UNSETTLED).all()


def test_more_agreement_never_needs_more_draws():
    needed = explain(np.concatenate([np.arange(76, 101), np.full(50_000, 100)]), SmoothingParameters()).needed
    assert (np.diff(needed[:25]) <= 0).all()
    assert needed[24] == 100


def test_the_forecast_comes_true_on_average():
    """At the forecast n, pixels whose rate was estimated exactly are certified about half of the time, at twice that nearly always."""
    parameters = SmoothingParameters(n=100, alpha=1e-3)
    rate, hypotheses = 0.88, 20_000
    needed = int(explain(np.concatenate([np.full(200, 88), np.full(hypotheses - 200, 100)]), parameters).needed[0])
    rng = np.random.default_rng(5)
    shares = []
    for draws in (needed, 2 * needed):
        counts = np.concatenate([rng.binomial(draws, rate, 200), np.full(hypotheses - 200, draws)])
        shares.append(holm_reject(counts, n=draws, tau=parameters.tau, alpha=parameters.alpha)[:200].mean())
    assert 0.3 < shares[0] < 0.8
    assert shares[1] > 0.95


def test_nothing_and_everything_can_be_explained():
    assert explain(np.zeros((3, 0, 0), np.int32), SmoothingParameters()).reasons.shape == (3, 0, 0)
    assert (explain(np.full((2, 4, 4), 100), SmoothingParameters()).reasons == CERTIFIED).all()
    assert (explain(np.zeros((2, 4, 4), np.int32), SmoothingParameters()).reasons == UNSTABLE).all()


def test_a_certificate_is_explained_at_the_draws_and_in_the_family_that_it_rests_on(make_certificate):
    counts = np.full((3, 16, 16), 100, np.int32)
    counts[0, :4], counts[1, 0], counts[2, 0] = 85, 70, 5
    decisions = np.where(counts == 100, 1, 2).astype(np.uint8)
    explanation = explain_certificate(make_certificate(decisions=decisions, counts=counts))
    assert (explanation.reasons[0, :4] == TOO_FEW_DRAWS).all()
    assert (explanation.reasons[1, 0] == UNSETTLED).all()
    assert (explanation.reasons[2, 0] == UNSTABLE).all()
    assert (explanation.reasons[decisions == 1] == CERTIFIED).all()
    several = SmoothingParameters(n=400, looks=(100, 400))
    stopped = make_certificate(decisions=decisions, counts=counts, parameters=several, stopped_at=100)
    assert explain_certificate(stopped).needed[0, 0, 0] > explanation.needed[0, 0, 0]  # half of alpha for each look
