"""Storage commitment as its SCU (PS3.4 annex J): asking an archive, and understanding its answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, generate_uid
from pynetdicom import evt
from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]  # pynetdicom makes its names at run time
from sqlalchemy.exc import SQLAlchemyError

from certdicom.node.configuration import Configuration
from certdicom.node.deliver.delivery import file_meta, rejected
from certdicom.node.deliver.peers import associate, local_entity
from certdicom.node.settings import Destination
from certdicom.node.store.ledger import Ledger

LOG = logging.getLogger("certdicom.node.deliver.commitment")

WELL_KNOWN_INSTANCE: Final = UID("1.2.840.10008.1.20.1.1")
_REQUEST: Final = 1  # Action Type ID, PS3.4 table J.3-1
_ALL_COMMITTED, _SOME_FAILED = 1, 2  # Event Type IDs, PS3.4 J.3.3

EVENT_PROCESSED: Final = 0x0000
EVENT_INVALID: Final = 0x0115
EVENT_FAILED: Final = 0x0110
"""N-EVENT-REPORT statuses, PS3.7 annex C."""

Instances = frozenset[tuple[str, str]]
"""SOP Class and SOP Instance UIDs."""


@dataclass(frozen=True)
class Report:
    """What an archive says about a request: what it has committed itself to, and what not."""

    transaction_uid: str
    committed: Instances
    failed: Instances

    @classmethod
    def of(cls, event: evt.Event) -> Report:
        """The report of an N-EVENT-REPORT. AttributeError and the like where it is none."""
        information = event.event_information
        report = cls(
            transaction_uid=str(information.TransactionUID),
            committed=_instances(information.get("ReferencedSOPSequence")),
            failed=_instances(information.get("FailedSOPSequence")),
        )
        if event.event_type not in (_ALL_COMMITTED, _SOME_FAILED) or (event.event_type == _SOME_FAILED) != bool(report.failed):
            raise ValueError("its event type and what it lists are not of one mind")
        return report

    def about(self, asked: Instances) -> bool | None:
        """Whether all that was asked for is committed; None for a report that is not about exactly that (PS3.4 J.3.3.1.2)."""
        if self.committed & self.failed or self.committed | self.failed != asked:
            return None
        return not self.failed


class Reported(Protocol):
    """Takes a commitment report; False when nobody asked for that. SQLAlchemyError when it cannot be written down."""

    def __call__(self, report: Report) -> bool: ...


def request(
    configuration: Configuration, destination: Destination, paths: Iterable[Path], *, job_id: str, ledger: Ledger, reported: Reported
) -> str | None:
    """Ask for commitment of the files' instances under a fresh Transaction UID; returns why that failed, None if it did not.

    The answer comes later, usually on an association of the archive's own: see `answer`.
    """
    asked = frozenset((str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID)) for meta in map(file_meta, paths))
    transaction = generate_uid()
    information = Dataset()
    information.TransactionUID = transaction
    information.ReferencedSOPSequence = sequence_of(asked)

    entity = local_entity(configuration)
    entity.add_requested_context(StorageCommitmentPushModel)
    handlers = [(evt.EVT_N_EVENT_REPORT, lambda event: answer(event, reported))]
    association = associate(entity, configuration, destination, evt_handlers=handlers)
    if association.is_rejected:
        return rejected(association).reason
    if not association.is_established:
        return "no association for storage commitment"
    try:
        if not association.accepted_contexts:
            return "it does not offer storage commitment"
        # Written down first: the answer may be quicker than we are.
        ledger.commitments.ask(transaction, job_id, destination.ae_title, asked)
        status, _ = association.send_n_action(information, _REQUEST, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        code = int(status.Status) if "Status" in status else None
        return None if code == 0 else f"commitment request answered with {'nothing' if code is None else f'0x{code:04X}'}"
    finally:
        if association.is_established:
            association.release()


def answer(event: evt.Event, reported: Reported) -> tuple[int, None]:
    """Record an N-EVENT-REPORT; returns the status for it."""
    try:
        known = reported(Report.of(event))
    except SQLAlchemyError as error:
        LOG.error("a commitment report could not be written down", extra={"error": type(error).__name__})
        return EVENT_FAILED, None
    except Exception as error:  # noqa: BLE001  # whatever is wrong with it, the other side is told that it was not taken
        LOG.warning("a commitment report could not be read", extra={"error": type(error).__name__})
        return EVENT_INVALID, None
    if not known:
        LOG.warning("a commitment report is not about what was asked; not taken")
        return EVENT_INVALID, None
    return EVENT_PROCESSED, None


def sequence_of(instances: Iterable[tuple[str, str]]) -> Sequence:
    """Items with Referenced SOP Class and Instance UIDs, in the order of the UIDs."""
    items = []
    for sop_class, instance in sorted(instances):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class), UID(instance)
        items.append(item)
    return Sequence(items)


def _instances(items: Iterable[Dataset] | None) -> Instances:
    return frozenset((str(item.ReferencedSOPClassUID), str(item.ReferencedSOPInstanceUID)) for item in items or ())
