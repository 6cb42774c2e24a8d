"""The sampler's draws where the networks run: the numbers of `certification.noise`, computed by PyTorch on any device.

The words are those of Philox4x64-10, in signed integers that wrap around. What follows is float64, operation by operation as there; a
library's logarithm, sine or cosine may differ in its last digit, of which rounding to multiples of 2⁻¹⁶ leaves next to nothing
(`pytest -m slow tests/models/test_draws.py` counts it).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from certdicom.certification.batches import Batch
from certdicom.certification.noise import STEPS_PER_UNIT, UNIFORM, key_words

DrawFunction = Callable[[Tensor, Tensor, float], Tensor]
"""`noisy_images`, or what a compiler made of it."""

_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_ROUNDS = 10
_HALF = 2**32 - 1


def noisy_batch(batch: Batch, device: torch.device, *, draw: DrawFunction | None = None) -> Tensor:
    """The noisy images of a batch, (B, channels, H, W) float32 on `device`: what `batch.noisy` is on the host."""
    images = torch.cat([torch.from_numpy(part.u).to(device).double().expand(len(part.draws), *part.u.shape) for part in batch.parts])
    keys = torch.from_numpy(round_keys([key_words(part.seed, number) for part, number in batch.draws])).to(device)
    return (draw or noisy_images)(images, keys, batch.sigma)


def round_keys(keys: list[tuple[int, int]]) -> np.ndarray:
    """Two 64-bit words for each draw → the keys of all rounds, (rounds, 2, B, 1) int64."""
    first = np.array(keys, np.uint64).T[np.newaxis]
    weyl = np.array(_WEYL, np.uint64)[:, np.newaxis] * np.arange(_ROUNDS, dtype=np.uint64)[:, np.newaxis, np.newaxis]
    return (first + weyl).view(np.int64)[..., np.newaxis]


def noisy_images(images: Tensor, keys: Tensor, sigma: float) -> Tensor:
    """U + sigma·ε for each of `images` (B, channels, H, W) float64, rounded to multiples of 2⁻¹⁶: (B, channels, H, W) float32.

    `keys`: of all rounds, as `round_keys` gives them, one draw for each image.
    """
    noise = normal_values(keys, size=math.prod(images.shape[1:])).view(images.shape)
    return (torch.round((images + sigma * noise) * STEPS_PER_UNIT) / STEPS_PER_UNIT).float()


def normal_values(keys: Tensor, *, size: int) -> Tensor:
    """The first `size` normal values of each draw, (B, size) float64; `keys`: (rounds, 2, B, 1) int64."""
    even, odd = _philox(keys, blocks=-(-size // 4))
    radius = torch.sqrt(-2.0 * torch.log((_shifted(even, 11) + 1).double() * UNIFORM))
    angle = _shifted(odd, 11).double() * (2.0 * math.pi * UNIFORM)
    pairs = torch.stack((radius * torch.cos(angle), radius * torch.sin(angle)), dim=-1)
    return pairs.permute(1, 2, 0, 3).flatten(1)[:, :size]


def _philox(keys: Tensor, *, blocks: int) -> tuple[Tensor, Tensor]:
    """Words 0 and 2, and words 1 and 3, of each block from the first on, two tensors (2, B, blocks)."""
    multipliers = torch.tensor([_signed(value) for value in _MULTIPLIERS], device=keys.device).view(2, 1, 1)
    counter = torch.arange(1, blocks + 1, device=keys.device)
    even, odd = (
        torch.stack((counter, torch.zeros_like(counter))).unsqueeze(1),
        torch.zeros(2, 1, blocks, dtype=torch.int64, device=keys.device),
    )
    for key in keys:
        high, low = _product(even, multipliers)
        even, odd = high.flip(0) ^ odd ^ key, low.flip(0)
    return even, odd.expand_as(even)


def _product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The high and the low word of a·b, as unsigned numbers of 64 bits, from products of their halves."""
    a_low, a_high, b_low, b_high = a & _HALF, _shifted(a, 32), b & _HALF, _shifted(b, 32)
    middle = a_high * b_low + _shifted(a_low * b_low, 32)
    carried = a_low * b_high + (middle & _HALF)
    return a_high * b_high + _shifted(middle, 32) + _shifted(carried, 32), a * b


def _shifted(words: Tensor, bits: int) -> Tensor:
    """Unsigned words shifted to the right."""
    return (words >> bits) & (2 ** (64 - bits) - 1)


def _signed(word: int) -> int:
    """The signed number with the bits of an unsigned one."""
    return word - 2**64 if word >= 2**63 else word
