"""The mathematics: from an image and a base segmenter to a certificate. Knows nothing of DICOM, files or sockets."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from certdicom.certification.certificate import Certificate
    from certdicom.certification.parameters import SmoothingParameters
    from certdicom.certification.sampling import GridResult, certify_grid
    from certdicom.certification.schedule import LinearSchedule
    from certdicom.certification.statistics import holm_reject, simultaneous_lower_bounds

_HOMES = {
    "Certificate": "certificate",
    "GridResult": "sampling",
    "LinearSchedule": "schedule",
    "SmoothingParameters": "parameters",
    "certify_grid": "sampling",
    "holm_reject": "statistics",
    "simultaneous_lower_bounds": "statistics",
}

__all__ = [
    "Certificate",
    "GridResult",
    "LinearSchedule",
    "SmoothingParameters",
    "certify_grid",
    "holm_reject",
    "simultaneous_lower_bounds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
