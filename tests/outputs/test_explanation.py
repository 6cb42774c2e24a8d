"""Why a result abstains, drawn and counted."""

from __future__ import annotations

import numpy as np
import pytest

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.certification.explanation import TOO_FEW_DRAWS, UNSETTLED, UNSTABLE, explain_certificate
from certdicom.errors import UsageError
from certdicom.outputs import palette
from certdicom.outputs.explanation import summarize
from certdicom.outputs.explanation_picture import MEANINGS, draw_reason, render_explanation
from certdicom.outputs.report_json import build_report


@pytest.fixture
def explained(make_certificate):
    """A certificate on 16 × 16, in which the lungs abstain for every reason and the heart for none."""
    counts = np.full((3, 16, 16), 100, np.int32)
    counts[0, 0], counts[0, 1, :4], counts[0, 2, :2], counts[2, 5, 5] = 85, 90, 10, 70
    decisions = np.where(counts == 100, PRESENT, ABSTAIN).astype(np.uint8)
    certificate = make_certificate(counts=counts, decisions=decisions)
    explanation = explain_certificate(certificate)
    reasons = explanation.reasons.repeat(10, axis=1).repeat(8, axis=2)
    return certificate, reasons, summarize(explanation, reasons, certificate)


def test_the_three_reasons_add_up_to_the_abstained_pixels_of_the_film(explained):
    certificate, _, summary = explained
    abstained = (certificate.decisions == ABSTAIN).sum(axis=(1, 2)) * 80
    assert [entry.too_few_draws_px + entry.unsettled_px + entry.unstable_px for entry in summary] == abstained.tolist()
    lungs, heart, clavicles = summary
    assert (lungs.too_few_draws_px, lungs.unsettled_px, lungs.unstable_px) == (20 * 80, 0, 2 * 80)
    assert lungs.draws_for_half == lungs.draws_for_all > 100  # most have 85 votes
    assert (heart.draws_for_half, heart.draws_for_all) == (None, None)
    assert (clavicles.unsettled_px, clavicles.draws_for_half) == (80, None)


def test_every_reason_has_a_colour_and_a_pattern_of_its_own():
    drawn = {}
    for reason in MEANINGS:
        canvas = np.full((40, 40, 3), 128, np.uint8)
        mask = np.zeros((40, 40), bool)
        mask[5:35, 5:35] = True
        draw_reason(canvas, mask, reason)
        drawn[reason] = canvas[8:32, 8:32].reshape(-1, 3)
        assert (canvas[:3] == 128).all()
    assert len(np.unique(drawn[TOO_FEW_DRAWS], axis=0)) == 1  # plain
    assert len(np.unique(drawn[UNSETTLED], axis=0)) > 1
    assert len(np.unique(drawn[UNSTABLE], axis=0)) > 1
    shares = {reason: pixels.astype(float).mean(axis=0) for reason, pixels in drawn.items()}
    assert shares[TOO_FEW_DRAWS].argmax() == 2  # blue
    assert shares[UNSETTLED].argmin() == 2  # yellow
    assert shares[UNSTABLE][0] > 1.5 * shares[UNSTABLE][1]  # red


def test_the_picture_shows_one_film_for_each_structure_and_where_its_reasons_lie(explained):
    certificate, reasons, summary = explained
    decisions = certificate.decisions.repeat(10, axis=1).repeat(8, axis=2)
    pixels = np.asarray(render_explanation(np.full((160, 128), 0.5, np.float32), decisions, reasons, certificate, summary)).astype(int)
    blue = np.abs(pixels - (0.75 * np.asarray(palette.SKY_BLUE) + 0.25 * 128)).max(axis=2) < 4
    films = [blue[52:1052, number * 812 : number * 812 + 800] for number in range(3)]
    assert films[0][20, 300]  # the first row of the lungs' film
    assert not films[0][300:].any()
    assert not films[1].any()
    assert not films[2].any()


def test_what_does_not_fit_together_is_refused(explained):
    certificate, reasons, summary = explained
    with pytest.raises(UsageError, match="shape"):
        render_explanation(np.zeros((16, 16), np.float32), certificate.decisions, reasons, certificate, summary)


def test_the_report_has_the_section_only_when_it_is_given(explained):
    certificate, _, summary = explained
    identity = {"sop_instance_uid": "1.2.3", "file_sha256": "ab", "seconds": {}}
    assert "explanation" not in build_report(certificate, certificate.decisions, **identity)
    section = build_report(certificate, certificate.decisions, explanation=summary, **identity)["explanation"]
    assert section[0] == {
        "label": "lungs",
        "too_few_draws_px": 1600,
        "unsettled_px": 0,
        "unstable_px": 160,
        "draws_for_half": summary[0].draws_for_half,
        "draws_for_all": summary[0].draws_for_all,
    }
