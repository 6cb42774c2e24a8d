"""From a bundle's networks in PyTorch to programs that OpenVINO runs without it (`models.program`).

OpenVINO's own converter folds batch norms into the convolutions before them and would have to store those weights anew. Here the graph is
left as it was traced: every large constant of it is a weight of the bundle, as it lies in the weight file, and is addressed there.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import openvino
import torch
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from openvino.passes import ConstantFolding, Manager
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line
from certdicom.files import write_atomically
from certdicom.models.backends.checks import probes
from certdicom.models.backends.denoisers import Prediction, clean_image, finer
from certdicom.models.backends.openvino import read_graph
from certdicom.models.backends.rewrites import rewrite
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import DESCRIPTION, Bundle, load_bundle
from certdicom.models.description import SEGMENTER, program_file
from certdicom.models.networks.coarse import block_means
from certdicom.models.program import INTEGERS, MADE_BY, Program, facts_of

TOLERANCE = 1e-4
"""How far a program's answers may be from PyTorch's in float32, relative to the largest of them (at least 1)."""

_SMALL = 64
"""Constants of fewer bytes are not looked for in the weight files."""

_ELEMENT_TYPES = {torch.float32: openvino.Type.f32, torch.int64: openvino.Type.i64}


class OneShotProgram(nn.Module):
    """One call of a diffusion model as `OneShotDenoiser` makes it; t, √ᾱ and √(1 - ᾱ) are inputs: one program for every sigma."""

    def __init__(self, network: nn.Module, *, prediction: Prediction, factor: int, smooth: bool) -> None:
        super().__init__()
        self.network = network
        self._prediction = prediction
        self._factor = factor
        self._smooth = smooth

    def forward(self, noisy: Tensor, t: Tensor, root_alpha_bar: Tensor, root_rest: Tensor) -> Tensor:
        x_t = root_alpha_bar * (2.0 * block_means(noisy, self._factor) - 1.0)
        clean = clean_image(x_t, self.network(x_t, t), root_alpha_bar=root_alpha_bar, root_rest=root_rest, prediction=self._prediction)
        return finer((clean + 1.0) / 2.0, self._factor, smooth=self._smooth)


class DirectProgram(nn.Module):
    """A denoiser for one noise level, as `DirectDenoiser` calls it."""

    def __init__(self, network: nn.Module, *, factor: int, smooth: bool) -> None:
        super().__init__()
        self.network = network
        self._factor = factor
        self._smooth = smooth

    def forward(self, noisy: Tensor) -> Tensor:
        return finer(self.network(block_means(noisy, self._factor)).clamp(0.0, 1.0), self._factor, smooth=self._smooth)


def export_network(bundle: Bundle, role: str) -> Program:
    """The program of one of the bundle's networks. BundleError, with the reason, when there can be none."""
    module, inputs = _module(bundle, role)
    what = f"the {role} of bundle {bundle.name}"
    try:
        graph = rewrite(_traced(module.eval(), inputs))
        weights = bundle.weights(role)
        narrowed = _address_half_precision(graph, weights)
        program = Program({**facts_of(bundle, role), MADE_BY: _versions()}, *serialized(narrowed, weights))
    except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
        raise BundleError(f"{what} cannot be exported: {one_line(error)[:300]}") from error
    _require_equal(program, weights, module, bundle, inputs, what)
    return program


def export_bundle(folder: Path) -> dict[str, str]:
    """Write the programs of a bundle beside its weights and their digests into its description; what became of each role, in words.

    A network that cannot be exported is left to PyTorch, with the reason; the program of a borrowed one is its lender's where it fits.
    """
    bundle = load_bundle(folder)
    digests, outcomes = {}, {}
    for role in bundle.networks:
        try:
            path, content = _lent(bundle, role) or (bundle.folder / program_file(role), export_network(bundle, role).to_bytes())
        except BundleError as error:
            outcomes[role] = f"left to PyTorch: {error}"
            continue
        if path.parent == bundle.folder:
            write_atomically(path, content, force=True)
        digests[role] = hashlib.sha256(content).hexdigest()
        outcomes[role] = f"{path}, {len(content) / 1e3:.0f} kB"
    write_digests(folder, digests, integers=None)
    return outcomes


def write_digests(folder: Path, digests: Mapping[str, str], *, integers: str | None) -> None:
    """Write into a bundle's description which programs it holds, and in what integers they compute."""
    path = folder / DESCRIPTION
    fields = {**json.loads(path.read_bytes()), "programs_sha256": dict(digests), INTEGERS: integers}
    if integers is None:
        del fields[INTEGERS]
    write_atomically(path, json.dumps(fields, indent=2).encode() + b"\n", force=True)


def _lent(bundle: Bundle, role: str) -> tuple[Path, bytes] | None:
    """The program that comes with a borrowed network, with its path, if it was exported for such images as this bundle's."""
    home = bundle.homes[role]
    if home == bundle.folder:
        return None
    path = home / program_file(role)
    try:
        content = path.read_bytes()
        facts = Program.from_bytes(content).facts
    except (OSError, ValueError):
        return None
    return (path, content) if all(facts.get(name) == value for name, value in facts_of(bundle, role).items()) else None


def _module(bundle: Bundle, role: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """What is exported, with an example of its inputs by name."""
    network = load_network(bundle, role)
    image = {"image": probes(bundle)[0]}
    if role == SEGMENTER:
        return network, image
    denoising, smooth = bundle.denoising, bundle.enlarges_smoothly
    if denoising.method == "direct":
        return DirectProgram(network, factor=denoising.factor, smooth=smooth), image
    if denoising.method == "multi-step":
        raise BundleError(f"the denoiser of bundle {bundle.name} is called many times a draw (multi-step): it runs in PyTorch alone")
    roots = {"t": torch.tensor([100]), "root_alpha_bar": torch.tensor([0.8]), "root_rest": torch.tensor([0.6])}
    program = OneShotProgram(network, prediction=denoising.prediction, factor=denoising.factor, smooth=smooth)
    return program, image | roots


def _traced(module: nn.Module, inputs: dict[str, Tensor]) -> openvino.Model:
    """The graph of `module`, for images of this one shape."""
    example = tuple(inputs.values())
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # of branches on shapes, which are fixed here
        decoder = TorchScriptPythonDecoder(torch.jit.trace(module, example, check_trace=False), example_input=example)
        frontend = FrontEndManager().load_by_framework("pytorch")
        graph = frontend.convert(frontend.load(decoder))
    for port, (name, value) in zip(graph.inputs, inputs.items(), strict=True):
        port.get_node().set_partial_shape(openvino.PartialShape(list(value.shape)))
        port.get_node().set_element_type(_ELEMENT_TYPES[value.dtype])
        port.set_names({name})
    graph.validate_nodes_and_infer_types()
    shapes = Manager()
    shapes.register_pass(ConstantFolding())  # sizes are fixed, and arithmetic on them is done once
    shapes.run_passes(graph)
    return graph


def _address_half_precision(graph: openvino.Model, weights: bytes) -> openvino.Model:
    """The graph with its large float32 constants read from float16 where a weight file holds them so, to the last bit."""
    for node in list(graph.get_ops()):
        if node.get_type_name() != "Constant" or node.get_element_type() != openvino.Type.f32:
            continue
        values = node.data
        if values.nbytes < _SMALL or _place(values, weights) is not None:
            continue
        with np.errstate(over="ignore"):
            half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values) and _place(half, weights) is not None:
            node.output(0).replace(ops.convert(ops.constant(half), "f32").output(0))
    graph.validate_nodes_and_infer_types()
    return graph


def _place(values: NDArray[Any], weights: bytes) -> int | None:
    """Where the bytes of `values` lie in `weights`, aligned for their type."""
    content, place = values.tobytes(), -1
    while (place := weights.find(content, place + 1)) >= 0:
        if place % values.itemsize == 0:
            return place
    return None


def serialized(graph: openvino.Model, weights: bytes) -> tuple[bytes, bytes]:
    """The graph as XML whose constants are addressed in `weights` and the constants behind them, and those constants."""
    graph.set_friendly_name("network")
    for number, node in enumerate(graph.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")  # OpenVINO's own names count what the process made before
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "graph.xml")
        openvino.serialize(graph, path)
        tree, stored = ET.parse(path), path.with_suffix(".bin").read_bytes()  # noqa: S314  # written a line above
    constants = bytearray(b"\0" * (-len(weights) % 64))
    for data in _constants(tree):
        start, size = int(data.get("offset", 0)), int(data.get("size", 0))
        content = stored[start : start + size]
        place = _place(np.frombuffer(content, _word(data.get("element_type", ""))), weights) if size >= _SMALL else None
        if place is None:
            place = len(weights) + len(constants)
            constants += content + b"\0" * (-size % 8)
        data.set("offset", str(place))
    return ET.tostring(tree.getroot()), bytes(constants)


def _constants(tree: ET.ElementTree[Any]) -> Iterator[ET.Element]:
    for layer in tree.iter("layer"):
        data = layer.find("data")
        if layer.get("type") == "Const" and data is not None:
            yield data


def _word(element_type: str) -> str:
    return {"f16": "u2", "f32": "u4", "i64": "u8", "f64": "u8", "i32": "u4"}.get(element_type, "u1")


def _require_equal(program: Program, weights: bytes, module: nn.Module, bundle: Bundle, inputs: dict[str, Tensor], what: str) -> None:
    """BundleError unless the program answers as the module does, in float32."""
    core = openvino.Core()
    compiled = core.compile_model(read_graph(core, program, weights), "CPU", {"INFERENCE_PRECISION_HINT": openvino.Type.f32})
    texture, *others = probes(bundle)
    for image in (texture, *(0.8 * other + 0.2 * texture for other in others)):  # none is flat: norms amplify rounding there
        given = [image, *list(inputs.values())[1:]]
        with torch.inference_mode():
            expected = module(*given).numpy()
        found = compiled([value.numpy() for value in given])[0]
        apart = float(np.abs(found - expected).max() / max(1.0, float(np.abs(expected).max())))
        if not apart <= TOLERANCE:
            raise BundleError(f"{what} cannot be exported: OpenVINO's answers differ from PyTorch's by {apart:.2g} of the largest")


def _versions() -> str:
    return f"OpenVINO {openvino.__version__.partition('-')[0]} from PyTorch {torch.__version__}"
