"""Saved programs compute here what the network computes that they were saved from, and can do nothing else."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from foreign_networks import (
    MARKER,
    SAVING_WARNS,
    evil_pickle,
    exported,
    network,
    rewritten,
    scripted,
    traced,
)
from torch import nn

from certdicom.errors import BundleError
from certdicom.models.foreign.exported import read_exported_program
from certdicom.models.foreign.operators import TENSOR_OPERATORS, TOUCH_FILES
from certdicom.models.foreign.torchscript import read_torchscript

pytestmark = SAVING_WARNS


SAVED = {
    "TorchScript, scripted": lambda module: read_torchscript(scripted(module)),
    "TorchScript, traced": lambda module: read_torchscript(traced(module, torch.rand(1, 3, 32, 32))),
    "torch.export": lambda module: read_exported_program(exported(module, torch.rand(1, 3, 32, 32))),
    "torch.export, sizes left open": lambda module: read_exported_program(exported(module, torch.rand(2, 3, 64, 32), dynamic=True)),
}


@pytest.mark.parametrize("read", SAVED.values(), ids=SAVED)
def test_a_saved_program_computes_what_the_network_computes(read) -> None:
    module = network()
    program = read(module)
    image = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(program(image), module(image), atol=1e-5, rtol=1e-5)
        assert torch.equal(program.to(dtype=torch.bfloat16)(image), program(image)), "in the precision that it was saved in"


def test_programs_of_our_own_networks_are_read_too() -> None:
    from certdicom.models.networks import build_network

    for description in (
        {"architecture": "UNet", "channels": 1, "structures": 2, "width": 4, "depth": 2, "norm": "batch"},
        {"architecture": "ResUNet++", "channels": 1, "structures": 2, "width": 8},
        {"architecture": "DeepLabV2", "channels": 1, "structures": 2, "width": 8, "blocks": [1, 1, 1, 1]},
        {
            "architecture": "PatchSegmenter",
            "channels": 1,
            "structures": 2,
            "patch": 2,
            "init_filters": 8,
            "blocks_down": [1, 1],
            "blocks_up": [1],
        },
    ):
        module = build_network(description).eval()
        image = torch.rand(1, 1, 32, 32)
        with torch.inference_mode():
            expected = module(image)
        for program in (read_exported_program(exported(module, image)), read_torchscript(traced(module, image))):
            with torch.inference_mode():
                torch.testing.assert_close(program(image), expected, atol=1e-4, rtol=1e-4)


# What a hostile file would try.


class Reader(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.from_file("/etc/hostname", False, 1, dtype=torch.uint8).sum()


class Random(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.rand_like(x)


@pytest.mark.parametrize("kind", [Reader, Random])
def test_a_torchscript_program_can_neither_read_files_nor_draw_random_numbers(kind: type[nn.Module]) -> None:
    with pytest.raises(BundleError, match=r"uses (torch\.)?(from_file|rand_like), which no network may do here"):
        read_torchscript(scripted(kind()))


def test_a_torchscript_program_can_not_write_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not under another name, and not in the code that PyTorch runs while it loads an archive."""
    monkeypatch.chdir(tmp_path)
    honest = scripted(network())
    lines = ('torch.save(x, "MARK")', 'ops.aten.save(x, "MARK")', "f = torch.save", 'x.save("MARK")', 'torch.add(x, 1).save("MARK")')
    for line in (text.replace("MARK", MARKER).encode() for text in lines):

        def insert(name: str, content: bytes, line: bytes = line) -> bytes:
            start = content.find(b"def forward")
            if not name.endswith("foreign_networks.py") or start < 0:
                return content
            body = content.index(b"\n", content.index(b"->", start)) + 1
            return content[:body] + b"    " + line + b"\n" + content[body:]

        with pytest.raises(BundleError, match="save, which no network may do here"):
            read_torchscript(rewritten(honest, insert))
    assert not list(tmp_path.iterdir())


def test_a_second_file_of_the_same_name_does_not_slip_through() -> None:
    """PyTorch's reader of archives takes the first of two and ignores case; Python's takes the last."""
    honest = scripted(network())
    with zipfile.ZipFile(io.BytesIO(honest)) as archive:
        name = next(name for name in archive.namelist() if name.endswith("foreign_networks.py"))
    for twin in (name, name.upper().replace("ARCHIVE/CODE", "archive/code")):
        buffer = io.BytesIO(honest)
        with zipfile.ZipFile(buffer, "a") as archive, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            archive.writestr(twin, b"")
        with pytest.raises(BundleError, match="has no place in a TorchScript archive, or not twice"):
            read_torchscript(buffer.getvalue())


def test_no_operator_that_takes_a_file_is_unknown() -> None:
    """Of all that this PyTorch would let a program call; a new one must be looked at."""
    takes_files = {
        schema.name.removeprefix("aten::")
        for schema in torch._C._jit_get_all_schemas()
        if any("file" in argument.name for argument in schema.arguments) and schema.name.startswith("aten::")
    }
    assert takes_files == TOUCH_FILES
    assert not TOUCH_FILES & TENSOR_OPERATORS


def test_pickles_in_a_torchscript_archive_may_name_nothing_but_tensors(tmp_path: Path) -> None:
    honest = scripted(network())
    evil = rewritten(honest, lambda name, content: evil_pickle(tmp_path) if name.endswith("data.pkl") else content)
    with pytest.raises(BundleError, match="asks for '__builtin__ getattr'"):
        read_torchscript(evil)
    modern = rewritten(honest, lambda name, content: pickle.dumps(Path("x"), protocol=4) if name.endswith("constants.pkl") else content)
    with pytest.raises(BundleError, match="pickle instruction STACK_GLOBAL"):
        read_torchscript(modern)
    assert not (tmp_path / MARKER).exists()


def test_pickles_in_an_exported_program_are_never_opened(tmp_path: Path) -> None:
    """PyTorch's own reader runs the example inputs' pickle; ours does not look at it."""
    module, image = network(), torch.rand(1, 3, 32, 32)
    evil = rewritten(exported(module, image), lambda name, content: evil_pickle(tmp_path) if "sample_inputs" in name else content)
    program = read_exported_program(evil)
    with torch.inference_mode():
        torch.testing.assert_close(program(image), module(image), atol=1e-5, rtol=1e-5)
    assert not (tmp_path / MARKER).exists()

    def pickled(name: str, content: bytes) -> bytes:
        return content.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith("weights_config.json") else content

    with pytest.raises(BundleError, match="as a pickle, which is never opened"):
        read_exported_program(rewritten(evil, pickled))


@pytest.mark.parametrize(
    "target",
    [
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.rand_like.default",
        "torch.ops.mine.evil.default",
        "torch.hub.load",
        "_operator.call",
        "os.system",
    ],
)
def test_an_exported_program_can_do_nothing_but_arithmetic(target: str) -> None:
    def change(name: str, content: bytes) -> bytes:
        return content.replace(b"torch.ops.aten.relu.default", target.encode(), 1) if name.endswith("models/model.json") else content

    with pytest.raises(BundleError, match="which no network may do here"):
        read_exported_program(rewritten(exported(network(), torch.rand(1, 3, 32, 32)), change))


def test_training_mode_is_no_fixed_function() -> None:
    with pytest.raises(BundleError, match=r"changes its own state|in training mode"):
        read_exported_program(exported(network().train(), torch.rand(2, 3, 32, 32)))


@pytest.mark.parametrize("read", [read_torchscript, read_exported_program])
@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04"])
def test_other_files_are_refused_in_one_line(read, content: bytes) -> None:
    with pytest.raises(BundleError, match=r"is no (TorchScript|\.pt2) archive"):
        read(content)


def test_an_archive_without_a_program_is_refused() -> None:
    empty = rewritten(exported(network(), torch.rand(1, 3, 32, 32)), lambda name, content: None if "/models/" in name else content)
    with pytest.raises(BundleError, match="holds 0 programs"):
        read_exported_program(empty)
