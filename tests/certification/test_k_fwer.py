"""k-FWER: the step-down of Lehmann & Romano (2005) by hand, its error rate, and that nothing claims more than it holds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from certdicom.certification import SmoothingParameters, holm_reject
from certdicom.certification.looks import certified_after
from certdicom.certification.statistics import require_attainable, step_down_reject
from certdicom.errors import UsageError

TAU = 0.75


def reference(counts: np.ndarray, *, n: int, tau: float, alpha: float, k: int) -> np.ndarray:
    """Lehmann & Romano 2005, Theorem 2.2, as it stands: sorted p-values against alpha_i = k·alpha / (s + k - max(i, k))."""
    p = binom.sf(counts - 1, n, tau)
    order = np.argsort(p, kind="stable")
    rejected = np.zeros(counts.size, bool)
    for rank, index in enumerate(order, start=1):
        if p[index] > k * alpha / (counts.size + k - max(rank, k)):
            break
        rejected[index] = True
    return rejected


def test_the_step_down_is_that_of_lehmann_and_romano() -> None:
    random = np.random.default_rng(0)
    some = 0
    for _ in range(1500):
        n, size = int(random.integers(5, 200)), int(random.integers(1, 120))
        k = int(random.integers(1, size + 1))
        tau, alpha = random.uniform(0.5, 0.95), 10 ** random.uniform(-4, -0.5)
        counts = random.binomial(n, 1 - random.uniform(0.02, 0.6) * random.random(size))
        ours = step_down_reject(counts, n=n, tau=tau, alpha=alpha, k=k)
        assert np.array_equal(ours, reference(counts, n=n, tau=tau, alpha=alpha, k=k)), (n, tau, alpha, k, counts.tolist())
        assert not (holm_reject(counts, n=n, tau=tau, alpha=alpha) & ~ours).any()
        some += 0 < ours.sum() < size
    assert some > 400, "most cases must be undecided ones"


def test_ranks_go_on_from_what_fell_before() -> None:
    """Splitting a family into what fell and what is left and going on gives what testing it at once gives."""
    random = np.random.default_rng(1)
    for _ in range(300):
        counts = random.binomial(60, random.uniform(0.7, 1.0, 40))
        k = int(random.integers(1, 6))
        whole = step_down_reject(counts, n=60, tau=TAU, alpha=0.1, k=k)
        fell = whole & (counts == counts.max())
        rest = step_down_reject(counts[~fell], n=60, tau=TAU, alpha=0.1, k=k, rejected=int(fell.sum()))
        assert np.array_equal(rest, whole[~fell])


def wrong_share(*, k: int, together: int, wrong: int, looks: tuple[int, ...] = (60,), alpha: float = 0.1, runs: int = 1200) -> float:
    """Share of runs with `wrong` or more false certificates among 60 true nulls at p = tau whose votes agree in groups of `together`."""
    random = np.random.default_rng(2)
    parameters = SmoothingParameters(n=looks[-1], looks=looks, alpha=alpha, k=k)
    bad = 0
    for _ in range(runs):
        votes, drawn, certified = np.zeros(60 // together, int), 0, None
        for n in looks:
            votes, drawn = votes + random.binomial(n - drawn, TAU, votes.size), n
            certified = certified_after(np.repeat(votes, together), n=n, parameters=parameters, before=certified)
        assert certified is not None
        bad += int(certified.sum()) >= wrong
    return bad / runs


def test_k_or_more_wrong_certificates_are_rarer_than_alpha_and_fewer_are_not() -> None:
    """Groups of k false certificates at once are the worst dependence; k - 1 wrong ones are allowed, and do happen."""
    allowed = binom.ppf(0.999, 1200, 0.1) / 1200
    assert 0.03 < wrong_share(k=2, together=2, wrong=2) <= allowed
    assert 0.03 < wrong_share(k=3, together=3, wrong=3) <= allowed
    assert wrong_share(k=2, together=1, wrong=1) > allowed, "the test must see what is not controlled"


def test_looks_share_both_alpha_and_the_wrong_certificates_that_are_allowed() -> None:
    looks, allowed = (40, 160, 640), binom.ppf(0.999, 1200, 0.1) / 1200
    assert 0.02 < wrong_share(k=2, together=2, wrong=2, looks=looks) <= allowed
    assert wrong_share(k=2, together=2, wrong=2, looks=looks, alpha=0.3) > allowed, "alpha spent anew at every look must be seen"


def test_more_wrong_certificates_than_hypotheses_are_no_request() -> None:
    with pytest.raises(UsageError, match="at most 9"):
        require_attainable(n=100, hypotheses=9, tau=TAU, alpha=1e-3, k=10)
    with pytest.raises(UsageError, match=r"^k must be"):
        SmoothingParameters(k=0)


def test_fewer_draws_suffice_where_more_may_be_wrong() -> None:
    with pytest.raises(UsageError, match="smallest n that can is 67"):
        require_attainable(n=60, hypotheses=3 * 256 * 256, tau=TAU, alpha=1e-3)
    require_attainable(n=51, hypotheses=3 * 256 * 256, tau=TAU, alpha=1e-3, k=100)


def test_a_certificate_says_how_many_may_be_wrong_and_widens_its_areas(make_certificate) -> None:
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, :4, :5] = 1
    strict, loose = (make_certificate(decisions=decisions, parameters=SmoothingParameters(k=k)) for k in (1, 8))
    assert strict.family == "Holm-Bonferroni over all structures and pixels of the image"
    assert "k-FWER with k = 8" in loose.family
    assert "up to 7 wrong certificates are allowed with confidence 1 - alpha" in loose.family
    assert (strict.area(0).lower, strict.area(0).upper) == (20, 20)
    assert (loose.area(0).lower, loose.area(0).upper) == (13, 27)
    assert (loose.area(1).lower, loose.area(1).upper) == (0, 7)
