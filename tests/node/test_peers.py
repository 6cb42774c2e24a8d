"""With the programs that hospitals use: dcmtk's storescu, and Orthanc as sender, archive and committer."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from fakes import free_port, wait_until
from orthanc import Orthanc
from pydicom import dcmread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_films_from_storescu_orthanc_and_pynetdicom_come_back_to_orthanc_with_commitment(run_node, configure, make_film, send, tmp_path):
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    node_port = free_port()
    orthanc = Orthanc(tmp_path / "orthanc", node_port=node_port)
    toml = tmp_path / "node.toml"
    destination = f'[[destination]]\nae_title = "ORTHANC"\nport = {orthanc.dicom}\nstorage_commitment = true\n'
    toml.write_text(destination, encoding="utf-8")
    try:
        node = run_node(configure(path=toml, node__port=node_port))
        films = [make_film(number, StudyInstanceUID=f"2.25.{1000 + number}") for number in range(4)]
        subprocess.run(["storescu", "-aec", "CERTDICOM", "127.0.0.1", str(node_port), *map(str, films[:2])], check=True, timeout=60)
        orthanc.forward(films[2])
        assert send(node, films[3]) == [0]
        wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"] * 4, 120, "commitment")
        for film in films:
            assert len(orthanc.found(str(dcmread(film).StudyInstanceUID))) == 1
        assert list(node.spool.film_ids()) == []
    finally:
        orthanc.stop()
