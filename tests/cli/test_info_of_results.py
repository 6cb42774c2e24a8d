"""`certdicom info RESULT` says what a SEG, SR, picture, radius map or presentation state certifies, as its report does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

FAST = ("--n", "80", "--quiet", "--sigma", "0.3")


@pytest.fixture(scope="module")
def results(tiny_bundle: Path, film: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from certdicom.cli.main import main

    folder = tmp_path_factory.mktemp("results")
    kinds = [word for kind in ("sr", "sc", "radius-map", "radius-sc", "drawn-seg", "gsps", "report") for word in (f"--{kind}", str(folder))]
    words = [str(film), "-o", f"{folder}/", *kinds, *FAST, "--abstain", "per-structure", "--bundle", str(tiny_bundle)]
    assert main(words) == 0
    return folder


def told(certdicom, path: Path) -> dict:
    outcome = certdicom("info", path, "--json", bundle=None)
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


def report(results: Path) -> dict:
    return json.loads((results / "film.json").read_text())


@pytest.mark.parametrize("kind", ["seg", "sr", "sc", "radius", "gsps"])
def test_every_result_names_claim_bundle_software_and_film(certdicom, results: Path, film: Path, kind: str) -> None:
    fields, expected = told(certdicom, results / f"film.{kind}.dcm"), report(results)
    assert fields["bundle"] == "tiny"
    assert fields["bundle_sha256"] == expected["bundle"]["sha256"]
    assert fields["software"] == f"certdicom {expected['software']['version']}"
    assert fields["film"] == dcmread(film).SOPInstanceUID
    assert "99.9 % confidence" in fields["claim"]
    assert "not a medical device" in fields["claim"]
    assert "Synthetic" not in certdicom("info", results / f"film.{kind}.dcm", bundle=None).out


def test_a_segmentation_has_parameters_window_radius_and_shares(certdicom, results: Path) -> None:
    fields, expected = told(certdicom, results / "film.seg.dcm"), report(results)
    parameters = fields["parameters"]
    for name in ("sigma", "tau", "n0", "n", "alpha"):
        assert parameters[name] == expected["parameters"][name]
    assert parameters["window"] == expected["window"]
    assert parameters["radius_native"] == pytest.approx(expected["radius"]["native"])
    assert fields["shares"]["Abstain"] == pytest.approx(expected["abstain_fraction"])
    for structure in expected["structures"]:
        assert fields["shares"][structure["label"]] == pytest.approx(structure["certified_present_px"] / (320 * 256))
        assert fields["shares"][f"Abstain: {structure['label']}"] == pytest.approx(structure["abstain_px"] / (320 * 256))
    text = certdicom("info", results / "film.seg.dcm", bundle=None).out
    assert "sigma" in text
    assert "{" not in text
    assert "(" not in text.replace("(columns × rows)", "").replace("(= ", "").replace("(LINEAR)", "").replace(
        "(WindowCenter/WindowWidth )", ""
    )


def test_a_report_has_its_measurements_by_structure(certdicom, results: Path) -> None:
    fields = told(certdicom, results / "film.sr.dcm")
    measured = {name: value for name, value, _ in fields["measurements"]}
    assert measured["Abstained share of the image"] == pytest.approx(100 * report(results)["abstain_fraction"], abs=0.01)
    assert {"Lungs area at least", "Heart area at most", "Abstain area"} <= set(measured)
    assert fields["parameters"]["sigma"] == "0.3"
    assert not any(name.startswith("claim") for name in fields["parameters"])


def test_a_radius_map_has_its_range(certdicom, results: Path) -> None:
    smallest, middle, largest = told(certdicom, results / "film.radius.dcm")["radii"]
    radii = dcmread(results / "film.radius.dcm").pixel_array
    assert (smallest, largest) == (pytest.approx(radii.min()), pytest.approx(radii.max()))
    assert middle == pytest.approx(np.median(radii))


@pytest.mark.parametrize(("ending", "kind"), [("sc", "sc"), ("radius.sc", "radius_sc"), ("seg", "seg"), ("drawn", "drawn_seg")])
def test_kinds_of_one_sop_class_are_told_apart(certdicom, results: Path, ending: str, kind: str) -> None:
    assert told(certdicom, results / f"film.{ending}.dcm")["kind"] == kind


def test_results_of_others_and_damaged_ones(certdicom, results: Path, tmp_path: Path) -> None:
    dataset = dcmread(results / "film.seg.dcm")
    dataset.ManufacturerModelName = "other"
    dataset.save_as(tmp_path / "other.dcm")
    assert certdicom("info", tmp_path / "other.dcm", bundle=None).code == 3
    dataset.ManufacturerModelName = "certdicom"
    del dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence
    dataset.save_as(tmp_path / "damaged.dcm")
    outcome = certdicom("info", tmp_path / "damaged.dcm", bundle=None)
    assert outcome.code == 3
    assert outcome.err.count("\n") == 1
    assert "damaged" in outcome.err


def test_a_result_is_not_certified_again(certdicom, results: Path, tmp_path: Path) -> None:
    for kind in ("seg", "sr", "sc", "radius", "gsps"):
        outcome = certdicom(results / f"film.{kind}.dcm", "-o", tmp_path / "s.dcm", "--accept-any", "--quiet")
        assert outcome.code == 3
        assert "certdicom info" in outcome.err
