"""`torch.export` programs (.pt2): the graph and the raw tensors of the archive, run by a small interpreter of our own.

`torch.export.load` unpickles example inputs and some tensors without restriction, and evaluates the texts of symbolic sizes. A graph
of ATen operators needs neither: it is JSON, and tensors are plain bytes. Pickles in the archive are never opened.
"""

from __future__ import annotations

import io
import json
import operator
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line
from certdicom.models.networks.foreign.guards import ShapeGuards
from certdicom.models.networks.foreign.operators import RANDOM_IN_TRAINING, STATISTICS_OF_THE_BATCH, is_tensor_operator, words
from certdicom.models.networks.foreign.program import Float32Program

_DTYPES = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
"""`torch._export.serde.schema.ScalarType`."""

_MEMORY_FORMATS = {1: torch.contiguous_format, 2: torch.channels_last, 4: torch.preserve_format}
_ARITHMETIC = words("add sub mul floordiv truediv mod neg pow eq ne lt le gt ge and_ or_ not_")
"""Of sizes; `operator`'s names."""

_CHECKS = words("_assert_async _assert_scalar _assert_tensor_metadata sym_constrain_range sym_constrain_range_for_size")
"""Operators that only complain, and do."""

_PLAIN = words("as_int as_ints as_float as_floats as_string as_strings as_bool as_bools as_int_lists as_float_lists")


@dataclass(frozen=True)
class _Step:
    """One operator: what to call, its arguments as the graph writes them, the names of its results, and names not needed after it."""

    call: Callable[..., Any]
    arguments: tuple[tuple[str, Mapping[str, Any]], ...]
    results: tuple[Any, ...]
    forget: tuple[str, ...]
    by_name: bool


def read_exported_program(content: bytes) -> nn.Module:
    """The network of a .pt2 archive. BundleError when it is none, is not one graph of tensor arithmetic, or keeps tensors pickled."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return Float32Program(_network(archive))
    except zipfile.BadZipFile as error:
        raise BundleError(f"the file is no .pt2 archive: {error}; write it with torch.export.save") from error
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"the .pt2 archive is not laid out as PyTorch 2.9 and later do it: {type(error).__name__} {one_line(error)}; save it again"
        ) from error


def _network(archive: zipfile.ZipFile) -> nn.Module:
    names = [name for name in archive.namelist() if "/models/" in name and name.endswith(".json")]
    if len(names) != 1:
        raise BundleError(f"the .pt2 archive holds {len(names)} programs and not one; write it with PyTorch 2.9 or later")
    root, _, file = names[0].partition("/models/")
    model = file.removesuffix(".json")
    exported = json.loads(archive.read(names[0]))
    program = exported["graph_module"]
    tensors = {
        **_tensors(archive, f"{root}/data/weights/", f"{model}_weights_config.json"),
        **_tensors(archive, f"{root}/data/constants/", f"{model}_constants_config.json"),
    }
    stored, image = _inputs(program["signature"]["input_specs"], tensors)
    outputs = [spec["user_output"]["arg"]["as_tensor"]["name"] for spec in program["signature"]["output_specs"] if "user_output" in spec]
    if len(outputs) != 1 or len(program["signature"]["output_specs"]) != 1:
        raise BundleError("the .pt2 program changes its own state or gives more than one tensor; export it in eval mode, with one output")
    sizes = program["graph"]["tensor_values"][image]["sizes"]
    guards = ShapeGuards(sizes, exported.get("range_constraints", {}), exported.get("guards_code", []))
    steps = _forgetting([_step(node) for node in program["graph"]["nodes"]], keep={*stored, *outputs})
    return _Interpreter(stored, steps, image, outputs[0], guards)


def _tensors(archive: zipfile.ZipFile, folder: str, config: str) -> dict[str, Tensor]:
    """Name → tensor, from the raw bytes beside `config`."""
    tensors = {}
    for name, payload in json.loads(archive.read(folder + config))["config"].items():
        if payload["use_pickle"] or not payload["path_name"].startswith(("weight_", "tensor_")):
            raise BundleError(f"the .pt2 archive keeps {name} as a pickle, which is never opened; export plain tensors")
        meta = payload["tensor_meta"]
        sizes, strides = ([int(value["as_int"]) for value in meta[part]] for part in ("sizes", "strides"))
        raw = bytearray(archive.read(folder + payload["path_name"]))
        flat = torch.frombuffer(raw, dtype=_DTYPES[meta["dtype"]]) if raw else torch.zeros(0, dtype=_DTYPES[meta["dtype"]])
        offset = int(meta["storage_offset"]["as_int"])
        if prod(sizes) and offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True)) >= len(flat):
            raise ValueError(f"{name} reaches beyond its bytes")
        tensors[name] = torch.as_strided(flat, sizes, strides, offset).clone()
    return tensors


def _inputs(specs: list[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """The graph's names of the stored tensors, and that of the image."""
    stored, images = {}, []
    for spec in specs:
        ((kind, fields),) = spec.items()
        if kind == "user_input":
            images.append(fields["arg"]["as_tensor"]["name"])
        elif kind in ("parameter", "buffer", "tensor_constant"):
            stored[fields["arg"]["name"]] = tensors[fields[f"{kind}_name"]]
        else:
            raise BundleError(f"the .pt2 program takes a {kind}, which certdicom does not give it; export one that takes an image alone")
    if len(images) != 1:
        raise BundleError(f"the .pt2 program takes {len(images)} inputs and not one image; export one that takes an image alone")
    return stored, images[0]


def _step(node: Mapping[str, Any]) -> _Step:
    """What a node of the graph does."""
    target = node["target"]
    arguments = tuple((entry["name"], entry["arg"]) for entry in node["inputs"])
    results = tuple(node["outputs"])
    library, _, name = target.partition(".")
    if library == "_operator" and name in _ARITHMETIC:
        return _Step(getattr(operator, name), arguments, results, (), by_name=False)
    parts = target.split(".")
    of_aten = parts[:3] == ["torch", "ops", "aten"] and len(parts) == 5
    if of_aten and (parts[3] == "sym_size" or parts[3] in _CHECKS or is_tensor_operator(parts[3])):
        _require_eval_mode(parts[3], dict(arguments))
        return _Step(getattr(getattr(torch.ops.aten, parts[3]), parts[4]), arguments, results, (), by_name=True)
    raise BundleError(f"the .pt2 program uses {target}, which no network may do here: see docs/models.md")


def _require_eval_mode(name: str, arguments: Mapping[str, Mapping[str, Any]]) -> None:
    argument = RANDOM_IN_TRAINING.get(name) or STATISTICS_OF_THE_BATCH.get(name)
    if argument is not None and arguments.get(argument, {}).get("as_bool"):
        raise BundleError(f"the .pt2 program runs {name} in training mode, so that it is no fixed function; export it after .eval()")


def _forgetting(steps: list[_Step], *, keep: set[str]) -> list[_Step]:
    """The same steps, each knowing which results are needed no more after it."""
    ready: list[_Step] = []
    needed = set(keep)
    for step in reversed(steps):
        mentioned = {name for _, argument in step.arguments for name in _names(argument)}
        mentioned.update(name for result in step.results for name in _names(result))
        ready.append(_Step(step.call, step.arguments, step.results, tuple(mentioned - needed), step.by_name))
        needed |= mentioned
    return ready[::-1]


def _names(argument: Any) -> Iterator[str]:
    """All names of values that an argument or a result mentions."""
    if isinstance(argument, dict):
        for key, value in argument.items():
            if key in ("name", "as_name") and isinstance(value, str):
                yield value
            else:
                yield from _names(value)
    elif isinstance(argument, list):
        for value in argument:
            yield from _names(value)


class _Interpreter(nn.Module):
    """Runs the steps on an image; the stored tensors are buffers, so that they move with the module."""

    def __init__(self, stored: Mapping[str, Tensor], steps: list[_Step], image: str, output: str, guards: ShapeGuards) -> None:
        super().__init__()
        self._stored = {name: f"tensor_{index}" for index, name in enumerate(stored)}
        for name, buffer in self._stored.items():
            self.register_buffer(buffer, stored[name])
        self._steps = steps
        self._image = image
        self._output = output
        self._guards = guards

    def forward(self, image: Tensor) -> Tensor:
        self._guards.require(image.shape)
        values: dict[str, Any] = {name: getattr(self, buffer) for name, buffer in self._stored.items()}
        values[self._image] = image
        for step in self._steps:
            arguments = [(name, _value(argument, values, image.device)) for name, argument in step.arguments]
            found = step.call(**dict(arguments)) if step.by_name else step.call(*(value for _, value in arguments))
            parts = found if len(step.results) > 1 else (found,) if step.results else ()
            for result, part in zip(step.results, parts, strict=True):
                _keep(result, part, values)
            for name in step.forget:
                values.pop(name, None)
        return values[self._output]


def _value(argument: Mapping[str, Any], values: Mapping[str, Any], device: torch.device) -> Any:  # noqa: PLR0911, C901  # one line a kind
    """What an argument of the graph stands for (`torch._export.serde.schema.Argument`)."""
    ((kind, value),) = argument.items()
    if kind in _PLAIN:
        return float(value) if kind == "as_float" else value
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return values[value["name"]]
    if kind == "as_tensors":
        return [values[one["name"]] for one in value]
    if kind in ("as_optional_tensor", "as_sym_int", "as_sym_float", "as_sym_bool"):
        return values[value["as_name"]] if "as_name" in value else _value(value, values, device)
    if kind in ("as_sym_ints", "as_sym_floats", "as_sym_bools", "as_optional_tensors"):
        return [values[one["as_name"]] if "as_name" in one else _value(one, values, device) for one in value]
    if kind == "as_scalar_type":
        return _DTYPES[value]
    if kind == "as_memory_format":
        return _MEMORY_FORMATS[value]
    if kind == "as_device":
        return device
    if kind == "as_layout":
        return torch.strided
    raise BundleError(f"the .pt2 program has an argument of kind {kind}, which certdicom does not read")


def _keep(result: Mapping[str, Any], value: Any, values: dict[str, Any]) -> None:
    """Note `value` under the name or names that the graph gives it."""
    ((kind, names),) = result.items()
    if kind == "as_tensors":
        values.update((one["name"], part) for one, part in zip(names, value, strict=True))
    elif kind == "as_tensor":
        values[names["name"]] = value
    elif "as_name" in names:
        values[names["as_name"]] = value
