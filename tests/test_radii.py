"""Radii are written rounded down, by one formatter, wherever they are written."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.rounding import rounded_down
from certdicom.cli.summary import print_result
from certdicom.outputs import statements
from certdicom.outputs.report_json import build_report, report_json
from certdicom.outputs.secondary_capture import build_secondary_capture
from certdicom.outputs.seg import build_segmentation
from certdicom.outputs.sr import build_measurement_report


@given(st.floats(min_value=1e-6, max_value=1e9), st.integers(1, 8))
def test_what_is_written_is_never_larger_and_never_far(radius: float, digits: int) -> None:
    text = rounded_down(radius, digits)
    assert Decimal(text) <= Decimal(radius)
    assert float(text) <= radius
    assert Decimal(radius) - Decimal(text) < Decimal(10) ** (math.floor(math.log10(radius)) - digits + 2)
    assert "E" not in text.upper()


@pytest.mark.parametrize(
    ("radius", "text"), [(0.16862, "0.1686"), (0.19999999, "0.1999"), (37499.9, "37490"), (0.0, "0"), (12.0, "12"), (1.0, "1")]
)
def test_how_a_radius_is_written(radius: float, text: str) -> None:
    assert rounded_down(radius) == text


TAU, SCALE = 0.76, 1246.2
"""R = 0.17657… and 220.04…·10⁻² … stored values: to four digits nearest they would be 0.1766 and 220.1."""


@pytest.fixture
def certificate(make_certificate):
    made = make_certificate(parameters=SmoothingParameters(tau=TAU), native_scale=SCALE)
    assert (f"{made.radius:.4f}", f"{made.native_radius:.4g}") == ("0.1766", "220"), "a case in which rounding to nearest rounds up"
    assert made.radius < 0.1766
    return made


def texts_of(dataset) -> str:
    return "\n".join(str(element.value) for element in dataset.iterall() if element.VR not in ("OB", "OW", "OF", "SQ"))


def test_every_artefact_says_it_rounded_down(certificate, make_film, capsys: pytest.CaptureFixture[str]) -> None:
    film = make_film("CR")
    rows, columns = int(film.Rows), int(film.Columns)
    decisions = np.zeros((3, rows, columns), np.uint8)
    identity = {"file_sha256": "ef" * 32, "draw_identity": "cd" * 32}
    segmentation = build_segmentation(film, decisions, certificate, **identity)
    report = build_report(certificate, decisions, sop_instance_uid="1.2", file_sha256="00", seconds={"total": 1.0})
    print_result(report, files={})
    written = {
        "SEG": texts_of(segmentation),
        "SR": texts_of(build_measurement_report(film, segmentation, decisions, certificate)),
        "capture": texts_of(build_secondary_capture(film, np.zeros((8, 8, 3), np.uint8), certificate, **identity)),
        "report": report_json(report).decode(),
        "command line": capsys.readouterr().out,
        "picture": statements.guarantee(certificate, subject="Every pixel"),
        "page": job_page(report),
    }
    for name, text in written.items():
        assert "0.1765" in text, name
        assert "0.1766" not in text, f"{name} says more than is certified"
    for name in ("report", "SEG"):
        found = json.loads(written[name])["radius"] if name == "report" else json.loads(parameters_of(segmentation))
        grid, native = (found["grid"], found["native"]) if name == "report" else (found["radius_grid"], found["radius_native"])
        assert certificate.radius * (1 - 1e-5) < grid <= certificate.radius
        assert certificate.native_radius * (1 - 1e-5) < native <= certificate.native_radius


def parameters_of(segmentation) -> str:
    return segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters


def job_page(report: dict) -> str:
    """The line of the node's page that shows the radius, from the template that it uses."""
    from certdicom.node.web.app import templates

    template = templates()
    source = template.loader.get_source(template, "job.html")[0]
    line = next(line for line in source.splitlines() if "Certified radius" in line)
    return template.from_string(line).render(report=report)
