"""The demonstration's Orthanc as the archive and the sender of tests, asked through its REST interface."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from certdicom.demo.orthanc import find_orthanc, orthanc


class Orthanc:
    """An empty one, until `stop`; knows the node as the modality `certdicom` on `node_port`."""

    def __init__(self, folder: Path, *, node_port: int) -> None:
        found = find_orthanc()
        if found is None:
            pytest.skip("Orthanc and its DICOMweb plugin are not installed (apt-get install orthanc orthanc-dicomweb)")
        self._running = contextlib.ExitStack()
        archive = self._running.enter_context(orthanc(*found, folder, senders=("CERTDICOM",)))
        self.address, self.dicom = archive.address, archive.dicom_port
        self._ask("/modalities/certdicom", json.dumps(["CERTDICOM", "127.0.0.1", node_port]).encode(), "PUT")

    def _ask(self, path: str, data: bytes | None = None, method: str | None = None) -> bytes:
        request = urllib.request.Request(self.address + path, data=data, method=method)  # noqa: S310  # http, on this machine
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return answer.read()

    def ask(self, path: str, data: bytes | None = None) -> Any:
        """GET, or POST `data`, on Orthanc's REST interface; returns the parsed answer."""
        return json.loads(self._ask(path, data))

    def forward(self, film: Path) -> None:
        """Upload a film and send it to the node, as its REST interface does for people and scripts."""
        self.ask("/modalities/certdicom/store", self.ask("/instances", film.read_bytes())["ID"].encode())

    def found(self, study: str, modality: str = "SEG") -> list[dict[str, Any]]:
        """QIDO-RS: the instances of a modality in a study."""
        return self.ask(f"/dicom-web/studies/{study}/instances?Modality={modality}")

    def content(self, sop_instance_uid: str) -> bytes:
        """The file that it keeps of an instance."""
        (identifier,) = self.ask("/tools/lookup", sop_instance_uid.encode())
        return self._ask(f"/instances/{identifier['ID']}/file")

    def stop(self) -> None:
        self._running.close()
