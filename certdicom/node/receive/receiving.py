"""What happens to an instance on receipt: on disk and entered before it is acknowledged, or refused.

The status that is returned is a promise: 0x0000 means that the instance is on disk, synced, and its job entered.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from io import SEEK_END, BytesIO
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Final

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_partial
from pydicom.filewriter import write_file_meta_info
from pydicom.tag import Tag
from pydicom.uid import UID
from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import CertdicomError
from certdicom.imaging.parsing import check_header
from certdicom.node.identity import Work, pseudonym
from certdicom.node.metrics import Metrics
from certdicom.node.receive.incoming import Incoming
from certdicom.node.receive.rules import Rules
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Code
from certdicom.node.store.spool import Spool
from certdicom.outputs.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOG = logging.getLogger("certdicom.node.receive.receiving")

SUCCESS: Final = 0x0000
OUT_OF_RESOURCES: Final = 0xA700
NOT_THIS_SOP_CLASS: Final = 0xA900
CANNOT_UNDERSTAND: Final = 0xC000
"""C-STORE statuses, PS3.4 table B.2-1."""

STATUSES: Final = {
    SUCCESS: "The instance is on disk and will be certified, or was stored, not processed.",
    OUT_OF_RESOURCES: "Too little disk space, or the disk or the database cannot be written to. Send it again later.",
    NOT_THIS_SOP_CLASS: "The data set has another SOP Class or SOP Instance UID than the request.",
    CANNOT_UNDERSTAND: "The data set cannot be read.",
}
"""All statuses that the node answers a C-STORE with; the conformance statement is made from this table."""


@dataclass(frozen=True)
class Instance:
    """An instance as it came: what its request says, its priority among our jobs, and `incoming`, what came."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    incoming: Incoming
    sender: str
    priority: int


class Receiver:
    """Takes instances in; safe to call from many associations at once."""

    def __init__(
        self,
        *,
        spool: Spool,
        ledger: Ledger,
        nudge: Callable[[], None],
        rules: Rules,
        work: Work,
        site_key: bytes,
        metrics: Metrics,
        min_free: int,
        asked_of: Callable[[str], dict[str, str]],
    ) -> None:
        """`nudge`: called when there is work; `min_free`: bytes of disk space that must stay free; `asked_of`: window and crop that
        a sender's films are certified with.
        """
        self._spool, self._ledger, self._nudge = spool, ledger, nudge
        self._rules, self._work, self._site_key = rules, work, site_key
        self._metrics, self._min_free, self._asked_of = metrics, min_free, asked_of

    def expect(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Incoming:
        """Where the data set of a request goes, asked before any of it has come; below the watermark it goes nowhere."""
        try:
            head = _file_head(sop_class_uid, sop_instance_uid, transfer_syntax_uid)
        except Exception:  # noqa: BLE001  # whatever such a request says, it is answered when all of it has come
            head = b""
        return Incoming(self._spool, head=head, salt=transfer_syntax_uid.encode() + b"\0", min_free=self._min_free)

    def store(self, instance: Instance) -> int:
        """Take in one instance that has come whole; returns the C-STORE status. Nothing of it is left unless that is 0x0000."""
        try:
            status = self._store(instance)
        finally:
            instance.incoming.discard()
        self._metrics.received.labels(status=f"0x{status:04X}").inc()
        return status

    def _store(self, instance: Instance) -> int:
        incoming = instance.incoming
        if incoming.objection:
            LOG.error("refused an instance", extra={"reason": incoming.objection, "sender": instance.sender})
            return OUT_OF_RESOURCES
        try:
            header = read_header(incoming.path)
        except OSError as error:
            LOG.error("refused an instance: it could not be stored", extra={"error": type(error).__name__, "sender": instance.sender})
            return OUT_OF_RESOURCES
        if header is None:
            LOG.warning("refused an instance that cannot be read", extra={"sender": instance.sender, "size": incoming.size})
            return CANNOT_UNDERSTAND
        if (
            str(header.get("SOPInstanceUID", "")) != instance.sop_instance_uid
            or str(header.get("SOPClassUID", "")) != instance.sop_class_uid
        ):
            LOG.warning("refused an instance whose data set has other UIDs than its request", extra={"sender": instance.sender})
            return NOT_THIS_SOP_CLASS
        asked = self._asked_of(instance.sender)
        job_id = self._work.job_id(sop_instance_uid=instance.sop_instance_uid, dataset_sha256=incoming.digest(), **asked)
        objection = self._rules.objection(sop_class_uid=instance.sop_class_uid, header=header)
        try:
            return self._enter(job_id, instance, objection, asked)
        except (CertdicomError, OSError, SQLAlchemyError) as error:
            # The reason is in the error's first line; the statement and its parameters are not repeated.
            LOG.error("refused an instance: it could not be stored", extra={"job": job_id, "error": type(error).__name__})
            return OUT_OF_RESOURCES

    def _enter(self, job_id: str, instance: Instance, objection: str | None, asked: dict[str, str]) -> int:
        subject, incoming = pseudonym(instance.sop_instance_uid, self._site_key), instance.incoming
        same_uid = self._ledger.jobs(subject=subject)
        known = next((job for job in same_uid if job.job_id == job_id), None)
        if known is not None and known.state not in ("failed", "dropped"):
            LOG.info("an instance came again", extra={"job": job_id, "state": known.state})
            self._metrics.duplicates.inc()
            if known.state in ("queued", "certifying") and not self._spool.film(job_id).exists():
                incoming.keep(self._spool.film(job_id))
            if known.state == "ignored" and not self._spool.ignored_instance(job_id).exists():
                incoming.keep(self._spool.ignored_instance(job_id))  # 0x0000 says that it is here
                self._ledger.touch(job_id)
            if instance.priority < known.priority:
                self._ledger.steps.hasten(job_id, instance.priority)
                self._nudge()
            return SUCCESS
        if known is None and same_uid:
            LOG.warning("an instance came with the UID of another and different contents; both are certified", extra={"job": job_id})
        size = incoming.size
        incoming.keep(self._spool.film(job_id) if objection is None else self._spool.ignored_instance(job_id))
        if known is not None:
            self._ledger.retry(job_id)  # who sends a failed film again wants another try
        else:
            ignored: tuple[Code, str] | None = None if objection is None else ("rules", objection)
            self._ledger.enter(
                job_id,
                subject=subject,
                sender=instance.sender,
                size=size,
                work=self._work.digest,
                asked=asked,
                priority=instance.priority,
                ignored=ignored,
            )
        if objection is None:
            self._nudge()
            LOG.info("received", extra={"job": job_id, "sender": instance.sender, "size": size})
        else:
            self._metrics.ignored.inc()
            LOG.info("stored, not processed", extra={"job": job_id, "sender": instance.sender, "reason": objection})
        return SUCCESS


_LOOKED_AT = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "NumberOfFrames")
_LAST: Final = Tag("NumberOfFrames")
"""The highest of these tags: what comes after it is not read on receipt, however much there is."""


def read_header(path: Path) -> Dataset | None:
    """What a DICOM file says of itself; None when it cannot be understood. OSError when it cannot be opened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        try:
            with path.open("rb") as stream:
                with mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
                    check_header(content, last=(_LAST.group, _LAST.element))
                header = read_partial(stream, lambda tag, _vr, _length: tag > _LAST, specific_tags=[Tag(name) for name in _LOOKED_AT])
            _ = [header.get(keyword) for keyword in _LOOKED_AT]
        except OSError:
            raise
        except Exception:  # noqa: BLE001  # whatever pydicom stumbles over, the answer is the same
            return None
    return header


def _file_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble and file meta information (PS3.10 7.1): the same for the same instance, whoever sends it."""
    head = BytesIO(b"\0" * 128 + b"DICM")
    head.seek(0, SEEK_END)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote values
        meta = FileMetaDataset()
        meta.FileMetaInformationGroupLength = 0  # filled in when it is written
        meta.FileMetaInformationVersion = b"\0\1"
        meta.MediaStorageSOPClassUID = UID(sop_class_uid)
        meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        # Not enforced: a request that names no UIDs is answered, not met with an error.
        write_file_meta_info(head, meta, enforce_standard=False)
    return head.getvalue()
