"""What Slicer's module does without Slicer, with a real certdicom: the command, its environment, its progress, its end and its results."""

from __future__ import annotations

import argparse
import ast
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from CertDicomLib import certifying, results
from highdicom.color import CIELabColor
from hypothesis import given
from hypothesis import strategies as st

import certdicom
from certdicom import Computation, SmoothingParameters
from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.cli.certify_command import add_arguments
from certdicom.imaging.grid import spread_on
from certdicom.imaging.synthetic import synthetic_film, write_film
from certdicom.outputs.radii import joint_radii
from tests.slicer.conftest import MODULE

PROGRAM = str(Path(sys.executable).with_name("certdicom"))
KEY = b"the key of Slicer's tests"


@pytest.fixture
def film(tmp_path):
    write_film(synthetic_film(rows=96, columns=80, spacing=(0.2, 0.1))[0], tmp_path / "film of 7/8.dcm".replace("/", "-"))
    return tmp_path / "film of 7-8.dcm"


@pytest.fixture
def key_file(tmp_path):
    (tmp_path / "key").write_bytes(KEY)
    return tmp_path / "key"


def request(film: Path, folder: Path, **changes) -> certifying.Request:
    folder.mkdir(exist_ok=True)
    return certifying.Request(program=PROGRAM, film=film, folder=folder, accept_any=True, **changes)


def ended(run: certifying.Run, *, seconds: float = 120) -> int:
    end = time.monotonic() + seconds
    while (code := run.poll()) is None:
        assert time.monotonic() < end, "it does not end"
        time.sleep(0.02)
    return code


def test_the_command_is_one_that_certdicom_understands(tmp_path):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    asked = request(tmp_path / "f.dcm", tmp_path / "out", sigma=0.1, n=75, bundle=" tiny ", per_structure=True, site_key=tmp_path / "key")
    words = certifying.command(asked)
    assert words[:2] == [PROGRAM, "certify"]
    told = parser.parse_args(words[2:])
    assert (told.films, told.sigma, told.n, told.bundle, told.abstain) == ([tmp_path / "f.dcm"], 0.1, 75, "tiny", "per-structure")
    assert (told.site_key, told.accept_any) == (tmp_path / "key", True)
    plain = parser.parse_args(certifying.command(certifying.Request(PROGRAM, tmp_path / "f.dcm", tmp_path))[2:])
    assert (plain.sigma, plain.n, plain.bundle, plain.abstain, plain.accept_any) == (0.25, 100, "cxr-gray-256", "union", False)
    with pytest.raises(ValueError, match="name the program"):
        certifying.command(certifying.Request(" ", tmp_path / "f.dcm", tmp_path))


def test_the_environment_loses_what_is_slicers_and_keeps_what_is_not():
    cleaned = certifying.clean_environment(
        {
            "PYTHONHOME": "/opt/Slicer/lib/Python",
            "PYTHONPATH": "/opt/Slicer/bin/Python:/home/me/lib",
            "PYTHONNOUSERSITE": "1",
            "LD_LIBRARY_PATH": "/opt/Slicer/lib/Slicer-5.8:/usr/local/cuda/lib64",
            "SSL_CERT_FILE": "/opt/Slicer/share/Slicer.crt",
            "PATH": "/opt/Slicer/bin:/usr/bin:/opt/Slicer2/bin",
            "HOME": "/home/me",
            "EMPTY": "",
        },
        slicer_home="/opt/Slicer",
    )
    assert cleaned == {
        "PYTHONPATH": "/home/me/lib",
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
        "PATH": "/usr/bin:/opt/Slicer2/bin",
        "HOME": "/home/me",
        "EMPTY": "",
    }


def test_another_python_runs_in_the_cleaned_environment_and_not_in_slicers(tmp_path):
    misled = {**os.environ, "PYTHONHOME": str(tmp_path / "lib"), "PYTHONPATH": str(tmp_path)}
    assert ended(certifying.Run([PROGRAM, "--version"], misled)) != 0
    cleaned = certifying.clean_environment({**misled, "PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"}, slicer_home=str(tmp_path))
    assert ended(certifying.Run([PROGRAM, "--version"], cleaned)) == 0


def test_a_run_gives_what_certdicom_itself_gives(film, bundle, key_file, tmp_path):
    asked = request(film, tmp_path / "out", n=1500, sigma=0.05, bundle=str(bundle.folder), per_structure=True, site_key=key_file)
    run = certifying.Run(certifying.command(asked), os.environ)
    counts = set()
    while run.poll() is None:
        counts.add(run.progress)
        time.sleep(0.02)
    assert run.poll() == 0, run.problem
    assert len(counts - {None}) > 1  # the bar moved
    assert run.progress == (1510, 1510)

    expected = certdicom.certify(
        film, bundle, SmoothingParameters(sigma=0.05, n=1500), computation=Computation(site_key=KEY), accept_any=True
    )
    found = results.read_segmentation(asked.folder / certifying.SEGMENTATION)
    masks = {segment.name: segment.mask for segment in found.segments}
    for number, name in enumerate(("lungs", "heart")):
        np.testing.assert_array_equal(masks[name], expected.decisions[number] == PRESENT)
        np.testing.assert_array_equal(masks[f"Abstain: {name}"], expected.decisions[number] == ABSTAIN)
    np.testing.assert_array_equal(masks["Abstain"], expected.abstained)
    assert len(masks) == 5
    assert found.segments[0].rgb == (86, 180, 233)
    assert "SCT^39607008^Lung" in found.segments[0].terminology
    np.testing.assert_allclose(found.ijk_to_ras, np.diag([-0.1, -0.2, 1, 1]))
    assert found.source == expected.image.dataset.SOPInstanceUID

    radii = results.read_radius_map(asked.folder / certifying.RADIUS_MAP)
    spread = spread_on(expected.certificate, joint_radii(expected.certificate), rows=96, columns=80, outside=0)
    np.testing.assert_array_equal(radii.radii, spread)
    np.testing.assert_allclose(radii.ijk_to_ras, found.ijk_to_ras)

    report = certifying.read_report(asked.folder / certifying.REPORT)
    assert "Research use only" in found.claim
    assert "Research use only" in report["claim"]
    shares = results.shares_of_report(report)
    assert [share.structure for share in shares] == ["lungs", "heart", "any structure"]
    assert shares[0].present == pytest.approx(expected.mask("lungs").mean())
    assert shares[-1].abstained == pytest.approx(expected.abstained.mean())
    for one, other in zip(shares, results.shares_of_segmentation(found), strict=True):
        assert (other.structure, other.present, other.absent, other.abstained) == (
            one.structure,
            *(None if share is None else pytest.approx(share) for share in (one.present, one.absent, one.abstained)),
        )
    union = replace(found, segments=tuple(segment for segment in found.segments if ":" not in segment.name))
    for one, other in zip(shares[:-1], results.shares_of_segmentation(union)[:-1], strict=True):
        assert (other.present, other.absent, other.abstained) == (pytest.approx(one.present), None, None)


def test_why_it_cannot_be_certified_is_said_in_the_programs_own_words(film, bundle, tmp_path):
    run = certifying.Run(certifying.command(request(film, tmp_path / "out", n=3, bundle=str(bundle.folder))), os.environ)
    assert ended(run) == 2
    assert run.problem.startswith("certdicom: n = 3 draws cannot certify any")
    (tmp_path / "note.dcm").write_text("no film")
    run = certifying.Run(certifying.command(request(tmp_path / "note.dcm", tmp_path / "out", bundle=str(bundle.folder))), os.environ)
    assert ended(run) == 3
    assert run.problem.startswith("certdicom: this is not a DICOM file")
    with pytest.raises(FileNotFoundError):
        certifying.Run([str(tmp_path / "missing")], os.environ)


def test_what_is_cancelled_ends_and_leaves_no_file(film, bundle, tmp_path):
    asked = request(film, tmp_path / "out", n=1_000_000, bundle=str(bundle.folder))
    run = certifying.Run(certifying.command(asked), os.environ)
    end = time.monotonic() + 60
    while run.progress is None:
        assert run.poll() is None, run.problem
        assert time.monotonic() < end
        time.sleep(0.02)
    run.cancel()
    assert run.cancelled
    assert run.poll() != 0
    assert list(asked.folder.iterdir()) == []


def test_a_report_of_another_schema_is_refused(tmp_path):
    (tmp_path / "report.json").write_text('{"schema_version": "2.0"}')
    with pytest.raises(ValueError, match="has schema version 2"):
        certifying.read_report(tmp_path / "report.json")


def test_an_object_that_is_not_what_it_should_be_is_refused(film):
    with pytest.raises(ValueError, match="no binary DICOM SEG"):
        results.read_segmentation(film)
    with pytest.raises(ValueError, match="no radius map"):
        results.read_radius_map(film)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_a_colour_comes_back_as_it_was_written(rgb):
    found = results.rgb_of(CIELabColor.from_rgb(*rgb).value)
    assert max(abs(one - other) for one, other in zip(found, rgb, strict=True)) <= 1


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.py")), ids=lambda path: path.name)
def test_the_module_is_written_in_the_python_of_slicer_5(path):
    """Slicer 5.0 to 5.8 have Python 3.9."""
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 9))
    assert any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in ast.walk(tree)) or path.name == "__init__.py"


def test_every_script_of_the_module_is_built_into_it():
    listed = (MODULE / "CMakeLists.txt").read_text(encoding="utf-8").replace("${MODULE_NAME}", "CertDicom").split()
    for path in MODULE.rglob("*"):
        if path.suffix in (".py", ".png"):
            assert path.relative_to(MODULE).as_posix() in listed
