"""Storage commitment as its SCU (PS3.4 annex J): asking an archive, and understanding its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Protocol

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # pynetdicom makes its names at run time

from certdicom.node.configuration import Configuration
from certdicom.node.deliver.delivery import file_meta
from certdicom.node.deliver.peers import associate, local_entity
from certdicom.node.settings import Destination
from certdicom.node.store.ledger import Ledger

LOG = logging.getLogger("certdicom.node.deliver.commitment")

WELL_KNOWN_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
_REQUEST: Final = 1  # Action Type ID, PS3.4 table J.3-1
_ALL_COMMITTED, _SOME_FAILED = 1, 2  # Event Type IDs, PS3.4 J.3.3

EVENT_PROCESSED: Final = 0x0000
EVENT_UNKNOWN: Final = 0x0110


class Reported(Protocol):
    """Takes a commitment report; False when nobody asked. SQLAlchemyError when it cannot be written down."""

    def __call__(self, transaction_uid: str, *, committed: bool) -> bool: ...


def request(
    configuration: Configuration, destination: Destination, paths: Iterable[Path], *, job_id: str, ledger: Ledger, reported: Reported
) -> str | None:
    """Ask for commitment of the files' instances under a fresh Transaction UID; returns why that failed, None if it did not.

    The answer comes later, usually on an association of the archive's own: see `answer`.
    """
    items = []
    for meta in map(file_meta, paths):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        items.append(item)
    transaction = generate_uid()
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = Sequence(items)

    entity = local_entity(configuration)
    entity.add_requested_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: answer(event, reported))]
    association = associate(entity, configuration, destination, evt_handlers=handlers)
    if not association.is_established:
        return "no association for storage commitment"
    try:
        if not association.accepted_contexts:
            return "it does not offer storage commitment"
        # Written down first: the answer may be quicker than we are.
        ledger.commitments.ask(transaction, job_id, destination.ae_title)
        status, _ = association.send_n_action(information, _REQUEST, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        code = int(status.Status) if "Status" in status else None
        return None if code == 0 else f"commitment request answered with {'nothing' if code is None else f'0x{code:04X}'}"
    finally:
        if association.is_established:
            association.release()


def answer(event: evt.Event, reported: Reported) -> tuple[int, None]:
    """Record an N-EVENT-REPORT; returns the status for it. A request is about one result: it is committed when all of its objects are."""
    try:
        information = event.event_information
        committed = event.event_type == _ALL_COMMITTED and not information.get("FailedSOPSequence")
        known = reported(str(information.TransactionUID), committed=committed)
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the other side is told that it was not taken
        LOG.warning("a commitment answer could not be taken", extra={"error": type(error).__name__})
        return EVENT_UNKNOWN, None
    if not known:
        LOG.warning("a commitment answer to a question that was not asked")
    return EVENT_PROCESSED, None
