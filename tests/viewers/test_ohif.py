"""OHIF shows what was certified: names, colours and places, from the page and from its pixels.

Slow: a browser is started. `scripts/fetch_ohif` and Debian's orthanc, orthanc-dicomweb and chromium are needed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.demo.films import demo_films
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film
from certdicom.outputs import radius_map, secondary_capture, seg, sr
from tests.saving import save
from tests.viewers.ohif import film_is_seen

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

ROWS, COLUMNS = 400, 320
COLOURS = {"lungs": "rgb(86, 180, 233)", "heart": "rgb(213, 94, 0)", "clavicles": "rgb(0, 158, 115)", "Abstain": "rgb(240, 228, 66)"}
IDENTITY = {"file_sha256": "ef" * 32, "draw_identity": "cd" * 32}


def asymmetric() -> np.ndarray:
    """Blocks that no mirroring, transposing or shifting brings onto themselves; lungs and heart overlap."""
    decisions = np.zeros((3, ROWS, COLUMNS), np.uint8)
    decisions[0, 40:240, 30:110] = PRESENT
    decisions[1, 180:300, 80:200] = PRESENT
    decisions[2, 30:60, 220:300] = PRESENT
    decisions[0, 250:290, 30:70] = ABSTAIN
    decisions[2, 340:380, 240:310] = ABSTAIN
    return decisions


@dataclass(frozen=True)
class Study:
    """What lies in the archive; `enlarged`: pixels of the film for one of `decisions`, a side."""

    film: Dataset
    study_instance_uid: str
    files: dict[str, Path]
    enlarged: int

    def on_film(self, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Places (row, column) of the decisions as the film's pixels (column, row)."""
        return [(column * self.enlarged, row * self.enlarged) for row, column in places]


@pytest.fixture
def make_study(make_certificate, tmp_path):
    """A film with its own study, and all that is written of it."""

    def make(decisions: np.ndarray, *, encoding: str = "explicit-little", enlarged: int = 1, **options) -> Study:
        decisions = decisions.repeat(enlarged, axis=1).repeat(enlarged, axis=2)
        film, _ = synthetic_film(rows=decisions.shape[1], columns=decisions.shape[2], **options)
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
            setattr(film, keyword, generate_uid())
        film.file_meta.MediaStorageSOPInstanceUID = film.SOPInstanceUID
        film_file = tmp_path / "film.dcm"
        film_file.write_bytes(film_bytes(compress(film, encoding)))
        certificate = make_certificate()
        segmentation = seg.build_segmentation(film, decisions, certificate, **IDENTITY)
        picture = np.zeros((60, 80, 3), np.uint8)
        picture[10:30, 10:60] = (213, 94, 0)
        radii = np.where((decisions == ABSTAIN).any(axis=0), 0, 0.2).astype(np.float32)
        objects = {
            "seg": segmentation,
            "sr": sr.build_measurement_report(film, segmentation, decisions, certificate),
            "sc": secondary_capture.build_secondary_capture(film, picture, certificate, **IDENTITY),
            "map": radius_map.build_radius_map(film, radii, certificate, **IDENTITY),
        }
        files = {"film": film_file, **{name: save(item, tmp_path / f"{name}.dcm") for name, item in objects.items()}}
        return Study(film, str(film.StudyInstanceUID), files, enlarged)

    return make


def tinted(colour: np.ndarray) -> bool:
    """Whether a pixel of the window has a colour; the film itself is gray."""
    return bool(np.ptp(colour) > 20)


def yellow(colour: np.ndarray) -> bool:
    """Whether it is abstention's colour over a gray film."""
    return bool(colour[:2].min() > colour[2] + 20)


FILMS = {
    "DX": {"modality": "DX"},
    "DX larger than a texture": {"modality": "DX", "enlarged": 6},
    "DX in JPEG-LS, no spacing": {"modality": "DX", "encoding": "jpeg-ls", "spacing": None},
    "CR MONOCHROME1": {"modality": "CR", "photometric": "MONOCHROME1", "spacing": (0.2, 0.1)},
    "CR MONOCHROME1 in JPEG-LS, no spacing": {"modality": "CR", "photometric": "MONOCHROME1", "encoding": "jpeg-ls", "spacing": None},
}


@pytest.mark.parametrize("name", FILMS)
def test_a_segmentation_shows_its_names_its_colours_and_its_places(page, stored, make_study, tmp_path, name):
    decisions = asymmetric()
    study = make_study(decisions, **FILMS[name])
    stored(study.files["film"], study.files["seg"])
    page.open_study(study.study_instance_uid)
    page.load_segmentation("Certified SEG")
    assert page.listed_segments() == COLOURS
    drawn = decisions.astype(bool).any(axis=0)
    inner = [(row, column) for row in range(20, ROWS, 40) for column in range(15, COLUMNS, 30) if uniform(drawn, row, column)]
    time.sleep(3)  # the overlay's texture follows the list
    seen = page.colours(study.on_film(inner), picture=tmp_path / "ohif.png")
    wrong = [place for place, colour in zip(inner, seen, strict=True) if tinted(colour) != drawn[place]]
    assert not wrong
    for place, strongest in (((140, 50), 2), ((45, 260), 1)):  # lungs are blue, clavicles green
        colour = seen_at(page, study, place, tmp_path)
        assert colour.argmax() == strongest
    assert yellow(seen_at(page, study, (360, 275), tmp_path))
    assert page.browser.complaints() == []


def uniform(drawn: np.ndarray, row: int, column: int) -> bool:
    """Whether a place is far enough from every edge of the masks that an outline of some pixels does not reach it."""
    patch = drawn[max(0, row - 8) : row + 9, max(0, column - 8) : column + 9]
    return bool(patch.all() or not patch.any())


def seen_at(page, study, place, tmp_path) -> np.ndarray:
    return page.colours(study.on_film([place]), picture=tmp_path / "place.png")[0]


@pytest.mark.parametrize("value", [ABSTAIN, PRESENT])
def test_segmentations_that_are_all_or_nothing_open_with_every_segment_listed(page, stored, make_study, tmp_path, value):
    study = make_study(np.full((3, ROWS, COLUMNS), value, np.uint8))
    stored(study.files["film"], study.files["seg"])
    page.open_study(study.study_instance_uid)
    page.load_segmentation("Certified SEG")
    assert page.listed_segments() == COLOURS
    time.sleep(3)
    for place in ((20, 20), (200, 160), (380, 300)):
        colour = seen_at(page, study, place, tmp_path)
        assert tinted(colour)
        assert yellow(colour) == (value == ABSTAIN)
    assert page.browser.complaints() == []


@pytest.mark.parametrize("decisions", [asymmetric(), np.zeros((3, ROWS, COLUMNS), np.uint8)], ids=["some", "nothing"])
def test_the_report_opens_on_its_film_with_every_group(page, stored, make_study, tmp_path, decisions):
    study = make_study(decisions)
    stored(study.files["film"], study.files["seg"], study.files["sr"])
    page.open_study(study.study_instance_uid)
    page.open_series("Certified SR")
    shown = page.measurements()
    groups = ["Cardiothoracic ratio", "Widths"] if decisions.any() else []
    assert list(shown) == [*groups, "Whole film", "lungs", "heart", "clavicles", "Abstain"]
    if decisions.any():
        assert shown["Cardiothoracic ratio"][0] == "Cardiothoracic ratio at least: 1.50 {ratio}"
        assert [line.split(":")[0] for line in shown["lungs"]] == ["Lungs area at least", "Lungs area at most"]
        assert len({line.split(":")[0] for line in shown["Widths"]}) == 4
    else:
        assert shown["lungs"][0].startswith("Lungs area at least 0")
    time.sleep(5)
    assert not page.asks("No"), "whether to continue tracking"
    picture = page.browser.picture(tmp_path / "ohif.png")
    assert picture[100:800, 300:1400].max() > 100  # the film, not a black viewport
    assert page.browser.complaints() == []


def test_every_film_of_the_demonstration_is_seen_and_one_with_a_spacing_of_zero_is_not(page, stored, tmp_path):
    films = demo_films(tmp_path)
    zero, _ = synthetic_film(rows=ROWS, columns=COLUMNS)
    zero.PixelSpacing = [0, 0]
    zero.StudyInstanceUID = generate_uid()
    (tmp_path / "zero.dcm").write_bytes(film_bytes(zero))
    stored(*(film.path for film in films), tmp_path / "zero.dcm")
    for study in [film.study_instance_uid for film in films]:
        page.open_study(study)
        time.sleep(3)
        assert film_is_seen(page.viewport_pixels(tmp_path / "ohif.png"))
    page.open_study(str(zero.StudyInstanceUID))
    time.sleep(3)
    assert not film_is_seen(page.viewport_pixels(tmp_path / "ohif.png"))


def test_the_capture_opens_in_its_colours(page, stored, make_study, tmp_path):
    study = make_study(asymmetric())
    stored(study.files["film"], study.files["sc"])
    page.open_study(study.study_instance_uid)
    page.open_series("Overlay")
    time.sleep(5)
    picture = page.browser.picture(tmp_path / "ohif.png").astype(int)
    assert (np.abs(picture - (213, 94, 0)).max(axis=2) < 8).sum() > 10_000
    assert page.browser.complaints() == []


def test_the_radius_map_opens_over_its_film(page, stored, make_study, tmp_path):
    decisions = asymmetric()
    study = make_study(decisions)
    stored(study.files["film"], study.files["map"])
    for _ in range(4):  # OHIF at times leaves the map unpainted on a busy machine; opening it again helps, as it helps a person
        page.open_study(study.study_instance_uid)
        time.sleep(3)
        page.open_series("Radius map")
        time.sleep(12)
        sure, unsure = page.colours(study.on_film([(200, 160), (360, 275)]), picture=tmp_path / "ohif.png")
        if tinted(sure):
            break
    assert tinted(sure)
    assert not tinted(unsure)
    assert page.browser.complaints() == []
