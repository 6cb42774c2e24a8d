"""`Smoothed` certifies a network of one's own exactly as a bundle of the same networks is certified."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from certdicom import Smoothed, SmoothingParameters, UsageError
from certdicom.certification import LinearSchedule, certify_grid
from certdicom.certification.sampling import certify_grids
from certdicom.models.backends.torch import TorchBackend, load_network
from tests.tiny import write_tiny_bundle

U = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16)
SEED = b"the same draws"


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_decides_as_a_bundle_of_the_same_networks(tmp_path: Path, activation: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny", activation=activation)
    parameters = SmoothingParameters(sigma=0.1, n0=5, n=60)
    backend = TorchBackend(device="cpu", precision="float32")
    ((expected,),) = certify_grids([U], [backend.base_segmenter(bundle, sigma=0.1)], [parameters], seeds=[SEED], batch_size=7)
    model = Smoothed(
        load_network(bundle, "segmenter"),
        denoiser=load_network(bundle, "denoiser"),
        schedule=bundle.schedule,
        sigma=0.1,
        softmax=activation == "softmax",
        device="cpu",
    )
    found = model.certify(torch.from_numpy(U), n0=5, n=60, seed=SEED)
    assert np.array_equal(found.decisions, expected.decisions)
    assert np.array_equal(found.counts, expected.counts)
    assert found.radius == parameters.radius


def test_without_a_denoiser_it_is_certify_grid_with_a_threshold() -> None:
    def logits(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([images, 1 - images], 1)

    expected = certify_grid(U, lambda noisy: logits(noisy) > 0.5, SmoothingParameters(sigma=0.1, n=60), seed=SEED)
    found = Smoothed(logits, sigma=0.1, threshold=0.5, device="cpu").certify(U, n=60, seed=SEED)
    each = Smoothed(logits, sigma=0.1, threshold=[0.5, 0.5], device="cpu").certify(U, n=60, seed=SEED)
    assert np.array_equal(found.decisions, expected.decisions)
    assert np.array_equal(each.counts, expected.counts)


def test_a_diffusers_model_may_answer_in_its_own_object() -> None:
    def epsilon(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return 0.1 * x_t * (t.view(-1, 1, 1, 1) > 0)

    models = [
        Smoothed(lambda images: images - 0.5, denoiser=denoiser, schedule=LinearSchedule(), sigma=0.1, device="cpu")
        for denoiser in (epsilon, lambda x_t, t: SimpleNamespace(sample=epsilon(x_t, t)))
    ]
    first, second = (model.certify(U, n=60, seed=SEED) for model in models)
    assert np.array_equal(first.counts, second.counts)


def test_each_call_draws_afresh_unless_a_seed_is_given() -> None:
    model = Smoothed(lambda images: images - 0.5, sigma=0.3, device="cpu")
    assert not np.array_equal(model.certify(U, n=60).counts, model.certify(U, n=60).counts)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"denoiser": lambda x_t, t: x_t}, "give both or neither"),
        ({"sigma": -1.0}, "sigma must be a positive number"),
        ({"device": "quantum"}, "unknown device"),
    ],
)
def test_what_cannot_work_is_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Smoothed(lambda images: images, **{"sigma": 0.1, **options})


def test_a_segmenter_of_another_grid_is_named() -> None:
    with pytest.raises(UsageError, match=r"must give logits \(1, structures, 16, 16\), not \(1, 1, 8, 8\)"):
        Smoothed(lambda images: images[..., ::2, ::2], sigma=0.1, device="cpu").certify(U)
