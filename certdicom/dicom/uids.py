"""UIDs that follow from what a result is, so that a repeated run names the same object and another run another."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from certdicom.certification.certificate import Certificate

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
    `parameters`: everything else that was asked for, JSON values only; `draw_identity`: fingerprint of the noise seed,
    because without a site key two runs draw different noise and are two results.
    """

    source_sop_instance_uid: str
    file_sha256: str
    bundle_sha256: str
    parameters: Mapping[str, object]
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
            parameters={**certificate.parameters.as_dict(), **asked},
            draw_identity=draw_identity,
        )

    def uid(self, role: str) -> str:
        """The UID of this result in `role`, such as "segmentation series" or "segmentation instance"."""
        return derive_uid(
            role,
            self.source_sop_instance_uid,
            self.file_sha256,
            self.bundle_sha256,
            canonical_json(dict(self.parameters)),
            self.draw_identity,
        )
