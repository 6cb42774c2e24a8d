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

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.batches import NOT_FINITE, Batch
from certdicom.errors import BundleError, UsageError
from certdicom.models.backends.base import ImageAdapter, StagedBackend
from certdicom.models.backends.calls import BatchFunction, fixed_calls
from certdicom.models.backends.checks import require_sound
from certdicom.models.backends.denoisers import CoarseDenoiser, Denoise, DirectDenoiser, MultiStepDenoiser, OneShotDenoiser, unchanged
from certdicom.models.backends.draws import noisy_batch, noisy_images
from certdicom.models.backends.stages import Stage, Stages
from certdicom.models.backends.ways import Way, way_of
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.models.networks import build_network
from certdicom.models.networks.adapter import SegmenterAdapter
from certdicom.models.networks.layout import Layout, laid_out
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


def load_network(bundle: Bundle, role: str, *, layout: Layout = "as built") -> nn.Module:
    """The network of one role with its weights, in eval mode, float32 on the CPU; `layout`: of networks that certdicom builds itself.

    The segmenter takes the bundle's images in [0, 1] and gives its logits, whatever the network in it takes and gives.
    BundleError when it cannot be built, its weights do not fit, or it does not give what its description says (`require_sound`).
    """
    description = bundle.networks[role]
    if "format" in description:
        from certdicom.models.networks.foreign import load_foreign

        network = load_foreign(description, bundle.files(role))
    else:
        network = laid_out(_own(bundle, role), layout)
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


def _placed(bundle: Bundle, role: str, *, device: torch.device, precision: str, layout: Layout) -> nn.Module:
    """`load_network` on a device in one precision. BundleError for weights that the precision cannot hold: a channel would fall silent."""
    network = load_network(bundle, role, layout=layout).to(device=device, dtype=PRECISIONS[precision])
    values = (value for value in network.state_dict().values() if value.is_floating_point())
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise BundleError(f"the {role} of bundle {bundle.name} has weights too large for {precision}: use --precision bfloat16 or float32")
    return network


def load_denoiser(bundle: Bundle, *, sigma: float, device: torch.device, precision: str, layout: Layout = "as built") -> Denoise:
    """The bundle's way to denoise images of its grid with noise `sigma`. BundleError when it was not made for that noise."""
    denoising, dtype = bundle.denoising, PRECISIONS[precision]
    if denoising.method == "segcertify":
        return unchanged
    role = bundle.direct_role(sigma) if denoising.method == "direct" else DENOISER
    network = _placed(bundle, role, device=device, precision=precision, layout=layout)
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

    def __init__(self, *, device: str = "auto", precision: str = "auto", way: Way | None = None) -> None:
        """`way`: None for that of the device's class. UsageError for a device that is not there, or an unknown precision."""
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self.way = way or way_of(self.device)
        self.images_at_once = 1 if self.device.type == "cpu" else GPU_IMAGES
        self._stages: Stages[BatchFunction] = Stages(around=torch.inference_mode())
        self._draw = torch.compile(noisy_images, fullgraph=True) if self.way.compiled else noisy_images
        _keep_float32_exact()
        torch.backends.cudnn.deterministic = True

    @property
    def name(self) -> str:
        """What computes, with its version, and in what calls."""
        return ", ".join(filter(None, (f"PyTorch {torch.__version__}", str(self.way))))

    def _assembled(
        self, bundle: Bundle, clean: Stage, precision: str, adapter: ImageAdapter | None, thresholds: tuple[float, ...]
    ) -> BaseSegmenter:
        def load() -> BatchFunction:
            dtype = PRECISIONS[precision]
            network = _placed(bundle, SEGMENTER, device=self.device, precision=precision, layout=self.way.layout)
            return fixed_calls(lambda images: network(images.to(dtype)).float(), self.way)

        logits = self._stages.stage(self._stages.network(("segmenter", bundle.sha256, precision), load), after=clean)
        if adapter is not None:
            logits = self._stages.stage(adapter.from_model, after=logits)

        def count(batch: Batch, planes: Callable[[Tensor], list[Tensor]]) -> Tensor:
            found = logits(batch)
            damaged = ~torch.isfinite(found).flatten(1).all(1)
            votes = torch.stack([torch.stack(of_part) for of_part in batch.add_up(planes(found))])
            spoiled = torch.stack([torch.stack(of_part) for of_part in batch.add_up([damaged])]) > 0
            return torch.where(spoiled[..., None, None], NOT_FINITE, votes).to(torch.int32)

        return BaseSegmenter(
            logits=lambda noisy: np.asarray(logits(noisy).cpu().numpy()),
            thresholds=thresholds,
            exclusive=bundle.activation == "softmax",
            count_where_computed=torch.inference_mode()(count) if self.way.on_device else None,
            images_a_call=self.way.images_a_call,
        )

    def _fed(self, adapter: ImageAdapter | None) -> Stage:
        uploaded = self._stages.stage(self._given, after=None)
        return uploaded if adapter is None else self._stages.stage(adapter.to_model, after=uploaded)

    def _given(self, noisy: Batch | NDArray[np.float32]) -> Tensor:
        """Noisy images on the device: those that are handed over, or a batch's, drawn there."""
        if isinstance(noisy, Batch):
            return noisy_batch(noisy, self.device, draw=self._draw)
        return torch.from_numpy(noisy).to(self.device)

    def _denoised(self, bundle: Bundle, sigma: float, adapter: ImageAdapter | None) -> Stage:
        fed = self._fed(adapter)
        if bundle.denoising.method == "segcertify":
            return fed
        digests = tuple(digest for role, digest in sorted(bundle.weights_sha256.items()) if role != SEGMENTER)
        key = ("denoiser", bundle.denoising, bundle.schedule, bundle.input_spec.factor, digests, sigma)

        def load() -> BatchFunction:
            denoise = load_denoiser(bundle, sigma=sigma, device=self.device, precision=self.precision, layout=self.way.layout)
            return fixed_calls(denoise, self.way)

        return self._stages.stage(self._stages.network(key, load), after=fed)


def _keep_float32_exact() -> None:
    """No TF32: where float32 is promised, products of matrices and convolutions are computed in it."""
    torch.set_float32_matmul_precision("highest")
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
