"""Sending a result to an archive by C-STORE, and what its answers mean."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from pydicom import dcmread
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association

from certdicom.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from certdicom.node.configuration import Configuration, Destination
from certdicom.node.tls import client_context

Verdict = Literal["stored", "refused", "unreachable"]

DUPLICATE_SOP_INSTANCE: Final = 0x0111
_MEANINGS: Final = {
    0x0000: "success",
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xC000: "cannot understand",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class, stored all the same",
    0x0111: "duplicate SOP instance",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
}
"""PS3.4 table B.2-1 and PS3.7 annex C, by family: the last two digits of A7xx and the last three of Cxxx are the peer's own."""


@dataclass(frozen=True)
class Answer:
    """`stored`: the archive has it; `refused`: it does not want it; `unreachable`: try again later."""

    verdict: Verdict
    reason: str = ""


def judge(status: int | None) -> Answer:
    """What a C-STORE status means for the delivery; None: the association broke before an answer came."""
    if status is None:
        return Answer("unreachable", "no answer: the association broke or timed out")
    if status == 0x0000:
        return Answer("stored")
    text = f"status 0x{status:04X}, {meaning(status)}"
    # The UID follows from the result's content, so an instance with this UID is our own from an attempt whose answer was lost.
    if status == DUPLICATE_SOP_INSTANCE or status >> 12 == 0xB:
        return Answer("stored", text)
    if status >> 8 == 0xA7 or status == 0x0124:
        return Answer("unreachable", text)
    return Answer("refused", text)


def meaning(status: int) -> str:
    """A status in words."""
    for key in (status, status & 0xFF00, status & 0xF000):
        if key in _MEANINGS:
            return _MEANINGS[key]
    return "not in the Standard"


def local_entity(configuration: Configuration) -> ApplicationEntity:
    """Our AE as a requestor, with the time limits of `[delivery]`."""
    entity = ApplicationEntity(configuration.text("node.ae_title"))
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    limit = configuration.number("delivery.timeout_s")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = limit
    return entity


def associate(entity: ApplicationEntity, configuration: Configuration, destination: Destination, **options: object) -> Association:
    """An association with a destination, over TLS if it asks for that; look at `is_established` of what comes back."""
    tls = (client_context(configuration), destination.host) if destination.tls else None
    return entity.associate(destination.host, destination.port, ae_title=destination.ae_title, tls_args=tls, **options)  # type: ignore[arg-type]


def send(configuration: Configuration, destination: Destination, path: Path) -> Answer:
    """Send one file. Its bytes go as they are unless the destination takes Implicit VR Little Endian only."""
    entity = local_entity(configuration)
    meta = dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
    sop_class, syntax = UID(meta.file_meta.MediaStorageSOPClassUID), UID(meta.file_meta.TransferSyntaxUID)
    entity.add_requested_context(sop_class, syntax)
    entity.add_requested_context(sop_class, ImplicitVRLittleEndian)
    association = associate(entity, configuration, destination)
    if association.is_rejected:
        return _rejected(association)
    if not association.is_established:
        accepted = association.accepted_contexts
        return Answer("unreachable", "no association" if not accepted else "the association was aborted")
    try:
        return _store(association, path, syntax)
    finally:
        if association.is_established:
            association.release()


def _store(association: Association, path: Path, syntax: UID) -> Answer:
    taken = {context.transfer_syntax[0] for context in association.accepted_contexts if context.transfer_syntax}
    if syntax in taken:
        status = association.send_c_store(path)
    elif ImplicitVRLittleEndian in taken and not syntax.is_encapsulated:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.set_original_encoding(is_implicit_vr=True, is_little_endian=True)
        status = association.send_c_store(dataset)
    else:
        return Answer("refused", "it accepts no presentation context for Segmentation Storage")
    return judge(int(status.Status) if "Status" in status else None)


def _rejected(association: Association) -> Answer:
    primitive = association.acceptor.primitive
    reason = getattr(primitive, "reason_str", "") if primitive is not None else ""
    text = f"association rejected{': ' + reason if reason else ''}"
    # Result 1 is "rejected permanent" (PS3.8 9.3.4), which people may mend on the other side: it is tried again all the same.
    return Answer("unreachable", text)
