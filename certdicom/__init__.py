"""certdicom: certified segmentation of radiographs and colour photographs, as DICOM SEG with an explicit abstain segment.

Research use only, not a medical device. Names are loaded on first use: importing certdicom is cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certdicom.certification.certificate import Certificate
    from certdicom.certification.parameters import SmoothingParameters
    from certdicom.errors import BundleError, CertdicomError, ImageRefusedError, NoImageError, OutputError, UnreadableError, UsageError
    from certdicom.imaging.image import Photograph, Radiograph
    from certdicom.imaging.reading import read_image, read_radiograph
    from certdicom.models.backends.smoothed import Smoothed
    from certdicom.models.bundle import Bundle, load_bundle
    from certdicom.outputs.result import Result
    from certdicom.pipeline import Certifier, Computation, certify, write_segmentation

from certdicom.version import VERSION

__version__ = VERSION

_HOMES = {
    "Bundle": "certdicom.models.bundle",
    "BundleError": "certdicom.errors",
    "CertdicomError": "certdicom.errors",
    "Certifier": "certdicom.pipeline",
    "Certificate": "certdicom.certification.certificate",
    "Computation": "certdicom.pipeline",
    "ImageRefusedError": "certdicom.errors",
    "NoImageError": "certdicom.errors",
    "OutputError": "certdicom.errors",
    "Photograph": "certdicom.imaging.image",
    "Radiograph": "certdicom.imaging.image",
    "Result": "certdicom.outputs.result",
    "Smoothed": "certdicom.models.backends.smoothed",
    "SmoothingParameters": "certdicom.certification.parameters",
    "UnreadableError": "certdicom.errors",
    "UsageError": "certdicom.errors",
    "certify": "certdicom.pipeline",
    "load_bundle": "certdicom.models.bundle",
    "read_image": "certdicom.imaging.reading",
    "read_radiograph": "certdicom.imaging.reading",
    "write_segmentation": "certdicom.pipeline",
}

__all__ = [
    "Bundle",
    "BundleError",
    "CertdicomError",
    "Certificate",
    "Certifier",
    "Computation",
    "ImageRefusedError",
    "NoImageError",
    "OutputError",
    "Photograph",
    "Radiograph",
    "Result",
    "Smoothed",
    "SmoothingParameters",
    "UnreadableError",
    "UsageError",
    "__version__",
    "certify",
    "load_bundle",
    "read_image",
    "read_radiograph",
    "write_segmentation",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'certdicom' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
