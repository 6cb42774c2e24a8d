"""Which backend runs a bundle's networks; PyTorch is imported only where it is the one."""

from __future__ import annotations

import ctypes
import logging
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal, get_args

from certdicom.errors import UsageError
from certdicom.extras import how_to_get
from certdicom.models.backends.base import Backend
from certdicom.models.backends.several import are_several, several_gpus

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

BackendName = Literal["auto", "openvino", "torch"]
BACKENDS: tuple[str, ...] = get_args(BackendName)

_log = logging.getLogger(__name__)


def choose_backend(bundles: Sequence[Bundle], *, backend: str = "auto", device: str = "auto", precision: str = "auto") -> Backend:
    """The backend for these bundles: `auto` is PyTorch on a GPU, else OpenVINO where all of them have programs, else PyTorch.

    UsageError when what was asked for is not there, or does not go together.
    """
    if backend not in BACKENDS:
        raise UsageError(f"unknown backend {backend!r}: use {', '.join(BACKENDS)}")
    without = next((bundle for bundle in bundles if not bundle.has_programs), None)
    if quantised := next((bundle for bundle in bundles if bundle.integers), None):
        if backend == "torch" or device not in ("auto", "cpu"):
            raise UsageError(f"bundle {quantised.name} computes in {quantised.integers}, which only OpenVINO runs, on a processor")
        backend = "openvino"
    if backend == "auto":
        on_processor = device == "cpu" or (device == "auto" and not _gpu_is_there())
        backend = "openvino" if on_processor and without is None and find_spec("openvino") else "torch"
    if backend == "torch":
        _require_torch(device, None if without is None else without.name)
        if are_several(device):
            return several_gpus(device, precision=precision)
        from certdicom.models.backends.torch import TorchBackend

        return TorchBackend(device=device, precision=precision)
    if device not in ("auto", "cpu"):
        raise UsageError(f"OpenVINO computes on the processor here, not on {device}: use --backend torch, or --device cpu")
    if find_spec("openvino") is None:
        raise UsageError("OpenVINO was asked for and is not installed: pip install openvino, or use --backend torch")
    if without is not None:
        raise UsageError(
            f"bundle {without.name} holds no programs for OpenVINO, or not for {without.denoising.method} denoising: "
            f"use --backend torch, or export them with certdicom bundle export {without.folder}"
        )
    from certdicom.models.backends.openvino import OpenVINOBackend

    return OpenVINOBackend(precision=precision)


def stated_precision(backend: Backend, bundle: Bundle) -> str:
    """What a certificate says of the arithmetic: float32, or int8 with the rest in float32."""
    return f"{bundle.integers} with {backend.precision}" if bundle.integers else backend.precision


def _require_torch(device: str, without_programs: str | None) -> None:
    if find_spec("torch") is not None:
        return
    if without_programs is not None:
        reason = f"bundle {without_programs} holds no programs for OpenVINO, so that it needs PyTorch, which is not installed"
    else:
        reason = f"{'PyTorch' if device == 'auto' else f'device {device}'} was asked for, and PyTorch is not installed"
    raise UsageError(f"{reason}: {how_to_get('torch')}")


def _gpu_is_there() -> bool:
    """Whether PyTorch can use a GPU; it is not even imported where no driver is."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    if find_spec("torch") is None:
        _log.warning("this machine has an NVIDIA GPU, which only PyTorch would use, and it is not installed: certifying on the processor")
        return False
    import torch

    return bool(torch.cuda.is_available())
