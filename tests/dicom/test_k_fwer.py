"""Where wrong certificates are allowed, every object says how many, and measures nothing that one of them could undo."""

from __future__ import annotations

import json

import numpy as np
import pytest

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.certification.parameters import SmoothingParameters
from certdicom.dicom.measurements import pixels_allowed_wrong, structure_area
from certdicom.dicom.radius_map import joint_radii, largest_radius
from certdicom.dicom.report import build_measurement_report
from certdicom.dicom.segmentation import build_segmentation, save
from certdicom.dicom.source import PixelSpacing
from certdicom.imaging.grid import to_film


@pytest.fixture
def certificate(make_certificate):
    return make_certificate(parameters=SmoothingParameters(k=5))


def test_the_segmentation_says_how_many_may_be_wrong(make_film, make_decisions, certificate):
    segmentation = build_segmentation(make_film(), make_decisions("overlapping"), certificate, file_sha256="ef" * 32, draw_identity="cd")
    description = segmentation.SegmentSequence[0].SegmentDescription
    assert "but for up to 4 wrong decisions on the model grid (k-FWER, k = 5), keeps its label" in description
    assert len(description) <= 1024
    parameters = json.loads(segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    assert parameters["k"] == 5
    assert "up to 4 wrong certificates are allowed" in parameters["family"]


def test_the_report_says_so_and_leaves_the_widths_out(make_film, make_decisions, certificate, make_certificate, dciodvfy, faults, tmp_path):
    film, decisions = make_film(), make_decisions("overlapping")

    def text(some) -> str:
        segmentation = build_segmentation(film, decisions, some, file_sha256="ef" * 32, draw_identity="cd")
        report = build_measurement_report(film, segmentation, decisions, some)
        assert faults(dciodvfy(save(report, tmp_path / f"{some.parameters.k}.dcm"), recognised="Comprehensive3DSR")) == []
        return " ".join(str(element.value) for element in report.iterall())

    strict, loose = text(make_certificate()), text(certificate)
    assert "up to 4 wrong decisions" in loose
    assert "Cardiothoracic ratio" not in loose
    assert "Cardiothoracic ratio" in strict
    assert "wrong decision" not in strict


@pytest.mark.parametrize(("rows", "columns"), [(61, 83), (16, 40)])
def test_areas_hold_though_decisions_of_the_grid_are_wrong(certificate, rows, columns):
    """Turn any four decisions on the 16 × 16 grid round: the film's area stays within the widened bounds."""
    random = np.random.default_rng(0)
    wrong = pixels_allowed_wrong(certificate, rows=rows, columns=columns)
    reached = 0
    for _ in range(100):
        grid = random.choice(np.array([0, 1, ABSTAIN], np.uint8), (16, 16))
        bounds = structure_area(to_film(grid, rows=rows, columns=columns), PixelSpacing("1", "1", None), wrong=wrong)
        truth = np.where(grid == ABSTAIN, random.random(grid.shape) < random.choice([0, 1]), grid == PRESENT)
        flipped = random.choice(truth.size, 4, replace=False)
        truth.ravel()[flipped] = random.choice([True, False])
        area = to_film(truth, rows=rows, columns=columns).sum()
        assert bounds.lower <= area <= bounds.upper
        narrow = structure_area(to_film(grid, rows=rows, columns=columns), PixelSpacing("1", "1", None))
        reached += not narrow.lower <= area <= narrow.upper
    assert reached > 0, "bounds that allow no error must break"


def test_radii_rest_on_the_draws_counted_at_the_level_of_one_look(make_certificate):
    """Four looks, stopped at the second: the bounds are Clopper-Pearson at alpha / (K · 4) of 100 draws."""
    parameters = SmoothingParameters(n=1000, looks=(90, 100, 300, 1000), alpha=0.04)
    plain = SmoothingParameters(n=100, alpha=0.01)
    stopped = make_certificate(parameters=parameters, stopped_at=100)
    alone = make_certificate(parameters=plain)
    assert np.array_equal(joint_radii(stopped), joint_radii(alone))
    assert largest_radius(stopped) == pytest.approx(largest_radius(alone))
    assert float(joint_radii(stopped).max()) <= largest_radius(stopped)
