"""Why a result abstains, in pixels of the image: the figures that the report lists and the explanation picture shows."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Certificate
from certdicom.certification.explanation import TOO_FEW_DRAWS, UNSETTLED, UNSTABLE, Explanation, explain_certificate
from certdicom.imaging.grid import spread_on


@dataclass(frozen=True)
class StructureExplanation:
    """Why one structure abstains, in pixels of the film; together the three reasons are all of its abstained pixels.

    `draws_for_half`, `draws_for_all`: the n at which half, or all, of what has too few draws would be expected to be certified,
    None where nothing has.
    """

    label: str
    too_few_draws_px: int
    unsettled_px: int
    unstable_px: int
    draws_for_half: int | None
    draws_for_all: int | None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarize(explanation: Explanation, reasons: NDArray[np.uint8], certificate: Certificate) -> list[StructureExplanation]:
    """The figures of each structure; `explanation` on the grid, `reasons` (structures, rows, columns) the same on the film."""
    summary = []
    for structure, grid_reasons, needed, plane in zip(
        certificate.structures, explanation.reasons, explanation.needed, reasons, strict=True
    ):
        counts = np.bincount(plane.ravel(), minlength=UNSTABLE + 1)
        ahead = np.sort(needed[grid_reasons == TOO_FEW_DRAWS])
        summary.append(
            StructureExplanation(
                label=structure.label,
                too_few_draws_px=int(counts[TOO_FEW_DRAWS]),
                unsettled_px=int(counts[UNSETTLED]),
                unstable_px=int(counts[UNSTABLE]),
                draws_for_half=int(ahead[(ahead.size - 1) // 2]) if ahead.size else None,
                draws_for_all=int(ahead[-1]) if ahead.size else None,
            )
        )
    return summary


@dataclass(frozen=True, eq=False)
class ImageExplanation:
    """`reasons` (structures, rows, columns) uint8, as in `certification.explanation`, on the image; the figures of each structure."""

    reasons: NDArray[np.uint8]
    structures: tuple[StructureExplanation, ...]


def explanation_of(certificate: Certificate, *, rows: int, columns: int) -> ImageExplanation:
    """The explanation of a certificate, on its image of `rows` × `columns`."""
    explanation = explain_certificate(certificate)
    reasons = spread_on(certificate, explanation.reasons.astype(np.uint8, copy=False), rows=rows, columns=columns, outside=0)
    return ImageExplanation(reasons, tuple(summarize(explanation, reasons, certificate)))
