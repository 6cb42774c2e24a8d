"""Draws where the networks run: the sampler's own numbers, word for word and, after rounding, value for value."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certdicom.certification.batches import Batch, Part
from certdicom.certification.noise import key_words, noisy_image
from certdicom.models.backends.draws import _philox, _product, noisy_batch, noisy_images, round_keys

CPU = torch.device("cpu")
SEED = b"a seed for tests, thirty-two byt"


def differing(values: int, *, draws_at_once: int = 4, side: int = 500) -> int:
    """How many of `values` values are another on the device than here, in images of `side` × `side` pixels."""
    u, found = np.random.default_rng(0).random((1, side, side)), 0
    draws = values // side**2
    for start in range(0, draws, draws_at_once):
        batch = Batch(0.25, (Part(0, u, SEED, range(start, min(start + draws_at_once, draws))),))
        found += int((noisy_batch(batch, CPU).numpy() != batch.noisy).sum())
    return found


def test_the_words_are_those_of_numpys_philox() -> None:
    keys = [key_words(SEED, 3), key_words(b"another", 2**40), (2**64 - 1, 0), (0, 2**64 - 1), (2**63, 2**63 - 1)]
    even, odd = _philox(torch.from_numpy(round_keys(keys)), blocks=9)
    for draw, key in enumerate(keys):
        expected = np.random.Philox(key=np.array(key, np.uint64)).random_raw(36).reshape(9, 4).T
        assert np.array_equal(even[:, draw].numpy().view(np.uint64), expected[::2])
        assert np.array_equal(odd[:, draw].numpy().view(np.uint64), expected[1::2])


def test_products_of_unsigned_words() -> None:
    edges = [0, 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 0xD2E7470EE14C6C93, 0x123456789ABCDEF0]
    pairs = [(a, b) for a in edges for b in edges]
    a, b = (torch.from_numpy(np.array(side, np.uint64).view(np.int64)) for side in zip(*pairs, strict=True))
    high, low = (half.numpy().view(np.uint64).tolist() for half in _product(a, b))
    assert high == [x * y >> 64 for x, y in pairs]
    assert low == [x * y & 2**64 - 1 for x, y in pairs]


def test_a_million_values_are_the_same_here_and_on_the_device() -> None:
    assert differing(1_000_000) == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_hundred_million_values_are_the_same_here_and_on_the_device() -> None:
    assert differing(100_000_000) == 0


def test_a_batch_of_several_images_is_drawn_as_each_draw_by_itself() -> None:
    """Float32 and float64, three channels, a number of values that fills no block."""
    first, second = np.random.default_rng(0).random((3, 7, 5)), np.random.default_rng(1).random((3, 7, 5), np.float32)
    batch = Batch(0.5, (Part(0, first, b"a", range(3)), Part(1, second, b"b", range(9, 11)), Part(0, first, b"a", range(3, 4))))
    found = noisy_batch(batch, CPU)
    assert found.dtype == torch.float32
    draws = [(first, b"a", 0), (first, b"a", 1), (first, b"a", 2), (second, b"b", 9), (second, b"b", 10), (first, b"a", 3)]
    assert np.array_equal(found.numpy(), np.stack([noisy_image(u, 0.5, seed=seed, draw=draw) for u, seed, draw in draws]))


def test_the_draws_can_be_traced_by_a_compiler() -> None:
    images, keys = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.from_numpy(round_keys([key_words(SEED, draw) for draw in range(2)]))
    traced = torch.compile(noisy_images, fullgraph=True, backend="eager")
    assert torch.equal(traced(images, keys, 0.25), noisy_images(images, keys, 0.25))
