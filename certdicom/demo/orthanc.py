"""An Orthanc of our own: an empty archive with DICOMweb, which lets nobody in but this machine."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certdicom.demo.processes import free_port, running, wait_for

AE_TITLE: Final = "ORTHANC"

_PROGRAMS = ("Orthanc", "/usr/sbin/Orthanc")
_PLUGINS = tuple(Path(folder) / "libOrthancDicomWeb.so" for folder in ("/usr/share/orthanc/plugins", "/usr/lib/orthanc"))


@dataclass(frozen=True)
class Orthanc:
    """A running archive: `address` of its web interface, `dicom_port` of its storage SCP."""

    address: str
    dicom_port: int


def find_orthanc() -> tuple[str, Path] | None:
    """The program and its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb); None where one of them is not installed."""
    program = next((path for path in map(shutil.which, _PROGRAMS) if path), None)
    plugin = next((path for path in _PLUGINS if path.exists()), None)
    return (program, plugin) if program is not None and plugin is not None else None


@contextlib.contextmanager
def orthanc(program: str, plugin: Path, folder: Path, *, senders: tuple[str, ...] = ()) -> Iterator[Orthanc]:
    """Orthanc with its data in `folder`, ended when the block is left; `senders`: AE titles on this machine that may store."""
    http_port, dicom_port = free_port(), free_port()
    settings = {
        "Name": "certdicom demo",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": bool(senders),
        "DicomAet": AE_TITLE,
        "DicomPort": dicom_port,
        # Its DICOM port listens on every interface: only senders that are listed with this machine's address may store.
        "DicomAlwaysAllowStore": False,
        "DicomAlwaysAllowEcho": False,
        "DicomCheckModalityHost": True,
        "DicomModalities": {sender.lower(): [sender, "127.0.0.1", 104] for sender in senders},
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    configuration, log = folder / "orthanc.json", folder / "orthanc.log"
    configuration.write_text(json.dumps(settings))
    with running([program, str(configuration)], log=log) as process:
        address = f"http://127.0.0.1:{http_port}"
        wait_for(f"{address}/system", process=process, log=log)
        yield Orthanc(address, dicom_port)
