"""OpenAI's ADM checkpoints (`256x256_diffusion_uncond.pt` and its family), converted once to safetensors for a bundle.

Nothing is downloaded. The checkpoints are PyTorch files, that is pickles: they are read in PyTorch's restricted mode, which makes
tensors and nothing else, on this explicit request only; a bundle holds what comes out.
"""

from __future__ import annotations

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from certdicom.errors import BundleError, UnreadableError, one_line
from certdicom.files import write_atomically
from certdicom.models.networks.adm import ADMUNet
from certdicom.models.networks.precision import to_half

NOTICE = (
    "ADM weights by OpenAI: their model card says that they are not intended for commercial deployment, "
    "and that they may reproduce biases of their training images"
)
"""What every user of such a bundle must be told: the bundle's `notice`."""

_log = logging.getLogger(__name__)


def convert_adm_checkpoint(checkpoint: Path, target: Path, *, flags: Mapping[str, Any], force: bool = False) -> dict[str, Any]:
    """Write `checkpoint` as float16 safetensors to `target`, and return the network's description for a bundle.

    `flags`: arguments of ADMUNet that differ from those of the unconditional 256 × 256 network. UnreadableError when there is no such
    file, BundleError when its weights are not those of the network that the flags describe, OutputError when `target` exists.
    """
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
    except OSError as error:
        raise UnreadableError(f"cannot read the checkpoint {checkpoint}: {error.strerror}") from error
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise BundleError(f"{checkpoint} is no plain PyTorch state dict: {one_line(error)[:200]}") from error
    weights = converted_weights(state, flags=flags)
    try:
        content = save(to_half(weights), metadata={"notice": NOTICE})
    except ValueError as error:
        raise BundleError(f"{checkpoint} is damaged: {error}") from error
    write_atomically(target, content, force=force)
    _log.warning("%s", NOTICE)
    return {"architecture": "ADMUNet", **flags}


def converted_weights(state: Mapping[str, Tensor], *, flags: Mapping[str, Any]) -> dict[str, Tensor]:
    """OpenAI's state dict under ADMUNet's names, every name and shape checked. BundleError when they do not fit the flags."""
    try:
        with torch.device("meta"):
            network = ADMUNet(**flags)
        converted = network.converted(state)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the flags describe no ADM network: {one_line(error)}") from error
    except KeyError as error:
        raise BundleError(f"the checkpoint has {error}, which a network of these flags does not have") from error
    expected = {name: value.shape for name, value in network.state_dict().items()}
    if missing := sorted(set(expected) - set(converted)):
        raise BundleError(f"the checkpoint lacks {len(missing)} weights of a network of these flags, such as {missing[0]}")
    for name, value in converted.items():
        if expected.get(name) != value.shape:
            raise BundleError(f"the checkpoint's {name} is {tuple(value.shape)}, a network of these flags has {expected.get(name)}")
    return converted
