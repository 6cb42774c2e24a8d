"""Weights keep their meaning on their way to disk and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from certdicom.errors import BundleError, UsageError
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import load_bundle
from certdicom.models.networks.precision import to_float32, to_half
from certdicom.research.training.weights import save_network
from tests.tiny import write_tiny_bundle


def test_weights_take_half_the_room_and_counters_stay_whole() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4))
    state = to_half(network.state_dict())
    assert state["0.weight"].dtype == torch.float16
    assert state["1.num_batches_tracked"].dtype == torch.int64
    back = to_float32(state)
    assert back["0.weight"].dtype == torch.float32
    torch.testing.assert_close(back["0.weight"], network[0].weight.detach(), atol=1e-3, rtol=1e-3)


def test_variances_that_half_precision_does_not_hold_come_back_as_they_were() -> None:
    """In float16 the first would be infinite and the second 0: a channel would be silent, or deafening."""
    network = nn.BatchNorm2d(3).eval()
    network.running_var.copy_(torch.tensor([2e6, 1e-9, 1.0]))
    network.running_mean.copy_(torch.tensor([1000.25, 1e-9, 0.1]))
    back = nn.BatchNorm2d(3).eval()
    back.load_state_dict(to_float32(to_half(network.state_dict())))
    image = torch.rand(1, 3, 4, 4) * torch.tensor([3000.0, 1e-4, 1.0]).view(1, 3, 1, 1)
    assert torch.equal(back(image), network(image))


def test_a_weight_that_half_precision_does_not_hold_comes_back_as_it_was() -> None:
    state = {"weight": torch.tensor([1.0, 1e5])}
    assert to_float32(to_half(state))["weight"].tolist() == [1.0, 1e5]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_written_nor_read(value: float, tmp_path: Path) -> None:
    network = nn.BatchNorm2d(2)
    path = tmp_path / "segmenter.safetensors"
    save_network(network, path, description={})
    before = path.read_bytes()
    network.running_var[1] = value
    with pytest.raises(UsageError, match=r"cannot write .*running_var hold values that are not finite .*lower rate"):
        save_network(network, path, description={})
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="running_var hold values that are not finite"):
        to_float32(network.state_dict())


def test_a_bundle_whose_weights_are_not_finite_is_refused(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    state = {name: value.half() for name, value in load_network(bundle, "segmenter").state_dict().items()}
    name = next(name for name, value in state.items() if value.is_floating_point())
    state[name].view(-1)[0] = float("inf")
    save_file(state, bundle.folder / "segmenter.safetensors")
    description = bundle.folder / "bundle.json"
    fields = json.loads(description.read_text())
    fields.pop("weights_sha256", None)
    description.write_text(json.dumps(fields))
    with pytest.raises(BundleError, match=f"segmenter weights of bundle tiny .*{name} hold values that are not finite"):
        load_network(load_bundle(bundle.folder), "segmenter")
