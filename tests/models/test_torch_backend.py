"""The PyTorch backend behind the sampler's port: calls of one shape, work shared, votes counted where they are computed, float32 kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.errors import BundleError
from certdicom.models.backends.calls import FixedBatches, PerImage, fixed_calls
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.backends.ways import LARGE_GPU, PROCESSOR, Way
from certdicom.models.bundle import Bundle, load_bundle
from tests.tiny import write_tiny_bundle

PARAMETERS = SmoothingParameters(sigma=0.1, n0=5, n=60)
ON_DEVICE = Way(images_a_call=11)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="module")
def sibling(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another segmenter behind the same denoiser."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "sibling", seed=5)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 16, 16), np.float32)


def test_a_function_is_called_with_one_number_of_images_whatever_it_is_handed() -> None:
    sizes: list[int] = []

    def note(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        assert torch.is_inference_mode_enabled()
        return batch + 1

    for count in (1, 4, 5, 13):
        batch = torch.arange(float(count)).view(count, 1)
        assert torch.equal(FixedBatches(note, size=4)(batch), batch + 1)
    assert set(sizes) == {4}
    assert len(sizes) == 1 + 1 + 2 + 4
    assert isinstance(fixed_calls(note, PROCESSOR), PerImage)
    assert isinstance(fixed_calls(note, LARGE_GPU), FixedBatches)


def test_what_is_said_of_an_image_depends_on_no_batch(bundle: Bundle) -> None:
    logits = TorchBackend(device="cpu", precision="float32").base_segmenter(bundle, sigma=0.1).logits
    noisy = np.random.default_rng(1).random((9, 1, 16, 16), np.float32)
    together = logits(noisy)
    assert together.dtype == np.float32
    for part in (slice(0, 1), slice(2, 9), slice(4, 6)):
        assert np.array_equal(together[part], logits(noisy[part].copy()))


def test_votes_counted_on_the_device_are_those_counted_here(bundle: Bundle, tmp_path: Path) -> None:
    """Without a GPU: the same code with tensors on the CPU. With thresholds, unions, several images and both activations."""
    softmax = write_tiny_bundle(tmp_path / "softmax", activation="softmax")
    for kind in (replace(bundle, thresholds=((0.1, (0.02, -0.03)),)), replace(softmax, thresholds=((0.1, (-0.01, 0.01)),))):
        found = []
        for way in (PROCESSOR, ON_DEVICE):
            segmenter = TorchBackend(device="cpu", precision="float32", way=way).base_segmenter(kind, sigma=0.1)
            assert segmenter.draws_itself is way.on_device
            united = replace(PARAMETERS, unions=((0, 1),))
            found.append(certify_grids([image(0), image(1)], [segmenter], [united], seeds=[b"a", b"b"], batch_size=7))
        for here, there in zip(*found, strict=True):
            assert np.array_equal(here[0].counts, there[0].counts)
            assert np.array_equal(here[0].decisions, there[0].decisions)
            assert np.array_equal(here[0].unions.counts, there[0].unions.counts)


@pytest.mark.parametrize(("way", "where"), [(PROCESSOR, "draw 0"), (ON_DEVICE, "one of the draws 0 to 4")])
def test_logits_that_are_not_finite_are_refused_wherever_they_are_counted(bundle: Bundle, way: Way, where: str) -> None:
    backend = TorchBackend(device="cpu", precision="float32", way=way)
    huge = replace(bundle, name="huge")
    backend._stages._loaded["segmenter", huge.sha256, "float32"] = lambda clean: torch.where(clean > 0.9, torch.inf, clean).expand(
        -1, 2, -1, -1
    )
    with pytest.raises(BundleError, match=f"not finite in {where}"):
        certify_grids([image()], [backend.base_segmenter(huge, sigma=0.1)], [PARAMETERS], seeds=[b"x"], batch_size=7)


def test_each_noise_image_is_denoised_once_for_all_who_share_a_denoiser(
    bundle: Bundle, sibling: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    denoised: list[int] = []
    monkeypatch.setattr(
        "certdicom.models.backends.torch.load_denoiser",
        lambda *_, **__: lambda noisy: (denoised.append(len(noisy)), noisy.clamp(0, 1))[1],
    )
    backend = TorchBackend(device="cpu", precision="float32")
    bases = [backend.base_segmenter(each, sigma=0.1) for each in (bundle, sibling)]
    ((first, second),) = certify_grids([image()], bases, [PARAMETERS] * 2, seeds=[b"x"], batch_size=13)
    assert sum(denoised) == 65, "65 draws, two segmenters"
    assert not np.array_equal(first.counts, second.counts)


def test_the_same_logits_at_other_thresholds_are_computed_once(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What choosing thresholds does: one segmenter, nine thresholds."""
    segmented: list[int] = []
    backend = TorchBackend(device="cpu", precision="float32")
    base = backend.base_segmenter(bundle, sigma=0.1)
    key = ("segmenter", bundle.sha256, "float32")
    network = backend._stages._loaded[key]
    fresh = TorchBackend(device="cpu", precision="float32")
    fresh._stages._loaded[key] = lambda clean: (segmented.append(len(clean)), network(clean))[1]
    levels = [replace(fresh.base_segmenter(bundle, sigma=0.1), thresholds=(level, level)) for level in (0.0, -0.1, 0.1)]
    (results,) = certify_grids([image()], levels, [PARAMETERS] * 3, seeds=[b"x"], batch_size=13)
    assert sum(segmented) == 65
    alone = certify_grids([image()], [replace(base, thresholds=(-0.1, -0.1))], [PARAMETERS], seeds=[b"x"], batch_size=65)[0][0]
    assert np.array_equal(results[1].counts, alone.counts)


def test_float32_is_float32() -> None:
    """PyTorch lets convolutions on a GPU round to TF32 (10 bits of mantissa) unless it is told not to."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = True
    backend = TorchBackend(device="cpu", precision="float32")
    assert not torch.backends.cudnn.allow_tf32
    assert not torch.backends.cuda.matmul.allow_tf32
    assert torch.get_float32_matmul_precision() == "highest"
    assert backend.name == f"PyTorch {torch.__version__}"


def test_weights_that_a_precision_cannot_hold_are_refused() -> None:
    """Variances of a batch norm above 65,504 would be infinite in float16, and silence a channel without any other sign."""
    skin = load_bundle("skin-rgb-192x256")
    backend = TorchBackend(device="cpu", precision="float16")
    with pytest.raises(
        BundleError, match="segmenter of bundle skin-rgb-192x256 has weights too large for float16: use --precision bfloat16"
    ):
        backend.base_segmenter(skin, sigma=0.25).logits(np.zeros((1, 3, 192, 256), np.float32))


def test_gpus_are_called_with_one_batch(bundle: Bundle) -> None:
    """The way of a GPU, walked on the CPU: the last call is filled up, and --batch bounds memory alone."""
    counts = []
    for batch_size in (1, 7, 10, 64):
        base = TorchBackend(device="cpu", precision="float32", way=ON_DEVICE).base_segmenter(bundle, sigma=0.1)
        counts.append(certify_grids([image()], [base], [PARAMETERS], seeds=[b"x"], batch_size=batch_size)[0][0].counts)
    assert all(np.array_equal(counts[0], other) for other in counts)
