"""The smallest archive there is: a storage SCP that writes what it gets into a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.uid import UID
from pynetdicom import ALL_TRANSFER_SYNTAXES, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import AllStoragePresentationContexts

from certdicom.errors import OutputError
from certdicom.files import write_atomically

AE_TITLE: Final = "ARCHIVE"
_VERIFICATION: Final = UID("1.2.840.10008.1.1")


@dataclass(frozen=True)
class FolderArchive:
    """A running archive: its `folder` and the port of its storage SCP."""

    folder: Path
    dicom_port: int


@contextlib.contextmanager
def folder_archive(folder: Path) -> Iterator[FolderArchive]:
    """Store every instance as `<SOP Instance UID>.dcm` in `folder` until the block is left; on the loopback interface alone."""
    folder.mkdir(parents=True, exist_ok=True)
    entity = ApplicationEntity(AE_TITLE)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(_VERIFICATION)

    def store(event: evt.Event) -> int:
        uid = str(getattr(event.request, "AffectedSOPInstanceUID", ""))
        if not uid or not set(uid) <= set("0123456789."):
            return 0xA900
        try:
            write_atomically(folder / f"{uid}.dcm", event.encoded_dataset(), force=True)
        except OutputError:
            return 0xA700
        return 0x0000

    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    assert server is not None  # noqa: S101  # what `block=False` returns
    try:
        yield FolderArchive(folder, int(server.server_address[1]))
    finally:
        server.shutdown()
