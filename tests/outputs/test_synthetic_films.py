"""From a synthetic film in any encoding to a SEG whose structures are where the phantom drew them."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest
from scipy import ndimage

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film
from certdicom.outputs.seg import build_segmentation
from tests.saving import save

ENCODINGS = ("implicit-little", "explicit-big", "deflated", "jpeg-2000", "jpeg-2000-lossy")


def decisions_from(masks, structures):
    """The drawn masks as certified, and a band about their borders as not certified."""
    maps = []
    for structure in structures:
        mask = masks[structure.label]
        band = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_erosion(mask, iterations=3)
        maps.append(np.where(band, ABSTAIN, np.where(mask, PRESENT, 0)))
    return np.array(maps, np.uint8)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(("modality", "photometric"), [("DX", "MONOCHROME2"), ("CR", "MONOCHROME1")])
def test_the_phantoms_organs_come_back(make_certificate, dciodvfy, dcmqi, tmp_path, encoding, modality, photometric):
    film, masks = synthetic_film(modality=modality, photometric=photometric, rows=200, columns=180)
    film = pydicom.dcmread(BytesIO(film_bytes(compress(film, encoding))))
    certificate = make_certificate()
    decisions = decisions_from(masks, certificate.structures)
    assert (decisions == PRESENT).any(axis=(1, 2)).all()
    segmentation = build_segmentation(film, decisions, certificate, file_sha256="ef" * 32, draw_identity="cd" * 32)
    path = save(segmentation, tmp_path / "seg.dcm")
    assert dciodvfy(path) == []
    wanted = [*(decisions == PRESENT), (decisions == ABSTAIN).any(axis=0)]
    for (_, mask, _), expected in zip(dcmqi(path), wanted, strict=True):
        np.testing.assert_array_equal(mask, expected)
    assert segmentation.LossyImageCompression == film.get("LossyImageCompression", "00")
