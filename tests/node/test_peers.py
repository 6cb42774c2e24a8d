"""With the programs that hospitals use: dcmtk's storescu, and Orthanc as sender, archive and committer."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
from fakes import free_port, wait_until
from pydicom import dcmread

from certdicom.node.configuration import load_configuration

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Orthanc:
    """An Orthanc of its own on free ports of this machine, with its DICOMweb plugin."""

    def __init__(self, folder: Path, node_port: int) -> None:
        program, plugin = shutil.which("Orthanc"), next(iter(Path("/usr").glob("*/orthanc/plugins/libOrthancDicomWeb.so*")), None)
        plugin = plugin or next(iter(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*")), None)
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
            "AuthenticationEnabled": False,
            "DicomModalities": {"certdicom": ["CERTDICOM", "127.0.0.1", node_port]},
        }
        (folder / "orthanc.json").write_text(json.dumps(configuration), encoding="utf-8")
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
        wait_until(self._answers, 60, "Orthanc's start")

    def _answers(self) -> bool:
        try:
            self.ask("/system")
        except OSError:
            return False
        return True

    def ask(self, path: str, data: bytes | None = None):
        with urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{self.http}{path}", data=data), timeout=30) as answer:
            return json.loads(answer.read())

    def segmentations(self, study: str) -> list[dict]:
        """QIDO-RS: the SEG series of a study."""
        return self.ask(f"/dicom-web/series?StudyInstanceUID={study}&Modality=SEG")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


def test_films_from_storescu_orthanc_and_pynetdicom_come_back_to_orthanc_with_commitment(run_node, configure, make_film, send, tmp_path):
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    node_port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", node_port)
    toml = tmp_path / "node.toml"
    destination = f'[[destination]]\nae_title = "ORTHANC"\nport = {orthanc.dicom}\nstorage_commitment = true\n'
    toml.write_text(destination, encoding="utf-8")
    try:
        node = run_node(configure(path=toml, node__port=node_port))
        assert isinstance(node.configuration, type(load_configuration(None, {})))
        films = [make_film(number, StudyInstanceUID=f"2.25.{1000 + number}") for number in range(4)]
        subprocess.run(["storescu", "-aec", "CERTDICOM", "127.0.0.1", str(node_port), *map(str, films[:2])], check=True, timeout=60)
        instance = orthanc.ask("/instances", films[2].read_bytes())["ID"]
        orthanc.ask("/modalities/certdicom/store", instance.encode())
        assert send(node, films[3]) == [0]
        wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"] * 4, 120, "commitment")
        for film in films:
            assert len(orthanc.segmentations(str(dcmread(film).StudyInstanceUID))) == 1
        assert list(node.spool.film_ids()) == []
    finally:
        orthanc.stop()


def test_a_burst_over_eight_associations_is_taken_at_storescps_rate_and_loses_nothing(run_node, configure, archive, tmp_path):
    """Prints both rates; the node's, with fsync and job table, must keep at least those of one storescp in the same run."""
    if shutil.which("storescu") is None or shutil.which("storescp") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    from certdicom.imaging.synthetic import film_bytes, synthetic_film

    dataset, _ = synthetic_film(rows=80, columns=72, bits_stored=12)
    dataset.Rows, dataset.Columns, dataset.PixelData = 2048, 2048, b"\x07\x01" * (2048 * 2048)
    groups = []
    for group in range(8):
        folder = tmp_path / f"group-{group}"
        folder.mkdir()
        groups.append(folder)
        for number in range(63 if group < 4 else 62):
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"2.25.7{group}{number:03d}"
            (folder / f"{number}.dcm").write_bytes(film_bytes(dataset))

    def send_all(port: int) -> float:
        started = time.perf_counter()
        senders = [subprocess.Popen(["storescu", "+sd", "-aec", "CERTDICOM", "127.0.0.1", str(port), str(folder)]) for folder in groups]
        assert [sender.wait(900) for sender in senders] == [0] * 8
        return 500 / (time.perf_counter() - started)

    port, sink = free_port(), tmp_path / "sink"
    sink.mkdir()
    with subprocess.Popen(["storescp", "-od", str(sink), str(port)]) as storescp:
        time.sleep(1)
        theirs = send_all(port)
        storescp.terminate()
    # No workers: what is measured is receiving, as against storescp, which does nothing else.
    node = run_node(configure(archive, jobs__workers=0))
    ours = send_all(node.scp.port)
    print(f"storescp {theirs:.1f} films/s, node {ours:.1f} films/s")
    assert node.ledger.counts()["queued"] == 500
    assert len(list(node.spool.film_ids())) == 500
    assert ours >= theirs
