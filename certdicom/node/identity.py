"""Names that say nothing about a patient: job ids, pseudonyms of instances, and the site's secret key."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certdicom.certification.parameters import SmoothingParameters
from certdicom.errors import OutputError, UsageError
from certdicom.files import keep_private, write_atomically
from certdicom.outputs.uids import canonical_json

_NAMESPACE: Final = uuid.UUID("6f0f4a57-52b5-5b0c-9a8e-1c9d3f2f7a11")
_KEY_BYTES: Final = 32


@dataclass(frozen=True)
class Work:
    """What a film is certified with; another bundle, parameter, geometry or window makes another job of the same film.

    What computes it, in which precision and by which version, does not: another host or an upgrade must not send a second result.
    """

    bundle_sha256: str
    parameters: SmoothingParameters
    geometry: str = "viewer"

    @property
    def digest(self) -> str:
        """16 hex digits for bundle, parameters and geometry: the same where, and only where, jobs of the same film have the same id."""
        return hashlib.sha256(canonical_json([self.bundle_sha256, self.parameters.as_dict(), self.geometry]).encode()).hexdigest()[:16]

    def job_id(self, *, sop_instance_uid: str, dataset_sha256: str, window: str = "", crop: str = "") -> str:
        """The id of the job that certifies an instance: the same for the same bytes, on every host and after every restart.

        `window`, `crop`: what is asked for the sender's films, as the configuration has it; "" for what the bundle says, and for all.
        """
        parts: list[object] = [sop_instance_uid, dataset_sha256, self.bundle_sha256, self.parameters.as_dict()]
        if self.geometry != "viewer":
            parts.append(self.geometry)
        if window or crop:
            parts.append({"window": window, "crop": crop})
        return str(uuid.uuid5(_NAMESPACE, canonical_json(parts)))


def pseudonym(sop_instance_uid: str, site_key: bytes) -> str:
    """16 hex digits that stand for an instance; only who has the site key can make them from the UID."""
    return hmac.new(site_key, b"instance" + sop_instance_uid.encode(), hashlib.sha256).hexdigest()[:16]


def read_site_key(path: Path) -> bytes:
    """The site key in `path`, made on first use, readable by its owner only. UsageError when it is damaged."""
    if not path.exists():
        try:
            write_atomically(path, secrets.token_bytes(_KEY_BYTES))
        except OutputError:
            if not path.exists():  # otherwise another process made it first
                raise
    keep_private(path)
    try:
        key = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the site key {path}: {error.strerror}") from error
    if len(key) < _KEY_BYTES:
        raise UsageError(f"the site key {path} has {len(key)} bytes instead of {_KEY_BYTES}: restore it from the backup")
    return key
