"""Which segments a certified segmentation has, in which order, and what each of them says."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate, Structure
from certdicom.outputs import codes, statements
from certdicom.outputs.body_region import category_of

AbstainSegments = Literal["union", "per-structure"]


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment: `structure` names, codes and colours it; `mask` (rows, columns) bool, the film's size."""

    structure: Structure
    category: codes.Concept
    description: str
    mask: NDArray[np.bool_]

    @property
    def is_anatomy(self) -> bool:
        """Whether the segment's type names the part of the body itself, so that no region need be told."""
        return self.category == codes.ANATOMICAL_STRUCTURE


def segments_of(decisions: NDArray[np.uint8], certificate: Certificate, *, abstain: AbstainSegments = "union") -> list[Segment]:
    """The structures' certified present pixels in the certificate's order, then what abstains; the union over all is last.

    `decisions` (structures, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN. An empty segment is a segment too: it says
    that it was looked for and not found.
    """
    segments = [
        Segment(structure, category_of(structure), statements.structure_description(structure.label, certificate), plane == PRESENT)
        for structure, plane in zip(certificate.structures, decisions, strict=True)
    ]
    planes = decisions == ABSTAIN
    concept, category = codes.ABSTAIN_SEGMENT, codes.SPATIAL_AND_RELATIONAL_CONCEPT
    if abstain == "per-structure":
        for structure, plane in zip(certificate.structures, planes, strict=True):
            named = replace(concept, label=f"{concept.label}: {structure.label}", rgb=_midway(concept.rgb, structure.rgb))
            segments.append(Segment(named, category, statements.abstain_description(structure.label, certificate), plane))
    segments.append(Segment(concept, category, statements.abstain_description(None, certificate), planes.any(axis=0)))
    return segments


def _midway(first: tuple[int, int, int], second: tuple[int, int, int]) -> tuple[int, int, int]:
    red, green, blue = ((a + b) // 2 for a, b in zip(first, second, strict=True))
    return red, green, blue
