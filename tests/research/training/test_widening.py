"""A wider network begins by answering as the narrow one does, and its copies learn apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from certdicom.cli.main import main
from certdicom.errors import UsageError
from certdicom.models.networks import build_network
from certdicom.research.training.weights import Trained, load_network, save_network
from certdicom.research.training.widening import widened

NARROW = {
    "architecture": "UNet",
    "channels": 1,
    "structures": 2,
    "width": 4,
    "depth": 2,
    "padding": "zero",
    "norm": "batch",
    "dropout": 0.0,
}
WIDE = {**{name: value for name, value in NARROW.items() if name not in ("width", "depth")}, "widths": [4, 12, 27]}


def _trained() -> Trained:
    """A narrow network whose batch norms have counted something."""
    torch.manual_seed(1)
    network = build_network(NARROW)
    with torch.no_grad():
        for _ in range(5):
            network(torch.rand(4, 1, 32, 32))
    return Trained(network.eval(), dict(NARROW), {"what": "segmenter", "structures": ["heart", "lungs"], "grid": [32, 32], "steps": 7})


def test_a_wider_network_answers_as_the_narrow_one() -> None:
    narrow = _trained()
    wide = widened(narrow, WIDE)
    image = torch.rand(3, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(wide.network.eval()(image), narrow.network(image), rtol=1e-4, atol=1e-5)
    assert (wide.description, wide.record) == (WIDE, narrow.record)


def test_a_network_on_patches_answers_as_the_one_on_their_means() -> None:
    narrow = _trained()
    wide = widened(narrow, {**WIDE, "patch": 2})
    image = torch.rand(3, 1, 64, 48)
    with torch.no_grad():
        expected = nn.functional.interpolate(narrow.network(nn.functional.avg_pool2d(image, 2)), scale_factor=2.0)
        torch.testing.assert_close(wide.network.eval()(image), expected, rtol=1e-4, atol=1e-5)


def test_copies_of_a_channel_learn_apart() -> None:
    wide = widened(_trained(), WIDE).network.train()
    wide(torch.rand(3, 1, 32, 32)).square().mean().backward()
    gradient = wide.down[1][0].weight.grad
    assert gradient is not None
    assert torch.equal(wide.down[1][0].weight[0], wide.down[1][0].weight[8])  # one channel and its copy
    assert not torch.allclose(gradient[0], gradient[8])


@pytest.mark.parametrize(
    "other",
    [
        {**WIDE, "widths": [4, 8, 15]},
        {**WIDE, "widths": [4, 8, 16, 32]},
        {**WIDE, "norm": "none"},
        {**WIDE, "padding": "mirror"},
        {**WIDE, "structures": 3},
        {**WIDE, "channels": 3},
        {**WIDE, "patch": 2, "widths": [4, 7, 16]},
        {"architecture": "ResUNet++", "channels": 1, "structures": 2, "width": 8},
    ],
)
def test_another_network_is_no_wider_one(other: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="no level of it narrower"):
        widened(_trained(), other)


def test_the_command_goes_on_with_a_wider_network(data: Path, tmp_path: Path) -> None:
    narrow = _trained()
    save_network(narrow.network, tmp_path / "narrow.safetensors", description=narrow.description, record=narrow.record)
    network = json.dumps({name: value for name, value in WIDE.items() if name not in ("channels", "structures")})
    command = ["train", "segmenter", "--data", str(data), "--weights", str(tmp_path / "narrow.safetensors"), "--network", network]
    assert main([*command, "--steps", "1", "--batch-size", "2", "--out", str(tmp_path / "wide")]) == 0
    wide = load_network(tmp_path / "wide" / "segmenter.safetensors")
    assert wide.description["widths"] == [4, 12, 27]
    assert wide.record["began_with"]["steps"] == 7
