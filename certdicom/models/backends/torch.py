"""The PyTorch backend: networks of bundles on a device in one precision."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from certdicom.certification.sampling import BaseSegmenter, Batch
from certdicom.errors import BundleError, UsageError
from certdicom.models.backends.base import ImageAdapter, StagedBackend
from certdicom.models.backends.calls import BatchFunction, fixed_calls
from certdicom.models.backends.checks import require_sound
from certdicom.models.backends.denoisers import CoarseDenoiser, Denoise, DirectDenoiser, MultiStepDenoiser, OneShotDenoiser, unchanged
from certdicom.models.backends.stages import Stage, Stages
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.models.networks import build_network
from certdicom.models.networks.adapter import SegmenterAdapter
from certdicom.models.networks.precision import to_float32

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

GPU_IMAGES = 8
"""Images whose draws share batches on a GPU."""

_NOT_ARGUMENTS = frozenset({"input", "output", "file"})
"""Of a network's description, what is not an argument of its constructor."""


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
    """`auto` is bfloat16 on a GPU that computes in it natively, else float32. UsageError for an unknown name."""
    if request == "auto":
        return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"
    if request not in PRECISIONS:
        raise UsageError(f"unknown precision {request!r}: use auto, {', '.join(PRECISIONS)}")
    return request


def load_network(bundle: Bundle, role: str) -> nn.Module:
    """The network of one role with its weights, in eval mode, float32 on the CPU.

    The segmenter takes the bundle's images in [0, 1] and gives its logits, whatever the network in it takes and gives.
    BundleError when it cannot be built, its weights do not fit, or it does not give what its description says (`require_sound`).
    """
    description = bundle.networks[role]
    if "format" in description:
        from certdicom.models.networks.foreign import load_foreign

        network = load_foreign(description, bundle.files(role))
    else:
        network = _own(bundle, role)
    as_it_is = bundle.input_spec.plain and bundle.input_spec.channels == bundle.channels and bundle.output_spec.plain(bundle.activation)
    if role == SEGMENTER and not as_it_is:
        network = SegmenterAdapter(network, input_spec=bundle.input_spec, output_spec=bundle.output_spec, activation=bundle.activation)
    network = network.eval().requires_grad_(False)
    if role == SEGMENTER:
        require_sound(bundle, network)
    return network


def _own(bundle: Bundle, role: str) -> nn.Module:
    """A network that certdicom builds itself."""
    network = build_network({name: value for name, value in bundle.networks[role].items() if name not in _NOT_ARGUMENTS})
    try:
        network.load_state_dict(to_float32(load(bundle.weights(role))))
    except (SafetensorError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"the {role} weights of bundle {bundle.name} do not fit its description: {reason}") from error
    return network


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
    return CoarseDenoiser(denoise, factor=denoising.factor, smooth=bundle.enlarges_smoothly)


class TorchBackend(StagedBackend):
    """Networks of bundles in PyTorch, on one device and in one precision, behind the sampler's port.

    What several base segmenters have in common is computed once for a batch. Every network is called with images in batches of one
    size (`calls`), so that what it says of an image depends on nothing else.
    """

    def __init__(self, *, device: str = "auto", precision: str = "auto") -> None:
        """UsageError for a device that is not there, or an unknown precision."""
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.counts_on_device = self.device.type != "cpu"
        self.images_at_once = 1 if self.device.type == "cpu" else GPU_IMAGES
        self._stages: Stages[BatchFunction] = Stages(around=torch.inference_mode())
        _keep_float32_exact()

    @property
    def name(self) -> str:
        """What computes, with its version."""
        return f"PyTorch {torch.__version__}"

    def _assembled(
        self, bundle: Bundle, clean: Stage, precision: str, adapter: ImageAdapter | None, thresholds: tuple[float, ...]
    ) -> BaseSegmenter:
        def load() -> BatchFunction:
            dtype = PRECISIONS[precision]
            network = load_network(bundle, SEGMENTER).to(device=self.device, dtype=dtype)
            return fixed_calls(lambda images: network(images.to(dtype)).float(), self.device)

        logits = self._stages.stage(self._stages.network(("segmenter", bundle.sha256, precision), load), after=clean)
        if adapter is not None:
            logits = self._stages.stage(adapter.from_model, after=logits)

        def count(batch: Batch, planes: Callable[[Tensor], list[Tensor]]) -> NDArray[np.int32]:
            found = logits(batch.noisy)
            batch.require_finite(torch.isfinite(found).flatten(1).all(1).cpu().numpy())
            votes = torch.stack([torch.stack(of_part) for of_part in batch.add_up(planes(found))])
            return np.asarray(votes.to(torch.int32).cpu().numpy())

        return BaseSegmenter(
            logits=lambda noisy: np.asarray(logits(noisy).cpu().numpy()),
            thresholds=thresholds,
            exclusive=bundle.activation == "softmax",
            count_where_computed=count if self.counts_on_device else None,
        )

    def _fed(self, adapter: ImageAdapter | None) -> Stage:
        uploaded = self._stages.stage(self._upload, after=None)
        return uploaded if adapter is None else self._stages.stage(adapter.to_model, after=uploaded)

    def _upload(self, noisy: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(noisy).to(self.device)

    def _denoised(self, bundle: Bundle, sigma: float, adapter: ImageAdapter | None) -> Stage:
        fed = self._fed(adapter)
        if bundle.denoising.method == "segcertify":
            return fed
        digests = tuple(digest for role, digest in sorted(bundle.weights_sha256.items()) if role != SEGMENTER)
        key = ("denoiser", bundle.denoising, bundle.schedule, bundle.input_spec.factor, digests, sigma)

        def load() -> BatchFunction:
            return fixed_calls(load_denoiser(bundle, sigma=sigma, device=self.device, precision=self.precision), self.device)

        return self._stages.stage(self._stages.network(key, load), after=fed)


def _keep_float32_exact() -> None:
    """No TF32: where float32 is promised, products of matrices and convolutions are computed in it."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
