"""The noise: one fixed generator, Gaussian, independent between draws, channels and pixels, and rounded before anybody sees it."""

from __future__ import annotations

import hashlib
import hmac
import math
import struct

import numpy as np
import pytest
from scipy.stats import kstest, norm

from certdicom.certification.noise import derive_seed, noisy_image, standard_normal

SEED = b"a seed for tests, thirty-two byt"


def philox(key: tuple[int, int], counter: int) -> list[int]:
    """Philox4x64-10 of Salmon et al. (SC 2011), written from the paper: four words of one counter."""
    multiply, weyl = (0xD2E7470EE14C6C93, 0xCA5A826395121157), (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
    words, low = [counter, 0, 0, 0], 2**64 - 1
    for number in range(10):
        keys = [(key[index] + number * weyl[index]) & low for index in range(2)]
        first, second = multiply[0] * words[0], multiply[1] * words[2]
        words = [(second >> 64) ^ words[1] ^ keys[0], second & low, (first >> 64) ^ words[3] ^ keys[1], first & low]
    return words


def test_the_generator_is_philox_keyed_by_seed_and_draw_and_box_muller() -> None:
    """Every device must be able to compute these numbers: the definition, number by number."""
    digest = hmac.new(SEED, (7).to_bytes(8, "big"), hashlib.sha256).digest()[:16]
    key = int.from_bytes(digest, "big")
    words = [word for block in range(1, 5) for word in philox((key & (2**64 - 1), key >> 64), block)]
    expected = []
    for first, second in zip(words[::2], words[1::2], strict=True):
        radius = math.sqrt(-2 * math.log(((first >> 11) + 1) * 2.0**-53))
        angle = 2 * math.pi * (second >> 11) * 2.0**-53
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    found = standard_normal(SEED, 7, (3, 5))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found.ravel(), expected[:15], rtol=1e-12)


def test_the_noise_stays_what_it_is() -> None:
    """Another generator, order or key would give every film other draws under the same site key."""
    rounded = np.rint(standard_normal(b"kept", 3, (1, 64, 64)) * 2**16).astype("<i8")
    assert hashlib.sha256(rounded.tobytes()).hexdigest() == "eb30e6b3d096234024b429234072cfa72cf58ce3002031e4ccfd99c412040f83"


def test_it_is_normal_in_the_middle_and_in_the_tails() -> None:
    values = standard_normal(SEED, 0, (2_000_001,))
    assert kstest(values[:200_000], norm.cdf).pvalue > 1e-3
    assert abs(values.mean()) < 5 / math.sqrt(len(values))
    assert abs((values**4).mean() - 3) < 0.05
    for beyond in (3.0, 4.0):
        expected = 2 * norm.sf(beyond) * len(values)
        assert abs(np.sum(np.abs(values) > beyond) - expected) < 5 * math.sqrt(expected)


def test_draws_channels_and_pixels_are_independent() -> None:
    draws = np.stack([standard_normal(SEED, draw, (64 * 64,)) for draw in range(64)])
    assert np.abs(np.corrcoef(draws) - np.eye(64)).max() < 0.09
    channels = standard_normal(SEED, 0, (3, 128, 128))
    assert np.abs(np.corrcoef(channels.reshape(3, -1)) - np.eye(3)).max() < 0.04
    values = standard_normal(SEED, 1, (1_000_000,))
    for lag in (1, 2, 3, 4, 256):
        assert abs(np.corrcoef(values[:-lag], values[lag:])[0, 1]) < 0.005
        assert abs(np.corrcoef(values[:-lag] ** 2, values[lag:] ** 2)[0, 1]) < 0.005, "Box-Muller pairs share a radius"


def test_a_noisy_image_is_a_sum_in_float64_rounded_to_multiples_of_2_to_the_minus_16() -> None:
    u = np.random.default_rng(0).random((1, 33, 31)) * 1.2
    noisy = noisy_image(u, 0.25, seed=SEED, draw=5)
    assert noisy.dtype == np.float32
    exact = u + 0.25 * standard_normal(SEED, 5, u.shape)
    steps = noisy.astype(np.float64) * 2**16
    assert np.array_equal(steps, np.rint(steps))
    assert np.abs(noisy - exact).max() <= 2.0**-17
    nearest = np.rint(exact * 2**16) / 2**16
    assert np.array_equal(noisy.astype(np.float64), nearest), "float32 holds every such value"


def test_images_of_float32_and_float64_get_the_same_noise() -> None:
    u = np.full((1, 16, 16), 0.5)
    assert np.array_equal(noisy_image(u, 0.25, seed=SEED, draw=1), noisy_image(u.astype(np.float32), 0.25, seed=SEED, draw=1))


def test_a_site_key_repeats_the_draws_and_depends_on_all_it_should() -> None:
    parameters: dict[str, object] = {"sigma": 0.25, "n": 100}
    seed, kind = derive_seed(b"key", pixels_sha256=b"film", parameters=parameters)
    assert kind == "site-key"
    assert seed == derive_seed(b"key", pixels_sha256=b"film", parameters=dict(reversed(parameters.items())))[0]
    message = b'film{"n":100,"sigma":0.25}'
    assert seed == hmac.new(b"key", message, hashlib.sha256).digest()
    others = [
        derive_seed(b"other key", pixels_sha256=b"film", parameters=parameters)[0],
        derive_seed(b"key", pixels_sha256=b"another film", parameters=parameters)[0],
        derive_seed(b"key", pixels_sha256=b"film", parameters={"sigma": 0.5, "n": 100})[0],
    ]
    assert len({seed, *others}) == 4


def test_without_a_site_key_every_run_draws_anew() -> None:
    first, kind = derive_seed(None, pixels_sha256=b"film", parameters={})
    assert kind == "os-entropy"
    assert first != derive_seed(None, pixels_sha256=b"film", parameters={})[0]


@pytest.mark.parametrize("shape", [(1,), (1, 3, 3), (2, 2, 2)])
def test_every_shape_is_filled(shape: tuple[int, ...]) -> None:
    assert standard_normal(SEED, 0, shape).shape == shape
    assert len(np.unique(standard_normal(SEED, 0, shape))) == math.prod(shape)


def test_the_largest_and_smallest_words_give_finite_values(monkeypatch: pytest.MonkeyPatch) -> None:
    """u = 2⁻⁵³ gives the largest radius, √(106 ln 2) = 8.57; u = 1 gives none; nothing gives infinity."""
    extremes = np.frombuffer(struct.pack("<4Q", 0, 0, 2**64 - 1, 2**64 - 1), np.uint64)
    monkeypatch.setattr("certdicom.certification.noise._words", lambda seed, draw, count: extremes[:count].copy())
    values = standard_normal(SEED, 0, (4,))
    assert values[0] == pytest.approx(math.sqrt(106 * math.log(2)))
    assert values[1:].tolist() == [0.0, 0.0, 0.0]
