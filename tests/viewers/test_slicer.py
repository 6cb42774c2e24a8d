"""3D Slicer loads the film and the `.seg.nrrd`, and lays one over the other. Slow: `scripts/fetch_slicer` is needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.outputs.nrrd import encode_seg_nrrd

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

ROWS, COLUMNS = 400, 320
SCRIPT = Path(__file__).with_name("slicer_reads.py")
PYTHON = Path(__file__).parents[2] / "build" / "slicer" / "bin" / "python"


@pytest.mark.parametrize("spacing", [(0.14, 0.14), (0.2, 0.1)])
def test_slicer_lays_every_segment_where_it_is_on_the_film(make_certificate, tmp_path, spacing):
    if not PYTHON.exists():
        pytest.skip("slicer-core is not installed (scripts/fetch_slicer)")
    film, _ = synthetic_film(rows=ROWS, columns=COLUMNS, spacing=spacing)
    (tmp_path / "film.dcm").write_bytes(film_bytes(film))
    decisions = np.zeros((3, ROWS, COLUMNS), np.uint8)
    decisions[0, 40:240, 30:110], decisions[1, 180:300, 80:200], decisions[2, 30:60, 220:300] = PRESENT, PRESENT, PRESENT
    decisions[0, 250:290, 30:70], decisions[2, 340:380, 240:310] = ABSTAIN, ABSTAIN
    certificate = make_certificate()
    (tmp_path / "s.seg.nrrd").write_bytes(encode_seg_nrrd(film, decisions, certificate))

    command = [PYTHON, SCRIPT, tmp_path / "film.dcm", tmp_path / "s.seg.nrrd", tmp_path / "picture.png"]
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
