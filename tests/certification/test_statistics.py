"""The statistics against independent references, over thousands of random cases."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import proportion_confint

from certdicom.certification.statistics import (
    holm_reject,
    p_values,
    require_attainable,
    simultaneous_lower_bounds,
    smallest_n,
)
from certdicom.errors import UsageError


@pytest.fixture(autouse=True)
def _cheap_collections() -> Iterator[None]:
    """multipletests collects garbage at every call; frozen objects make that cheap."""
    gc.freeze()
    yield
    gc.unfreeze()


def reference_holm(counts: np.ndarray, n: int, tau: float, alpha: float) -> np.ndarray:
    p = binom.sf(counts.ravel() - 1, n, tau)
    return multipletests(p, alpha=alpha, method="holm")[0].reshape(counts.shape)


def test_holm_decides_as_statsmodels_does() -> None:
    """4,000 random cases of all sizes, thresholds and levels, with many ties."""
    random = np.random.default_rng(0)
    some = 0
    for _ in range(4000):
        n, size = int(random.integers(1, 200)), int(random.integers(1, 200))
        tau, alpha = random.uniform(0.5, 0.97), 10 ** random.uniform(-6, -0.5)
        counts = random.binomial(n, 1 - random.uniform(0.02, 1.0) * random.random(size))
        ours = holm_reject(counts, n=n, tau=tau, alpha=alpha)
        assert np.array_equal(ours, reference_holm(counts, n, tau, alpha)), (n, tau, alpha, counts.tolist())
        some += 0 < ours.sum() < size
    assert some > 1000, "most cases must be undecided ones"


def test_holm_decides_as_statsmodels_does_on_a_whole_image() -> None:
    random = np.random.default_rng(0)
    counts = random.binomial(100, random.beta(8, 0.4, (3, 64, 64)))
    ours = holm_reject(counts, n=100, tau=0.75, alpha=1e-3)
    assert np.array_equal(ours, reference_holm(counts, 100, 0.75, 1e-3))
    assert 0 < ours.mean() < 1


def test_holm_is_stronger_than_bonferroni_where_only_later_ranks_can_pass() -> None:
    # Two hypotheses: p(20) = .0032 passes at alpha/2 = .0125, then p(19) = .0243 passes at alpha but not at alpha/2.
    counts = np.array([20, 19])
    assert holm_reject(counts, n=20, tau=0.75, alpha=0.025).all()
    assert not holm_reject(np.array([19, 19]), n=20, tau=0.75, alpha=0.025).any()


def test_p_values_are_the_upper_tail_including_k() -> None:
    for n, tau in ((1, 0.5), (100, 0.75), (1000, 0.9)):
        np.testing.assert_allclose(p_values(n=n, tau=tau), binom.sf(np.arange(n + 1) - 1, n, tau), rtol=1e-9)


def test_counts_are_tested_against_n_and_not_fewer_trials() -> None:
    """97 votes of 100 are needed at 512 × 512 (alpha .001, tau .75) when many pixels are unanimous."""
    counts = np.full(512 * 512, 0)
    counts[0] = 100
    for least, expected in ((97, True), (96, False)):
        counts[1:] = least
        assert holm_reject(counts, n=100, tau=0.75, alpha=1e-3)[1:].all() == expected


@pytest.mark.parametrize("counts", [[101], [-1]])
def test_counts_outside_the_number_of_draws_are_an_error(counts: list[int]) -> None:
    with pytest.raises(UsageError, match=r"0 … n = 100"):
        holm_reject(counts, n=100, tau=0.75, alpha=1e-3)


def test_fractional_counts_are_an_error() -> None:
    with pytest.raises(UsageError, match="integers"):
        holm_reject([0.5], n=100, tau=0.75, alpha=1e-3)


@given(hypotheses=st.integers(1, 10**7), tau=st.floats(0.5, 0.99), alpha=st.floats(1e-9, 0.5))
def test_the_smallest_n_works_and_one_less_does_not(hypotheses: int, tau: float, alpha: float) -> None:
    n = smallest_n(hypotheses=hypotheses, tau=tau, alpha=alpha)
    assert tau**n <= alpha / hypotheses
    assert n == 1 or tau ** (n - 1) > alpha / hypotheses


def test_an_impossible_request_names_the_smallest_n() -> None:
    with pytest.raises(UsageError, match="smallest n that can is 68"):
        require_attainable(n=67, hypotheses=512 * 512, tau=0.75, alpha=1e-3)
    require_attainable(n=68, hypotheses=512 * 512, tau=0.75, alpha=1e-3)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 300), size=st.integers(1, 50), alpha=st.floats(1e-5, 0.2))
def test_lower_bounds_are_clopper_pearson_at_alpha_over_k(seed: int, n: int, size: int, alpha: float) -> None:
    counts = np.random.default_rng(seed).integers(0, n + 1, size)
    reference = proportion_confint(counts, n, alpha=2 * alpha / size, method="beta")[0]
    ours = simultaneous_lower_bounds(counts, n=n, alpha=alpha)
    np.testing.assert_allclose(ours, np.nan_to_num(reference), atol=1e-10)


def test_lower_bounds_hold_for_all_hypotheses_at_once() -> None:
    """In 2,000 images of 60 hypotheses, the share with any bound above the truth stays below alpha = 5 %."""
    random = np.random.default_rng(1)
    p = random.uniform(0.5, 1.0, 60)
    counts = random.binomial(100, p, (2000, 60))
    wrong = sum(bool((simultaneous_lower_bounds(row, n=100, alpha=0.05) > p).any()) for row in counts)
    assert wrong / 2000 <= 0.05


def test_holm_keeps_the_family_wise_error_at_the_boundary() -> None:
    """All hypotheses true with p = tau exactly: at most alpha of the images may have any rejection (exact 95 % band)."""
    random = np.random.default_rng(2)
    runs, alpha = 4000, 0.05
    counts = random.binomial(60, 0.75, (runs, 40))
    wrong = sum(bool(holm_reject(row, n=60, tau=0.75, alpha=alpha).any()) for row in counts)
    assert wrong <= binom.ppf(0.975, runs, alpha)
    assert wrong > 0, "a test that never rejects shows nothing"
