"""The JSON report: the certificate's figures in a schema that stays stable (docs/report.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.certification.unions import fallback
from certdicom.outputs import statements
from certdicom.outputs.explanation import StructureExplanation
from certdicom.version import RESEARCH_USE, VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

SCHEMA_VERSION = "1.0"


def encode(result: Result) -> bytes:
    """The report as a JSON file."""
    return report_json(report_of(result))


def report_of(result: Result) -> dict[str, Any]:
    """The report of a result, made once: what is printed is what is written."""
    return result.once(_made)


def _made(result: Result) -> dict[str, Any]:
    with result.stopwatch.stage("explanation"):
        explanation = result.explanation.structures
    return build_report(
        result.certificate,
        result.decisions,
        unions=result.unions,
        explanation=explanation,
        omissions=result.omissions,
        sop_instance_uid=result.image.sop_instance_uid,
        file_sha256=result.image.file_sha256,
        seconds={**result.certificate.seconds, **result.stopwatch.seconds, "total": result.stopwatch.total},
    )


def build_report(
    certificate: Certificate,
    decisions: NDArray[np.uint8],
    *,
    unions: NDArray[np.uint8] | None = None,
    explanation: Sequence[StructureExplanation] | None = None,
    omissions: Mapping[str, str] | None = None,
    sop_instance_uid: str,
    file_sha256: str,
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The report as plain JSON types.

    Pixels are those of the image: `decisions` is uint8 (structures, rows, columns), `unions` (unions, rows, columns) or None.
    `explanation`: why each structure abstains; without it the report has no such section; `omissions`: outputs that could not be
    made, with the kind of error.
    """
    parameters = certificate.parameters
    rows, columns = decisions.shape[-2:]
    decisions = certificate.analysed(decisions)
    unions = None if unions is None else certificate.analysed(unions)
    report = {
        "schema_version": SCHEMA_VERSION,
        "software": {"name": "certdicom", "version": VERSION, "notice": RESEARCH_USE},
        "bundle": {"name": certificate.bundle_name, "sha256": certificate.bundle_sha256},
        "source": {
            "medium": certificate.medium,
            "sop_instance_uid": sop_instance_uid,
            "sha256": file_sha256,
            "rows": int(rows),
            "columns": int(columns),
        },
        "parameters": {**parameters.as_dict(), "family": certificate.family},
        "grid": list(certificate.shape) if isinstance(certificate.grid, tuple) else certificate.grid,
        "hypotheses": certificate.hypotheses,
        "draws_counted": certificate.draws,
        "radius": {
            "grid": float(rounded_down(certificate.radius, 9)),
            "native": float(rounded_down(certificate.native_radius, 9)),
            "native_unit": certificate.native_unit,
        },
        "window": {"lo": certificate.window.lo, "hi": certificate.window.hi, "source": certificate.window.source},
        "crop": None if certificate.crop is None else asdict(certificate.crop),
        "answer": statements.answer(certificate),
        "claim": statements.claim(certificate, subject="Every pixel that does not abstain"),
        "structures": [
            {
                "label": structure.label,
                "certified_present_px": int((plane == PRESENT).sum()),
                "certified_absent_px": int((plane == ABSENT).sum()),
                "abstain_px": int((plane == ABSTAIN).sum()),
            }
            for structure, plane in zip(certificate.structures, decisions, strict=True)
        ],
        "abstain_fraction": float((decisions == ABSTAIN).any(axis=0).mean()),
        "unions": list(_unions(certificate, decisions, unions)),
        "seed": {"kind": certificate.seed_kind, "draws": certificate.draw_identity},
        "notes": list(certificate.notes),
        "omissions": dict(omissions or {}),
        "timing": {f"{stage}_s": round(value, 3) for stage, value in seconds.items()},
        "backend": certificate.backend,
        "device": certificate.device,
        "precision": certificate.precision,
    }
    return report if explanation is None else {**report, "explanation": [entry.as_dict() for entry in explanation]}


def _unions(certificate: Certificate, decisions: NDArray[np.uint8], unions: NDArray[np.uint8] | None) -> Iterator[dict[str, Any]]:
    if certificate.unions is None or unions is None:
        return
    for members, label, plane in zip(certificate.unions.members, certificate.union_labels, unions, strict=True):
        yield {
            "label": label,
            "certified_present_px": int((plane == PRESENT).sum()),
            "certified_absent_px": int((plane == ABSENT).sum()),
            "abstain_px": int((plane == ABSTAIN).sum()),
            "fallback_px": int(fallback(decisions, plane, members=members).sum()),
        }


def report_json(report: Mapping[str, Any]) -> bytes:
    """The report as an indented UTF-8 JSON file."""
    return (json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
