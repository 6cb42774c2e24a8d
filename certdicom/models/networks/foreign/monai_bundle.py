"""The network of a MONAI bundle: its class and arguments from the configuration, its weights from a state dict.

MONAI's own parser calls whatever a configuration names (`_target_`, `$expressions`). Here only the classes below can be built, from
plain values; and PyTorch reads the weights in its restricted mode, which makes tensors and nothing else.
"""

from __future__ import annotations

import io
import json
import pickle
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line

ALLOWED_NETWORKS = (
    "AttentionUnet",
    "BasicUNet",
    "BasicUNetPlusPlus",
    "DynUNet",
    "HighResNet",
    "SegResNet",
    "SwinUNETR",
    "UNet",
    "UNETR",
    "VNet",
)
"""Of monai.networks.nets: segmenters whose constructors neither download nor read files."""


def read_monai_network(configuration: bytes, weights: bytes, *, key: str) -> nn.Module:
    """The network under `key` of a MONAI configuration (JSON), with its weights, in eval mode.

    BundleError when it is not one of ALLOWED_NETWORKS, is described by anything but plain values, or its weights do not fit.
    """
    try:
        fields = json.loads(configuration)
        description = _resolved(fields[key], fields, depth=0)
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"the MONAI configuration (JSON) has no readable {key!r}: {type(error).__name__} {one_line(error)}") from error
    network = _build(description)
    try:
        network.load_state_dict(_state(weights))
    except (RuntimeError, TypeError, AttributeError) as error:
        raise BundleError(f"the weights do not fit the MONAI network: {one_line(error)[:300]}") from error
    return network.eval().requires_grad_(False)


def _resolved(value: Any, fields: Any, *, depth: int) -> Any:
    """`value` with its references (`@name`, `@name::part`) replaced by what they name; no expressions."""
    if depth > 20:
        raise ValueError("references go round in a circle")
    if isinstance(value, dict):
        return {name: _resolved(part, fields, depth=depth + 1) for name, part in value.items()}
    if isinstance(value, list):
        return [_resolved(part, fields, depth=depth + 1) for part in value]
    if isinstance(value, str) and value.startswith(("$", "%")):
        raise BundleError(f"the MONAI configuration computes {value[:60]!r}; certdicom runs no expressions: write the value itself")
    if isinstance(value, str) and value.startswith("@"):
        target = fields
        for part in value[1:].replace("#", "::").split("::"):
            target = target[int(part) if isinstance(target, list) else part]
        return _resolved(target, fields, depth=depth + 1)
    return value


def _build(description: Any) -> nn.Module:
    from monai.networks import nets

    if not isinstance(description, dict):
        raise BundleError("the MONAI network is not described by a _target_ and its arguments")
    arguments = {name: value for name, value in description.items() if not name.startswith("_")}
    target = str(description.get("_target_", ""))
    package, _, name = target.rpartition(".")
    known = name in ALLOWED_NETWORKS and (not package or package == "monai.networks.nets" or package.startswith("monai.networks.nets."))
    if not known or set(description) - set(arguments) - {"_target_", "_desc_"}:
        raise BundleError(f"the MONAI network is {target!r}; certdicom builds {', '.join(ALLOWED_NETWORKS)}, with plain arguments")
    if any(_nested_target(value) for value in arguments.values()):
        raise BundleError(f"an argument of the MONAI network {name} is an object of its own (_target_); certdicom builds plain arguments")
    try:
        network: nn.Module = getattr(nets, name)(**arguments)
    except Exception as error:  # whatever MONAI raises for arguments that do not fit
        raise BundleError(f"MONAI cannot build {name} from the configuration: {type(error).__name__} {one_line(error)[:200]}") from error
    return network


def _nested_target(value: Any) -> bool:
    if isinstance(value, dict):
        return "_target_" in value or any(_nested_target(part) for part in value.values())
    return isinstance(value, list) and any(_nested_target(part) for part in value)


def _state(weights: bytes) -> dict[str, Tensor]:
    """A state dict from safetensors, or from a PyTorch file read in its restricted mode."""
    try:
        return dict(load_safetensors(weights))
    except SafetensorError:
        pass  # then it is PyTorch's own format
    try:
        state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise BundleError(f"the MONAI weights are no plain state dict: {one_line(error)[:200]}; save network.state_dict()") from error
    for wrapper in ("model", "state_dict", "network"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise BundleError("the MONAI weights hold something else than named tensors; save network.state_dict()")
    return state
