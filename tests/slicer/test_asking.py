"""Slicer's module asks a node: a real one, with a real archive behind it."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from CertDicomLib import asking, certifying, results

from certdicom.demo.node import Destination, node
from certdicom.demo.orthanc import AE_TITLE, find_orthanc, orthanc
from certdicom.demo.processes import free_port
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(film_bytes(compress(synthetic_film(rows=96, columns=80)[0], "jpeg-ls")))
    return path


def ended(asked: asking.Asking, *, seconds: float = 240) -> int:
    end = time.monotonic() + seconds
    while (code := asked.poll()) is None:
        assert time.monotonic() < end, "it does not end"
        time.sleep(0.05)
    return code


def folder(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_film_is_sent_to_a_node_and_its_results_are_fetched_from_the_archive(film, bundle, tmp_path):
    found = find_orthanc()
    if found is None or shutil.which("storescu") is None:
        pytest.skip("Orthanc with DICOMweb, or dcmtk, is not installed (Debian: apt install orthanc orthanc-dicomweb dcmtk)")
    settings = {
        "CERTDICOM_CERTIFICATE_BUNDLE": str(bundle.folder),
        "CERTDICOM_CERTIFICATE_ACCEPT_ANY": "true",
        "CERTDICOM_RESULTS_RADIUS_MAP": "true",
        "CERTDICOM_ACCESS_CALLING_AE_TITLES": "SLICER",
    }
    with orthanc(*found, tmp_path / "orthanc", senders=("CERTDICOM",)) as archive:
        with node(folder(tmp_path / "work"), archive=Destination(AE_TITLE, archive.dicom_port), settings=settings) as running:
            place = asking.Node("127.0.0.1", running.dicom_port, f"{archive.address}/dicom-web")
            asked = asking.Asking(place, film, folder(tmp_path / "first"), os.environ)
            assert asked.poll() is None
            assert ended(asked) == 0, asked.problem
        segmentation = results.read_segmentation(tmp_path / "first" / certifying.SEGMENTATION)
        assert [segment.name for segment in segmentation.segments] == ["lungs", "heart", "Abstain"]
        assert segmentation.segments[0].mask.shape == (96, 80)
        assert "Research use only" in segmentation.claim

        # The node is gone: what the archive has is taken as it is.
        asked = asking.Asking(place, film, folder(tmp_path / "second"), os.environ)
        assert ended(asked) == 0, asked.problem
        radii = results.read_radius_map(tmp_path / "second" / certifying.RADIUS_MAP)
        assert radii.radii.shape == (96, 80)
        assert radii.source == segmentation.source

        other = tmp_path / "other.dcm"
        other.write_bytes(film_bytes(synthetic_film(rows=96, columns=80, seed=7)[0]))
        asked = asking.Asking(place, other, folder(tmp_path / "third"), os.environ)
        assert ended(asked) == 1
        assert asked.problem.startswith(f"CERTDICOM at 127.0.0.1:{running.dicom_port} did not take the film")
        assert list((tmp_path / "third").iterdir()) == []


def test_what_cannot_be_asked_is_said(film, tmp_path):
    with pytest.raises(asking.AskingError, match="must begin with http"):
        asking.Node("127.0.0.1", 104, "pacs.example/dicom-web")
    port = free_port()
    place = asking.Node("127.0.0.1", port, f"http://127.0.0.1:{port}/dicom-web")
    asked = asking.Asking(place, film, tmp_path, os.environ)
    assert ended(asked) == 1
    assert asked.problem.startswith(f"the archive at http://127.0.0.1:{port}/dicom-web does not answer")
    (tmp_path / "note").write_text("no film")
    with pytest.raises(asking.AskingError, match="no complete DICOM file"):
        asking.Asking(place, tmp_path / "note", tmp_path, os.environ)
    with pytest.raises(asking.AskingError, match="missing cannot be started"):
        asking.send(asking.Node("127.0.0.1", port, place.archive, storescu="missing"), film, "1.2.840.10008.1.2.1", os.environ)
