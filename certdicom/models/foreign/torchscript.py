"""TorchScript archives, looked through before PyTorch reads them.

An archive holds source code, which PyTorch compiles for an interpreter of its own, and pickled attributes, which a reader of its
own turns into objects. That interpreter can write and read files (`aten::save`, `aten::from_file`) and call operators of any
loaded library, and it already runs at loading, in `__setstate__`. So all code and all pickles are checked here first: names from the
lists of `operators`, classes of the archive itself.
"""

from __future__ import annotations

import ast
import io
import pickletools
import zipfile

import torch
from torch import nn

from certdicom.errors import BundleError, one_line
from certdicom.models.foreign.operators import is_tensor_operator
from certdicom.models.foreign.program import Float32Program

_LANGUAGE = frozenset(
    """
    __and__ __contains__ __getitem__ __is__ __isnot__ __not__ __or__ __xor__ append bool Bool dict device dim dtype extend
    FloatImplicit Float float format get insert int Int IntImplicit is_floating_point items join keys len list numel pop
    ScalarImplicit size sorted str sym_size values warn
    """.split()  # noqa: SIM905
)
"""TorchScript's own functions on numbers, lists and texts, which it writes as torch.NAME; `warn` prints."""

_PRIM = frozenset("device dtype layout max min NumToTensor RaiseException rangelist shape data unchecked_cast".split())  # noqa: SIM905
"""Its primitives, which it writes as ops.prim.NAME."""

_PICKLED = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"})
_PICKLED_PREFIXES = ("__torch__.", "torch.jit._pickle ")


def read_torchscript(content: bytes) -> nn.Module:
    """The module of a TorchScript archive. BundleError when it is none, or uses anything but tensor arithmetic."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                if name.endswith(".py"):
                    _check_code(archive.read(name).decode(), name=name)
                elif name.endswith("pkl"):
                    _check_pickle(archive.read(name), name=name)
    except (zipfile.BadZipFile, UnicodeDecodeError, SyntaxError, ValueError) as error:
        raise BundleError(f"the file is no TorchScript archive: {one_line(error)}; write it with torch.jit.save") from error
    try:
        module = torch.jit.load(io.BytesIO(content), map_location="cpu")
    except RuntimeError as error:
        raise BundleError(f"PyTorch cannot read the TorchScript archive: {one_line(error)[:200]}") from error
    return Float32Program(module.eval())


def _check_code(source: str, *, name: str) -> None:
    """Every use of `torch.…` and `ops.…`, called or not, must be of a name that is allowed."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            raise BundleError(f"the TorchScript code {name} imports something; save a network of tensor arithmetic alone")
        if not isinstance(node, ast.Attribute):
            continue
        path = _dotted(node)
        if path is not None and not _allowed(path):
            raise BundleError(f"the TorchScript code {name} uses {'.'.join(path)}, which no network may do here: see docs/models.md")
        if node.attr == "classes" or (path is not None and path[:3] == ["__torch__", "torch", "classes"]):
            raise BundleError(f"the TorchScript code {name} uses a class of a compiled library; save a network of tensor arithmetic alone")


def _dotted(node: ast.Attribute) -> list[str] | None:
    """["torch", "conv2d"] of torch.conv2d; None when it starts from anything but a plain name."""
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    return [inner.id, *reversed(names)] if isinstance(inner, ast.Name) else None


def _allowed(path: list[str]) -> bool:
    """Whether a dotted name may be used; ast.walk also meets its beginnings, such as ops.prim of ops.prim.min."""
    if path[0] == "torch":
        return len(path) == 2 and (is_tensor_operator(path[1]) or path[1] in _LANGUAGE)
    if path[0] == "ops":
        if len(path) == 2:
            return path[1] in ("prim", "aten")
        known = path[2] in _PRIM if path[1] == "prim" else is_tensor_operator(path[2])
        return len(path) == 3 and path[1] in ("prim", "aten") and known
    return True


def _check_pickle(content: bytes, *, name: str) -> None:
    """No class or function may be named but tensors', and those whose code is in the archive. Nothing is unpickled here."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "INST", "OBJ", "EXT1", "EXT2", "EXT4"):
            raise BundleError(f"{name} in the TorchScript archive uses the pickle instruction {opcode.name}; write it with torch.jit.save")
        if opcode.name != "GLOBAL":
            continue
        wanted = str(argument)
        tensors = wanted in _PICKLED or (wanted.startswith("torch ") and wanted.endswith("Storage"))
        own = wanted.startswith(_PICKLED_PREFIXES) and not wanted.startswith("__torch__.torch.classes")
        if not tensors and not own:
            raise BundleError(f"{name} in the TorchScript archive asks for {wanted!r}, which certdicom does not let a network do")
