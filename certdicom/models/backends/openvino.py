"""The OpenVINO backend: exported programs of bundles on the processor, without PyTorch.

One image a stream, and one thread for each stream: what is computed of an image depends neither on the others of a batch nor on how many
threads there are. The precision is asked for and read back from what was compiled: left alone, OpenVINO computes in bfloat16 where a
processor has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import openvino
from numpy.typing import NDArray

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.errors import BundleError, UsageError, one_line
from certdicom.models.backends.base import ImageAdapter, StagedBackend
from certdicom.models.backends.cores import cores
from certdicom.models.backends.stages import Stage, Stages
from certdicom.models.description import DENOISER, SEGMENTER
from certdicom.models.program import Program, read_program

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

PRECISIONS = {"float32": openvino.Type.f32, "bfloat16": openvino.Type.bf16, "float16": openvino.Type.f16}


class OpenVINOBackend(StagedBackend):
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

    def denoised(self, bundle: Bundle, sigma: float, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images (B, channels, H, W) with noise `sigma`, as the segmenter gets them."""
        stage = self._denoised(bundle, sigma, None)
        return noisy if stage is None else np.asarray(stage(noisy))

    def _assembled(
        self, bundle: Bundle, clean: Stage | None, precision: str, adapter: ImageAdapter | None, thresholds: tuple[float, ...]
    ) -> BaseSegmenter:
        logits = self._stages.stage(self._program(bundle, SEGMENTER, precision), after=clean)
        if adapter is not None:
            logits = self._stages.stage(_ThroughTorch(adapter.from_model), after=logits)
        return BaseSegmenter(logits=logits, thresholds=thresholds, exclusive=bundle.activation == "softmax")

    def _fed(self, adapter: ImageAdapter | None) -> Stage | None:
        return None if adapter is None else self._stages.stage(_ThroughTorch(adapter.to_model), after=None)

    def _denoised(self, bundle: Bundle, sigma: float, adapter: ImageAdapter | None) -> Stage | None:
        fed, denoising = self._fed(adapter), bundle.denoising
        if denoising.method == "segcertify":
            return fed
        if denoising.method == "direct":
            return self._stages.stage(self._program(bundle, bundle.direct_role(sigma), self.precision), after=fed)
        if denoising.method != "one-shot":
            raise BundleError(f"{denoising.method} denoising of bundle {bundle.name} has no program: use --backend torch")
        return self._stages.stage(self._program(bundle, DENOISER, self.precision, one_shot_inputs(bundle, sigma)), after=fed)

    def _program(self, bundle: Bundle, role: str, precision: str, inputs: Mapping[str, float] | None = None) -> CompiledProgram:
        """The role's program, compiled for these values of the inputs that it has beside the image."""
        values = inputs or {}

        def load() -> CompiledProgram:
            name = f"the {role} of bundle {bundle.name}"
            try:
                graph = read_graph(self._core, read_program(bundle, role), bundle.weights(role))
                return self._compiled(_fixed(graph, values), precision=precision, name=name)
            except RuntimeError as error:
                raise BundleError(f"OpenVINO cannot compile {name}: {one_line(error)[:300]}") from error

        digests = bundle.programs_sha256.get(role), bundle.weights_sha256[role]
        return self._stages.network((*digests, precision, *sorted(values.items())), load)

    def _compiled(self, graph: openvino.Model, *, precision: str, name: str) -> CompiledProgram:
        hints = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "NUM_STREAMS": self._threads,
            "INFERENCE_NUM_THREADS": self._threads,
            "ENABLE_CPU_PINNING": False,  # who shares the machine would wait for one core while another is idle
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        }
        compiled = self._core.compile_model(graph, "CPU", hints)
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


def _fixed(graph: openvino.Model, values: Mapping[str, float]) -> openvino.Model:
    """The graph with these values in place of its inputs of those names, so that what follows from them alone is computed once."""
    for port in graph.inputs:
        if port.any_name in values:
            parameter, kind = port.get_node(), port.get_element_type().to_dtype()
            parameter.output(0).replace(openvino.op.Constant(np.array([values[port.any_name]], kind)).output(0))
            graph.remove_parameter(parameter)
    graph.validate_nodes_and_infer_types()
    return graph


class CompiledProgram:
    """A program, image by image: (B, channels, H, W) float32 → (B, channels, H, W) float32; several images at once."""

    def __init__(self, compiled: openvino.CompiledModel) -> None:
        self._queue = openvino.AsyncInferQueue(compiled, compiled.get_property("NUM_STREAMS"))
        self._queue.set_callback(_keep)
        self._shape = tuple(compiled.output(0).shape)
        self._one_batch = Lock()

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        answers = np.empty((len(images), *self._shape[1:]), np.float32)
        with self._one_batch:
            for index in range(len(images)):
                self._queue.start_async([images[index : index + 1]], answers[index], share_inputs=True)
            self._queue.wait_all()
        return answers


def _keep(request: openvino.InferRequest, answer: NDArray[np.float32]) -> None:
    answer[:] = request.get_output_tensor(0).data[0]


def one_shot_inputs(bundle: Bundle, sigma: float) -> dict[str, float]:
    """What a diffusion model's program takes beside the noisy image: t*, √ᾱ and √(1 - ᾱ)."""
    t = bundle.schedule.time_step(sigma / bundle.denoising.factor)
    alpha_bar = float(bundle.schedule.alpha_bars()[t])
    return {"t": t, "root_alpha_bar": alpha_bar**0.5, "root_rest": (1.0 - alpha_bar) ** 0.5}


@dataclass(frozen=True)
class _ThroughTorch:
    """A function of tensors as one of arrays; equal for the same function."""

    function: Callable[[Any], Any]

    def __call__(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        import torch

        return np.asarray(self.function(torch.from_numpy(images)).numpy())
