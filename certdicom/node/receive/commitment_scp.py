"""Storage commitment as its SCP (PS3.4 annex J): senders ask whether we keep what they sent, and are told about each instance.

What we answer "committed" for, we keep (`spool.keep_committed_days`). The report goes out on the association of the request while that
lives, and otherwise on one of our own, to the address in `access.commitment_addresses`; it is repeated until it was taken.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # pynetdicom makes its names at run time
from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import OutputError
from certdicom.files import write_atomically
from certdicom.node.configuration import Configuration
from certdicom.node.deliver.commitment import WELL_KNOWN_INSTANCE, sequence_of
from certdicom.node.deliver.peers import associate, local_entity
from certdicom.node.settings import Destination
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.promises import Promise
from certdicom.node.store.spool import Spool

LOG = logging.getLogger("certdicom.node.receive.commitment_scp")

_REQUEST: Final = 1
_ALL_COMMITTED, _SOME_FAILED = 1, 2
_NOT_HERE: Final = 0x0112  # Failure Reason "no such object instance", PS3.3 C.14.1.1
_FIRST_REPORT_S: Final = 0.5
"""The sender gets the answer to its request first."""

TAKEN: Final = 0x0000
NO_SUCH_ACTION: Final = 0x0123
INVALID: Final = 0x0115
FAILED: Final = 0x0110
"""N-ACTION statuses, PS3.7 annex C."""


class CommitmentScp:
    """Takes requests, and makes the reports."""

    def __init__(self, configuration: Configuration, spool: Spool, ledger: Ledger, pseudonym_of: Callable[[str], str]) -> None:
        """`pseudonym_of`: from a SOP Instance UID to the subject of its jobs."""
        self._configuration, self._spool, self._ledger, self._pseudonym_of = configuration, spool, ledger, pseudonym_of
        self._lock = threading.Lock()
        self._requestors: dict[str, Association] = {}

    def request(self, event: evt.Event) -> tuple[int, None]:
        """Take an N-ACTION; returns the status for it. A report is owed once it is 0x0000."""
        if event.action_type != _REQUEST:
            return NO_SUCH_ACTION, None
        try:
            information = event.action_information
            transaction = str(information.TransactionUID)
            asked = {(str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in information.ReferencedSOPSequence}
            requestor = str(event.assoc.requestor.ae_title).strip()
        except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the sender is told
            LOG.warning("a request for storage commitment could not be read", extra={"error": type(error).__name__})
            return INVALID, None
        if not asked or not transaction:
            return INVALID, None
        promise_id, address = str(uuid.uuid4()), self._configuration.commitment_address(requestor)
        try:
            write_atomically(self._spool.request(promise_id), json.dumps(sorted(asked)).encode())
            self._ledger.promises.enter(promise_id, transaction, requestor=requestor, address=address, in_s=_FIRST_REPORT_S)
        except (SQLAlchemyError, OutputError) as error:
            self._spool.request(promise_id).unlink(missing_ok=True)
            LOG.error("a request for storage commitment could not be written down", extra={"error": type(error).__name__})
            return FAILED, None
        with self._lock:
            self._requestors = {known: association for known, association in self._requestors.items() if association.is_established}
            self._requestors[promise_id] = event.assoc
        LOG.info("asked for storage commitment", extra={"sender": requestor, "count": len(asked)})
        return TAKEN, None

    def report(self, promise: Promise) -> str | None:
        """Tell a sender about all that it asked for; returns why that came to nothing, None when it was taken. OSError if it is unknown."""
        information, event_type = self._information(promise)
        with self._lock:
            association = self._requestors.pop(promise.promise_id, None)
        if association is not None and association.is_established:
            problem = _sent(association, information, event_type)
            if problem is None:
                return None
        return self._report_on_our_own(promise, information, event_type)

    def forget(self, promise_id: str) -> None:
        """Forget a request that was answered or given up."""
        self._ledger.promises.forget(promise_id)
        self._spool.request(promise_id).unlink(missing_ok=True)

    def _report_on_our_own(self, promise: Promise, information: Dataset, event_type: int) -> str | None:
        if not promise.address:
            return "it has ended its association, and access.commitment_addresses does not say where else it takes reports"
        host, _, port = promise.address.rpartition(":")
        entity = local_entity(self._configuration)
        entity.add_requested_context(StorageCommitmentPushModel)
        sender = Destination(ae_title=promise.requestor, host=host, port=int(port), tls=self._configuration.uses_tls)
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        association = associate(entity, self._configuration, sender, ext_neg=[role])
        if not association.is_established:
            return "no association for the report"
        try:
            return _sent(association, information, event_type)
        finally:
            if association.is_established:
                association.release()

    def _information(self, promise: Promise) -> tuple[Dataset, int]:
        """What the report says, and its Event Type ID. What it promises is kept from now on."""
        asked = json.loads(self._spool.request(promise.promise_id).read_bytes())
        kept = [(sop_class, instance) for sop_class, instance in asked if self._keep(instance)]
        failed = [(sop_class, instance) for sop_class, instance in asked if (sop_class, instance) not in kept]
        information = Dataset()
        information.TransactionUID = promise.transaction_uid
        if kept:
            information.ReferencedSOPSequence = sequence_of(kept)
        if failed:
            information.FailedSOPSequence = sequence_of(failed)
            for item in information.FailedSOPSequence:
                item.FailureReason = _NOT_HERE
        return information, _SOME_FAILED if failed else _ALL_COMMITTED

    def _keep(self, sop_instance_uid: str) -> bool:
        """Whether the bytes of an instance are here, of each content that came under its UID; they stay then."""
        jobs = self._ledger.jobs(subject=self._pseudonym_of(sop_instance_uid))
        for job in jobs:
            self._ledger.promises.keep(job.job_id)
        return bool(jobs) and all(
            self._spool.film(job.job_id).exists() or self._spool.ignored_instance(job.job_id).exists() for job in jobs
        )


def _sent(association: Association, information: Dataset, event_type: int) -> str | None:
    try:
        status, _ = association.send_n_event_report(information, event_type, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
    except (RuntimeError, ValueError) as error:  # the association broke, or has no such context in this role
        return f"the report could not be sent: {type(error).__name__}"
    code: Any = status.Status if "Status" in status else None
    return None if code == TAKEN else f"the report was answered with {'nothing' if code is None else f'0x{int(code):04X}'}"
