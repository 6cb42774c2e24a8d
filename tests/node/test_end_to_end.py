"""The real thing: films through `certdicom node` with the shipped bundle and DBOS, from real senders back to a real archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import files
from pathlib import Path

import pytest
from fakes import free_port, wait_until
from orthanc import Orthanc
from processes import NodeProcess
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.bundle import DEFAULT_BUNDLE, shipped_bundles


def radiographs(folder: Path) -> list[Path]:
    """A real chest CR (RG1_UNCR of the NEMA WG-04 samples) and three synthetic films, each in a study of its own."""
    real = next(file for file in files("pydicom-data") or [] if file.name == "RG1_UNCR.dcm")
    paths = [folder / "real.dcm"]
    shutil.copy(str(real.locate()), paths[0])
    for number in range(3):
        dataset, _ = synthetic_film(rows=512, columns=448, seed=number)
        dataset.StudyInstanceUID = f"2.25.{1000 + number}"
        paths.append(folder / f"synthetic-{number}.dcm")
        paths[-1].write_bytes(film_bytes(dataset))
    return paths


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_films_from_storescu_orthanc_and_pynetdicom_are_certified_with_the_shipped_bundle_and_found_in_orthanc(tmp_path):
    if DEFAULT_BUNDLE not in shipped_bundles():
        pytest.skip(f"the bundle {DEFAULT_BUNDLE} is not part of this checkout")
    if shutil.which("storescu") is None:
        pytest.skip("dcmtk is not installed (apt-get install dcmtk)")
    films, port = radiographs(tmp_path), free_port()
    orthanc = Orthanc(tmp_path / "orthanc", node_port=port)
    # 70 draws are the fewest at which this alpha certifies anything on this grid: 0.75^70 · 256 · 256 · 3 < 0.001.
    settings = f"""
[node]
port = {port}
state_dir = "{tmp_path / "state"}"
[limits]
min_free_mb = 1
[certificate]
accept_any = true
n0 = 4
n = 70
[web]
port = 0
[[destination]]
ae_title = "ORTHANC"
port = {orthanc.dicom}
storage_commitment = true
"""
    node = NodeProcess(tmp_path, settings, port)
    try:
        node.start()
        subprocess.run(["storescu", "-aec", "CERTDICOM", "127.0.0.1", str(port), *map(str, films[:2])], check=True, timeout=120)
        orthanc.forward(films[2])
        assert node.send(films[3]) == [True]
        studies = [str(dcmread(film, stop_before_pixels=True).StudyInstanceUID) for film in films]
        wait_until(lambda: node.dead() or all(orthanc.found(study) for study in studies), 6000, "the last segmentation")
        for film, study in zip(films, studies, strict=True):
            (found,) = orthanc.found(study)
            segmentation = dcmread(DicomBytesIO(orthanc.content(found["00080018"]["Value"][0])))
            source = dcmread(film, stop_before_pixels=True)
            reference = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
            assert (segmentation.StudyInstanceUID, reference) == (source.StudyInstanceUID, source.SOPInstanceUID)
            assert segmentation.pixel_array.any()
        wait_until(lambda: not list((tmp_path / "state" / "films").iterdir()), 600, "the films' removal after commitment")
        assert node.stop() == 0
    finally:
        node.kill()
        orthanc.stop()


def test_the_node_does_not_import_torch_before_it_certifies():
    modules = (f"certdicom.node.{module}" for module in ("service", "web.server", "doctor", "queue", "work.jobs.dbos_queue"))
    code = f"import sys, {', '.join(modules)}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120, env={**os.environ})
