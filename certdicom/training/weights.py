"""Weights of a network while it trains: their average, the files that hold them, and checkpoints to go on from."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn

from certdicom.errors import UsageError, one_line
from certdicom.files import write_atomically
from certdicom.models.networks import build_network
from certdicom.models.precision import for_disk, from_disk

_NETWORK, _RECORD = "network", "record"


class AveragedWeights:
    """Exponential moving average of a network's weights; the average is what gets validated and shipped."""

    def __init__(self, network: nn.Module, *, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, *, step: int) -> None:
        """Take in the weights after `step` (from 1); early steps count more, so that the start is soon forgotten."""
        decay = min(self._decay, (1 + step) / (10 + step))
        for average, current in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - decay)
        for statistic, now in zip(self.network.buffers(), network.buffers(), strict=True):
            statistic.copy_(now)  # running means and variances of a batch norm are averages already


def save_network(network: nn.Module, path: Path, *, description: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> None:
    """Write half-precision safetensors that carry the `description` which rebuilds the network; replaced atomically.

    `record`: how it was trained, for the model card.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {_NETWORK: json.dumps(description), _RECORD: json.dumps(record or {})}
    write_atomically(path, save(for_disk(network.state_dict()), metadata=metadata), force=True)


@dataclass(frozen=True)
class Trained:
    """A network of `certdicom train` in float32 on the CPU; `description` rebuilds it, `record` says how it was trained, {} if unknown."""

    network: nn.Module
    description: dict[str, Any]
    record: dict[str, Any]


def load_network(path: Path) -> Trained:
    """What `save_network` wrote. UsageError when it is no such file."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        description, record = json.loads(metadata[_NETWORK]), json.loads(metadata.get(_RECORD, "{}"))
        network = build_network(description)
        network.load_state_dict(from_disk(load_file(path)))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{path} holds no network of certdicom train ({one_line(error)}); give a .safetensors file that it wrote"
        ) from error
    return Trained(network, description, record)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write what is needed to go on: tensors, numbers and strings only, so that reading it executes nothing."""
    write_atomically(path, lambda file: torch.save(dict(state), file), force=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote. UsageError when there is none or it is damaged."""
    if not zipfile.is_zipfile(path):
        raise UsageError(f"no checkpoint to go on from at {path}: it is missing or damaged; leave --resume out to start anew")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise UsageError(f"cannot go on from {path}: {one_line(error)}; leave --resume out to start anew") from error
    return state
