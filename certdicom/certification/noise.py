"""Keyed noise: every draw has its own stream, unpredictable without the seed and the same on every device.

The generator is fixed, so that any device can compute the same numbers. The raw 64-bit words of Philox4x64-10 (Salmon et al. 2011), keyed
by HMAC-SHA256(seed, draw) and counting blocks of four words from 1, become uniforms of 53 bits; two uniforms become two normal values
(Box & Muller 1958), all in float64. A noisy image is rounded to multiples of 2⁻¹⁶ before any network sees it: the digits below carry
the image itself (Voráček & Hein, ICLR 2023), and whoever reads them sees no Gaussian noise.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
import secrets

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certdicom.certification.certificate import SeedKind

STEPS_PER_UNIT = 2.0**16
"""Noisy images are whole multiples of one over this; such a value below 256 is exact in float32."""

UNIFORM = 2.0**-53
"""Uniform values are whole multiples of this."""


def derive_seed(site_key: bytes | None, *, pixels_sha256: bytes, parameters: dict[str, object]) -> tuple[bytes, SeedKind]:
    """32 bytes that all draws of one film derive from, and where they come from.

    With a site key: HMAC-SHA256(key, digest of the pixels ‖ parameters as canonical JSON), so that a retry repeats the
    draws and nobody without the key can predict them. Without one: the operating system's entropy.
    """
    if site_key is None:
        return secrets.token_bytes(32), "os-entropy"
    message = pixels_sha256 + json.dumps(parameters, sort_keys=True, separators=(",", ":")).encode()
    return hmac.new(site_key, message, hashlib.sha256).digest(), "site-key"


def standard_normal(seed: bytes, draw: int, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The noise image of one draw, N(0, 1) in float64.

    With u = (⌊w₀ / 2¹¹⌋ + 1) · 2⁻⁵³ in (0, 1] and v = ⌊w₁ / 2¹¹⌋ · 2⁻⁵³ in [0, 1) from the words 2j and 2j + 1, the values 2j and 2j + 1
    are √(-2 ln u) · cos 2πv and √(-2 ln u) · sin 2πv.
    """
    size = math.prod(shape)
    words = _words(seed, draw, size + size % 2).reshape(-1, 2) >> np.uint64(11)
    radius = np.sqrt(-2.0 * np.log((words[:, 0] + np.uint64(1)) * UNIFORM))
    angle = words[:, 1] * (2.0 * math.pi * UNIFORM)
    normal = np.empty((len(words), 2))
    np.multiply(radius, np.cos(angle), out=normal[:, 0])
    np.multiply(radius, np.sin(angle), out=normal[:, 1])
    return normal.reshape(-1)[:size].reshape(shape)


def noisy_image(u: ArrayLike, sigma: float, *, seed: bytes, draw: int) -> NDArray[np.float32]:
    """U + sigma·ε of one draw, of the shape of `u`: summed in float64, rounded to multiples of 2⁻¹⁶, and then float32."""
    image = np.asarray(u, np.float64)
    noisy = image + sigma * standard_normal(seed, draw, image.shape)
    return np.asarray(np.rint(noisy * STEPS_PER_UNIT) / STEPS_PER_UNIT, np.float32)


def key_words(seed: bytes, draw: int) -> tuple[int, int]:
    """The two words of 64 bits that key the generator of one draw, low one first."""
    key = int.from_bytes(hmac.new(seed, draw.to_bytes(8, "big"), hashlib.sha256).digest()[:16], "big")
    return key & (2**64 - 1), key >> 64


def _words(seed: bytes, draw: int, count: int) -> NDArray[np.uint64]:
    return np.asarray(np.random.Philox(key=np.array(key_words(seed, draw), np.uint64)).random_raw(count))
