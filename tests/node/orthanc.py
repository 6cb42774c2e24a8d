"""An Orthanc of its own, with its DICOMweb plugin: the archive and the sender that many sites have."""

from __future__ import annotations

import json
import shutil
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from fakes import free_port, wait_until

_PLACES = (Path("/usr/share/orthanc/plugins"), *sorted(Path("/usr").glob("lib*/orthanc/plugins")))


class Orthanc:
    """Listens on free ports of this machine; knows a node as the modality `certdicom`.

    `users`: names and passwords that HTTP needs; empty: none. `certificate`: PEM file with certificate and key for HTTPS.
    """

    def __init__(self, folder: Path, *, node_port: int = 104, users: dict[str, str] | None = None, certificate: Path | None = None) -> None:
        program = shutil.which("Orthanc")
        plugin = next((place / "libOrthancDicomWeb.so" for place in _PLACES if (place / "libOrthancDicomWeb.so").exists()), None)
        if program is None or plugin is None:
            pytest.skip("Orthanc and its DICOMweb plugin are not installed (apt-get install orthanc orthanc-dicomweb)")
        self.http, self.dicom = free_port(), free_port()
        folder.mkdir()
        configuration = {
            "Name": "test",
            "StorageDirectory": str(folder / "storage"),
            "IndexDirectory": str(folder / "storage"),
            "Plugins": [str(plugin)],
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": "ORTHANC",
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(users),
            "RegisteredUsers": users or {},
            "SslEnabled": certificate is not None,
            "SslCertificate": str(certificate or ""),
            "DicomModalities": {"certdicom": ["CERTDICOM", "127.0.0.1", node_port]},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        wait_until(self._listens, 120, "Orthanc's start")

    def _listens(self) -> bool:
        import socket

        try:
            socket.create_connection(("127.0.0.1", self.http), timeout=1).close()
        except OSError:
            return False
        return True

    def ask(self, path: str, data: bytes | None = None) -> Any:
        """GET, or POST `data`, on Orthanc's REST interface; returns the parsed answer."""
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data), timeout=60) as answer:
            return json.loads(answer.read())

    def forward(self, film: Path) -> None:
        """Upload a film and send it to the node, as its REST interface does for people and scripts."""
        self.ask("/modalities/certdicom/store", self.ask("/instances", film.read_bytes())["ID"].encode())

    def found(self, study: str, modality: str = "SEG") -> list[dict[str, Any]]:
        """QIDO-RS: the instances of a modality in a study."""
        return self.ask(f"/dicom-web/studies/{study}/instances?Modality={modality}&includefield=SOPClassUID")

    def content(self, sop_instance_uid: str) -> bytes:
        """The file that it keeps of an instance."""
        (identifier,) = self.ask("/tools/lookup", sop_instance_uid.encode())
        with urllib.request.urlopen(f"http://127.0.0.1:{self.http}/instances/{identifier['ID']}/file", timeout=60) as answer:
            return answer.read()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)
