"""Bundles: reading, checking, and the networks in them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch

from certdicom import load_bundle
from certdicom.errors import BundleError, UsageError
from certdicom.imaging.synthetic import chest_phantom
from certdicom.models.backends.torch import choose_device, choose_precision, load_denoiser, load_network
from certdicom.models.bundle import shipped_bundles
from certdicom.models.networks import PatchDenoiser, PatchSegmenter, build_network
from tests.drawing import Segmenter, noisy_batch

DEFAULT_MOST = 12 * 1024**2
SHIPPED_MOST = 48_000_000


def test_the_shipped_weights_are_half_precision_and_small() -> None:
    from safetensors.torch import load

    for name in shipped_bundles():
        bundle = load_bundle(name)
        for role, digest in bundle.weights_sha256.items():
            assert hashlib.sha256(bundle.weights(role)).hexdigest() == digest
            for weight, value in load(bundle.weights(role)).items():
                counted = weight.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")
                assert counted or value.dtype == torch.float16
    bundle = load_bundle()
    assert sum(len(bundle.weights(role)) for role in bundle.networks) <= DEFAULT_MOST
    shelves = {load_bundle(name).folder.parent for name in shipped_bundles()}
    assert sum(path.stat().st_size for shelf in shelves for path in shelf.glob("*/*")) <= SHIPPED_MOST


@pytest.mark.parametrize("name", shipped_bundles())
def test_every_shipped_network_is_built_and_gives_finite_logits_on_its_grid(name: str) -> None:
    bundle = load_bundle(name)
    sigma = bundle.nearest_sigma(0.25)
    decide = Segmenter(bundle, sigma=sigma, precision="bfloat16")
    noisy = noisy_batch(torch.full((bundle.channels, *bundle.shape), 0.5), sigma, seed=b"shipped", draws=range(1))
    logits = decide.logits(noisy)
    assert logits.shape == (1, len(bundle.structures), *bundle.shape)
    assert bool(torch.isfinite(logits).all())


def test_the_shipped_denoiser_is_a_gray_diffusers_unet_on_a_linear_schedule() -> None:
    from diffusers import UNet2DModel

    bundle = load_bundle()
    denoiser = load_network(bundle, "denoiser")
    assert isinstance(denoiser, PatchDenoiser)
    assert isinstance(denoiser.net, UNet2DModel)
    assert (bundle.schedule.steps, bundle.schedule.beta_start, bundle.schedule.beta_end) == (1000, 1e-4, 2e-2)


@pytest.mark.parametrize(("precision", "side"), [("float32", 256), ("bfloat16", 96)])  # few CPUs compute in bfloat16 themselves
def test_the_base_segmenter_is_one_fixed_function_fed_with_float32_noise(precision: str, side: int) -> None:
    """Eval mode; the same logits at any place, in any batch and on any number of threads; noise is float32 in any precision."""
    decide = Segmenter(load_bundle(), sigma=0.25, precision=precision)
    assert not any(module.training for role in ("segmenter", "denoiser") for module in load_network(load_bundle(), role).modules())
    chest = torch.from_numpy(chest_phantom(side, side).density.clip(0, 1))[None]
    noisy = noisy_batch(chest, 0.25, seed=b"fixed", draws=range(3))
    assert noisy.dtype == torch.float32
    together = decide.logits(noisy)
    assert torch.equal(together, decide.logits(noisy[[2, 0, 1]])[[1, 2, 0]])
    assert torch.equal(together[:1], decide.logits(noisy[:1]))
    assert torch.equal(decide(noisy), together > torch.tensor(load_bundle().threshold(0.25)).view(-1, 1, 1))
    denoise = load_denoiser(load_bundle(), sigma=0.25, device=torch.device("cpu"), precision=precision)
    assert denoise(noisy[:1]).dtype == torch.float32
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3 if threads < 3 else 1)
        elsewhere = Segmenter(load_bundle(), sigma=0.25, precision=precision)
        assert torch.equal(together, elsewhere.logits(noisy))
    finally:
        torch.set_num_threads(threads)


def test_every_shipped_bundle_has_a_model_card_and_a_self_test() -> None:
    assert "cxr-gray-256" in shipped_bundles()
    for name in shipped_bundles():
        folder = load_bundle(name).folder
        assert "Research use only" in (folder / "MODEL_CARD.md").read_text()
        assert json.loads((folder / "selftest.json").read_text())["abstain_fraction"] < 0.5


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "name": "x"}'])
def test_a_description_that_does_not_fit_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(BundleError, match="not a bundle description"):
        load_bundle(tmp_path)


def test_weights_that_do_not_fit_the_description_are_refused(tmp_path: Path) -> None:
    bundle = load_bundle()
    fields = json.loads((bundle.folder / "bundle.json").read_text())
    fields["networks"]["segmenter"] = {"architecture": "UNet", "channels": 1, "structures": 3, "width": 2, "depth": 1}
    (tmp_path / "bundle.json").write_text(json.dumps(fields))
    for role in bundle.networks:
        (tmp_path / f"{role}.safetensors").write_bytes(bundle.weights(role))
    with pytest.raises(BundleError, match="do not fit its description"):
        load_network(load_bundle(tmp_path), "segmenter")


def test_thresholds_are_interpolated_and_held_at_the_ends() -> None:
    bundle = dataclasses.replace(load_bundle(), thresholds=((0.1, (0.0, -1.0, -2.0)), (0.3, (-1.0, -1.0, -4.0))))
    assert bundle.threshold(0.05) == pytest.approx((0, -1, -2))
    assert bundle.threshold(0.2) == pytest.approx((-0.5, -1, -3))
    assert bundle.threshold(1.0) == pytest.approx((-1, -1, -4))
    assert dataclasses.replace(bundle, thresholds=()).threshold(0.2) == (0, 0, 0)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(BundleError, match="unknown network architecture 'Transformer'"):
        build_network({"architecture": "Transformer"})
    with pytest.raises(BundleError, match="does not fit this version"):
        build_network({"architecture": "PatchSegmenter", "depth": 3})


def test_unshuffling_keeps_every_pixel_in_its_place() -> None:
    """A segmenter that is the identity on patches gives back the image's own pattern."""
    network = PatchSegmenter(channels=1, structures=1, patch=2, init_filters=8, blocks_down=[1], blocks_up=[])
    network.net = torch.nn.Identity()
    image = torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(network(image), 2 * image - 1)


def test_devices_and_precisions() -> None:
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    assert choose_precision("float32", torch.device("cpu")) == "float32"
    assert choose_precision("auto", torch.device("cpu")) in ("float32", "bfloat16")
    with pytest.raises(UsageError, match="unknown device"):
        choose_device("quantum")
    with pytest.raises(UsageError, match="unknown precision"):
        choose_precision("float8", torch.device("cpu"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_that_is_not_there_is_told() -> None:
    with pytest.raises(UsageError, match="sees no CUDA device"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("section", "kind", "mean"),
    [
        (None, "header-or-displayed", 0.53),
        ({"rule": "displayed"}, "displayed", 0.53),
        ({"mean": 0.5, "deviation": 0.27}, "header-or-displayed", 0.5),
    ],
)
def test_a_bundle_says_how_a_film_becomes_an_image(tmp_path, section, kind: str, mean: float) -> None:
    from tests.tiny import write_tiny_bundle

    folder = write_tiny_bundle(tmp_path / "tiny").folder
    path = folder / "bundle.json"
    described = json.loads(path.read_text())
    assert described["window"] == {"rule": "header-or-displayed", "mean": 0.53, "deviation": 0.25}, "what is written says it itself"
    del described["window"]
    path.write_text(json.dumps(described if section is None else {**described, "window": section}))
    window = load_bundle(folder).window
    assert (window.kind, window.moments.mean) == (kind, mean)


@pytest.mark.parametrize(
    ("section", "message"),
    [({"rule": "percentiles"}, "rule"), ({"mean": 0.9, "deviation": 0.4}, "no picture in"), ({"width": 3}, "width")],
)
def test_a_window_that_means_nothing_is_refused(tmp_path, section, message: str) -> None:
    from tests.tiny import write_tiny_bundle

    folder = write_tiny_bundle(tmp_path / "tiny").folder
    path = folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "window": section}))
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)
