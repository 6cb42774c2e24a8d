"""Unions of structures: counted draw by draw, tested in the one family, and never more often wrong than alpha."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binom, norm
from statsmodels.stats.multitest import multipletests

from certdicom.certification import SmoothingParameters, certify_grid, holm_reject
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.noise import noisy_image
from certdicom.certification.unions import fallback
from certdicom.errors import UsageError

SEED = b"a seed for tests, thirty-two byt"


def either_side(batch: torch.Tensor) -> torch.Tensor:
    """Two structures of which exactly one is there, by the sign of the noise; a third that is nowhere."""
    first = batch > 0
    return torch.cat([first, ~first, torch.zeros_like(first)], 1)


def test_where_neither_can_be_certified_that_one_of_them_is_there_can() -> None:
    parameters = SmoothingParameters(unions=((0, 1), (0, 2)))
    result = certify_grid(np.zeros((1, 6, 6), np.float32), either_side, parameters, seed=SEED)
    assert (result.decisions[:2] == ABSTAIN).all()
    assert (result.decisions[2] == ABSENT).all()
    assert result.unions is not None
    assert (result.unions.decisions[0] == PRESENT).all()
    assert (result.unions.counts[0] == 100).all()
    assert (result.unions.decisions[1] == ABSTAIN).all()
    assert fallback(result.decisions, result.unions.decisions[0], members=(0, 1)).all()
    assert not fallback(result.decisions, result.unions.decisions[1], members=(0, 2)).any()


def three_thresholds(batch: torch.Tensor) -> torch.Tensor:
    return torch.cat([batch > 0.6, batch < 0.1, (batch > 0.3) & (batch < 0.7)], 1)


def test_leaves_and_unions_are_one_family_counted_draw_by_draw() -> None:
    """Votes by hand, then statsmodels' Holm over structures and unions together."""
    unions = ((0, 2), (0, 1, 2), (1, 2))
    parameters = SmoothingParameters(sigma=0.2, n=80, alpha=0.05, unions=unions)
    u = np.random.default_rng(0).uniform(-0.6, 1.6, (1, 14, 14)).astype(np.float32)
    result = certify_grid(u, three_thresholds, parameters, seed=SEED)
    noisy = np.stack([noisy_image(u, 0.2, seed=SEED, draw=draw) for draw in range(90)])
    leaves = three_thresholds(torch.from_numpy(noisy)).numpy()
    votes = np.concatenate([leaves, *(leaves[:, list(members)].any(1, keepdims=True) for members in unions)], 1)
    selected = 2 * votes[:10].sum(0) > 10
    counts = np.where(selected, votes[10:].sum(0), 80 - votes[10:].sum(0))
    certified = multipletests(binom.sf(counts.ravel() - 1, 80, 0.75), alpha=0.05, method="holm")[0].reshape(counts.shape)
    expected = np.where(certified, np.where(selected, PRESENT, ABSENT), ABSTAIN)
    assert result.unions is not None
    assert result.unions.members == unions
    assert np.array_equal(np.concatenate([result.counts, result.unions.counts]), counts)
    assert np.array_equal(np.concatenate([result.decisions, result.unions.decisions]), expected)
    assert 0 < certified.sum() < certified.size


@pytest.mark.parametrize("looks", [(), (60, 80)])
def test_decisions_of_a_union_and_of_its_members_never_contradict_each_other(looks: tuple[int, ...]) -> None:
    """A certified present member makes its union certified present, a certified absent union all members certified absent."""
    parameters = SmoothingParameters(sigma=0.2, n=80, alpha=0.05, unions=((0, 2), (0, 1, 2)), looks=looks)
    u = np.random.default_rng(1).uniform(-0.6, 1.6, (1, 20, 20)).astype(np.float32)
    result = certify_grid(u, three_thresholds, parameters, seed=SEED)
    assert result.unions is not None
    for members, union in zip(result.unions.members, result.unions.decisions, strict=True):
        inside = result.decisions[list(members)]
        assert (union[(inside == PRESENT).any(axis=0)] == PRESENT).all()
        assert (inside[:, union == ABSENT] == ABSENT).all()
    assert fallback(result.decisions, result.unions.decisions[1], members=(0, 1, 2)).any()


def test_leaves_are_seen_alone_before_the_long_count() -> None:
    seen: list[tuple[int, ...]] = []
    parameters = SmoothingParameters(unions=((0, 1),))
    u = np.zeros((1, 4, 4), np.float32)
    certify_grid(u, either_side, parameters, seed=SEED, after_selection=lambda selected: seen.append(selected.shape))
    assert seen == [(3, 4, 4)]


def test_unions_add_to_the_family() -> None:
    """What three structures of 40 × 40 can certify with 54 draws, three structures and a union cannot."""
    u = np.zeros((1, 40, 40), np.float32)
    certify_grid(u, either_side, SmoothingParameters(n=54), seed=SEED, structures=3)
    with pytest.raises(UsageError, match="6400 decisions"):
        certify_grid(u, either_side, SmoothingParameters(n=54, unions=((0, 1),)), seed=SEED, structures=3)


_EDGES = torch.tensor(norm.ppf([0.25, 5 / 12, 7 / 12, 0.75]), dtype=torch.float32)


def thirds(batch: torch.Tensor) -> torch.Tensor:
    """Per channel three structures that exclude each other, each with probability 1/6: any of them is there with probability ½."""
    noise = batch / 0.25
    bins = [(noise > _EDGES[part]) & (noise <= _EDGES[part + 1]) for part in range(3)]
    return torch.stack(bins, 2).flatten(1, 2)


def test_the_family_wise_error_holds_over_leaves_and_unions_and_not_with_a_family_for_each_union() -> None:
    """At tau = ½ every union is a true null at the boundary, while all its members are surely absent and fall first.

    200 images, 3 unions over 9 structures, alpha = 10 %. A family for every union, each at alpha, would be wrong up to
    three times as often.
    """
    runs, alpha = 200, 0.1
    parameters = SmoothingParameters(tau=0.5, n0=1, n=97, alpha=alpha, unions=((0, 1, 2), (3, 4, 5), (6, 7, 8)))
    u = np.zeros((3, 2, 4), np.float32)
    joint = apart = 0
    for run in range(runs):
        result = certify_grid(u, thirds, parameters, seed=b"run %d" % run, batch_size=98)
        assert result.unions is not None
        joint += bool((result.unions.decisions != ABSTAIN).any())
        apart += any(holm_reject(counts, n=97, tau=0.5, alpha=alpha).any() for counts in result.unions.counts)
        assert (result.decisions == ABSENT).mean() > 0.5
    allowed = binom.ppf(0.999, runs, alpha)
    assert 0 < joint <= allowed
    assert apart > allowed, "the test must see a family-wise error above alpha"


@pytest.mark.parametrize("unions", [((0,),), ((0, 0),), ((-1, 0),), ((0, 1), (1, 0))])
def test_unions_that_are_none_are_refused(unions: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(UsageError, match=r"^unions must be"):
        SmoothingParameters(unions=unions)


def test_a_union_of_unknown_structures_is_refused() -> None:
    with pytest.raises(UsageError, match=r"structures 0 … 2, not 7"):
        certify_grid(np.zeros((1, 4, 4), np.float32), either_side, SmoothingParameters(unions=((0, 7),)), seed=SEED)
