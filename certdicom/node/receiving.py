"""What happens to an instance on receipt: on disk and entered before it is acknowledged, or refused.

The status that is returned is a promise: 0x0000 means that the instance is on disk, synced, and its job entered.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID
from sqlalchemy.exc import SQLAlchemyError

from certdicom.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from certdicom.errors import CertdicomError
from certdicom.node.dispatcher import Dispatcher
from certdicom.node.identity import Work, pseudonym
from certdicom.node.ledger import Ledger
from certdicom.node.metrics import Metrics
from certdicom.node.rules import Rules
from certdicom.node.spool import Spool

LOG = logging.getLogger("certdicom.node.receiving")

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_THIS_SOP_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
"""C-STORE statuses, PS3.4 table B.2-1."""

STATUSES: Final = {
    SUCCESS: "The instance is on disk and will be certified, or was stored and left alone.",
    OUT_OF_RESOURCES: "Too little disk space, or the disk or the database cannot be written to. Send it again later.",
    NOT_THIS_SOP_CLASS: "The data set has another SOP Class or SOP Instance UID than the request.",
    CANNOT_UNDERSTAND: "The data set cannot be read.",
}
"""All statuses that the node answers a C-STORE with; the conformance statement is made from this table."""


@dataclass(frozen=True)
class Instance:
    """An instance as it came: `content` is the encoded data set, without file meta information."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    content: bytes
    sender: str


class Receiver:
    """Takes instances in; safe to call from many associations at once."""

    def __init__(
        self,
        *,
        spool: Spool,
        ledger: Ledger,
        dispatcher: Dispatcher,
        rules: Rules,
        work: Work,
        site_key: bytes,
        metrics: Metrics,
        min_free: int,
    ) -> None:
        """`min_free`: bytes of disk space that must stay free."""
        self._spool, self._ledger, self._dispatcher = spool, ledger, dispatcher
        self._rules, self._work, self._site_key = rules, work, site_key
        self._metrics, self._min_free = metrics, min_free

    def store(self, instance: Instance) -> int:
        """Take one instance in; returns the C-STORE status."""
        status = self._store(instance)
        self._metrics.received.labels(status=f"0x{status:04X}").inc()
        return status

    def _store(self, instance: Instance) -> int:
        if self._spool.free_bytes() < self._min_free + len(instance.content):
            LOG.error("refused an instance: less disk space than limits.min_free_mb is left", extra={"sender": instance.sender})
            return OUT_OF_RESOURCES
        encoded = _file_head(instance) + instance.content
        header = read_header(encoded)
        if header is None:
            LOG.warning("refused an instance that cannot be read", extra={"sender": instance.sender, "size": len(instance.content)})
            return CANNOT_UNDERSTAND
        if (
            str(header.get("SOPInstanceUID", "")) != instance.sop_instance_uid
            or str(header.get("SOPClassUID", "")) != instance.sop_class_uid
        ):
            LOG.warning("refused an instance whose data set has other UIDs than its request", extra={"sender": instance.sender})
            return NOT_THIS_SOP_CLASS
        digest = hashlib.sha256(instance.transfer_syntax_uid.encode() + b"\0" + instance.content).hexdigest()
        job_id = self._work.job_id(sop_instance_uid=instance.sop_instance_uid, dataset_sha256=digest)
        objection = self._rules.objection(sop_class_uid=instance.sop_class_uid, header=header)
        try:
            return self._enter(job_id, instance, encoded, objection)
        except (CertdicomError, OSError, SQLAlchemyError) as error:
            # The reason is in the error's first line; the statement and its parameters are not repeated.
            LOG.error("refused an instance: it could not be stored", extra={"job": job_id, "error": type(error).__name__})
            return OUT_OF_RESOURCES

    def _enter(self, job_id: str, instance: Instance, encoded: bytes, objection: str | None) -> int:
        known = self._ledger.job(job_id)
        if known is not None and known.state not in ("failed", "dropped"):
            LOG.info("an instance came again", extra={"job": job_id, "state": known.state})
            self._metrics.duplicates.inc()
            if known.state in ("queued", "certifying"):
                self._spool.store(self._spool.film(job_id), encoded)
            return SUCCESS
        subject = pseudonym(instance.sop_instance_uid, self._site_key)
        if known is None and self._ledger.jobs(subject=subject, limit=1):
            LOG.warning("an instance came with the UID of another and different contents; both are certified", extra={"job": job_id})
        place = self._spool.film(job_id) if objection is None else self._spool.ignored_instance(job_id)
        self._spool.store(place, encoded)
        if known is not None:
            self._ledger.retry(job_id)  # who sends a failed film again wants another try
        else:
            state, reason = ("queued", "") if objection is None else ("ignored", objection)
            self._ledger.enter(job_id, subject=subject, sender=instance.sender, size=len(encoded), state=state, reason=reason)  # type: ignore[arg-type]
        if objection is None:
            self._dispatcher.tell(job_id)
            LOG.info("received", extra={"job": job_id, "sender": instance.sender, "size": len(encoded)})
        else:
            self._metrics.ignored.inc()
            LOG.info("stored and left alone", extra={"job": job_id, "sender": instance.sender, "reason": objection})
        return SUCCESS


def reconcile(*, spool: Spool, ledger: Ledger, site_key: bytes) -> int:
    """Enter every film in the spool that the ledger does not know; returns how many there were."""
    count = 0
    for job_id in spool.film_ids():
        if ledger.job(job_id) is not None:
            continue
        path = spool.film(job_id)
        header = read_header(path.read_bytes())
        uid = str(header.get("SOPInstanceUID", "")) if header is not None else ""
        if ledger.enter(job_id, subject=pseudonym(uid, site_key), sender="", size=path.stat().st_size):
            count += 1
            LOG.warning("entered a film that was on disk without a job", extra={"job": job_id})
    return count


def read_header(encoded: bytes) -> Dataset | None:
    """The data set of a DICOM file without its pixels; None when it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        try:
            header = dcmread(BytesIO(encoded), stop_before_pixels=True, specific_tags=["SOPClassUID", "SOPInstanceUID", "Modality"])
            _ = [header.get(keyword) for keyword in ("SOPClassUID", "SOPInstanceUID", "Modality")]
        except Exception:  # noqa: BLE001  # whatever pydicom stumbles over, the answer is the same
            return None
    return header


def _file_head(instance: Instance) -> bytes:
    """Preamble and file meta information (PS3.10 7.1): the same for the same instance, whoever sends it."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = UID(instance.sop_class_uid)
    meta.MediaStorageSOPInstanceUID = UID(instance.sop_instance_uid)
    meta.TransferSyntaxUID = UID(instance.transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    head = BytesIO()
    head.write(b"\0" * 128 + b"DICM")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_file_meta_info(head, meta, enforce_standard=True)
    return head.getvalue()
