"""The four ways to a smoothed model, and the denoisers behind them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from certdicom.certification.noise import standard_normal
from certdicom.certification.schedule import CosineSchedule, LinearSchedule, ScaledLinearSchedule, schedule_from
from certdicom.errors import BundleError, UsageError
from certdicom.models.backends.calls import PerImage
from certdicom.models.backends.denoisers import CoarseDenoiser, DirectDenoiser, MultiStepDenoiser, OneShotDenoiser, reverse_steps
from certdicom.models.backends.torch import load_denoiser
from certdicom.models.bundle import load_bundle
from certdicom.models.networks import build_network
from certdicom.research.training.bundle import write_bundle
from tests.drawing import Segmenter, noisy_batch
from tests.tiny import DENOISER

CPU = torch.device("cpu")
SEGMENTER = {"architecture": "UNet", "channels": 1, "structures": 1, "width": 4, "depth": 1, "padding": "zero"}


def write(folder: Path, *, networks: dict[str, dict[str, object]], **changes: object) -> Path:
    torch.manual_seed(2)
    description = {
        "name": "tiny",
        "grid": 32,
        "channels": 1,
        "structures": [{"label": "lungs", "code": ["39607008", "SCT", "Lung"]}],
        "sigma_range": [0.01, 1.0],
        "networks": networks,
        **changes,
    }
    write_bundle(folder, description=description, networks={role: build_network(text) for role, text in networks.items()})
    return folder


def images(count: int, *, seed: bytes = b"methods") -> torch.Tensor:
    u = torch.linspace(0, 1, 32).expand(1, 32, 32)
    return noisy_batch(u, 0.25, seed=seed, draws=range(count))


def wobbly(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A stand-in for a noise predictor that depends on image and time, image by image."""
    return torch.tanh(x_t * (1 + t.view(-1, 1, 1, 1) / 500)) + 0.1 * x_t.mean((1, 2, 3), keepdim=True)


OPTIONS = {"schedule": LinearSchedule(), "sigma": 0.25, "dtype": torch.float32}


@pytest.mark.parametrize("prediction", ["epsilon", "sample", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_reverse_steps_are_those_of_diffusers(prediction: str, eta: float) -> None:
    """DDIM at eta 0, DDPM's ancestral sampling at 1: diffusers takes the same steps with the same noise to the same image."""
    noisy = images(1)
    denoise = MultiStepDenoiser(wobbly, **OPTIONS, prediction=prediction, steps=10, eta=eta)
    assert denoise.time_steps == list(range(144, -1, -16))
    scheduler = DDIMScheduler(1000, beta_start=1e-4, beta_end=2e-2, clip_sample=True, prediction_type=prediction)
    scheduler.set_timesteps(62)  # whose stride is 16
    key = hashlib.sha256(noisy[0].numpy().tobytes()).digest()
    x_t = scheduler.alphas_cumprod[144] ** 0.5 * (2 * noisy - 1)
    for t in denoise.time_steps:
        fresh = torch.from_numpy(standard_normal(key, t, (1, 32, 32))).float()[None]
        output = wobbly(x_t, torch.tensor([t]))
        x_t = scheduler.step(output, t, x_t, eta=eta, use_clipped_model_output=True, variance_noise=fresh).prev_sample
    torch.testing.assert_close(denoise(noisy), (x_t + 1) / 2, atol=1e-4, rtol=0)


def test_every_step_from_t_down_to_0_is_taken_by_default() -> None:
    """The paper's Table S1: t*, t* - 1, … 0; the mean and the variance of each are DDPM's."""
    seen: list[int] = []

    def record(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(int(t[0]))
        return torch.zeros_like(x_t)

    MultiStepDenoiser(record, schedule=LinearSchedule(), sigma=0.05, dtype=torch.float32)(images(1))
    assert seen == list(range(LinearSchedule().time_step(0.05), -1, -1))
    alphas = LinearSchedule().alpha_bars()
    posterior = float(DDPMScheduler(1000, beta_start=1e-4, beta_end=2e-2, variance_type="fixed_small")._get_variance(20))
    assert (1 - alphas[19]) / (1 - alphas[20]) * (1 - alphas[20] / alphas[19]) == pytest.approx(posterior, rel=1e-3)


@pytest.mark.parametrize(("t", "steps", "expected"), [(3, None, [3, 2, 1, 0]), (3, 9, [3, 2, 1, 0]), (8, 3, [8, 4, 0]), (8, 1, [8])])
def test_fewer_steps_are_spread_evenly(t: int, steps: int | None, expected: list[int]) -> None:
    assert reverse_steps(t, steps) == expected


def test_one_step_is_the_one_shot_denoiser() -> None:
    noisy = images(2)
    assert torch.equal(MultiStepDenoiser(wobbly, **OPTIONS, steps=1)(noisy), OneShotDenoiser(wobbly, **OPTIONS)(noisy))


def test_the_noise_of_the_steps_is_a_function_of_the_image_alone() -> None:
    """The same image gives the same result at any place and at any time; another draw of the same film gets other noise."""
    denoise = MultiStepDenoiser(lambda x_t, t: torch.zeros_like(x_t), **OPTIONS, steps=4)
    noisy = images(3)
    together = denoise(noisy)
    assert torch.equal(together, denoise(noisy[[2, 0, 1]])[[1, 2, 0]])
    assert torch.equal(together[1:2], denoise(noisy[1:2]))
    ddim = MultiStepDenoiser(lambda x_t, t: torch.zeros_like(x_t), **OPTIONS, steps=4, eta=0.0)
    added = (together - ddim(noisy)).flatten(1)
    assert float(torch.corrcoef(added).fill_diagonal_(0).abs().max()) < 0.15
    nudged = noisy.clone()
    nudged[0, 0, 0, 0] += 1e-3
    assert float((denoise(nudged)[0] - together[0]).abs().mean()) > 1e-3, "a pseudo-random function of the whole image"


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 1 step"):
        MultiStepDenoiser(wobbly, **OPTIONS, steps=0)
    with pytest.raises(UsageError, match="eta must be between"):
        MultiStepDenoiser(wobbly, **OPTIONS, eta=1.5)


def test_a_coarser_denoiser_meets_independent_noise_of_its_own_sigma() -> None:
    seen: list[torch.Tensor] = []

    def record(noisy: torch.Tensor) -> torch.Tensor:
        seen.append(noisy)
        return noisy.clamp(0, 1)

    noisy = noisy_batch(torch.full((1, 128, 128), 0.5), 0.25, seed=b"coarse", draws=range(4))
    assert CoarseDenoiser(record, factor=2)(noisy).shape == noisy.shape
    noise = seen[0] - 0.5
    assert noise.shape == (4, 1, 64, 64)
    assert float(noise.std()) == pytest.approx(0.125, rel=0.02)
    assert abs(float((noise[..., 1:] * noise[..., :-1]).mean())) < 0.02 * 0.125**2 * 3


def test_schedules_are_those_of_diffusers() -> None:
    for name, ours in (("scaled_linear", ScaledLinearSchedule()), ("squaredcos_cap_v2", CosineSchedule())):
        theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=2e-2, beta_schedule=name).alphas_cumprod.numpy()
        np.testing.assert_allclose(ours.alpha_bars()[:990], theirs[:990], rtol=1e-3)
    assert schedule_from({"kind": "cosine", "steps": 10}) == CosineSchedule(10)
    assert schedule_from({"beta_end": 0.01}) == LinearSchedule(beta_end=0.01)
    with pytest.raises(ValueError, match="unknown schedule 'square'"):
        schedule_from({"kind": "square"})


def test_each_image_is_computed_alone_and_in_order_on_one_thread() -> None:
    sizes: list[int] = []

    def note(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        assert torch.is_inference_mode_enabled()
        assert torch.get_num_threads() == 1
        return batch + 1

    batch = torch.arange(5.0).view(5, 1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        assert torch.equal(PerImage(note)(batch), batch + 1)
        assert sizes == [1] * 5
        assert torch.get_num_threads() == 3, "the workers' setting stays theirs"
    finally:
        torch.set_num_threads(threads)


def test_segcertify_has_no_denoiser(tmp_path: Path) -> None:
    bundle = load_bundle(write(tmp_path, networks={"segmenter": SEGMENTER}))
    assert bundle.denoising.method == "segcertify"
    denoise = load_denoiser(bundle, sigma=0.25, device=CPU, precision="float32")
    assert torch.equal(denoise(images(2)), images(2)), "not even clipped: the network was trained on noise as it is"


def test_multi_step_is_said_in_the_description(tmp_path: Path) -> None:
    folder = write(tmp_path, networks={"segmenter": SEGMENTER, "denoiser": DENOISER}, denoising={"method": "multi-step", "steps": 3})
    decide = Segmenter(load_bundle(folder), sigma=0.25, precision="float32")
    noisy = images(3)
    together = decide.logits(noisy)
    assert torch.equal(together, decide.logits(noisy[[2, 0, 1]])[[1, 2, 0]])
    fields = json.loads((folder / "bundle.json").read_text())
    one_shot = tmp_path / "bundle.json"
    one_shot.write_text(json.dumps({**fields, "denoising": {"method": "one-shot"}}))
    other = Segmenter(load_bundle(tmp_path), sigma=0.25, precision="float32")
    assert not torch.equal(together, other.logits(noisy))


def test_a_denoiser_for_each_noise_level(tmp_path: Path) -> None:
    roles = {"segmenter": SEGMENTER, "denoiser@0.25": SEGMENTER, "denoiser@0.5": {**SEGMENTER, "width": 2}}
    bundle = load_bundle(write(tmp_path, networks=roles, denoising={"method": "direct"}))
    denoise = load_denoiser(bundle, sigma=0.5, device=CPU, precision="float32")
    clean = denoise(images(2))
    assert clean.shape == (2, 1, 32, 32)
    assert 0 <= float(clean.min()) <= float(clean.max()) <= 1
    with pytest.raises(BundleError, match=r"one for each of 0\.25, 0\.5"):
        bundle.require_sigma(0.3)
    assert float(DirectDenoiser(lambda image: 3 * image, dtype=torch.float32)(torch.ones(1, 1, 2, 2)).max()) == 1


@pytest.mark.parametrize(
    ("roles", "denoising", "message"),
    [
        (("segmenter",), {"method": "one-shot"}, "must name segmenter and denoiser"),
        (("segmenter", "denoiser"), {"method": "segcertify"}, "must name a segmenter alone"),
        (("segmenter", "denoiser"), {"method": "direct"}, "one denoiser@SIGMA for each"),
        (("denoiser",), {}, "must name a segmenter"),
        (("segmenter", "denoiser"), {"method": "prayer"}, "unknown method 'prayer'"),
        (("segmenter", "denoiser"), {"prediction": "x"}, "unknown prediction 'x'"),
    ],
)
def test_descriptions_that_contradict_themselves_are_refused(
    tmp_path: Path, roles: tuple[str, ...], denoising: dict[str, str], message: str
) -> None:
    networks = {"segmenter": SEGMENTER, "denoiser": DENOISER}
    folder = write(tmp_path, networks={role: networks[role] for role in roles}, denoising=denoising)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_a_colour_model_doubts_each_channel_on_its_own(tmp_path: Path) -> None:
    """Gray repeated to three channels, noise independent in each: what a colour segmenter behind it sees."""
    folder = write(tmp_path, networks={"segmenter": {**SEGMENTER, "channels": 3}}, channels=3)
    decide = Segmenter(load_bundle(folder), sigma=0.25, precision="float32")
    noisy = noisy_batch(torch.full((3, 32, 32), 0.5), 0.25, seed=b"colour", draws=range(2))
    assert float(torch.corrcoef(noisy[0].flatten(1)).fill_diagonal_(0).abs().max()) < 0.15
    assert decide.logits(noisy).shape == (2, 1, 32, 32)


def test_a_gray_film_through_a_colour_model_is_certified_for_a_smaller_native_radius(tmp_path: Path) -> None:
    """Three copies of a change are √3 times as long as the change."""
    from certdicom.certification.parameters import SmoothingParameters
    from certdicom.imaging.reading import read_radiograph
    from certdicom.imaging.synthetic import film_bytes, synthetic_film
    from certdicom.pipeline import Certifier, Computation

    film = read_radiograph(film_bytes(synthetic_film(rows=96, columns=64)[0]))
    found = {}
    for channels in (1, 3):
        folder = write(tmp_path / str(channels), networks={"segmenter": {**SEGMENTER, "channels": channels}}, channels=channels)
        certifier = Certifier(load_bundle(folder), SmoothingParameters(sigma=0.1), Computation(device="cpu", precision="float32"))
        found[channels] = certifier.certify(film, accept_any=True).certificate
    assert found[3].radius == found[1].radius
    assert found[3].native_radius == pytest.approx(found[1].native_radius / 3**0.5)
    assert any("repeated to 3 channels with independent noise" in note for note in found[3].notes)
    assert not any("channels" in note for note in found[1].notes)
