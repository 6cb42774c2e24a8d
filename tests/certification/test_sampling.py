"""certify_grid against known answers: every rule of the algorithm has a test that fails when it is broken."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from certdicom.certification import SmoothingParameters, certify_grid, holm_reject
from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.hypotheses import Hypotheses, decide
from certdicom.certification.noise import noisy_image
from certdicom.certification.sampling import certify_grids
from certdicom.errors import BundleError, UsageError

SEED = b"a seed for tests, thirty-two byt"


def above_half(batch: torch.Tensor) -> torch.Tensor:
    """A base segmenter whose probabilities are known: P(present) = Φ((u - ½) / sigma)."""
    return batch > 0.5


def certify_half(u: np.ndarray, *, seed: bytes = SEED, batch_size: int = 16, **changes: float):
    parameters = SmoothingParameters(**{"sigma": 0.25, "n": 100, **changes})  # type: ignore[arg-type]
    return certify_grid(u.astype(np.float32), above_half, parameters, seed=seed, batch_size=batch_size)


def test_certain_pixels_are_certified_and_undecided_ones_abstain() -> None:
    u = np.repeat(np.array([-1.0, 0.5, 2.0]), 8)[None, None]
    decisions = certify_half(u).decisions
    assert (decisions[0, 0, :8] == ABSENT).all()
    assert (decisions[0, 0, 8:16] == ABSTAIN).all()
    assert (decisions[0, 0, 16:] == PRESENT).all()
    assert decisions.dtype == np.uint8


def test_counts_have_the_distribution_of_the_base_segmenter() -> None:
    """z-test of the mean count of 64 × 64 pixels with P(present) = .9 (and with the draws of selection left out)."""
    p = 0.9
    u = np.full((1, 64, 64), 0.5 + 0.25 * norm.ppf(p))
    result = certify_half(u, n=100)
    assert result.counts.dtype == np.int32
    selected_present = result.selected
    expected = np.where(selected_present, p, 1 - p) * 100
    z = (result.counts - expected).mean() / np.sqrt(100 * p * (1 - p) / result.counts.size)
    assert abs(z) < 4


def test_selection_draws_are_never_counted_again() -> None:
    """With fresh draws, counts at p = ½ average n/2 whatever was selected; reusing the draws would lift them."""
    u = np.full((1, 128, 128), 0.5)
    counts = certify_half(u, n0=11, n=100).counts
    z = (counts.mean() - 50) / (5 / np.sqrt(counts.size))
    assert abs(z) < 4


def test_each_draw_is_seen_once_and_n_draws_are_counted() -> None:
    seen: list[torch.Tensor] = []

    def always(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.clone())
        return torch.ones_like(batch, dtype=torch.bool)

    result = certify_grid(np.zeros((1, 4, 4), np.float32), always, SmoothingParameters(sigma=0.3, n0=7, n=90), seed=SEED, batch_size=8)
    assert (result.counts == 90).all()
    images = torch.cat(seen)
    assert len(torch.unique(images.flatten(1), dim=0)) == 97, "97 different noise images"
    assert {len(batch) for batch in seen} == {8}, "every batch has the same size"


def test_the_same_seed_repeats_the_certificate_on_any_batch_size() -> None:
    u = np.random.default_rng(0).random((1, 24, 24))
    first = certify_half(u, batch_size=1)
    for batch_size in (7, 16, 128):
        again = certify_half(u, batch_size=batch_size)
        assert np.array_equal(first.counts, again.counts)
        assert np.array_equal(first.decisions, again.decisions)


def test_another_seed_draws_other_noise() -> None:
    u = np.full((1, 16, 16), 0.5)
    assert not np.array_equal(certify_half(u).counts, certify_half(u, seed=b"another").counts)


def test_counts_from_shards_of_the_draws_add_up() -> None:
    u = np.full((1, 8, 8), 0.6)
    result = certify_half(u, n=90)
    parts = [sum(noisy_image(u, 0.25, seed=SEED, draw=draw) > 0.5 for draw in part) for part in (range(10, 31), range(31, 100))]
    present = parts[0] + parts[1]
    assert np.array_equal(result.counts, np.where(result.selected, present, 90 - present))


def test_a_tie_in_selection_goes_to_absent() -> None:
    calls = iter(range(10_000))

    def alternating(batch: torch.Tensor) -> torch.Tensor:
        return torch.tensor([next(calls) % 2 == 0 for _ in range(len(batch))]).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)

    result = certify_grid(np.zeros((1, 2, 2), np.float32), alternating, SmoothingParameters(n0=10, n=100), seed=SEED, batch_size=10)
    assert not result.selected.any()
    assert (result.counts == 50).all(), "votes for the selected decision, absent"


def test_one_family_over_all_structures() -> None:
    """The same counts are certified alone but not beside many hypotheses of another structure."""

    def decide(batch: torch.Tensor) -> torch.Tensor:
        sure = torch.ones(len(batch), 1, 1, 1, dtype=torch.bool)
        return torch.cat([sure, batch[:, :1, :1, :1] > 0.5], 1).expand(-1, 2, 40, 40)

    result = certify_grid(np.full((1, 40, 40), 0.96, np.float32), decide, SmoothingParameters(sigma=0.25, n=80), seed=SEED)
    assert result.counts.shape == (2, 40, 40)
    alone = holm_reject(result.counts[1, :1, :1], n=80, tau=0.75, alpha=1e-3)
    assert alone.all(), "the case must be one in which the family matters"
    assert np.array_equal(result.decisions == ABSTAIN, ~holm_reject(result.counts, n=80, tau=0.75, alpha=1e-3))


def wrong_share(*, alpha: float, runs: int) -> float:
    """Share of images with any wrong certificate, where every decision is at the edge of being a true one and they depend on each other.

    9 pixels with noise of their own, two structures in each: present where the noise is below its 75 % quantile, and where it is above
    its 25 % quantile. All have p = tau exactly, so that whatever is certified is wrong, and the votes of the two
    are rarely high together: wrong certificates come apart, which is the worst that they can do to the family-wise error. At n = 100 the
    largest attainable p-values below alpha / 18 are 0.98 alpha / 18 for alpha = 0.1 and 1.00 alpha / 18 for 0.2.
    """
    level = np.float32(0.25 * norm.ppf(0.75))

    def decide(batch: np.ndarray) -> np.ndarray:
        return np.concatenate([batch < level, batch > -level], 1)

    parameters = SmoothingParameters(sigma=0.25, tau=0.75, n0=9, n=100, alpha=alpha)
    u, wrong = np.zeros((1, 3, 3), np.float32), 0
    for run in range(runs):
        result = certify_grid(u, decide, parameters, seed=b"run %d" % run, batch_size=109, arrays="numpy")
        wrong += bool((result.decisions != ABSTAIN).any())
    return wrong / runs


@pytest.mark.slow
def test_the_family_wise_error_is_alpha_and_twice_alpha_is_seen() -> None:
    runs, alpha = 500, 0.1
    bound = binom.ppf(0.999, runs, alpha) / runs
    assert 0.05 < wrong_share(alpha=alpha, runs=runs) <= bound
    assert wrong_share(alpha=2 * alpha, runs=runs) > bound, "this test must reject a procedure that spends twice alpha"


def test_certified_decisions_survive_every_shift_within_the_radius() -> None:
    """The certificate itself: move the image by any delta with L2 norm below R and the smoothed decision stays."""
    parameters = SmoothingParameters(sigma=0.25, n=100)
    random = np.random.default_rng(3)
    u = random.uniform(-0.5, 1.5, (1, 32, 32)).astype(np.float32)
    decisions = certify_half(u).decisions[0]
    radius = parameters.radius
    for delta in (-radius, radius):  # the worst a delta can do to one pixel's decision is to spend all of R on it
        p_present = norm.cdf((u[0] + 0.999 * delta - 0.5) / 0.25)
        assert (p_present[decisions == PRESENT] > 0.5).all()
        assert (p_present[decisions == ABSENT] < 0.5).all()
    assert (decisions != ABSTAIN).sum() > 100


def test_radii_of_the_paper() -> None:
    for sigma, radius in ((0.25, 0.1686), (0.5, 0.3372), (1.0, 0.6745)):
        assert SmoothingParameters(sigma=sigma).radius == pytest.approx(radius, abs=5e-5)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"sigma": 0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"tau": 0.4}, "tau"),
        ({"tau": 1.0}, "tau"),
        ({"n0": 0}, "n0"),
        ({"n": 0}, "n"),
        ({"alpha": 0}, "alpha"),
    ],
)
def test_a_parameter_out_of_range_is_named(changes: dict[str, float], name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} must be"):
        SmoothingParameters(**changes)  # type: ignore[arg-type]


def test_impossible_parameters_are_refused_before_the_first_draw() -> None:
    def never(batch: torch.Tensor) -> torch.Tensor:
        raise AssertionError("a draw was spent")

    with pytest.raises(UsageError, match="smallest n"):
        certify_grid(np.zeros((1, 64, 64), np.float32), never, SmoothingParameters(n=20), seed=SEED, structures=3)


@pytest.mark.parametrize("u", [np.zeros((4, 4), np.float32), np.zeros((1, 4, 4), np.int32), np.full((1, 4, 4), np.nan, np.float32)])
def test_images_of_the_wrong_kind_are_refused(u: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"^u "):
        certify_grid(u, above_half, SmoothingParameters(), seed=SEED)


def test_logits_instead_of_decisions_are_refused() -> None:
    with pytest.raises(UsageError, match="must return bool"):
        certify_grid(np.zeros((1, 4, 4), np.float32), lambda batch: batch, SmoothingParameters(), seed=SEED)


# What low digits of the noisy image would tell.


def reads_low_mantissa_bits(batch: np.ndarray) -> np.ndarray:
    """Whether any value is no multiple of 2⁻³⁴: bool (B, 1, H, W)."""
    steps = batch.astype(np.float64) * 2**34
    return np.broadcast_to((steps != np.rint(steps)).any(axis=(1, 2, 3), keepdims=True), batch.shape)


def test_a_decider_that_reads_low_mantissa_bits_learns_nothing() -> None:
    """Voráček & Hein (ICLR 2023). δ = 2⁻¹⁰ at each of 128 × 128 pixels, ‖δ‖ = 0.125, is inside the radius of 0.1686.

    In float32, sums with δ are multiples of 2⁻³⁴, because either summand or the sum is at least 2⁻¹¹, and noise alone is not where it is
    small: the first edition certified "present" at u = 0, 100 votes of 100, and "absent" at u = δ.
    """
    zero, delta = np.zeros((1, 128, 128), np.float32), np.full((1, 128, 128), 2.0**-10, np.float32)
    noise = np.float32(0.25) * np.random.default_rng(0).standard_normal((100, 1, 128, 128), np.float32)
    assert reads_low_mantissa_bits(zero + noise).all(), "the decider must be one that tells them apart"
    assert not reads_low_mantissa_bits(delta + noise).any()
    first, second = (
        certify_grid(u, reads_low_mantissa_bits, SmoothingParameters(sigma=0.25), seed=SEED, arrays="numpy") for u in (zero, delta)
    )
    assert np.array_equal(first.decisions, second.decisions)
    assert (first.decisions == ABSENT).all()


# The port: logits in, decisions out, one rule for arrays and tensors.


def logits_of_brightness(noisy: np.ndarray) -> np.ndarray:
    return np.concatenate([noisy - np.float32(0.5), np.float32(0.4) - noisy], 1)


def test_decisions_of_sigmoid_logits() -> None:
    logits = np.array([[[[-0.7, 0.0, 0.1]], [[2.0, -2.0, -3.0]]]], np.float32)
    for array in (logits, torch.from_numpy(logits)):
        first, second = decide(array, thresholds=(0.0, -2.0))
        assert first[0, 0].tolist() == [False, False, True]
        assert second[0, 0].tolist() == [True, False, False], "above, not at, the threshold"


def test_decisions_of_softmax_logits() -> None:
    """Thresholds are on the margin over the best other class; a tie is absent."""
    logits = np.array([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0], [1.0, 1.0, 0.0], [0.0, 2.0, 2.0]], np.float32)[..., None, None]
    margin = np.array([logits[:, own] - np.delete(logits, own, axis=1).max(1) for own in (1, 2)])
    for thresholds in ((0.0, 0.0), (-1.0, -0.5), (-50.0, 0.5)):
        for array in (logits, torch.from_numpy(logits)):
            found = [np.asarray(plane) for plane in decide(array, thresholds=thresholds, exclusive=True)]
            assert np.array_equal(found, [plane > level for plane, level in zip(margin, thresholds, strict=True)])
    assert [plane[:, 0, 0].tolist() for plane in decide(logits, thresholds=(0, 0), exclusive=True)] == [
        [False, False, False, False],
        [True, False, False, False],
    ]


def test_k_and_the_refusal_come_from_one_place() -> None:
    family = Hypotheses(3, unions=((0, 1), (0, 2)))
    assert family.count(64) == 5 * 64
    family.require_certifiable(SmoothingParameters(n=45), cells=64)
    with pytest.raises(UsageError, match=r"n = 44 draws cannot certify any of 320 decisions .*; the smallest n that can is 45"):
        family.require_certifiable(SmoothingParameters(n=44), cells=64)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"looks": (46, 52, 60)},
        {"looks": (46, 52, 60), "abstain_target": 0.5},
        {"unions": ((0, 1),)},
        {"looks": (48, 60), "unions": ((0, 1),), "abstain_target": 0.6},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [1, 7, 64, 1000])
def test_many_images_and_segmenters_decide_as_one_by_one(more: dict, batch_size: int) -> None:
    """Draws of all images and segmenters stand in one row; some stop early while others go on."""
    parameters = SmoothingParameters(**{"sigma": 0.2, "n0": 5, "n": 60, **more})
    images = [np.random.default_rng(index).random((1, 8, 8), np.float32) for index in range(3)]
    seeds = [b"film %d" % index for index in range(3)]
    bases = [BaseSegmenter(logits_of_brightness, levels) for levels in ((0.0, 0.0), (0.2, 0.2), (-1.0, -1.0))]
    found = certify_grids(images, bases, [parameters] * 3, seeds=seeds, batch_size=batch_size)
    stopped = set()
    for image, seed, row in zip(images, seeds, found, strict=True):
        for base, result in zip(bases, row, strict=True):

            def alone(batch: np.ndarray, base: BaseSegmenter = base) -> np.ndarray:
                return np.stack(base.decide(base.logits(batch)), 1)

            one = certify_grid(image, alone, parameters, seed=seed, arrays="numpy")
            for name in ("decisions", "counts", "selected", "draws"):
                assert np.array_equal(getattr(result, name), getattr(one, name)), name
            if one.unions:
                assert np.array_equal(result.unions.decisions, one.unions.decisions)
                assert np.array_equal(result.unions.counts, one.unions.counts)
            stopped.add(result.draws)
    assert {ABSENT, PRESENT, ABSTAIN} == set(np.unique(found[0][0].decisions))
    if "abstain_target" in more:
        assert len(stopped) > 1, "some stop early while others go on, on the same draws"


def test_draws_end_when_all_have_stopped_and_only_those_still_asked_are_computed() -> None:
    """One segmenter is sure at the first look; the other needs all draws."""
    quick, slow = [], []

    def noting(seen: list, level: float) -> BaseSegmenter:
        return BaseSegmenter(lambda noisy: (seen.append(len(noisy)), noisy - np.float32(level))[1], (0.0,))

    parameters = SmoothingParameters(sigma=0.2, n0=5, n=60, looks=(45, 60), abstain_target=0.1)
    image = np.random.default_rng(0).random((1, 8, 8), np.float32)
    options = {"seeds": [b"film"], "batch_size": 5}
    ((first, second),) = certify_grids([image], [noting(quick, 9.0), noting(slow, 0.5)], [parameters] * 2, **options)
    assert (first.draws, second.draws) == (45, 60)
    assert (len(quick), len(slow)) == (10, 13)
    assert first.counts.max() == 45, "the votes of one that has stopped are frozen"
    quick.clear()
    certify_grids([image], [noting(quick, 9.0)], [parameters], **options)
    assert len(quick) == 10


def test_noise_is_drawn_once_for_all_segmenters_of_a_batch() -> None:
    seen: list[np.ndarray] = []
    bases = [BaseSegmenter(lambda noisy: (seen.append(noisy), noisy)[1], (0.0,)) for _ in range(2)]
    certify_grids([np.zeros((1, 4, 4))], bases, [SmoothingParameters(n0=1, n=60)] * 2, seeds=[SEED], batch_size=61)
    assert seen[0] is seen[1], "one and the same array, so that a backend can keep what it made of it"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("draw", [0, 3, 4, 40])
def test_logits_that_are_not_finite_are_a_bundle_error_that_names_the_draw(bad: float, draw: int) -> None:
    """A NaN is not above any threshold, and would be certified absent."""
    target = noisy_image(np.zeros((1, 4, 4)), 0.25, seed=SEED, draw=draw)

    def breaks(noisy: np.ndarray) -> np.ndarray:
        logits = noisy.copy()
        logits[(noisy == target).all(axis=(1, 2, 3)), 0, 1, 1] = bad
        return logits

    with pytest.raises(BundleError, match=rf"not finite in draw {draw}:"):
        certify_grids([np.zeros((1, 4, 4))], [BaseSegmenter(breaks, (0.0,))], [SmoothingParameters(n0=4, n=60)], seeds=[SEED], batch_size=7)


def test_the_sampler_needs_no_torch() -> None:
    code = """
import sys
import numpy as np
from certdicom.certification import SmoothingParameters, certify_grid
result = certify_grid(np.zeros((1, 8, 8)), lambda batch: batch > -9, SmoothingParameters(), seed=b"s", arrays="numpy")
assert (result.decisions == 1).all()
heavy = {"torch", "monai", "diffusers", "pydicom", "scipy.stats"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_decision_function_gets_tensors_or_arrays_and_may_return_either() -> None:
    u, parameters = np.random.default_rng(1).random((1, 6, 6)), SmoothingParameters()
    kinds: list[type] = []

    def noting(batch, back):
        kinds.append(type(batch))
        return back(batch > 0.5)

    results = [
        certify_grid(image, lambda batch, back=back: noting(batch, back), parameters, seed=SEED, arrays=arrays)
        for image, arrays, back in (
            (u, "torch", lambda found: found),
            (u, "torch", lambda found: found.numpy()),
            (u, "numpy", lambda found: found),
            (torch.from_numpy(u), "numpy", torch.from_numpy),
        )
    ]
    assert set(kinds) == {torch.Tensor, np.ndarray}
    assert all(np.array_equal(results[0].counts, other.counts) for other in results)
    with pytest.raises(UsageError, match="arrays must be"):
        certify_grid(u, above_half, parameters, seed=SEED, arrays="jax")  # type: ignore[arg-type]


def test_what_does_not_go_together_is_refused() -> None:
    base, u = BaseSegmenter(logits_of_brightness, (0.0, 0.0)), np.zeros((1, 4, 4))
    with pytest.raises(UsageError, match="same parameters, unions apart"):
        certify_grids([u], [base] * 2, [SmoothingParameters(), SmoothingParameters(sigma=0.3)], seeds=[SEED], batch_size=7)
    three = BaseSegmenter(logits_of_brightness, (0.0, 0.0), exclusive=True)
    with pytest.raises(BundleError, match="gave 2 logits a pixel and not 3"):
        certify_grids([u], [three], [SmoothingParameters()], seeds=[SEED], batch_size=7)
