"""By what a person tells series apart in a list: their numbers and descriptions, which follow from what was asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from certdicom.certification.certificate import Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.outputs.uids import canonical_json

_LONG_STRING: Final = 64
_RESULTS: Final = 100_000
_SHORTEST_NAME: Final = 8


@dataclass(frozen=True)
class Series:
    """One kind of series: `number` is what its numbers begin with, `title` what its descriptions begin with, ASCII."""

    number: int
    title: str

    def number_of(self, certificate: Certificate) -> int:
        """SeriesNumber: `number` and five digits that the objects of one result share.

        Another bundle, other parameters, another window or part of the same film give other digits, with a probability of 1 in 100,000
        the same.
        """
        window = certificate.window
        made_with = [
            certificate.bundle_sha256,
            certificate.parameters.as_dict(),
            [float(window.lo), float(window.hi), window.source],
            certificate.crop.told if certificate.crop else None,
        ]
        digest = hashlib.sha256(canonical_json(made_with).encode()).digest()
        return self.number * _RESULTS + int.from_bytes(digest[:8], "big") % _RESULTS

    def description_of(self, certificate: Certificate) -> str:
        """SeriesDescription: title, "research use", sigma, radius and bundle, as far as 64 characters go."""
        text = f"{self.title}, research use, sigma {certificate.parameters.sigma:g}"
        for part in (f", R {rounded_down(certificate.radius, 3)}", f", {certificate.bundle_name}"):
            room = _LONG_STRING - len(text)
            if len(part) > room and room < _SHORTEST_NAME + 2:
                break
            text += part if len(part) <= room else part[: room - 3] + "..."
        return text


SEGMENTATION: Final = Series(9001, "Certified SEG")
MEASUREMENTS: Final = Series(9002, "Certified SR")
OVERLAY: Final = Series(9003, "Overlay")
RADIUS_MAP: Final = Series(9004, "Radius map")
RADIUS_PICTURE: Final = Series(9005, "Radius picture")
DRAWING: Final = Series(9006, "Drawing, not for measuring")
PRESENTATION: Final = Series(9007, "Certified outlines")
