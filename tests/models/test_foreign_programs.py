"""Saved programs compute here what the network computes that they were saved from, and can do nothing else."""

from __future__ import annotations

import io
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
)
from torch import nn

from certdicom.errors import BundleError
from certdicom.models.networks.foreign.exported import read_exported_program
from certdicom.models.networks.foreign.guards import ShapeGuards
from certdicom.models.networks.foreign.operators import TENSOR_OPERATORS

pytestmark = SAVING_WARNS


SAVED = {
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
        program = read_exported_program(exported(module, image))
        with torch.inference_mode():
            torch.testing.assert_close(program(image), expected, atol=1e-4, rtol=1e-4)


# What a hostile file would try.


def test_no_operator_that_takes_a_file_is_unknown() -> None:
    """Of all that this PyTorch would let a program call; a new one must be looked at."""
    takes_files = {
        schema.name.removeprefix("aten::")
        for schema in torch._C._jit_get_all_schemas()
        if any("file" in argument.name for argument in schema.arguments) and schema.name.startswith("aten::")
    }
    assert takes_files == {"save", "from_file"}
    assert not takes_files & TENSOR_OPERATORS


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


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04"])
def test_other_files_are_refused_in_one_line(content: bytes) -> None:
    with pytest.raises(BundleError, match=r"is no \.pt2 archive"):
        read_exported_program(content)


def test_an_archive_without_a_program_is_refused() -> None:
    empty = rewritten(exported(network(), torch.rand(1, 3, 32, 32)), lambda name, content: None if "/models/" in name else content)
    with pytest.raises(BundleError, match="holds 0 programs"):
        read_exported_program(empty)


# A program holds for the shapes that it was exported for, and says so.


class Shrinking(nn.Module):
    """Gives a plausible shape on any grid, and computes with the size that it was traced with."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        down = nn.functional.avg_pool2d(x, 2)
        return x - nn.functional.interpolate(down, scale_factor=2.0) * x.shape[-1] / 100


def test_a_program_that_was_exported_for_another_grid_is_refused() -> None:
    """Without its guards it would run, and compute with the sizes of the other grid."""
    program = read_exported_program(exported(Shrinking(), torch.rand(1, 1, 32, 32)))
    with torch.inference_mode():
        assert program(torch.rand(2, 1, 32, 32)).shape == (2, 1, 32, 32), "image by image"
        for shape in ((1, 1, 64, 64), (1, 3, 32, 32)):
            with pytest.raises(BundleError, match=r"was not exported for images of .* must be .*; export it for a batch of one"):
                program(torch.rand(shape))


def test_open_sizes_are_held_to_what_the_program_says_of_them() -> None:
    module = Shrinking()
    shapes = ({2: 4 * torch.export.Dim("rows", min=4, max=16), 3: torch.export.Dim.AUTO},)
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(module, (torch.rand(1, 1, 32, 32),), dynamic_shapes=shapes), buffer)
    program = read_exported_program(buffer.getvalue())
    with torch.inference_mode():
        for rows, columns in ((32, 32), (16, 48), (64, 10)):
            image = torch.rand(1, 1, rows, columns)
            torch.testing.assert_close(program(image), module(image))
        for (rows, columns), reason in {
            (30, 32): "dimension 2",
            (8, 32): "is outside 4",
            (128, 32): "is outside 4",
            (32, 31): "only where",
        }.items():
            with pytest.raises(BundleError, match=reason):
                program(torch.rand(1, 1, rows, columns))


@pytest.mark.parametrize(
    "guard", ["__import__('os').system('true')", "L['x'].size()[2].real", "(lambda: 1)()", "L['x'].size()[9] > 1", "2 ** 99", "["]
)
def test_a_guard_that_is_no_arithmetic_on_sizes_is_refused(guard: str) -> None:
    with pytest.raises(BundleError, match="which certdicom cannot check"):
        ShapeGuards([{"as_int": 1}] * 4, {}, [guard]).require((1, 1, 1, 1))
