"""Evaluation: means over films, unknown structures left out, the same figures at every run."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from certdicom import SmoothingParameters, load_bundle
from certdicom.evaluation.certified import evaluate_certified, evaluate_clean
from certdicom.imaging.synthetic import chest_phantom
from certdicom.datasets.picture import gray_picture
from certdicom.training.data import FilmSet, take


@pytest.fixture(scope="module")
def films() -> FilmSet:
    phantoms = [chest_phantom(256, 256, seed=seed) for seed in (1, 2)]
    images = np.stack([gray_picture((phantom.density * 4095).astype(np.int32), {}).on_grid((256, 256), channels=1, structures=()).u[0] for phantom in phantoms])[:, None]
    masks = np.stack([[phantom.masks[name] for name in ("lungs", "heart", "clavicles")] for phantom in phantoms])
    known = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])
    return FilmSet(images=torch.from_numpy(images), masks=torch.from_numpy(masks.astype(np.uint8)), known=known, names=("one", "two"))


def test_the_shipped_bundle_finds_the_drawn_chest_and_repeats_itself(films: FilmSet) -> None:
    bundle = load_bundle()
    parameters = SmoothingParameters(sigma=0.072, n0=3, n=70)
    first, second = (evaluate_certified(bundle, take(films, 1), parameters, precision="float32") for _ in range(2))
    assert first == second
    assert first.dice["certified"][0] > 0.8
    assert 0 < first.abstain_fraction < 0.3
    for structure in range(3):
        assert first.dice["worst_case"][structure] <= first.dice["certified"][structure] <= first.dice["answered"][structure]
        assert first.iou["certified"][structure] <= first.dice["certified"][structure]


def test_structures_without_a_mask_are_left_out(films: FilmSet) -> None:
    bundle = load_bundle()
    unknown = FilmSet(images=films.images[1:], masks=films.masks[1:], known=films.known[1:], names=films.names[1:])
    assert math.isnan(evaluate_clean(bundle, unknown)[2])
    both, first = evaluate_clean(bundle, films), evaluate_clean(bundle, take(films, 1))
    assert both[2] == first[2], "the clavicles' mean is over the one film that has them"
    assert both[0] != first[0]
