"""The OpenVINO backend: exported programs of bundles on the processor, without PyTorch.

One image a stream, and one thread for each stream: what is computed of an image depends neither on the others of a batch nor on how many
threads there are. The precision is asked for and read back from what was compiled: left alone, OpenVINO computes in bfloat16 where a
processor has it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from certdicom.certification.sampling import BaseSegmenter
from certdicom.errors import BundleError, UsageError, one_line
from certdicom.models.backends.choice import cores
from certdicom.models.backends.stages import Stage, Stages
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.models.program import Program, read_program

if TYPE_CHECKING:
    from certdicom.models.backends.torch import ImageAdapter
    from certdicom.models.bundle import Bundle

PRECISIONS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "float16": openvino.Type.f16}

_log = logging.getLogger(__name__)


class OpenVINOBackend:
    """Exported networks of bundles on the processor, in one precision, behind the sampler's port."""

    device = "cpu"

    def __init__(self, *, precision: str = "auto", threads: int | None = None) -> None:
        """`precision`: auto is float32; `threads`: images computed at once, None for one on each core. UsageError for an unknown one."""
        asked = "float32" if precision == "auto" else precision
        if asked not in PRECISIONS:
            raise UsageError(f"unknown precision {precision!r}: use auto, {', '.join(PRECISIONS)}")
        self.precision = asked
        self._threads = threads or cores()
        self._core = openvino.Core()
        self._stages: Stages[CompiledProgram] = Stages()

    @property
    def name(self) -> str:
        """What computes, with its version."""
        return f"OpenVINO {openvino.__version__.partition('-')[0]}"

    def base_segmenter(self, bundle: Bundle, *, sigma: float, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        """The bundle's base segmenter where `sigma` is the noise on its own images, whatever `adapter` stands around it.

        BundleError for noise that the bundle was not made for, as in PyTorch's backend, or without a program for one of its networks.
        """
        if bundle.denoising.method != "segcertify":
            bundle.require_sigma(sigma)
        if bundle.notice:
            _log.warning("bundle %s: %s", bundle.name, bundle.notice)
        return self._assembled(bundle, self._denoised(bundle, sigma, adapter), self.precision, adapter, bundle.threshold(sigma))

    def clean_segmenter(self, bundle: Bundle, *, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        """The bundle's segmenter alone, in float32 and at the middle threshold, for images without noise."""
        return self._assembled(bundle, self._fed(adapter), "float32", adapter, (0.0,) * len(bundle.structures))

    def denoised(self, bundle: Bundle, sigma: float, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images (B, channels, H, W) with noise `sigma`, as the segmenter gets them."""
        stage = self._denoised(bundle, sigma, None)
        return noisy if stage is None else np.asarray(stage(noisy))

    def _assembled(
        self, bundle: Bundle, clean: Stage | None, precision: str, adapter: ImageAdapter | None, thresholds: tuple[float, ...]
    ) -> BaseSegmenter:
        logits = self._stages.stage(self._program(bundle, SEGMENTER, precision), after=clean)
        if adapter is not None:
            logits = self._stages.stage(_through_torch(adapter.from_model), after=logits)
        return BaseSegmenter(logits=logits, thresholds=thresholds, exclusive=bundle.activation == "softmax")

    def _fed(self, adapter: ImageAdapter | None) -> Stage | None:
        return None if adapter is None else self._stages.stage(_through_torch(adapter.to_model), after=None)

    def _denoised(self, bundle: Bundle, sigma: float, adapter: ImageAdapter | None) -> Stage | None:
        fed, denoising = self._fed(adapter), bundle.denoising
        if denoising.method == "segcertify":
            return fed
        if denoising.method == "direct":
            return self._stages.stage(self._program(bundle, bundle.direct_role(sigma), self.precision), after=fed)
        if denoising.method != "one-shot":
            raise BundleError(f"{denoising.method} denoising of bundle {bundle.name} has no program: use --backend torch")
        program = self._program(bundle, DENOISER, self.precision)
        return self._stages.stage(program.at(*one_shot_inputs(bundle, sigma)), after=fed)

    def _program(self, bundle: Bundle, role: str, precision: str) -> CompiledProgram:
        def load() -> CompiledProgram:
            program, weights = read_program(bundle, role), bundle.weights(role)
            return self._compiled(program, weights, precision=precision, name=f"the {role} of bundle {bundle.name}")

        return self._stages.network((bundle.programs_sha256.get(role), bundle.weights_sha256[role], precision), load)

    def _compiled(self, program: Program, weights: bytes, *, precision: str, name: str) -> CompiledProgram:
        hints = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "NUM_STREAMS": self._threads,
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,  # who shares the machine would wait for one core while another is idle
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        try:
            compiled = self._core.compile_model(read_graph(self._core, program, weights), "CPU", hints)
        except RuntimeError as error:
            raise BundleError(f"OpenVINO cannot compile {name}: {one_line(error)[:300]}") from error
        computes_in = compiled.get_property("INFERENCE_PRECISION_HINT")
        if computes_in != PRECISIONS[precision]:
            known = {kind: label for label, kind in PRECISIONS.items()}
            raise UsageError(
                f"this processor computes {name} in {known.get(computes_in, computes_in)} where {precision} was asked for: "
                "use --precision float32, or --backend torch"
            )
        return CompiledProgram(compiled)


def read_graph(core: openvino.Core, program: Program, weights: bytes) -> openvino.Model:
    """The program's graph over its weights. RuntimeError when OpenVINO cannot read it."""
    return core.read_model(program.graph, openvino.Tensor(np.frombuffer(weights + program.constants, np.uint8)))


class CompiledProgram:
    """A program, image by image: (B, channels, H, W) float32 → (B, channels, H, W) float32; several images at once."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._queue = openvino.AsyncInferQueue(compiled, compiled.get_property("NUM_STREAMS"))
        self._queue.set_callback(_keep)
        self._inputs = [port.any_name for port in compiled.inputs]
        self._shape = tuple(compiled.output(0).shape)
        self._one_batch = Lock()
        self._fixed: dict[tuple[float, ...], Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {}

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._answers(images, ())

    def at(self, t: int, root_alpha_bar: float, root_rest: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        """The program with its further inputs fixed: the same function for the same values."""
        key = (t, root_alpha_bar, root_rest)
        values = (np.array([t], np.int64), np.array([root_alpha_bar], np.float32), np.array([root_rest], np.float32))
        return self._fixed.setdefault(key, lambda images: self._answers(images, values))

    def _answers(self, images: NDArray[np.float32], further: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        answers = np.empty((len(images), *self._shape[1:]), np.float32)
        with self._one_batch:
            for index in range(len(images)):
                given = dict(zip(self._inputs, (images[index : index + 1], *further), strict=True))
                self._queue.start_async(given, answers[index], share_inputs=True)
            self._queue.wait_all()
        return answers


def _keep(request: openvino.InferRequest, answer: NDArray[np.float32]) -> None:
    answer[:] = request.get_output_tensor(0).data[0]


def one_shot_inputs(bundle: Bundle, sigma: float) -> tuple[int, float, float]:
    """What a diffusion model's program takes beside the noisy image: t*, √ᾱ and √(1 - ᾱ)."""
    t = bundle.schedule.time_step(sigma / bundle.denoising.factor)
    alpha_bar = float(bundle.schedule.alpha_bars()[t])
    return t, alpha_bar**0.5, (1.0 - alpha_bar) ** 0.5


def _through_torch(function: Callable[[Any], Any]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """A function of tensors as one of arrays; the same one for the same function."""
    return _TensorFunction(function)


class _TensorFunction:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self._function = function

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _TensorFunction) and self._function == other._function

    def __hash__(self) -> int:
        return hash(self._function)

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        return np.asarray(self._function(torch.from_numpy(images)).numpy())
