"""One claim, in the same words wherever it is made: under which window, what must be the same, and what can still happen."""

from __future__ import annotations

import json
import re
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate, Window
from certdicom.imaging.reading import image_of
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.outputs import statements
from certdicom.outputs.result import Result

ROOT = Path(__file__).resolve().parents[2]
WINDOWS = {
    "header": (Window(204.5, 3888.5, "WindowCenter/WindowWidth (LINEAR)"), "shown by the same window, 204.5 to 3888.5 (WindowCenter/Wi"),
    "given": (Window(0.0, 4095.0, "given with the request"), "shown by the same window, 0 to 4095 (given with the request)"),
    "displayed": (Window(120.0, 3000.0, "displayed, with a mean of 0.53", displayed=True), "its displayed window found anew"),
}


@pytest.fixture(params=[False, True], ids=["", "padding"])
def padded(request) -> bool:
    return request.param


@pytest.fixture(params=WINDOWS)
def certificate(request, padded, make_certificate) -> Certificate:
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, 4:12, 3:7], decisions[1, 8, 8:12] = PRESENT, ABSTAIN
    return make_certificate(decisions=decisions, window=WINDOWS[request.param][0], padding_declared=padded, native_radius=211.75)


@pytest.fixture
def result(certificate) -> Result:
    return Result(image_of(film_bytes(synthetic_film(rows=96, columns=80)[0]), accept_any=False), certificate)


def texts_of(dataset: Dataset) -> list[str]:
    """All text in an object, however deep."""
    return [str(element.value) for element in dataset.iterall() if element.VR in ("LT", "ST", "UT", "LO", "UC")]


def test_the_terms_name_the_window_and_padding_where_it_is_declared(certificate, padded) -> None:
    said = statements.terms(certificate)
    assert any(window == certificate.window and said.startswith(words) for window, words in WINDOWS.values())
    assert said.endswith("with the same pixels declared as padding") == padded


@pytest.mark.parametrize("kind", ["seg", "sr", "sc", "radius_map", "gsps"])
def test_dicom_objects_make_the_claim_on_its_terms(result, certificate, kind: str) -> None:
    texts = texts_of(dcmread(BytesIO(result.encode(kind))))
    claims = [text for text in texts if "under any change of the film" in text]
    assert claims
    for text in claims:
        assert statements.terms(certificate) in text
        assert "majority decision" in text
    whole = " ".join(texts)
    assert statements.what_can_happen(certificate) in whole
    assert "99.9 % confidence" in whole
    assert statements.STABILITY in whole
    assert statements.RESEARCH_USE in whole


def test_seg_sr_capture_and_presentation_state_state_both_radii_rounded_down(result) -> None:
    for kind in ("seg", "sr", "sc", "gsps"):
        claims = [text for text in texts_of(dcmread(BytesIO(result.encode(kind)))) if "under any change of the film" in text]
        assert all("L2 norm R = 0.1686 on the model grid (= 211.7 stored values)" in text for text in claims)


def test_pictures_and_report_make_the_same_claim(result, certificate) -> None:
    with Image.open(BytesIO(result.encode("preview"))) as picture:
        assert picture.info["Description"] == statements.claim(certificate, subject=statements.UNHATCHED)
    report = json.loads(result.encode("report"))
    assert report["claim"] == statements.claim(certificate, subject="Every pixel that does not abstain")
    seg = dcmread(BytesIO(result.encode("seg")))
    said = json.loads(seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters)
    assert said["terms"] == statements.terms(certificate)


def test_nothing_says_that_an_answer_cannot_be_lost() -> None:
    """A changed film may make the result abstain: sentences that promise the same label, or the same answer, are false."""
    false = re.compile(
        r"make it say anything else|changes the model's answer|same answer for every|keeps its label under any change of the film up to a"
    )
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "certdicom").rglob("*.py"))]
    assert [page.name for page in pages if false.search(page.read_text(encoding="utf-8"))] == []


def test_the_page_on_the_certificate_shows_the_claim_as_it_is_made(make_certificate) -> None:
    page = (ROOT / "docs" / "certificate.md").read_text(encoding="utf-8")
    for name, (window, _) in WINDOWS.items():
        if name == "given":
            continue
        made = make_certificate(window=window, native_radius=621.3, padding_declared=name == "header")
        assert "> " + statements.claim(made, subject=statements.OUTSIDE) in page, name
