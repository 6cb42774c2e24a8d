"""Votes of several segmenters over several images: the same as one by one, with each noise image denoised once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import score
from certdicom.certification.smoothing import certify_grid
from certdicom.errors import UsageError
from certdicom.evaluation.models import BaseSegmenter
from certdicom.evaluation.outcome import RADII_PER_SIGMA, exclusive, independent
from certdicom.evaluation.protocol import Fit, Frame, fit
from certdicom.evaluation.votes import Votes, count_votes

PARAMETERS = SmoothingParameters(sigma=0.2, n0=5, n=60)


def segmenter(*, level: float = 0.5, key: str = "none", seen: list | None = None, fits: Fit | None = None) -> BaseSegmenter:
    """Present where the image is brighter than `level`; `seen` collects the batches that are denoised."""

    def denoise(noisy: torch.Tensor) -> torch.Tensor:
        if seen is not None:
            seen.append(noisy.clone())
        return noisy

    return BaseSegmenter(fits or Fit(1, 1), denoise, key, lambda clean: torch.cat([clean - level, level - clean], 1))


def images(count: int) -> list[torch.Tensor]:
    return [torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]


def seeds(count: int) -> list[bytes]:
    return [f"film {index}".encode() for index in range(count)]


def count(pictures, segmenters, *, batch_size=7, names=None):
    return count_votes(
        pictures, segmenters, sigma=0.2, seeds=names or seeds(len(pictures)), n0=PARAMETERS.n0, n=PARAMETERS.n, batch_size=batch_size
    )


def test_votes_and_decisions_are_those_of_the_certifier() -> None:
    """The certifier works film by film, select first and count then; here draws of all films stand in one row."""
    pictures, base = images(3), segmenter()
    for image, seed, (votes,) in zip(pictures, seeds(3), count(pictures, [base]), strict=True):
        result = certify_grid(image, base.decide, PARAMETERS, seed=seed)
        outcome = independent(votes, PARAMETERS)
        assert np.array_equal(outcome.decisions, result.decisions)
        assert np.array_equal(np.where(outcome.selected, votes.rest, PARAMETERS.n - votes.rest), result.counts)
        assert {ABSENT, PRESENT, ABSTAIN} == set(np.unique(outcome.decisions))


@pytest.mark.parametrize("batch_size", [1, 10, 200])
def test_neither_the_batches_nor_the_company_change_the_votes(batch_size: int) -> None:
    pictures = images(3)
    together = count(pictures, [segmenter()], batch_size=batch_size)
    for index, image in enumerate(pictures):
        alone = count([image], [segmenter()], names=[seeds(3)[index]])[0][0]
        assert np.array_equal(together[index][0].first, alone.first)
        assert np.array_equal(together[index][0].rest, alone.rest)


def test_each_noise_image_is_denoised_once_for_all_who_share_a_denoiser() -> None:
    seen: list[torch.Tensor] = []
    results = count(images(2), [segmenter(seen=seen), segmenter(level=0.3, seen=seen), segmenter(key="another", seen=seen)])[0]
    batches = -(-2 * (PARAMETERS.n0 + PARAMETERS.n) // 7)
    assert len(seen) == 2 * batches, "two different denoisers, not three"
    assert not np.array_equal(results[0].rest, results[1].rest)
    assert np.array_equal(results[0].rest, results[2].rest)


def test_every_noise_image_is_another_and_every_batch_of_one_size() -> None:
    seen: list[torch.Tensor] = []
    count(images(1) * 2, [segmenter(seen=seen)])
    assert {len(batch) for batch in seen} == {7}
    noisy = torch.cat(seen)[: 2 * (PARAMETERS.n0 + PARAMETERS.n)].flatten(1)
    assert len(torch.unique(noisy, dim=0)) == len(noisy)


def test_one_class_a_pixel_is_one_hypothesis_a_pixel() -> None:
    """99 votes of 100 suffice among 3 pixels, whatever the number of classes; a pixel abstains as a whole."""
    parameters = SmoothingParameters(n0=10, n=100)
    first = np.array([[[10, 0, 4]], [[0, 0, 6]]], np.int32)
    rest = np.array([[[99, 1, 60]], [[1, 0, 40]]], np.int32)
    outcome = exclusive(Votes(first, rest), parameters)
    assert outcome.decisions[:, 0].tolist() == [[PRESENT, ABSENT, ABSTAIN], [ABSENT, ABSENT, ABSTAIN]]
    assert outcome.abstain_fraction == pytest.approx(1 / 3)
    assert outcome.selected[:, 0, 2].tolist() == [False, True], "the third pixel's class is the second structure, though not certified"


def test_softmax_votes_leave_exactly_one_class() -> None:
    base = BaseSegmenter(Fit(1, 1), lambda noisy: noisy, "none", lambda x: torch.cat([0.5 - x, x - 0.5, 0 * x], 1), exclusive=True)
    votes = count(images(1), [base])[0][0]
    assert votes.first.shape == (2, 8, 8), "the background is no structure"
    assert int((votes.first.sum(0) + votes.rest.sum(0)).max()) <= PARAMETERS.n0 + PARAMETERS.n
    assert votes.rest[0].max() > 0


def test_dice_over_the_radius_falls_and_ends_where_the_draws_do() -> None:
    picture = torch.zeros(1, 8, 8)
    picture[:, :, :4] = 1.0
    outcome = independent(count([picture], [segmenter()])[0][0], PARAMETERS)
    reference = picture[0].numpy() > 0.5
    series = outcome.dice_at_radii(0, reference)
    assert series == sorted(series, reverse=True)
    assert series[0] > 0.9
    assert series[-1] == 0.0, "60 draws certify no 2 sigma"
    assert len(series) == len(RADII_PER_SIGMA)
    held = outcome.radii[0][reference]
    assert series[5] == pytest.approx(2 * (held >= 0.5).sum() / (2 * (held >= 0.5).sum() + (held < 0.5).sum()))
    at_tau = np.where(outcome.radii >= 0.67449, np.where(outcome.selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)
    assert series[6] >= score(at_tau[0], reference).certified[0] >= series[7], "the same Dice as the paper's at the radius of tau"
    assert outcome.dice_at_radii(0, np.zeros((8, 8), bool)) is None


def test_what_reaches_the_model_is_independent_noise_of_a_known_size() -> None:
    """The mean of 3 channels and of 2 × 2 pixels: sigma / (2 · √3), as the paper's 0.25 is 0.072 on our grid."""
    fits = Fit(channels_joined=3, factor=2)
    assert 0.25 * fits.shrinks == pytest.approx(0.072, abs=2e-4)
    noise = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    met = fits.to_model(noise)
    assert met.shape == (4, 1, 128, 128)
    assert float(met.std()) == pytest.approx(fits.shrinks, rel=0.02)
    neighbours = torch.corrcoef(torch.stack([met[..., :-1].flatten(), met[..., 1:].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.02
    assert fits.from_model(torch.zeros(1, 2, 128, 128)).shape == (1, 2, 256, 256)


def test_a_grid_that_does_not_divide_is_refused(bundle) -> None:
    assert fit(Frame((64, 64), 3), bundle) == Fit(3, 4)
    with pytest.raises(UsageError, match="no whole multiple"):
        fit(Frame((40, 40), 1), bundle)
