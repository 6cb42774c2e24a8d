"""The port to what runs networks: what the sampler asks a base segmenter, which it smooths."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.batches import Batch, Image
from certdicom.certification.hypotheses import Hypotheses, decide
from certdicom.certification.statistics import Array
from certdicom.errors import BundleError


class VoteCounter(Protocol):
    """A base segmenter as the loop asks it: how often each structure and union was present in each part of a batch."""

    @property
    def structures(self) -> int | None:
        """How many structures it decides about; None where only its first answer will tell."""

    @property
    def images_a_call(self) -> int:
        """How many images its networks are always called with; batches are made whole multiples of it."""

    @property
    def draws_itself(self) -> bool:
        """Whether it draws a batch's noise where it computes, so that nobody need draw it here beforehand."""

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> Array:
        """(parts, structures + unions, H, W) int32, unions last; an array, or a tensor where it was counted.

        BundleError, or NOT_FINITE in the whole part, for logits that are not finite.
        """


@dataclass(frozen=True, eq=False)
class BaseSegmenter:
    """The port to what runs networks: one fixed function from noisy images to logits, and how logits become decisions.

    `logits`: noisy images (B, channels, H, W) float32 → (B, structures, H, W) float32, or for an `exclusive` (softmax) network
    (B, 1 + structures, H, W) with the background first. What it says of an image must depend on neither the others in the batch nor their
    number: whoever implements it fixes the shape of its calls, `images_a_call`. `count_where_computed`: the same votes, if a device
    can draw and count where it computes: given a batch, and a function from logits on the device to planes of decisions there.
    """

    logits: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    thresholds: tuple[float, ...]
    exclusive: bool = False
    count_where_computed: Callable[[Batch, Callable[[Array], list[Array]]], Array] | None = None
    images_a_call: int = 1

    @property
    def structures(self) -> int:
        return len(self.thresholds)

    @property
    def draws_itself(self) -> bool:
        return self.count_where_computed is not None

    def decide(self, logits: Array) -> list[Array]:
        """The decisions of each structure, bool (B, H, W). BundleError for another number of logits."""
        if logits.shape[1] != self.structures + self.exclusive:
            raise BundleError(f"the networks gave {logits.shape[1]} logits a pixel and not {self.structures + self.exclusive}")
        return decide(logits, thresholds=self.thresholds, exclusive=self.exclusive)

    def decide_image(self, u: Image) -> NDArray[np.bool_]:
        """The decisions on an image itself, without noise: bool (structures, H, W). BundleError for logits that are not finite."""
        logits = self.logits(np.asarray(u, np.float32)[np.newaxis])
        if not np.isfinite(logits).all():
            raise BundleError("the networks gave logits that are not finite for an image without noise: their weights are damaged")
        return np.concatenate(self.decide(logits))

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> Array:
        hypotheses = Hypotheses(self.structures, unions)

        def planes(logits: Array) -> list[Array]:
            return hypotheses.with_unions(self.decide(logits))

        if self.count_where_computed is not None:
            return self.count_where_computed(batch, planes)
        logits = self.logits(batch.noisy)
        batch.require_finite(np.asarray(np.isfinite(logits).all(axis=(1, 2, 3))))
        return np.array(batch.add_up(planes(logits)), np.int32)
