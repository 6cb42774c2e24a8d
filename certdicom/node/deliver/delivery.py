"""Sending the objects of a result to a destination: by C-STORE, or by STOW-RS where it has a `stow_url`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ImplicitVRLittleEndian
from pynetdicom.association import Association

from certdicom.node.configuration import Configuration
from certdicom.node.deliver import stow
from certdicom.node.deliver.peers import associate, local_entity
from certdicom.node.deliver.store_status import Notes, StoreOutcome, classify
from certdicom.node.settings import Destination

_CALLING_UNKNOWN: Final = (1, 3)
_CALLED_UNKNOWN: Final = (1, 7)
"""Result source and reason of a rejection, PS3.8 table 9-21."""


def send(configuration: Configuration, destination: Destination, paths: Sequence[Path], notes: Notes) -> StoreOutcome:
    """Send files, one after the other; stored when each of them is, otherwise the first answer that says something else."""
    if destination.stow_url:
        return _each(paths, notes, lambda path: stow.store(configuration, destination, path, notes))
    return _send_by_dimse(configuration, destination, paths, notes)


def _send_by_dimse(configuration: Configuration, destination: Destination, paths: Sequence[Path], notes: Notes) -> StoreOutcome:
    """All on one association. Bytes go as they are unless the destination takes Implicit VR Little Endian only."""
    entity = local_entity(configuration)
    metas = {path: file_meta(path) for path in paths}
    for proposed in dict.fromkeys((UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID)) for meta in metas.values()):
        entity.add_requested_context(*proposed)
        entity.add_requested_context(proposed[0], ImplicitVRLittleEndian)
    association = associate(entity, configuration, destination)
    if association.is_rejected:
        return rejected(association)
    if not association.is_established:
        accepted = association.accepted_contexts
        return StoreOutcome("unreachable", "no association" if not accepted else "the association was aborted")
    try:
        return _each(paths, notes, lambda path: _store(association, path, metas[path], notes))
    finally:
        if association.is_established:
            association.release()


def file_meta(path: Path) -> FileMetaDataset:
    """The file meta information of a DICOM file."""
    return dcmread(path, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).file_meta


def _each(paths: Sequence[Path], notes: Notes, store: Callable[[Path], StoreOutcome]) -> StoreOutcome:
    reasons = []
    for path in paths:
        answer = store(path)
        reason = f"{path.name}: {answer.reason}" if answer.reason and len(paths) > 1 else answer.reason
        if answer.verdict != "stored":
            if not answer.lost:
                notes.forget(path)
            return StoreOutcome(answer.verdict, reason, lost=answer.lost)
        reasons.append(reason)
    return StoreOutcome("stored", "; ".join(filter(None, reasons)))


def _store(association: Association, path: Path, meta: FileMetaDataset, notes: Notes) -> StoreOutcome:
    if not association.is_established:
        return classify(None)
    sop_class, syntax = meta.MediaStorageSOPClassUID, UID(meta.TransferSyntaxUID)
    contexts = [context for context in association.accepted_contexts if context.abstract_syntax == sop_class]
    taken = {context.transfer_syntax[0] for context in contexts if context.transfer_syntax}
    if syntax not in taken and (ImplicitVRLittleEndian not in taken or syntax.is_encapsulated):
        return StoreOutcome("refused", f"it accepts no presentation context for {sop_class.name}")
    sent_before = notes.begin(path)
    if syntax in taken:
        status = association.send_c_store(path)
    else:
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset.set_original_encoding(is_implicit_vr=True, is_little_endian=True)
        status = association.send_c_store(dataset)
    return classify(int(status.Status) if "Status" in status else None, sent_before=sent_before)


def rejected(association: Association) -> StoreOutcome:
    """Why an association was rejected, and what to do."""
    primitive = association.acceptor.primitive
    reason = getattr(primitive, "reason_str", "") if primitive is not None else ""
    text = f"association rejected{': ' + reason if reason else ''}"
    mended = {
        _CALLING_UNKNOWN: f"list our AE title {association.requestor.ae_title} there",
        _CALLED_UNKNOWN: f"it does not go by {association.acceptor.ae_title}",
    }
    if primitive is not None:
        text = "; ".join([text, *(what for which, what in mended.items() if which == (primitive.result_source, primitive.diagnostic))])
    # Result 1 is "rejected permanent" (PS3.8 9.3.4), which people may mend on the other side: it is tried again all the same.
    return StoreOutcome("unreachable", text)
