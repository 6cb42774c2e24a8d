"""A bundle's networks, loaded and ready on a device in one precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import nn

from certdicom.certification.denoised import OneShotDenoisedSegmenter
from certdicom.errors import BundleError, UsageError
from certdicom.models.networks import build_network

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


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
    """The network of "segmenter" or "denoiser" with its weights, in eval mode, float32 on the CPU."""
    network = build_network(bundle.networks[role])
    try:
        state = load(bundle.weights(role))
        network.load_state_dict({name: value.float() for name, value in state.items()})
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise BundleError(f"the {role} weights of bundle {bundle.name} do not fit its description: {reason}") from error
    return network.eval().requires_grad_(False)


class DenoisedSegmenter(OneShotDenoisedSegmenter):
    """A bundle's base segmenter for one noise level, on `device`, in `precision` (a name in PRECISIONS)."""

    def __init__(self, bundle: Bundle, *, sigma: float, device: torch.device, precision: str) -> None:
        bundle.require_sigma(sigma)
        dtype = PRECISIONS[precision]
        super().__init__(
            load_network(bundle, "denoiser").to(device=device, dtype=dtype),
            load_network(bundle, "segmenter").to(device=device, dtype=dtype),
            schedule=bundle.schedule,
            sigma=sigma,
            dtype=dtype,
            threshold=bundle.threshold(sigma),
        )
