"""Several looks at growing counts: the same decisions as a reference by hand, and no more errors than alpha allows."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.stats import binom
from statsmodels.stats.multitest import multipletests

from certdicom.certification import SmoothingParameters, certify_grid
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.looks import certified_after, more_is_possible
from certdicom.certification.noise import noisy_image
from certdicom.certification.statistics import simultaneous_lower_bounds
from certdicom.errors import UsageError

SEED = b"a seed for tests, thirty-two byt"
TAU = 0.75

Certify = Callable[..., np.ndarray]


@pytest.fixture(autouse=True)
def _cheap_collections() -> Iterator[None]:
    """multipletests collects garbage at every call; frozen objects make that cheap."""
    gc.freeze()
    yield
    gc.unfreeze()


def above_half(batch: torch.Tensor) -> torch.Tensor:
    return batch > 0.5


def reference(counts_at: dict[int, np.ndarray], parameters: SmoothingParameters) -> np.ndarray:
    """All looks by hand: statsmodels' Holm over what is left, at alpha over the number of looks."""
    certified = np.zeros(next(iter(counts_at.values())).shape, bool)
    for n in parameters.planned_looks:
        left = ~certified
        if left.any():
            p = binom.sf(counts_at[n][left] - 1, n, parameters.tau)
            certified[left] = multipletests(p, alpha=parameters.alpha / len(parameters.planned_looks), method="holm")[0]
    return certified


def growing_counts(random: np.random.Generator, p: np.ndarray, looks: tuple[int, ...]) -> dict[int, np.ndarray]:
    """Votes of all draws so far at each look."""
    steps = [random.binomial(more, p) for more in np.diff((0, *looks))]
    return dict(zip(looks, np.cumsum(steps, axis=0), strict=True))


def all_looks(counts_at: dict[int, np.ndarray], parameters: SmoothingParameters) -> np.ndarray:
    certified = None
    for n, counts in counts_at.items():
        certified = certified_after(counts, n=n, parameters=parameters, before=certified)
    assert certified is not None
    return certified


def random_case(random: np.random.Generator) -> tuple[SmoothingParameters, dict[int, np.ndarray]]:
    looks = tuple(sorted({int(n) for n in random.integers(5, 200, random.integers(1, 5))}))
    parameters = SmoothingParameters(tau=random.uniform(0.5, 0.9), n=looks[-1], looks=looks, alpha=10 ** random.uniform(-4, -0.5))
    p = 1 - random.uniform(0.02, 0.6) * random.random(random.integers(1, 60))
    return parameters, growing_counts(random, p, looks)


def test_looks_decide_as_statsmodels_does_on_what_is_left() -> None:
    random = np.random.default_rng(0)
    some = 0
    for _ in range(250):
        parameters, counts_at = random_case(random)
        ours = all_looks(counts_at, parameters)
        assert np.array_equal(ours, reference(counts_at, parameters)), parameters
        some += 0 < ours.sum() < ours.size
    assert some > 80, "most cases must be undecided ones"


def test_testing_what_is_left_certifies_all_that_testing_everything_anew_would() -> None:
    random = np.random.default_rng(1)
    more = 0
    for _ in range(250):
        parameters, counts_at = random_case(random)
        anew = np.zeros(next(iter(counts_at.values())).shape, bool)
        for n, counts in counts_at.items():
            anew |= certified_after(counts, n=n, parameters=parameters)
        left = all_looks(counts_at, parameters)
        assert not (anew & ~left).any()
        more += bool((left & ~anew).any())
    assert more > 0


def test_certify_grid_counts_and_tests_at_every_look_as_done_by_hand() -> None:
    parameters = SmoothingParameters(sigma=0.3, n0=5, n=120, looks=(40, 70, 120), alpha=0.05)
    u = np.random.default_rng(2).uniform(0, 1.3, (1, 12, 12)).astype(np.float32)
    result = certify_grid(u, above_half, parameters, seed=SEED, batch_size=16)
    votes = np.stack([noisy_image(u, 0.3, seed=SEED, draw=draw) > 0.5 for draw in range(125)])
    selected = 2 * votes[:5].sum(0) > 5
    counts_at = {n: np.where(selected, votes[5 : 5 + n].sum(0), n - votes[5 : 5 + n].sum(0)) for n in (40, 70, 120)}
    certified = reference(counts_at, parameters)
    assert result.draws == 120
    assert np.array_equal(result.counts, counts_at[120])
    assert np.array_equal(result.decisions, np.where(certified, np.where(selected, PRESENT, ABSENT), ABSTAIN))
    first = certified_after(counts_at[40], n=40, parameters=parameters)
    assert 0 < first.sum() < certified.sum() < certified.size


def test_one_look_is_the_plain_test_bit_for_bit() -> None:
    u = np.random.default_rng(3).random((1, 16, 16)).astype(np.float32)
    plain, looked = SmoothingParameters(n=90), SmoothingParameters(n=90, looks=(90,))
    assert plain.as_dict() == looked.as_dict() == {"sigma": 0.25, "tau": 0.75, "n0": 10, "n": 90, "alpha": 1e-3}
    first, second = (certify_grid(u, above_half, parameters, seed=SEED) for parameters in (plain, looked))
    assert np.array_equal(first.counts, second.counts)
    assert np.array_equal(first.decisions, second.decisions)
    assert (first.draws, first.unions) == (90, None)


def test_what_was_certified_stays_so_though_its_votes_fall_later() -> None:
    parameters = SmoothingParameters(n=100, looks=(50, 100), alpha=0.1)
    before = certified_after(np.array([50, 30]), n=50, parameters=parameters)
    after = certified_after(np.array([60, 60]), n=100, parameters=parameters, before=before)
    assert before.tolist() == after.tolist() == [True, False]


def wrong_share(parameters: SmoothingParameters, *, runs: int, hypotheses: int) -> float:
    """Share of runs with any wrong certificate; every hypothesis is a true null at p = tau, half of them share their votes."""
    random = np.random.default_rng(4)
    wrong = 0
    for _ in range(runs):
        own = growing_counts(random, np.full(hypotheses // 2 + 1, parameters.tau), parameters.planned_looks)
        counts_at = {n: np.concatenate([counts, np.repeat(counts[-1:], hypotheses // 2 - 1)]) for n, counts in own.items()}
        wrong += bool(all_looks(counts_at, parameters).any())
    return wrong / runs


def test_the_family_wise_error_stays_below_alpha_over_all_looks_and_unsplit_alpha_does_not() -> None:
    """1,200 runs at alpha = 10 % over looks far apart. Each look at the whole of alpha is what three times alpha, split, spends."""
    runs, alpha, looks = 1200, 0.1, (40, 160, 640)
    allowed = binom.ppf(0.999, runs, alpha) / runs
    split = SmoothingParameters(n=640, looks=looks, alpha=alpha)
    unsplit = SmoothingParameters(n=640, looks=looks, alpha=alpha * len(looks))
    assert unsplit.look_alpha == pytest.approx(alpha)
    assert 0.01 < wrong_share(split, runs=runs, hypotheses=20) <= allowed
    assert wrong_share(unsplit, runs=runs, hypotheses=20) > allowed, "the test must see a family-wise error above alpha"


def grid_wrong_share(*, alpha: float, runs: int) -> float:
    """Through certify_grid: 20 pixels with noise of their own at P(present) = tau, and a row that one noise value decides."""

    def decide(batch: torch.Tensor) -> torch.Tensor:
        present = batch > 0.5
        present[:, :, -1] = present[:, :, :1, 0]
        return present

    u = np.full((1, 5, 5), 0.5, np.float32)  # P(present) = ½ = tau: whatever is certified is wrong
    parameters = SmoothingParameters(sigma=0.25, tau=0.5, n0=1, n=192, looks=(12, 48, 192), alpha=alpha)
    results = (certify_grid(u, decide, parameters, seed=b"run %d" % run, batch_size=96) for run in range(runs))
    return sum(bool((result.decisions != ABSTAIN).any()) for result in results) / runs


@pytest.mark.slow
def test_the_whole_sampler_keeps_the_family_wise_error_on_correlated_pixels() -> None:
    runs, alpha = 120, 0.1
    allowed = binom.ppf(0.999, runs, alpha) / runs
    assert grid_wrong_share(alpha=alpha, runs=runs) <= allowed
    assert grid_wrong_share(alpha=6 * alpha, runs=runs) > allowed, "each look at twice alpha must be seen"


def test_it_stops_only_where_no_later_votes_could_certify_more() -> None:
    """Whenever it stops, unanimous, random and adverse further votes all leave the decisions as they are."""
    random = np.random.default_rng(5)
    stopped = 0
    for _ in range(150):
        looks = tuple(sorted({int(n) for n in random.integers(10, 80, 3)}))
        parameters = SmoothingParameters(tau=0.75, n=looks[-1], looks=looks, alpha=0.05)
        counts = random.binomial(looks[0], random.choice([0.3, 0.5, 1.0], 30))
        certified = certified_after(counts, n=looks[0], parameters=parameters)
        if more_is_possible(counts, certified, n=looks[0], parameters=parameters):
            continue
        stopped += 1
        for p in (1.0, 0.8, 0.0):
            now, later_counts, drawn = certified, counts, looks[0]
            for later in looks[1:]:
                later_counts, drawn = later_counts + random.binomial(later - drawn, p, 30), later
                now = certified_after(later_counts, n=later, parameters=parameters, before=now)
            assert np.array_equal(now, certified)
    assert stopped > 20


def test_a_sure_image_stops_at_the_first_look_and_a_hopeless_one_goes_on_while_it_may() -> None:
    parameters = SmoothingParameters(n0=2, n=300, looks=(60, 100, 300), alpha=0.05)
    sure = certify_grid(np.full((1, 3, 3), 9, np.float32), above_half, parameters, seed=SEED)
    unsure = certify_grid(np.full((1, 3, 3), 0.5, np.float32), above_half, parameters, seed=SEED)
    assert (sure.draws, (sure.decisions == PRESENT).all()) == (60, True)
    assert (unsure.draws, (unsure.decisions == ABSTAIN).all()) == (300, True)
    assert (sure.counts == 60).all()


def test_it_stops_once_little_enough_abstains() -> None:
    u = np.full((1, 10, 10), 9, np.float32)
    u[0, 0, :4] = 0.5
    looks = {"n": 200, "looks": (60, 200), "alpha": 0.05}
    draws = {
        target: certify_grid(u, above_half, SmoothingParameters(**looks, abstain_target=target), seed=SEED).draws  # type: ignore[arg-type]
        for target in (0.03, 0.04)
    }
    assert draws == {0.03: 200, 0.04: 60}


def test_lower_bounds_at_the_look_that_the_draws_chose_need_the_split_alpha() -> None:
    """Stopping where the bound looks best: bounds at alpha / looks stay below the truth in all but alpha of the runs."""
    random = np.random.default_rng(6)
    looks, alpha, runs = (20, 80, 320), 0.1, 1200
    wrong = {"split": 0, "whole": 0}
    for _ in range(runs):
        counts_at = growing_counts(random, np.full(6, TAU), looks)
        for name, level in (("split", alpha / len(looks)), ("whole", alpha)):
            best = max(float(simultaneous_lower_bounds(counts, n=n, alpha=level).max()) for n, counts in counts_at.items())
            wrong[name] += best > TAU
    assert 0 < wrong["split"] <= binom.ppf(0.999, runs, alpha)
    assert wrong["whole"] > binom.ppf(0.999, runs, alpha)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"looks": (100, 300)}, "looks must be a list whose last entry is n = 100"),
        ({"looks": (100, 50, 100)}, "looks must be rising"),
        ({"looks": (50, 50, 100)}, "looks must be rising"),
        ({"looks": (0, 100)}, "looks must be rising"),
        ({"abstain_target": 0.1}, "one look"),
        ({"abstain_target": 1.0, "looks": (90, 100)}, "abstain_target must be at least 0 and below 1"),
    ],
)
def test_looks_that_cannot_be_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SmoothingParameters(**changes)  # type: ignore[arg-type]


def test_a_first_look_that_could_certify_nothing_is_refused() -> None:
    """One look at 40 draws would do; half of alpha at the first of two needs more."""
    u = np.zeros((1, 10, 10), np.float32)
    certify_grid(u, above_half, SmoothingParameters(n=41, alpha=1e-3), seed=SEED)
    with pytest.raises(UsageError, match=r"n = 41 draws cannot certify .* alpha = 0.0005; the smallest n that can is 43"):
        certify_grid(u, above_half, SmoothingParameters(n=99, looks=(41, 99), alpha=1e-3), seed=SEED, structures=1)
