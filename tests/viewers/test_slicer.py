"""3D Slicer loads the film and the `.seg.nrrd`, and lays one over the other; its module does as much with a SEG and a radius map.

Slow: `scripts/fetch_slicer` is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.backends.export import export_bundle
from certdicom.outputs.nrrd import encode_seg_nrrd
from tests.tiny import write_tiny_bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS, COLUMNS = 400, 320
ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).with_name("slicer_reads.py")
MODULE_SCRIPT = Path(__file__).with_name("slicer_module.py")
MODULE = ROOT / "slicer" / "CertDicom"


@pytest.fixture(scope="module")
def slicer_python() -> Path:
    python = ROOT / "build" / "slicer" / "bin" / "python"
    if not python.exists():
        pytest.skip("slicer-core is not installed (scripts/fetch_slicer)")
    return python


@pytest.mark.parametrize("spacing", [(0.14, 0.14), (0.2, 0.1)])
def test_slicer_lays_every_segment_where_it_is_on_the_film(make_certificate, slicer_python, tmp_path, spacing):
    film, _ = synthetic_film(rows=ROWS, columns=COLUMNS, spacing=spacing)
    (tmp_path / "film.dcm").write_bytes(film_bytes(film))
    decisions = np.zeros((3, ROWS, COLUMNS), np.uint8)
    decisions[0, 40:240, 30:110], decisions[1, 180:300, 80:200], decisions[2, 30:60, 220:300] = PRESENT, PRESENT, PRESENT
    decisions[0, 250:290, 30:70], decisions[2, 340:380, 240:310] = ABSTAIN, ABSTAIN
    certificate = make_certificate()
    (tmp_path / "s.seg.nrrd").write_bytes(encode_seg_nrrd(film, decisions, certificate))

    command = [slicer_python, SCRIPT, tmp_path / "film.dcm", tmp_path / "s.seg.nrrd", tmp_path / "picture.png"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["size"] == [ROWS, COLUMNS]
    assert found["spacing"][:2] == pytest.approx([spacing[1], spacing[0]])
    masks = [*(decisions == PRESENT), (decisions == ABSTAIN).any(axis=0)]
    for structure, mask, segment in zip((*certificate.structures, None), masks, found["segments"], strict=True):
        assert segment["name"] == (structure.label if structure else "Abstain")
        assert segment["rgb"] == list(structure.rgb if structure else (240, 228, 66))
        assert segment["pixels"] == segment["on_film"] == mask.sum()
    with Image.open(tmp_path / "picture.png") as picture:
        tinted = np.ptp(np.asarray(picture.convert("RGB")).astype(int), axis=2) > 2
    np.testing.assert_array_equal(tinted, np.logical_or.reduce(masks))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Untrained networks as programs, which a process loads in a moment."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(folder)
    export_bundle(folder)
    return folder


PLANE = {
    "PixelSpacing": [0.2, 0.2],
    "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
    "ImagePositionPatient": [-18, 0, 20],
    "FrameOfReferenceUID": "2.25.7",
}
FILMS = {
    "its detector's spacing": {"modality": "DX", "spacing": (0.2, 0.1)},
    "no spacing": {"modality": "CR", "spacing": None},
    "a spacing of zero": {"modality": "CR", "spacing": None, "changes": {"PixelSpacing": [0, 0]}},
    "a plane of its own": {"modality": "CR", "photometric": "MONOCHROME1", "spacing": None, "changes": PLANE},
}


@pytest.mark.parametrize("name", FILMS)
def test_the_module_certifies_a_loaded_film_and_puts_its_results_on_it_pixel_on_pixel(slicer_python, bundle, tmp_path, name):
    options = dict(FILMS[name])
    changes = options.pop("changes", {})
    film, _ = synthetic_film(rows=96, columns=80, **options)
    for keyword, value in changes.items():
        setattr(film, keyword, value)
    (tmp_path / "film.dcm").write_bytes(film_bytes(film))
    program = Path(sys.executable).with_name("certdicom")

    command = [slicer_python, MODULE_SCRIPT, MODULE, program, bundle, tmp_path / "film.dcm"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert "wait for it or cancel it" in found["second"]
    assert found["progress"] == [310, 310]
    assert found["left"] == []
    assert "Research use only" in found["claim"]
    assert [segment["name"] for segment in found["segments"]] == ["lungs", "heart", "Abstain"]
    assert [segment["rgb"] for segment in found["segments"]] == [[86, 180, 233], [86, 180, 233], [240, 228, 66]]
    assert "SCT^39607008^Lung" in found["segments"][0]["terminology"]
    masks = np.array([segment["mask"] for segment in found["segments"]])
    assert masks.shape == (3, 96, 80)
    for one in (*found["segments"], found["map"]):
        np.testing.assert_allclose(one["place"], found["film"])
    radii = np.array(found["map"]["radii"])
    assert radii.shape == (96, 80)
    assert found["map"]["largest shown"] == pytest.approx(radii.max())
    assert found["columns"] == ["structure", "certified present, %", "certified absent, %", "abstained, %"]
    lungs, heart, any_structure = found["table"]
    assert [lungs[0], heart[0], any_structure[0]] == ["lungs", "heart", "any structure"]
    for line, mask in ((lungs, masks[0]), (heart, masks[1])):
        assert float(line[1]) == pytest.approx(100 * mask.mean(), abs=0.01)
        assert sum(map(float, line[1:])) == pytest.approx(100, abs=0.02)
    assert float(any_structure[3]) == pytest.approx(100 * masks[2].mean(), abs=0.01)
    assert any_structure[1] == "nan"
