"""Denoisers in diffusers' own layout: `config.json` of a UNet2DModel and its safetensors, with a scheduler's configuration beside."""

from __future__ import annotations

import json
from typing import Any

from diffusers import UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line


class DiffusionModel(nn.Module):
    """A UNet2DModel as a predictor: (x_t, t) → its prediction; channels beyond those of `x_t` are variances and are dropped."""

    def __init__(self, net: UNet2DModel) -> None:
        super().__init__()
        self.net = net

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.net(x_t, t).sample[:, : x_t.shape[1]]


def read_diffusers_unet(configuration: bytes, weights: bytes) -> nn.Module:
    """The UNet2DModel of a model folder, in eval mode. BundleError when it is another model or its weights do not fit."""
    try:
        fields: dict[str, Any] = json.loads(configuration)
        if fields["_class_name"] != "UNet2DModel":
            raise BundleError(f"the diffusers model is a {fields['_class_name']}; certdicom denoises with an unconditional UNet2DModel")
        if fields.get("num_class_embeds") or fields.get("class_embed_type"):
            raise BundleError("the diffusers model wants to be told a class; certdicom denoises with an unconditional UNet2DModel")
        net = UNet2DModel(**{name: value for name, value in fields.items() if not name.startswith("_")})
        net.load_state_dict(load(weights))
    except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise BundleError(f"the diffusers model cannot be read: {type(error).__name__} {one_line(error)[:300]}") from error
    return DiffusionModel(net).eval().requires_grad_(False)
