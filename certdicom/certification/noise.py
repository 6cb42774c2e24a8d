"""Keyed noise: every draw has its own stream, unpredictable without the seed and the same on any device or batch size."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.certificate import SeedKind

_WORTH_THREADS = 1 << 20
"""Values from which on starting threads costs little beside drawing them, about 10 ns each."""


def derive_seed(site_key: bytes | None, *, pixels_sha256: bytes, parameters: dict[str, object]) -> tuple[bytes, SeedKind]:
    """32 bytes that all draws of one film derive from, and where they come from.

    With a site key: HMAC-SHA256(key, digest of the pixels ‖ parameters as canonical JSON), so that a retry repeats the
    draws and nobody without the key can predict them. Without one: the operating system's entropy.
    """
    if site_key is None:
        return secrets.token_bytes(32), "os-entropy"
    message = pixels_sha256 + json.dumps(parameters, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(site_key, message, hashlib.sha256).digest(), "site-key"


def standard_normal(seed: bytes, draw: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The noise image of one draw, N(0, 1) float32: a counter-based generator keyed by HMAC(seed, draw)."""
    noise = np.empty(shape, np.float32)
    _fill(noise, seed, draw)
    return noise


def noisy_batch(u: Tensor, sigma: float, *, seed: bytes, draws: range) -> Tensor:
    """The noisy images u + sigma·ε of `draws`: (len(draws), channels, H, W) float32 on the device of `u` (channels, H, W)."""
    noise = np.empty((len(draws), *u.shape), np.float32)
    threads = min(torch.get_num_threads(), len(draws))
    if threads > 1 and noise.size >= _WORTH_THREADS:
        with ThreadPoolExecutor(threads) as pool:  # numpy draws without the interpreter's lock
            list(pool.map(lambda index: _fill(noise[index], seed, draws[index]), range(len(draws))))
    else:
        for index, draw in enumerate(draws):
            _fill(noise[index], seed, draw)
    return u + sigma * torch.from_numpy(noise).to(u.device)


def _fill(noise: NDArray[np.float32], seed: bytes, draw: int) -> None:
    digest = hmac.new(seed, draw.to_bytes(8, "big"), hashlib.sha256).digest()
    generator = np.random.Generator(np.random.Philox(key=int.from_bytes(digest[:16], "big")))
    generator.standard_normal(out=noise, dtype=np.float32)
