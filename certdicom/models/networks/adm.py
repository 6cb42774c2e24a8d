"""OpenAI's ADM U-Net (Dhariwal & Nichol 2021, guided-diffusion), as diffusers' UNet2DModel, and its checkpoints' names in ours.

The flags are those of the model cards; only networks without classes can denoise. Traps of the conversion: attention weights
are one-dimensional convolutions; their rows are ordered head by head (each head's q, k and v) unless `use_new_attention_order`; and
the channels after the image's are variances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import TimestepEmbedding, Timesteps
from torch import Tensor, nn

CHANNEL_MULTIPLES: dict[int, tuple[float, ...]] = {
    512: (0.5, 1, 1, 2, 2, 4, 4),
    256: (1, 1, 2, 2, 4, 4),
    128: (1, 1, 2, 3, 4),
    64: (1, 2, 3, 4),
}
"""Of ADM, by image size, when `channel_mult` is not given."""


class ADMUNet(nn.Module):
    """(x_t (B, 3, H, W) in DDPM units, t (B,)) → the predicted noise; flags as in guided-diffusion's `create_model`.

    `channel_mult`: channels of each level over `num_channels`; `attention_resolutions`: sides of the feature maps that attend;
    `num_head_channels` goes before `num_heads`.
    """

    def __init__(
        self,
        *,
        image_size: int = 256,
        num_channels: int = 256,
        num_res_blocks: int = 2,
        channel_mult: Sequence[float] | None = None,
        attention_resolutions: Sequence[int] = (32, 16, 8),
        num_heads: int = 4,
        num_head_channels: int | None = 64,
        use_scale_shift_norm: bool = True,
        resblock_updown: bool = True,
        use_new_attention_order: bool = False,
        learn_sigma: bool = True,
        class_cond: bool = False,
        image_channels: int = 3,
    ) -> None:
        super().__init__()
        if class_cond:
            raise ValueError("class_cond: a network that wants to be told a class cannot denoise films")
        multiples = tuple(channel_mult) if channel_mult is not None else CHANNEL_MULTIPLES.get(image_size, ())
        if not multiples:
            raise ValueError(f"channel_mult must be given for image_size {image_size}")
        self.num_res_blocks = num_res_blocks
        self.resblock_updown = resblock_updown
        self.new_attention_order = use_new_attention_order
        self.attends = tuple(image_size // 2**level in attention_resolutions for level in range(len(multiples)))
        widths = tuple(int(multiple * num_channels) for multiple in multiples)
        plain = "ResnetDownsampleBlock2D" if resblock_updown else "DownBlock2D"
        down = tuple("AttnDownBlock2D" if attends else plain for attends in self.attends)
        self.net = UNet2DModel(
            in_channels=image_channels,
            out_channels=image_channels * (2 if learn_sigma else 1),
            block_out_channels=widths,
            layers_per_block=num_res_blocks,
            down_block_types=down,
            up_block_types=tuple(name.replace("Down", "Up") for name in reversed(down)),
            downsample_type="resnet" if resblock_updown else "conv",
            upsample_type="resnet" if resblock_updown else "conv",
            attention_head_dim=None,
            norm_num_groups=32,
            attn_norm_num_groups=32,
            resnet_time_scale_shift="scale_shift" if use_scale_shift_norm else "default",
            time_embedding_dim=4 * num_channels,
        )
        if widths[0] != num_channels:  # diffusers' time embedding is as wide as the first level
            self.net.time_proj = Timesteps(num_channels, flip_sin_to_cos=True, downscale_freq_shift=0)
            self.net.time_embedding = TimestepEmbedding(num_channels, 4 * num_channels)
        for attention in self.net.modules():
            if isinstance(attention, Attention):  # built with one head each; their number changes no weight
                attention.heads = attention.inner_dim // num_head_channels if num_head_channels else num_heads
                attention.scale = (attention.inner_dim // attention.heads) ** -0.5

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.net(x_t, t).sample[:, : x_t.shape[1]]

    def converted(self, checkpoint: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """An OpenAI state dict under this network's names. KeyError for a weight that this network does not have."""
        places = dict(self._places())
        heads = {name: module.heads for name, module in self.net.named_modules() if isinstance(module, Attention)}
        converted: dict[str, Tensor] = {}
        for name, value in checkpoint.items():
            theirs = next((prefix for prefix in _prefixes(name) if prefix in places), None)
            if theirs is None:
                raise KeyError(name)
            ours, rest = places[theirs], name[len(theirs) + 1 :]
            if ours in heads and rest.startswith("qkv."):
                parts = _query_key_value(value, heads=heads[ours], by_head=not self.new_attention_order)
                for letter, part in zip("qkv", parts, strict=True):
                    converted[f"net.{ours}.to_{letter}.{rest.removeprefix('qkv.')}"] = part
            else:
                layer, _, kind = rest.rpartition(".")
                joined = ".".join(part for part in ("net", ours, _LAYERS.get(layer, layer), kind) if part)
                converted[joined] = value.squeeze(-1) if layer == "proj_out" and kind == "weight" else value
        return converted

    def _places(self) -> Iterator[tuple[str, str]]:
        """OpenAI's name of each block and this network's."""
        yield from (("time_embed.0", "time_embedding.linear_1"), ("time_embed.2", "time_embedding.linear_2"))
        yield from (("input_blocks.0.0", "conv_in"), ("out.0", "conv_norm_out"), ("out.2", "conv_out"))
        yield from zip((f"middle_block.{index}" for index in range(3)), _MIDDLE, strict=True)
        resampler = "" if self.resblock_updown else ".conv"
        levels, number = len(self.attends), 1
        for level, attends in enumerate(self.attends):
            for block in range(self.num_res_blocks):
                yield f"input_blocks.{number}.0", f"down_blocks.{level}.resnets.{block}"
                if attends:
                    yield f"input_blocks.{number}.1", f"down_blocks.{level}.attentions.{block}"
                number += 1
            if level < levels - 1:
                yield f"input_blocks.{number}.0{'' if self.resblock_updown else '.op'}", f"down_blocks.{level}.downsamplers.0{resampler}"
                number += 1
        number = 0
        for level, attends in enumerate(reversed(self.attends)):
            for block in range(self.num_res_blocks + 1):
                yield f"output_blocks.{number}.0", f"up_blocks.{level}.resnets.{block}"
                if attends:
                    yield f"output_blocks.{number}.1", f"up_blocks.{level}.attentions.{block}"
                if level < levels - 1 and block == self.num_res_blocks:
                    theirs = f"output_blocks.{number}.{1 + attends}{'' if self.resblock_updown else '.conv'}"
                    yield theirs, f"up_blocks.{level}.upsamplers.0{resampler}"
                number += 1


_MIDDLE = ("mid_block.resnets.0", "mid_block.attentions.0", "mid_block.resnets.1")

_LAYERS = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
    "norm": "group_norm",
    "proj_out": "to_out.0",
}
"""Layers of OpenAI's residual and attention blocks, and diffusers' names for them."""


def _prefixes(name: str) -> Iterator[str]:
    """All beginnings of a dotted name, longest first, without the last part."""
    parts = name.split(".")
    return (".".join(parts[:length]) for length in range(len(parts) - 1, 0, -1))


def _query_key_value(value: Tensor, *, heads: int, by_head: bool) -> Sequence[Tensor]:
    """The rows of q, k and v, in the order of the heads, from OpenAI's joint weight (3·C, C, 1) or bias (3·C,)."""
    joint = value.squeeze(-1) if value.ndim == 3 else value
    if not by_head:
        return joint.chunk(3)
    grouped = joint.unflatten(0, (heads, 3, -1))
    return [grouped[:, index].flatten(0, 1) for index in range(3)]
