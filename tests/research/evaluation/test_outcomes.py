"""What is said of the sampler's results: unions, radii, Dice over the radius; and the noise that a frame's model meets."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.certification.scores import score
from certdicom.errors import UsageError
from certdicom.research.evaluation.outcome import RADII_PER_SIGMA, Outcome, outcome_of
from certdicom.research.evaluation.protocol import NoiseGrid, NoiseGridAdapter, adapter_for

PARAMETERS = SmoothingParameters(sigma=0.2, n0=5, n=60)


def outcomes(u: np.ndarray, *parameters: SmoothingParameters) -> list[Outcome]:
    """Of a segmenter that finds the first structure where the image is brighter than one half, the second where it is darker."""
    bright = BaseSegmenter(lambda noisy: np.concatenate([noisy - np.float32(0.5), np.float32(0.5) - noisy], 1), (0.0, 0.0))
    (results,) = certify_grids([u], [bright] * len(parameters), parameters, seeds=[b"film"], batch_size=7)
    return [outcome_of(result, own) for result, own in zip(results, parameters, strict=True)]


def anything() -> np.ndarray:
    return np.random.default_rng(0).random((1, 8, 8), np.float32)


def half_bright() -> np.ndarray:
    picture = np.zeros((1, 8, 8), np.float32)
    picture[:, :, :4] = 1.0
    return picture


def test_unions_may_differ_between_segmenters_that_share_draws() -> None:
    plain, outcome = outcomes(anything(), PARAMETERS, replace(PARAMETERS, unions=((0, 1),)))
    assert len(plain.decisions) == 2
    assert (outcome.decisions[2] == PRESENT).all(), "a value is above the level, or below it"
    neither = (outcome.decisions[:2] != PRESENT).all(axis=0)
    assert outcome.fallback_fraction(0) == pytest.approx(neither.mean())
    assert neither.any()
    assert outcome.dice_at_radii(2, neither) is None
    assert outcome.abstain_fraction == pytest.approx((outcome.decisions[:2] == ABSTAIN).any(0).mean()), "of structures alone"


def test_dice_over_the_radius_falls_and_ends_where_the_draws_do() -> None:
    picture = half_bright()
    (outcome,) = outcomes(picture, PARAMETERS)
    reference = picture[0] > 0.5
    series = outcome.dice_at_radii(0, reference)
    assert series == sorted(series, reverse=True)
    assert series[0] > 0.9
    assert series[-1] == 0.0, "60 draws certify no 2 sigma"
    assert len(series) == len(RADII_PER_SIGMA)
    held = outcome.radii[0][reference]
    assert series[5] == pytest.approx(2 * (held >= 0.5).sum() / (2 * (held >= 0.5).sum() + (held < 0.5).sum()))
    at_tau = np.where(outcome.radii >= 0.67449, np.where(outcome.selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)
    assert series[6] >= score(at_tau[0], reference).certified[0] >= series[7], "the same Dice as the paper's at the radius of tau"


def test_over_the_radius_an_image_has_a_score_where_the_certified_dice_has_one() -> None:
    """Of an empty reference a certified finding is wrong, and no finding is no score: there as at the radius of tau."""
    (outcome,) = outcomes(half_bright(), PARAMETERS)
    empty = np.zeros((8, 8), bool)
    series = outcome.dice_at_radii(0, empty)
    assert series[0] == outcome.scores(0, empty).certified[0] == 0.0
    assert np.isnan(series[-1])


def test_radii_after_several_looks_pay_for_all_of_them() -> None:
    """The draws chose the look at which the test stopped, so that bounds are at alpha / (K · looks)."""
    parameters = replace(PARAMETERS, looks=(46, 52, 60))
    u = anything()
    u[0, 0, 0] = 9.0
    (outcome,) = outcomes(u, parameters)
    assert outcome.draws == 60
    assert outcome.radii[0, 0, 0] == outcome.radii.max()
    assert float(outcome.radii.max()) == pytest.approx(NormalDist().inv_cdf((1e-3 / 3 / outcome.radii.size) ** (1 / 60)))


def test_what_reaches_the_model_is_independent_noise_of_a_known_size() -> None:
    """The mean of 3 channels and of 2 × 2 pixels: sigma / (2 · √3), as the paper's 0.25 is 0.072 on our grid."""
    fits = NoiseGridAdapter(channels_joined=3, factor=2)
    assert 0.25 * fits.shrinks == pytest.approx(0.072, abs=2e-4)
    noise = torch.randn(4, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    met = fits.to_model(noise)
    assert met.shape == (4, 1, 128, 128)
    assert float(met.std()) == pytest.approx(fits.shrinks, rel=0.02)
    neighbours = torch.corrcoef(torch.stack([met[..., :-1].flatten(), met[..., 1:].flatten()]))[0, 1]
    assert abs(float(neighbours)) < 0.02
    assert fits.from_model(torch.zeros(1, 2, 128, 128)).shape == (1, 2, 256, 256)


def test_a_grid_that_does_not_divide_is_refused(bundle) -> None:
    assert adapter_for(NoiseGrid((64, 64), 3), bundle) == NoiseGridAdapter(3, 4)
    with pytest.raises(UsageError, match="no whole multiple"):
        adapter_for(NoiseGrid((40, 40), 1), bundle)
