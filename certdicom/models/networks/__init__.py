"""The networks that a bundle can describe, by name, and their construction from the description in its `bundle.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from certdicom.errors import BundleError
from certdicom.models.networks.adm import ADMUNet
from certdicom.models.networks.deeplab_v2 import DeepLabV2
from certdicom.models.networks.mean import Mean
from certdicom.models.networks.patches import PatchDenoiser, PatchSegmenter
from certdicom.models.networks.residual_unet import ResidualUNet
from certdicom.models.networks.resunet_plus_plus import ResUNetPlusPlus
from certdicom.models.networks.unet import UNet

__all__ = ["ADMUNet", "DeepLabV2", "Mean", "PatchDenoiser", "PatchSegmenter", "ResUNetPlusPlus", "ResidualUNet", "UNet", "build_network"]

_ARCHITECTURES: dict[str, type[nn.Module]] = {
    "ADMUNet": ADMUNet,
    "DeepLabV2": DeepLabV2,
    "PatchDenoiser": PatchDenoiser,
    "PatchSegmenter": PatchSegmenter,
    "ResUNet++": ResUNetPlusPlus,
    "ResidualUNet": ResidualUNet,
    "UNet": UNet,
}


def build_network(description: Mapping[str, Any]) -> nn.Module:
    """The untrained network that `{"architecture": name, **arguments}` describes.

    Raises BundleError when the architecture is unknown or its arguments do not fit it.
    """
    arguments = dict(description)
    name = arguments.pop("architecture", None)
    if name not in (*_ARCHITECTURES, "Mean"):
        known = ", ".join(sorted((*_ARCHITECTURES, "Mean")))
        raise BundleError(f"unknown network architecture {name!r} in the bundle; this version builds {known}")
    try:
        network = Mean(**arguments, build=build_network) if name == "Mean" else _ARCHITECTURES[name](**arguments)
    except (TypeError, ValueError) as error:
        raise BundleError(f"the bundle's description of {name} does not fit this version: {error}") from error
    memory_format = getattr(network, "memory_format", torch.channels_last)
    return network.to(memory_format=memory_format)  # type: ignore[call-overload]  # missing from torch's stubs
