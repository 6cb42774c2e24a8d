"""UIDs that follow from what a result is, so that a repeated run names the same object and another run another."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

from certdicom.certification.certificate import Certificate
from certdicom.version import METHOD_VERSION

_NAMESPACE: Final = uuid.UUID("09b97207-9dd2-50e1-b723-89af2522d8c3")

IMPLEMENTATION_CLASS_UID: Final = f"2.25.{uuid.uuid5(_NAMESPACE, 'implementation').int}"
IMPLEMENTATION_VERSION_NAME: Final = "CERTDICOM"


def canonical_json(value: object) -> str:
    """JSON with sorted keys, no spaces and ASCII only: equal values give equal text. NaN raises ValueError."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def derive_uid(*parts: str) -> str:
    """A `2.25.` UID (PS3.5 B.2) from a version 5 UUID over `parts`; any other part gives another UID."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, canonical_json(parts)).int}"


def frame_of_reference_uid(source_sop_instance_uid: str) -> str:
    """The synthetic frame of reference of a film's pixel plane: one for all results of that film, so that they overlay."""
    return derive_uid("frame of reference", source_sop_instance_uid)


@dataclass(frozen=True, kw_only=True)
class ResultIdentity:
    """All that makes a result this one and no other.

    `source_sop_instance_uid`: the film; `file_sha256`: digest of the film's bytes; `bundle_sha256`: the model;
    `parameters`: everything else that was asked for, how the object is laid out included, JSON values only; `window`: the stored values
    shown as black and white, and where they were found; `backend`, `device`, `precision`: what computed it, because results may differ
    by rounding; `draw_identity`: fingerprint of the noise seed, because without a site key two runs draw different noise and are
    two results.
    """

    source_sop_instance_uid: str
    file_sha256: str
    bundle_sha256: str
    parameters: Mapping[str, object]
    window: tuple[float, float, str]
    backend: str
    device: str
    precision: str
    draw_identity: str

    @classmethod
    def of(
        cls, certificate: Certificate, *, source_sop_instance_uid: str, file_sha256: str, draw_identity: str, **asked: object
    ) -> ResultIdentity:
        """The identity of an object made from a certificate; `asked`: what was asked for beside the certificate's parameters."""
        return cls(
            source_sop_instance_uid=source_sop_instance_uid,
            file_sha256=file_sha256,
            bundle_sha256=certificate.bundle_sha256,
            parameters={**certificate.parameters.as_dict(), **asked, **({"crop": certificate.crop.told} if certificate.crop else {})},
            window=(float(certificate.window.lo), float(certificate.window.hi), certificate.window.source),
            backend=certificate.backend,
            device=certificate.device,
            precision=certificate.precision,
            draw_identity=draw_identity,
        )

    def uid(self, role: str) -> str:
        """The UID of this result in `role`, such as "segmentation series" or "segmentation instance"."""
        return derive_uid(role, str(METHOD_VERSION), canonical_json(asdict(self)))
