"""What every backend is: how it names itself, and base segmenters, which most put together from stages computed in their own way."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from certdicom.certification.base_segmenter import BaseSegmenter
    from certdicom.models.bundle import Bundle

_log = logging.getLogger(__name__)


class ImageAdapter(Protocol):
    """Where noise is drawn on other images than the model's: how its images come out of those, and its logits go back; hashable."""

    def to_model(self, images: Tensor) -> Tensor: ...

    def from_model(self, logits: Tensor) -> Tensor: ...


class Backend(ABC):
    """What runs networks behind the sampler's port.

    `device` and `precision`: as a certificate states them; `devices`: how many share the draws of a batch; `images_at_once`: how many
    images' draws should share batches to keep them busy.
    """

    device: Any
    precision: str
    devices: int = 1
    images_at_once: int = 1

    @property
    @abstractmethod
    def name(self) -> str:
        """What computes, with its version."""

    @abstractmethod
    def base_segmenter(self, bundle: Bundle, *, sigma: float, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        """The bundle's base segmenter where `sigma` is the noise on its own images, whatever `adapter` stands around it.

        BundleError for noise that the bundle was not made for. SegCertify is asked for any noise: the paper judges it beyond its own.
        """

    @abstractmethod
    def clean_segmenter(self, bundle: Bundle, *, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        """The bundle's segmenter alone, in float32 and at the middle threshold, for images without noise."""


class StagedBackend(Backend):
    """A backend whose base segmenters are stages, one after the other."""

    def base_segmenter(self, bundle: Bundle, *, sigma: float, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        if bundle.denoising.method != "segcertify":
            bundle.require_sigma(sigma)
        if bundle.notice:
            _log.warning("bundle %s: %s", bundle.name, bundle.notice)
        return self._assembled(bundle, self._denoised(bundle, sigma, adapter), self.precision, adapter, bundle.threshold(sigma))

    def clean_segmenter(self, bundle: Bundle, *, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        return self._assembled(bundle, self._fed(adapter), "float32", adapter, (0.0,) * len(bundle.structures))

    @abstractmethod
    def _fed(self, adapter: ImageAdapter | None) -> Any:
        """The stage that gives the model's images of those on which noise is drawn."""

    @abstractmethod
    def _denoised(self, bundle: Bundle, sigma: float, adapter: ImageAdapter | None) -> Any:
        """The stage that gives the images which the segmenter gets."""

    @abstractmethod
    def _assembled(
        self, bundle: Bundle, clean: Any, precision: str, adapter: ImageAdapter | None, thresholds: tuple[float, ...]
    ) -> BaseSegmenter:
        """The segmenter after the stage `clean`, in this precision."""
