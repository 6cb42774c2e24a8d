"""TorchScript archives, looked through before PyTorch reads them.

An archive holds source code, which PyTorch compiles for an interpreter of its own, and pickled attributes, which a reader of its
own turns into objects. That interpreter can write and read files (`aten::save`, `aten::from_file`) and call operators of any
loaded library, and it already runs at loading, in `__setstate__`. So all code and all pickles are checked here first: names from the
lists of `operators`, classes of the archive itself. PyTorch then gets an archive written anew from what was checked, because two
readers of the same bytes may see different files.
"""

from __future__ import annotations

import ast
import io
import pickletools
import re
import zipfile
from collections.abc import Iterable, Mapping

import torch
from torch import nn

from certdicom.errors import BundleError, one_line
from certdicom.models.foreign.operators import TOUCH_FILES, is_tensor_operator, words
from certdicom.models.foreign.program import Float32Program

_LANGUAGE = words(
    """
    __and__ append Bool bool clear __contains__ copy count __derive_index device dict dim dtype endswith extend find Float float
    FloatImplicit floordiv format get __getitem__ insert int Int IntImplicit __is__ is_floating_point __isnot__ items join keys
    len list lower __not__ numel __or__ percentFormat pop __range_length replace reverse __round_to_zero_floordiv ScalarImplicit
    setdefault size sorted startswith str strip sym_size upper values warn __xor__
    """
)
"""TorchScript's own functions on numbers, lists and texts, which it writes as torch.NAME; `warn` prints."""

_PRIM = words("data device dtype layout max min NumToTensor RaiseException rangelist shape unchecked_cast")
"""Its primitives, which it writes as ops.prim.NAME."""

_PARTS = re.compile(
    r"(data|constants)\.pkl|(data|constants)/\d+|code/[\w/]+\.py|version|byteorder|\.data/\w+|\.format_version|\.storage_alignment"
)
"""Files of an archive that PyTorch needs."""

_IGNORED = re.compile(r"code/[\w/]+\.py\.debug_pkl|extra/.*|traced_inputs(\.pkl|/\d+)")
"""Files that it can do without."""

_PICKLED = frozenset({"collections OrderedDict", "torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter"})
_PICKLED_PREFIXES = ("__torch__.", "torch.jit._pickle ")


def read_torchscript(content: bytes) -> nn.Module:
    """The module of a TorchScript archive. BundleError when it is none, or uses anything but tensor arithmetic."""
    try:
        files = _files(content)
        code = {name: ast.parse(text.decode()) for name, text in files.items() if name.endswith(".py")}
        methods = {node.name for tree in code.values() for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        for name, tree in code.items():
            _check_code(tree, name=name, methods=methods)
        for name in ("data.pkl", "constants.pkl"):
            _check_pickle(files.get(name, b""), name=name)
    except (zipfile.BadZipFile, UnicodeDecodeError, SyntaxError, ValueError, RecursionError) as error:
        raise BundleError(f"the file is no TorchScript archive: {one_line(error)[:200]}; write it with torch.jit.save") from error
    try:
        module = torch.jit.load(_archive(files), map_location="cpu")
    except RuntimeError as error:
        raise BundleError(f"PyTorch cannot read the TorchScript archive: {one_line(error)[:200]}") from error
    return Float32Program(module.eval())


def _files(content: bytes) -> dict[str, bytes]:
    """The archive's files without its top folder. BundleError for one that does not belong there, or stands there twice."""
    files: dict[str, bytes] = {}
    taken: set[str] = set()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.infolist():
            _, _, name = entry.filename.partition("/")
            if _IGNORED.fullmatch(name):
                continue
            if not _PARTS.fullmatch(name) or name.lower() in taken:
                raise BundleError(f"{entry.filename!r} has no place in a TorchScript archive, or not twice; write it with torch.jit.save")
            taken.add(name.lower())
            files[name] = archive.read(entry)
    return files


def _archive(files: Mapping[str, bytes]) -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"archive/{name}", content)
    buffer.seek(0)
    return buffer


def _check_code(tree: ast.Module, *, name: str, methods: Iterable[str]) -> None:
    """Every use of `torch.…` and `ops.…` must be of a name that is allowed, called or not; every method an own one or such a name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            raise BundleError(f"the TorchScript code {name} imports something; save a network of tensor arithmetic alone")
        if isinstance(node, ast.FunctionDef) and node.name in TOUCH_FILES:
            _refuse(name, node.name)
        if isinstance(node, ast.Attribute):
            path = _dotted(node)
            if node.attr in TOUCH_FILES or (path is not None and not _allowed(path)):
                _refuse(name, ".".join(path or [node.attr]))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            method = node.func.attr  # x.save(…) of a tensor is aten::save as well
            if not (is_tensor_operator(method) or method in _LANGUAGE or method in _PRIM or method in methods or _is_class(node.func)):
                _refuse(name, method)


def _refuse(name: str, what: str) -> None:
    raise BundleError(f"the TorchScript code {name} uses {what}, which no network may do here: see docs/models.md")


def _dotted(node: ast.Attribute) -> list[str] | None:
    """["torch", "conv2d"] of torch.conv2d; None when it starts from anything but a plain name."""
    names: list[str] = []
    inner: ast.expr = node
    while isinstance(inner, ast.Attribute):
        names.append(inner.attr)
        inner = inner.value
    return [inner.id, *reversed(names)] if isinstance(inner, ast.Name) else None


def _is_class(node: ast.Attribute) -> bool:
    """Whether this names a class or function whose code is in the archive."""
    path = _dotted(node)
    return path is not None and path[0] == "__torch__"


def _allowed(path: list[str]) -> bool:
    """Whether a dotted name may be used; ast.walk also meets its beginnings, such as ops.prim of ops.prim.min."""
    if path[0] == "torch":
        return len(path) == 2 and (is_tensor_operator(path[1]) or path[1] in _LANGUAGE)
    if path[0] == "ops":
        if len(path) == 2:
            return path[1] in ("prim", "aten")
        known = path[2] in _PRIM if path[1] == "prim" else is_tensor_operator(path[2])
        return len(path) == 3 and path[1] in ("prim", "aten") and known
    return path[:3] != ["__torch__", "torch", "classes"]  # those are compiled libraries'


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
