"""Weights of a network while it trains: their average, the files that hold them, and checkpoints to go on from."""

from __future__ import annotations

import copy
import json
import pickle
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from certdicom.errors import UsageError, one_line
from certdicom.files import write_atomically
from certdicom.models.networks import build_network
from certdicom.models.networks.precision import to_float32, to_half

_NETWORK, _RECORD = "network", "record"


class AveragedWeights:
    """Exponential moving average of a network's weights; the average is what gets validated and shipped."""

    def __init__(self, network: nn.Module, *, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module, *, step: int) -> None:
        """Take in the weights after `step` (from 1); early steps count more, so that the start is soon forgotten."""
        average = get_ema_multi_avg_fn(min(self._decay, (1 + step) / (10 + step)))
        average(list(self.network.parameters()), [weight.detach() for weight in network.parameters()], step)
        for statistic, now in zip(self.network.buffers(), network.buffers(), strict=True):
            statistic.copy_(now)  # running means and variances of a batch norm are averages already


def save_network(network: nn.Module, path: Path, *, description: Mapping[str, Any], record: Mapping[str, Any] | None = None) -> None:
    """Write half-precision safetensors that carry the `description` which rebuilds the network; replaced atomically.

    `record`: how it was trained, for the model card. UsageError for weights that are not finite; the file that was there is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {_NETWORK: json.dumps(description), _RECORD: json.dumps(record or {})}
    try:
        state = to_half(network.state_dict())
    except ValueError as error:
        raise UsageError(f"cannot write {path}: {error}") from error
    write_atomically(path, save(state, metadata=metadata), force=True)


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
        network.load_state_dict(to_float32(load_file(path)))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"{path} holds no network of certdicom train ({one_line(error)}); give a .safetensors file that it wrote"
        ) from error
    return Trained(network, description, record)


def mean_of(segmenters: Sequence[Trained]) -> Trained:
    """One network that gives the mean of their logits; a single one as it is. UsageError unless grid, structures and noise agree."""
    first = segmenters[0]
    if len(segmenters) == 1:
        return first
    for name in ("grid", "structures", "noise"):
        if len({json.dumps(one.record.get(name) or None) for one in segmenters}) > 1:
            raise UsageError(f"the segmenters differ in {name}: a mean needs networks that were trained for the same")
    shared = {name: first.description[name] for name in ("channels", "structures")}
    if any(one.description[name] != value for one in segmenters for name, value in shared.items()):
        raise UsageError("the segmenters differ in channels or structures: a mean needs networks that give the same")
    members = [{**one.description, "factor": int(one.record.get("factor", 1))} for one in segmenters]
    description = {"architecture": "Mean", **shared, "members": [_without(member, shared) for member in members]}
    network = build_network(description)
    network.load_state_dict({f"members.{i}.{n}": v for i, one in enumerate(segmenters) for n, v in one.network.state_dict().items()})
    record: dict[str, Any] = {name: first.record[name] for name in ("grid", "structures", "noise") if name in first.record}
    return Trained(network, description, record | {"members": [one.record for one in segmenters]})


def _without(fields: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


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
