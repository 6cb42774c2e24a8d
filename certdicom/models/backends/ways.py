"""How networks are called on a class of devices: chosen once, because it is part of the function that a certificate is about.

Another number of images in a call, another order in memory or a compiler's kernels round differently; certificates name the way beside
device and precision. benchmarks/gpu/run measures all of them; the choice for GPUs follows from arithmetic and was not measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from certdicom.models.networks.layout import Layout


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to call networks.

    `images_a_call`: every call has exactly so many images, and 1 means image by image, each on a thread of its own; `layout`: of feature
    maps; `compiled`: by torch.compile, which wants a C compiler on the machine and takes a minute at the start.
    """

    images_a_call: int = 1
    layout: Layout = "as built"
    compiled: bool = False

    @property
    def on_device(self) -> bool:
        """Whether noise is drawn and votes are counted where the networks run."""
        return self.images_a_call > 1

    def __str__(self) -> str:
        """As a certificate states it; nothing for image by image."""
        if not self.on_device:
            return ""
        return f"{self.images_a_call} images a call, {self.layout}{', compiled' if self.compiled else ''}"


PROCESSOR = Way()

SMALL_GPU = Way(images_a_call=11, layout="channels-last")
"""A tenth of the 110 draws that a film usually takes."""

LARGE_GPU = Way(images_a_call=55, layout="channels-last")
"""Half of them, which the largest networks (ADM-256 in float32) take some 40 GiB for."""

_LARGE = 64 * 2**30
"""Bytes of memory from which a GPU is large."""


def way_of(device: torch.device) -> Way:
    """The way of the device's class."""
    if device.type == "cpu":
        return PROCESSOR
    return LARGE_GPU if torch.cuda.get_device_properties(device).total_memory >= _LARGE else SMALL_GPU
