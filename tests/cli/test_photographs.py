"""Colour photographs on the command line, with a bundle of three channels on a grid that is not square."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from pydicom import dcmread

from certdicom.imaging.resampling import operator_norm
from certdicom.imaging.synthetic import film_bytes
from certdicom.models import bundle as bundles
from certdicom.models.bundle import load_bundle
from certdicom.models.networks import build_network
from certdicom.research.training.bundle import write_bundle

FAST = ("--n", "80", "--precision", "float32", "--batch", "20")
GRID = (48, 64)
SEGMENTER = {
    "architecture": "PatchSegmenter",
    "channels": 3,
    "structures": 1,
    "patch": 2,
    "init_filters": 8,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}
DENOISER = {
    "architecture": "PatchDenoiser", "channels": 3, "patch": 2, "block_out_channels": [8, 8], "layers_per_block": 1, "norm_num_groups": 4,
}  # fmt: skip
LESION = {"label": "lesion", "code": ["95324001", "SCT", "Skin lesion"], "rgb": [86, 180, 233]}
LUNGS = {"label": "lungs", "code": ["39607008", "SCT", "Lung"], "rgb": [86, 180, 233]}


def write_rgb_bundle(folder: Path, structure: dict) -> Path:
    import torch

    torch.manual_seed(5)
    segmenter = build_network(SEGMENTER)
    with torch.no_grad():  # spread, so that some decisions are certified
        for parameter in list(segmenter.parameters())[-2:]:
            parameter.mul_(30)
    write_bundle(
        folder,
        description={
            "name": folder.name,
            "summary": "untrained, for tests",
            "grid": list(GRID),
            "channels": 3,
            "structures": [structure],
            "schedule": {"beta_start": 1e-4, "beta_end": 2e-2, "steps": 1000},
            "sigma_range": [0.03, 1.0],
            "networks": {"segmenter": SEGMENTER, "denoiser": DENOISER},
        },
        networks={"segmenter": segmenter, "denoiser": build_network(DENOISER)},
    )
    return folder


@pytest.fixture(scope="module")
def skin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rgb_bundle(tmp_path_factory.mktemp("bundles") / "skin-tiny", LESION)


@pytest.fixture(scope="module")
def chest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rgb_bundle(tmp_path_factory.mktemp("bundles") / "chest-rgb-tiny", LUNGS)


@pytest.fixture
def photograph(make_photograph, tmp_path: Path):
    def write(kind: str = "XC", **changes) -> Path:
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(film_bytes(make_photograph(kind, **changes)))
        return path

    return write


@pytest.mark.parametrize("kind", ["XC", "ES", "SC"])
def test_a_photograph_is_certified_from_file_to_every_output(certdicom, skin, photograph, tmp_path, kind):
    names = {"preview": "p.png", "report": "r.json", "nrrd": "s.seg.nrrd", "nifti": "s.nii.gz", "explain": "w.png"}
    names |= {"sr": "sr.dcm", "sc": "sc.dcm", "radius-map": "m.dcm"}
    options = [word for name, file in names.items() for word in (f"--{name}", tmp_path / file)]
    outcome = certdicom(photograph(kind, rows=150, columns=200), "-o", tmp_path / "seg.dcm", *options, *FAST, bundle=skin)
    assert outcome.code == 0, outcome.err
    assert "of the photograph's pixels" in outcome.out
    assert "48 × 64 grid" in outcome.out
    assert "film" not in outcome.out
    report = json.loads((tmp_path / "r.json").read_text())
    assert (report["grid"], report["hypotheses"], report["source"]["medium"]) == ([48, 64], 48 * 64, "photograph")
    assert report["window"] == {"lo": 0.0, "hi": 255.0, "source": "the full range of 8 bits"}
    assert 0 < report["abstain_fraction"] < 1  # so that both kinds of pixels were compared below
    planes = dcmread(tmp_path / "seg.dcm").pixel_array.astype(bool)
    assert planes.shape == (2, 150, 200)
    assert report["structures"][0]["certified_present_px"] == planes[0].sum()
    assert report["abstain_fraction"] == pytest.approx(planes[1].mean())
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "s.nii.gz")))[:, 0].astype(bool), planes)
    assert sitk.ReadImage(str(tmp_path / "s.seg.nrrd")).GetSize() == (200, 150, 1)
    assert dcmread(tmp_path / "m.dcm").Rows == 150
    assert dcmread(tmp_path / "sc.dcm").PhotometricInterpretation == "RGB"


def test_the_radius_is_that_of_all_channels_together(certdicom, skin, photograph, tmp_path):
    """No factor of √3, which is for a gray film repeated to three channels alone, and no word of it."""
    outcome = certdicom(photograph(), "-o", tmp_path / "s.dcm", "--report", tmp_path / "r.json", *FAST, bundle=skin)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["radius"]["native"] == pytest.approx(report["radius"]["grid"] * 255 / operator_norm(96, 128, GRID))
    assert report["radius"]["native_unit"] == "RGB values"
    assert not any("repeated" in note for note in report["notes"])


def test_a_gray_film_in_a_chest_bundle_of_three_channels_is_repeated_and_its_radius_says_so(certdicom, chest, film, tmp_path):
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", "--report", tmp_path / "r.json", *FAST, bundle=chest)
    assert outcome.code == 0, outcome.err
    report = json.loads((tmp_path / "r.json").read_text())
    width = report["window"]["hi"] - report["window"]["lo"]
    assert report["radius"]["native"] == pytest.approx(report["radius"]["grid"] * width / operator_norm(320, 256, GRID) / 3**0.5)
    assert any("repeated to 3 channels" in note for note in report["notes"])


def test_each_channel_has_noise_of_its_own(skin, make_photograph, monkeypatch):
    from certdicom import SmoothingParameters, certify, read_image
    from certdicom.certification.base_segmenter import BaseSegmenter

    seen = []
    count = BaseSegmenter.count
    monkeypatch.setattr(BaseSegmenter, "count", lambda self, batch, unions: (seen.append(batch.noisy), count(self, batch, unions))[1])
    certify(read_image(film_bytes(make_photograph())), load_bundle(skin), SmoothingParameters(n=80))
    noise = np.concatenate(seen)[:80]
    noise -= noise.mean(axis=0)
    between = [abs(np.corrcoef(noise[:, a].ravel(), noise[:, b].ravel())[0, 1]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert max(between) < 0.02
    assert noise.std() == pytest.approx(0.25, rel=0.02)


def test_the_pictures_are_in_colour(certdicom, skin, photograph, tmp_path):
    options = ("--preview", tmp_path / "p.png", "--explain", tmp_path / "w.png", "--sc", tmp_path / "sc.dcm")
    assert certdicom(photograph(), "-o", tmp_path / "s.dcm", *options, *FAST, bundle=skin).code == 0
    for pixels in (
        np.asarray(Image.open(tmp_path / "p.png")),
        np.asarray(Image.open(tmp_path / "w.png"))[52:],
        dcmread(tmp_path / "sc.dcm").pixel_array,
    ):
        corner = pixels[8:60, 8:60].reshape(-1, 3).astype(int)
        skin_tones = (corner[:, 0] > corner[:, 1] + 30) & (corner[:, 1] > corner[:, 2])
        assert skin_tones.mean() > 0.3


def test_without_a_bundle_the_message_says_which_ones_take_colour(certdicom, skin, photograph, tmp_path, monkeypatch):
    shipped = {"cxr-gray-256": bundles.DEFAULT_BUNDLE, "skin-tiny": skin}
    from certdicom import suitability

    monkeypatch.setattr(suitability, "shipped_bundles", lambda: tuple(shipped))
    monkeypatch.setattr(suitability, "load_bundle", lambda name: load_bundle(shipped[name]))
    outcome = certdicom(photograph(), "-o", tmp_path / "s.dcm", *FAST, bundle=None)
    assert outcome.code == 3
    expected = "bundle cxr-gray-256 takes gray films: choose a bundle for colour photographs; shipped are skin-tiny (lesion)"
    assert outcome.err.strip().endswith(expected)
    assert not (tmp_path / "s.dcm").exists()


def test_a_photograph_in_a_gray_bundle_is_refused_whatever_is_accepted(certdicom, photograph, tmp_path):
    for extra in ((), ("--accept-any",)):
        outcome = certdicom(photograph(), "-o", tmp_path / "s.dcm", *extra, *FAST)
        assert outcome.code == 3
        assert "bundle tiny takes gray films: choose a bundle for colour photographs" in outcome.err


def test_a_photograph_in_a_chest_bundle_of_three_channels_is_refused(certdicom, chest, photograph, tmp_path):
    outcome = certdicom(photograph(), "-o", tmp_path / "s.dcm", *FAST, bundle=chest)
    assert (outcome.code, "bundle chest-rgb-tiny is for chest films" in outcome.err) == (3, True)


def test_a_film_in_a_bundle_for_photographs_is_refused_unless_any_is_accepted(certdicom, skin, film, tmp_path):
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", *FAST, bundle=skin)
    assert outcome.code == 3
    assert re.search(r"the image is gray and bundle skin-tiny \(lesion\) is for colour photographs; --accept-any certifies it", outcome.err)
    assert certdicom(film, "-o", tmp_path / "s.dcm", "--accept-any", *FAST, bundle=skin).code == 0


def test_films_and_photographs_of_a_folder_are_told_apart(certdicom, skin, film, photograph, tmp_path):
    photograph()
    (tmp_path / "film.dcm").write_bytes(film.read_bytes())
    (tmp_path / "out").mkdir()
    outcome = certdicom(tmp_path / "XC.dcm", tmp_path / "film.dcm", "-o", tmp_path / "out", *FAST, "--quiet", bundle=skin)
    assert outcome.code == 3
    assert [path.name for path in (tmp_path / "out").glob("*.dcm")] == ["XC.seg.dcm"]


def test_info_says_what_it_is(certdicom, photograph):
    outcome = certdicom("info", photograph("ES"), bundle=None)
    assert outcome.code == 0
    assert re.search(r"kind +colour photograph", outcome.out)
