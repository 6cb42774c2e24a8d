"""A bundle's networks, loaded and ready on a device in one precision."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from certdicom.certification.denoised import BaseSegmenter
from certdicom.certification.denoisers import CoarseDenoiser, Denoise, DirectDenoiser, MultiStepDenoiser, OneShotDenoiser, unchanged
from certdicom.errors import BundleError, UsageError, one_line
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.models.fitting import FittedSegmenter, margins
from certdicom.models.networks import build_network
from certdicom.models.precision import from_disk

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_ASIDE = frozenset({"input", "output", "file"})
"""Of a network's description, what is not an argument of its constructor."""

_log = logging.getLogger(__name__)


def choose_device(request: str) -> torch.device:
    """`auto` (CUDA if there is one), `cpu`, `cuda` or `cuda:i`. UsageError when it is not there."""
    if request == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(request)
    except RuntimeError as error:
        raise UsageError(f"unknown device {request!r}: use auto, cpu, cuda or cuda:0") from error
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"unknown device {request!r}: use auto, cpu, cuda or cuda:0")
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise UsageError(f"device {request} was asked for, but this PyTorch sees no CUDA device; use --device cpu")
        if device.index is not None and device.index >= torch.cuda.device_count():
            raise UsageError(f"device {request} was asked for, but there are only {torch.cuda.device_count()} CUDA devices")
    return device


def choose_precision(request: str, device: torch.device) -> str:
    """`auto` is bfloat16 where the device computes in it natively, else float32. UsageError for an unknown name."""
    if request == "auto":
        native = torch.cuda.is_bf16_supported() if device.type == "cuda" else _cpu_has_bfloat16()
        return "bfloat16" if native else "float32"
    if request not in PRECISIONS:
        raise UsageError(f"unknown precision {request!r}: use auto, {', '.join(PRECISIONS)}")
    return request


def _cpu_has_bfloat16() -> bool:
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def load_network(bundle: Bundle, role: str) -> nn.Module:
    """The network of one role with its weights, in eval mode, float32 on the CPU.

    The segmenter takes the bundle's images in [0, 1] and gives its logits, whatever the network in it takes and gives.
    BundleError when it cannot be built or its weights do not fit.
    """
    description = bundle.networks[role]
    if "format" in description:
        from certdicom.models.foreign import load_foreign

        network = load_foreign(description, bundle.files(role))
    else:
        network = _own(bundle, role)
    as_it_is = bundle.feeding.plain and bundle.feeding.channels == bundle.channels and bundle.reading.plain(bundle.activation)
    if role == SEGMENTER and not as_it_is:
        network = FittedSegmenter(network, feeding=bundle.feeding, reading=bundle.reading, activation=bundle.activation)
    network = network.eval().requires_grad_(False)
    if "format" in description and role == SEGMENTER:
        _require_one_function(bundle, network)
    return network


def _own(bundle: Bundle, role: str) -> nn.Module:
    """A network that certdicom builds itself."""
    network = build_network({name: value for name, value in bundle.networks[role].items() if name not in _ASIDE})
    try:
        network.load_state_dict(from_disk(load(bundle.weights(role))))
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"the {role} weights of bundle {bundle.name} do not fit its description: {reason}") from error
    return network


def _require_one_function(bundle: Bundle, network: nn.Module) -> None:
    """BundleError unless a segmenter that somebody else wrote gives finite logits of the right shape, and the same ones twice."""
    image = torch.rand((1, bundle.channels, *bundle.shape), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        try:
            first, second = network(image), network(image)
        except (RuntimeError, TypeError, ValueError) as error:
            raise BundleError(f"the segmenter of bundle {bundle.name} fails on its own grid: {one_line(error)[:300]}") from error
    classes = len(bundle.structures) + (bundle.activation == "softmax")
    if tuple(first.shape) != (1, classes, *bundle.shape) or not bool(torch.isfinite(first).all()):
        raise BundleError(
            f"the segmenter of bundle {bundle.name} gives {tuple(first.shape)}, or values that are not finite, on its own grid"
        )
    if not torch.equal(first, second):
        raise BundleError(f"the segmenter of bundle {bundle.name} gives different logits for the same image; save it in eval mode")


def load_denoiser(bundle: Bundle, *, sigma: float, device: torch.device, precision: str) -> Denoise:
    """The bundle's way to denoise images of its grid with noise `sigma`. BundleError when it was not made for that noise."""
    denoising, dtype = bundle.denoising, PRECISIONS[precision]
    if denoising.method == "segcertify":
        return unchanged
    role = bundle.direct_role(sigma) if denoising.method == "direct" else DENOISER
    network = load_network(bundle, role).to(device=device, dtype=dtype)
    denoise: Denoise
    if denoising.method == "direct":
        denoise = DirectDenoiser(network, dtype=dtype)
    else:
        reaching = sigma / denoising.factor
        if denoising.method == "one-shot":
            denoise = OneShotDenoiser(network, schedule=bundle.schedule, sigma=reaching, dtype=dtype, prediction=denoising.prediction)
        else:
            denoise = MultiStepDenoiser(
                network,
                schedule=bundle.schedule,
                sigma=reaching,
                dtype=dtype,
                prediction=denoising.prediction,
                steps=denoising.steps,
                eta=denoising.eta,
            )
    if denoising.factor == 1:
        return denoise
    return CoarseDenoiser(denoise, factor=denoising.factor, smooth=bundle.feeding.factor % denoising.factor != 0)


class DenoisedSegmenter(BaseSegmenter):
    """A bundle's base segmenter for one noise level, on `device`, in `precision` (a name in PRECISIONS)."""

    def __init__(self, bundle: Bundle, *, sigma: float, device: torch.device, precision: str) -> None:
        bundle.require_sigma(sigma)
        if bundle.notice:
            _log.warning("bundle %s: %s", bundle.name, bundle.notice)
        dtype = PRECISIONS[precision]
        self.segmenter = load_network(bundle, SEGMENTER).to(device=device, dtype=dtype)
        super().__init__(
            load_denoiser(bundle, sigma=sigma, device=device, precision=precision),
            self._exclusive if bundle.activation == "softmax" else self.segmenter,
            dtype=dtype,
            threshold=bundle.threshold(sigma),
        )

    def _exclusive(self, image: Tensor) -> Tensor:
        return margins(self.segmenter(image).float())
