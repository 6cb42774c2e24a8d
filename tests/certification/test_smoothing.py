"""certify_grid against known answers: every rule of the algorithm has a test that fails when it is broken."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm

from certdicom.certification import SmoothingParameters, certify_grid, holm_reject
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.noise import derive_seed, noisy_batch, standard_normal
from certdicom.errors import UsageError

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


def test_all_noise_images_of_a_batch_differ_and_are_standard_normal() -> None:
    batch = noisy_batch(torch.zeros(1, 64, 64), 0.25, seed=SEED, draws=range(64)).flatten(1) / 0.25
    correlation = torch.corrcoef(batch) - torch.eye(64)
    assert float(correlation.abs().max()) < 0.09
    values = batch.flatten().double()
    assert abs(float(values.mean())) < 5 / np.sqrt(values.numel())
    assert abs(float(values.std()) - 1) < 0.01
    assert abs(float((values**4).mean()) - 3) < 0.06


def test_noise_on_several_channels_is_independent() -> None:
    noise = standard_normal(SEED, 0, (3, 128, 128)).reshape(3, -1)
    assert np.abs(np.corrcoef(noise) - np.eye(3)).max() < 0.04


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
    u = torch.full((1, 8, 8), 0.6)
    whole = above_half(noisy_batch(u, 0.25, seed=SEED, draws=range(10, 60))).sum(0)
    parts = sum(above_half(noisy_batch(u, 0.25, seed=SEED, draws=part)).sum(0) for part in (range(10, 31), range(31, 60)))
    assert torch.equal(whole, parts)


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


def test_family_wise_error_against_known_probabilities() -> None:
    """Ground truth: over 600 images of 256 pixels at or near p = tau, the share with any wrong certificate is at most alpha.

    A pixel's true smoothed decision is "present" only where p > tau and "absent" only where 1 - p > tau.
    """
    runs, alpha, tau = 600, 0.1, 0.75
    p = np.concatenate([np.full(192, tau), np.linspace(0.6, tau, 32), np.linspace(0.99, 1 - 1e-6, 32)]).reshape(1, 16, 16)
    u = 0.5 + 0.25 * norm.ppf(p)
    wrong = certified = 0
    for run in range(runs):
        decisions = certify_half(u, seed=run.to_bytes(4, "big"), n=60, alpha=alpha, batch_size=70).decisions
        certified += int((decisions != ABSTAIN).sum())
        wrong += bool(((decisions == PRESENT) & (p <= tau)).any() or ((decisions == ABSENT) & (1 - p <= tau)).any())
    assert certified > 0
    assert 0 < wrong <= binom.ppf(0.999, runs, alpha)


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


@pytest.mark.parametrize("u", [np.zeros((4, 4), np.float32), np.zeros((1, 4, 4)), np.full((1, 4, 4), np.nan, np.float32)])
def test_images_of_the_wrong_kind_are_refused(u: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"^u "):
        certify_grid(u, above_half, SmoothingParameters(), seed=SEED)


def test_logits_instead_of_decisions_are_refused() -> None:
    with pytest.raises(UsageError, match="must return bool"):
        certify_grid(np.zeros((1, 4, 4), np.float32), lambda batch: batch, SmoothingParameters(), seed=SEED)


def test_a_site_key_repeats_the_draws_and_depends_on_all_it_should() -> None:
    parameters: dict[str, object] = {"sigma": 0.25, "n": 100}
    seed, kind = derive_seed(b"key", pixels_sha256=b"film", parameters=parameters)
    assert kind == "site-key"
    assert seed == derive_seed(b"key", pixels_sha256=b"film", parameters=dict(reversed(parameters.items())))[0]
    others = [
        derive_seed(b"other key", pixels_sha256=b"film", parameters=parameters)[0],
        derive_seed(b"key", pixels_sha256=b"another film", parameters=parameters)[0],
        derive_seed(b"key", pixels_sha256=b"film", parameters={"sigma": 0.5, "n": 100})[0],
    ]
    assert len({seed, *others}) == 4


def test_without_a_site_key_every_run_draws_anew() -> None:
    first, kind = derive_seed(None, pixels_sha256=b"film", parameters={})
    assert kind == "os-entropy"
    assert first != derive_seed(None, pixels_sha256=b"film", parameters={})[0]


def test_threads_change_no_noise() -> None:
    u = torch.rand(1, 512, 512, generator=torch.Generator().manual_seed(0))
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(noisy_batch(u, 0.25, seed=b"threads", draws=range(7, 13)))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*found)
    one = torch.from_numpy(standard_normal(b"threads", 9, (1, 512, 512)))
    assert torch.equal(found[1][2], u + 0.25 * one)
