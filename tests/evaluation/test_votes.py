"""Votes of several segmenters over several images: the same as one by one, with each noise image denoised once."""

from __future__ import annotations

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import score
from certdicom.certification.sampling import certify_grid
from certdicom.certification.statistics import holm_reject
from certdicom.errors import UsageError
from certdicom.evaluation.models import BaseSegmenter
from certdicom.evaluation.outcome import RADII_PER_SIGMA, Outcome, Trial
from certdicom.evaluation.protocol import Fit, Frame, fit
from certdicom.evaluation.votes import try_all

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


def tried(pictures, segmenters, *, parameters=PARAMETERS, batch_size=7, names=None) -> list[list[Trial]]:
    own = parameters if isinstance(parameters, list) else [parameters] * len(segmenters)
    return try_all(pictures, segmenters, own, seeds=names or seeds(len(pictures)), batch_size=batch_size)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"looks": (46, 52, 60)},
        {"looks": (46, 52, 60), "abstain_target": 0.5},
        {"unions": ((0, 1),)},
        {"k": 3},
        {"looks": (48, 60), "unions": ((0, 1),), "k": 2, "abstain_target": 0.6},
    ],
    ids=str,
)
def test_every_kind_of_test_decides_as_the_certifier_does(more: dict) -> None:
    """The certifier works film by film, select first and count then; here draws of all films and segmenters stand in one row."""
    parameters = replace(PARAMETERS, **more)
    pictures, bases = images(3), [segmenter(), segmenter(level=0.3), segmenter(level=1.5, key="another")]
    found = tried(pictures, bases, parameters=parameters)
    stopped = set()
    for image, seed, row in zip(pictures, seeds(3), found, strict=True):
        for base, trial in zip(bases, row, strict=True):
            result, outcome = certify_grid(image, base.decide, parameters, seed=seed), trial.outcome()
            unions = [result.unions.decisions] if result.unions else []
            assert np.array_equal(outcome.decisions, np.concatenate([result.decisions, *unions]))
            assert np.array_equal(outcome.selected, result.selected)
            assert np.array_equal(trial.counts[: len(result.counts)], result.counts)
            assert outcome.draws == result.draws
            assert outcome.abstain_fraction == pytest.approx(float((result.decisions == ABSTAIN).any(0).mean()))
            stopped.add(outcome.draws)
    assert {ABSENT, PRESENT, ABSTAIN} == set(np.unique(found[0][0].outcome().decisions))
    if "abstain_target" in more:
        assert len(stopped) > 1, "some stop early while others go on, on the same draws"


def test_draws_end_when_all_have_stopped_and_only_those_still_asked_are_computed() -> None:
    """One segmenter is sure at the first look; the other needs all draws."""
    quick, slow = [], []
    parameters = replace(PARAMETERS, looks=(45, 60), abstain_target=0.1)
    sure, unsure = segmenter(level=9.0, key="quick", seen=quick), segmenter(seen=slow)
    both = tried(images(1), [sure, unsure], parameters=parameters, batch_size=5)[0]
    assert [trial.outcome().draws for trial in both] == [45, 60]
    assert (len(quick), len(slow)) == (10, 13)
    assert both[0].counts.max() == 45, "the votes of one that has stopped are frozen"
    quick.clear()
    tried(images(1), [sure], parameters=parameters, batch_size=5)
    assert len(quick) == 10


def test_unions_may_differ_between_segmenters_that_share_draws() -> None:
    plain, united = tried(images(1), [segmenter(), segmenter()], parameters=[PARAMETERS, replace(PARAMETERS, unions=((0, 1),))])[0]
    assert len(plain.outcome().decisions) == 2
    outcome = united.outcome()
    assert (outcome.decisions[2] == PRESENT).all(), "a value is above the level, or below it"
    neither = (outcome.decisions[:2] != PRESENT).all(axis=0)
    assert outcome.fallback_fraction(0) == pytest.approx(neither.mean())
    assert neither.any()
    assert outcome.dice_at_radii(2, neither) is None


@pytest.mark.parametrize("batch_size", [1, 10, 200])
def test_neither_the_batches_nor_the_company_change_the_votes(batch_size: int) -> None:
    pictures = images(3)
    parameters = replace(PARAMETERS, looks=(45, 60), abstain_target=0.3)
    together = tried(pictures, [segmenter()], parameters=parameters, batch_size=batch_size)
    for index, image in enumerate(pictures):
        alone = tried([image], [segmenter()], parameters=parameters, names=[seeds(3)[index]])[0][0]
        assert np.array_equal(together[index][0].counts, alone.counts)
        assert np.array_equal(together[index][0].outcome().selected, alone.outcome().selected)


def test_each_noise_image_is_denoised_once_for_all_who_share_a_denoiser() -> None:
    seen: list[torch.Tensor] = []
    results = tried(images(2), [segmenter(seen=seen), segmenter(level=0.3, seen=seen), segmenter(key="another", seen=seen)])[0]
    batches = -(-2 * (PARAMETERS.n0 + PARAMETERS.n) // 7)
    assert len(seen) == 2 * batches, "two different denoisers, not three"
    assert not np.array_equal(results[0].counts, results[1].counts)
    assert np.array_equal(results[0].counts, results[2].counts)


def test_every_noise_image_is_another_and_every_batch_of_one_size() -> None:
    seen: list[torch.Tensor] = []
    tried(images(1) * 2, [segmenter(seen=seen)])
    assert {len(batch) for batch in seen} == {7}
    noisy = torch.cat(seen)[: 2 * (PARAMETERS.n0 + PARAMETERS.n)].flatten(1)
    assert len(torch.unique(noisy, dim=0)) == len(noisy)


def outcome_of(first: np.ndarray, rest: np.ndarray, parameters: SmoothingParameters, *, exclusive: bool = False) -> Outcome:
    trial = Trial(first.astype(np.int32), parameters, exclusive=exclusive)
    trial.look(rest.astype(np.int32), draws=parameters.n)
    return trial.outcome()


def test_one_class_a_pixel_is_one_hypothesis_a_pixel() -> None:
    """99 votes of 100 suffice among 3 pixels, whatever the number of classes; a pixel abstains as a whole."""
    parameters = SmoothingParameters(n0=10, n=100)
    first = np.array([[[10, 0, 4]], [[0, 0, 6]]])
    rest = np.array([[[99, 1, 60]], [[1, 0, 40]]])
    outcome = outcome_of(first, rest, parameters, exclusive=True)
    assert outcome.decisions[:, 0].tolist() == [[PRESENT, ABSENT, ABSTAIN], [ABSENT, ABSENT, ABSTAIN]]
    assert outcome.abstain_fraction == pytest.approx(1 / 3)
    assert outcome.selected[:, 0, 2].tolist() == [False, True], "the third pixel's class is the second structure, though not certified"


def test_a_union_of_classes_is_certified_where_no_class_is() -> None:
    """The third pixel is one of the two structures in all draws; K = 3 pixels × (1 + 1 union)."""
    parameters = SmoothingParameters(n0=10, n=100, unions=((0, 1),))
    first = np.array([[[10, 0, 4]], [[0, 0, 6]], [[10, 0, 10]]])
    rest = np.array([[[99, 1, 60]], [[1, 0, 40]], [[100, 1, 100]]])
    outcome = outcome_of(first, rest, parameters, exclusive=True)
    assert outcome.decisions[:, 0].tolist() == [[PRESENT, ABSENT, ABSTAIN], [ABSENT, ABSENT, ABSTAIN], [PRESENT, ABSENT, PRESENT]]
    assert outcome.fallback_fraction(0) == pytest.approx(1 / 3)
    assert outcome.abstain_fraction == pytest.approx(1 / 3), "of structures alone"
    expected = holm_reject(np.array([99, 99, 40, 100, 99, 100]), n=100, tau=0.75, alpha=1e-3)
    assert (outcome.decisions[[0, 2], 0] != ABSTAIN).ravel().tolist() == expected.tolist()


def test_softmax_votes_leave_exactly_one_class() -> None:
    base = BaseSegmenter(Fit(1, 1), lambda noisy: noisy, "none", lambda x: torch.cat([0.5 - x, x - 0.5, 0 * x], 1), exclusive=True)
    trial = tried(images(1), [base])[0][0]
    outcome = trial.outcome()
    assert trial.counts.shape == (1, 8, 8), "one hypothesis a pixel"
    assert outcome.decisions.shape == (2, 8, 8), "the background is no structure"
    assert ((outcome.decisions == PRESENT).sum(0) <= 1).all()
    assert (outcome.decisions[0] == PRESENT).any()


def test_dice_over_the_radius_falls_and_ends_where_the_draws_do() -> None:
    picture = torch.zeros(1, 8, 8)
    picture[:, :, :4] = 1.0
    outcome = tried([picture], [segmenter()])[0][0].outcome()
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


def test_over_the_radius_an_image_has_a_score_where_the_certified_dice_has_one() -> None:
    """Of an empty reference a certified finding is wrong, and no finding is no score: there as at the radius of tau."""
    picture = torch.zeros(1, 8, 8)
    picture[:, :, :4] = 1.0
    outcome = tried([picture], [segmenter()])[0][0].outcome()
    empty = np.zeros((8, 8), bool)
    series = outcome.dice_at_radii(0, empty)
    assert series[0] == outcome.scores(0, empty).certified[0] == 0.0
    assert np.isnan(series[-1])


def test_radii_after_several_looks_pay_for_all_of_them() -> None:
    """The draws chose the look at which the test stopped, so that bounds are at alpha / (K · looks)."""
    parameters = replace(PARAMETERS, looks=(46, 52, 60))
    trial = tried(images(1), [segmenter()], parameters=parameters)[0][0]
    outcome = trial.outcome()
    best = float(np.max(outcome.radii))
    assert int(trial.counts.max()) == outcome.draws == 60
    assert best == pytest.approx(NormalDist().inv_cdf((1e-3 / 3 / trial.counts.size) ** (1 / 60)))


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
