"""Where only a union is certified, the picture outlines it and the report counts it."""

from __future__ import annotations

import numpy as np

from certdicom.certification.certificate import ABSTAIN, PRESENT, UnionLayer
from certdicom.certification.parameters import SmoothingParameters
from certdicom.outputs import palette
from certdicom.outputs.preview import LONG_SIDE, render_preview
from certdicom.outputs.report_json import build_report


def with_union(make_certificate):
    """A film of 160 × 160 on whose left half lungs and heart abstain, and in the middle of it their union does not."""
    decisions, union = np.zeros((3, 160, 160), np.uint8), np.zeros((1, 160, 160), np.uint8)
    decisions[:2, :, :80] = ABSTAIN
    decisions[0, 100:, :] = union[0, 100:, :] = PRESENT
    union[0, :100, :80] = ABSTAIN
    union[0, 20:60, 20:60] = PRESENT
    layer = UnionLayer(((0, 1),), union[:, ::10, ::10], np.full((1, 16, 16), 100, np.int32))
    return decisions, union, make_certificate(unions=layer, parameters=SmoothingParameters(unions=((0, 1),)))


def test_the_picture_outlines_and_names_what_only_the_union_certifies(make_certificate):
    decisions, union, certificate = with_union(make_certificate)
    film = np.full((160, 160), 0.5, np.float32)
    outlined = np.asarray(render_preview(film, decisions, certificate, unions=union))
    plain = np.asarray(render_preview(film, decisions, make_certificate()))
    purple = (outlined[:, :LONG_SIDE] == palette.UNION_RGB[0]).all(axis=2)
    rows, columns = np.nonzero(purple)
    scale = LONG_SIDE / 160
    top = (outlined.shape[0] - LONG_SIDE) // 2
    assert not (plain == palette.UNION_RGB[0]).all(axis=2).any()
    assert (rows.min() - top, columns.min()) == (20 * scale, 20 * scale)
    assert (rows.max() - top, columns.max()) == (60 * scale - 1, 60 * scale - 1)
    assert (outlined[:, LONG_SIDE:] == palette.UNION_RGB[0]).all(axis=2).any(), "its colour is in the legend"


def test_the_report_counts_it(make_certificate):
    decisions, union, certificate = with_union(make_certificate)
    report = build_report(certificate, decisions, unions=union, sop_instance_uid="1.2", file_sha256="ab", seconds={"total": 1})
    assert report["unions"] == [
        {
            "label": "lungs or heart",
            "certified_present_px": 60 * 160 + 40 * 40,
            "certified_absent_px": 100 * 80,
            "abstain_px": 100 * 80 - 40 * 40,
            "fallback_px": 40 * 40,
        }
    ]
    assert report["hypotheses"] == 4 * 16 * 16
    assert certificate.family == "Holm-Bonferroni over all structures, unions and pixels of the image"
    assert report["parameters"]["family"] == certificate.family
