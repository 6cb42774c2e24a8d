"""The presentation state: valid for every kind of film, showing it as its own header does, and drawing what was decided."""

from __future__ import annotations

import copy
import subprocess
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Structure
from certdicom.errors import OutputError, UsageError
from certdicom.imaging.reading import image_of, read_image
from certdicom.imaging.synthetic import film_bytes
from certdicom.outputs import output_named, statements
from certdicom.outputs.gsps import build_presentation_state
from certdicom.outputs.result import Result
from certdicom.outputs.writing import write_outputs
from tests.saving import save

ROWS, COLUMNS = 128, 112


def table(first: int, entries: np.ndarray, bits: int, **changes) -> Dataset:
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 65536, first, bits])
    item.add_new("LUTData", "OW", entries.astype("<u2").tobytes())
    for keyword, value in changes.items():
        setattr(item, keyword, value)
    return item


CURVE = (4095 * np.linspace(0, 1, 4096) ** 0.7).astype(np.uint16)
FILMS = {
    "DX": ("DX", {}),
    "capture": ("SC", {"BodyPartExamined": None, "PatientOrientation": None}),
    "MONOCHROME1": ("CR", {"PhotometricInterpretation": "MONOCHROME1"}),
    "MONOCHROME1, INVERSE": ("DX", {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"}),
    "own plane": (
        "DX",
        {"FrameOfReferenceUID": "2.25.9", "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [-90, 0, 120],
         "PixelSpacing": ["0.2", "0.2"], "ShutterShape": "POLYGONAL", "VerticesOfThePolygonalShutter": ["5", "5", "5", "100", "120", "60"]},
    ),
    "several windows": (
        "CR",
        {"WindowCenter": ["1800", "1200"], "WindowWidth": ["3000", "800"], "ImagerPixelSpacing": None, "PixelSpacing": ["0.000", "0.000"]},
    ),
    "no window": ("DX", {"WindowCenter": None, "WindowWidth": None}),
    "a useless window": ("DX", {"WindowCenter": "30000", "WindowWidth": "10"}),
    "LINEAR_EXACT": ("DX", {"WindowCenter": "1900.5", "WindowWidth": "2800", "VOILUTFunction": "LINEAR_EXACT"}),
    "SIGMOID": ("DX", {"WindowCenter": "1900", "WindowWidth": "2800", "VOILUTFunction": "SIGMOID"}),
    "rescaled": ("CR", {"RescaleSlope": "2", "RescaleIntercept": "-1000", "WindowCenter": "2800", "WindowWidth": "6000"}),
    "falling slope, no window": ("CR", {"RescaleSlope": "-1", "RescaleIntercept": "4095", "WindowCenter": None, "WindowWidth": None}),
    "Modality LUT": (
        "CR",
        {"ModalityLUTSequence": [table(0, 16 * CURVE, 16, ModalityLUTType="US")], "WindowCenter": "28000", "WindowWidth": "50000"},
    ),
    "VOI LUT of signed values": (
        "CR",
        {"RescaleSlope": "1", "RescaleIntercept": "-2048", "RescaleType": "US", "WindowCenter": None, "WindowWidth": None,
         "VOILUTSequence": [table(-2048, CURVE, 12)]},
    ),
    "65536 entries": (
        "DX",
        {"WindowCenter": None, "WindowWidth": None, "VOILUTSequence": [table(0, np.minimum(16 * np.arange(65536), 65535), 16)]},
    ),
    "rectangular shutter": (
        "DX",
        {"ShutterShape": "RECTANGULAR", "ShutterLeftVerticalEdge": "11", "ShutterRightVerticalEdge": "100",
         "ShutterUpperHorizontalEdge": "9", "ShutterLowerHorizontalEdge": "120"},
    ),
    "MONOCHROME1 behind a circle": (
        "CR",
        {"PhotometricInterpretation": "MONOCHROME1", "ShutterShape": "CIRCULAR", "CenterOfCircularShutter": ["64", "56"],
         "RadiusOfCircularShutter": "50"},
    ),
    "unequal spacing": (
        "DX", {"ImagerPixelSpacing": ["0.2", "0.1"], "SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^Xiao=王^小"}
    ),
}  # fmt: skip


@pytest.fixture
def decisions() -> np.ndarray:
    """Blocks that no mirroring or shift brings onto themselves; lungs and heart overlap, the clavicles have a hole and touch the edge."""
    made = np.zeros((3, 16, 14), np.uint8)
    made[0, 2:9, 1:5], made[1, 7:12, 3:9], made[2, 0:4, 9:14], made[2, 1, 11] = PRESENT, PRESENT, PRESENT, ABSENT
    made[0, 9, 1:5], made[1, 12, 3:8], made[2, 4, 10:13] = ABSTAIN, ABSTAIN, ABSTAIN
    return made


@pytest.fixture
def make(make_film, make_certificate, decisions, tmp_path):
    """The result of a film of that name in FILMS, and the paths of film and state."""

    def make(name: str = "DX", **options):
        kind, changes = FILMS[name]
        film = make_film(kind, rows=ROWS, columns=COLUMNS, **copy.deepcopy(changes))
        path = tmp_path / "film.dcm"
        path.write_bytes(film_bytes(film))
        result = Result(read_image(path, accept_any=True), make_certificate(decisions=decisions), **options)
        return result, path, result.save(tmp_path / "state.gsps.dcm", force=True)

    return make


@pytest.fixture
def shown(program, tmp_path):
    """What dcmtk's viewer makes of a film, by its own header or by a state: (rows, columns) from 0 to 255, without shutter and graphics."""

    def show(film: Path, state: Path | None = None) -> np.ndarray:
        picture = tmp_path / "shown.pgm"
        chosen = [] if state is None else ["-p", str(state)]
        subprocess.run([program("dcmp2pgm"), *chosen, str(film), str(picture)], check=True, capture_output=True, timeout=60)
        with Image.open(picture) as opened:
            return np.asarray(opened).astype(int)

    return show


@pytest.mark.parametrize("name", [name for name in FILMS if name not in ("DX", "MONOCHROME1")])
def test_it_is_valid_and_shows_the_film_as_its_own_header_does(make, dciodvfy, faults, shown, name):
    result, film, state = make(name)
    assert faults(dciodvfy(state, recognised="GrayscaleSoftcopyPresentationState")) == []
    by_state = shown(film, state)
    if result.image.rendering is result.image.presentation.fixed:
        np.testing.assert_array_equal(by_state, shown(film))
    if name != "SIGMOID":  # dcmtk takes it for a straight line
        hidden = result.image.presentation.levels.hidden
        visible = np.ones(by_state.shape, bool) if hidden is None else ~hidden
        assert np.abs(by_state - 255 * result.image.display())[visible].max() <= 1.5


def test_the_default_polarity_would_be_a_negative(make, shown):
    """So that the comparison above says something of MONOCHROME1."""
    _, film, state = make("MONOCHROME1")
    dataset = pydicom.dcmread(state)
    dataset.PresentationLUTShape = "IDENTITY"
    np.testing.assert_allclose(shown(film, save(dataset, state.with_name("other.dcm"))), 255 - shown(film), atol=1)


def polylines(state: Dataset, layer: str) -> list[np.ndarray]:
    """(points, 2) of columns and rows of each polyline in a layer."""
    found = []
    for annotation in state.GraphicAnnotationSequence:
        for item in annotation.get("GraphicObjectSequence", []) if annotation.GraphicLayer == layer else []:
            assert (item.GraphicType, item.GraphicAnnotationUnits, item.GraphicFilled) == ("POLYLINE", "PIXEL", "N")
            assert item["GraphicData"].VR == "FL"
            points = np.reshape(item.GraphicData, (-1, 2))
            assert len(points) == item.NumberOfGraphicPoints <= 8191
            np.testing.assert_array_equal(points, points.round())
            found.append(points.astype(int))
    return found


def enclosed(lines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels that outlines enclose: those with an odd number of their upright edges to the left."""
    edges = np.zeros((shape[0], shape[1] + 1), int)
    for line in lines:
        for (column, row), (other, below) in pairwise(line.tolist()):
            assert (column == other) != (row == below)
            if column == other:
                edges[min(row, below) : max(row, below), column] += 1
    assert edges.max(initial=0) <= 1
    return np.cumsum(edges, axis=1)[:, :-1] % 2 == 1


def crossed(lines: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """The pixels that hatching crosses from corner to corner."""
    found = np.zeros(shape, bool)
    for (column, row), (end, above) in lines:
        assert end - column == row - above > 0
        steps = np.arange(end - column)
        found[row - 1 - steps, column + steps] = True
    return found


def test_outlines_are_the_edges_of_what_is_certified_and_hatching_lies_in_what_abstains(make):
    result, _, path = make(abstain="per-structure")
    state = pydicom.dcmread(path)
    for number, label in enumerate(result.structures):
        lines = polylines(state, label.upper())
        assert all((line[0] == line[-1]).all() for line in lines)
        np.testing.assert_array_equal(enclosed(lines, result.decisions.shape[1:]), result.mask(label))
        hatched = crossed(polylines(state, f"ABSTAIN {label.upper()}"[:16]), result.decisions.shape[1:])
        assert hatched.any()
        assert not hatched[result.decisions[number] != ABSTAIN].any()
    hatched = crossed(polylines(state, "ABSTAIN"), result.decisions.shape[1:])
    assert not hatched[~result.abstained].any()
    height, width = ROWS // 16, COLUMNS // 14
    for row, column in np.argwhere((result.certificate.decisions == ABSTAIN).any(axis=0)):
        assert hatched[row * height : (row + 1) * height, column * width : (column + 1) * width].any(), "a cell that abstains is not seen"


def test_every_layer_says_what_it_is_in_its_colour_and_in_a_gray(make):
    _, _, path = make(abstain="per-structure")
    layers = sorted(pydicom.dcmread(path).GraphicLayerSequence, key=lambda layer: layer.GraphicLayerOrder)
    assert [layer.GraphicLayer for layer in layers] == [
        *("CASING", "ABSTAIN LUNGS", "ABSTAIN HEART", "ABSTAIN CLAVICLES"[:16], "ABSTAIN", "LUNGS", "HEART", "CLAVICLES"),
        *("NAME LUNGS", "NAME HEART", "NAME CLAVICLES", "CERTIFICATE"),
    ]
    assert layers[4].GraphicLayerDescription == "Abstain: hatched, not certified"
    assert layers[6].GraphicLayerDescription == "heart: certified outline"
    colours = {layer.GraphicLayer: tuple(layer.GraphicLayerRecommendedDisplayCIELabValue) for layer in layers}
    assert colours["HEART"] == colours["NAME HEART"]
    assert len({colours[name] for name in ("LUNGS", "HEART", "CLAVICLES", "ABSTAIN", "CASING")}) == 5
    assert {layer.GraphicLayerRecommendedDisplayGrayscaleValue for layer in layers} == {0, 65535}


def texts(state: Dataset) -> dict[str, list[Dataset]]:
    return {item.GraphicLayer: list(item.TextObjectSequence) for item in state.GraphicAnnotationSequence if "TextObjectSequence" in item}


def test_the_certificate_is_one_text_in_short_lines(make):
    _, _, path = make()
    (text,) = texts(pydicom.dcmread(path))["CERTIFICATE"]
    lines = text.UnformattedTextValue.split("\r\n")
    assert len(lines) <= 5
    assert max(map(len, lines)) <= 80
    said = " ".join(lines)
    for words in ("99.9 % confidence", "R = 0.1686", "Hatched: no answer", statements.STABILITY, statements.RESEARCH_USE):
        assert words in said
    assert text.BoundingBoxAnnotationUnits == "DISPLAY"
    assert 0 <= min(text.BoundingBoxTopLeftHandCorner) < max(text.BoundingBoxBottomRightHandCorner) <= 1


@pytest.mark.parametrize(("background", "gray"), [(200, 65535), (3600, 0)])
def test_text_is_white_on_black_and_black_on_white(make_film, make_certificate, decisions, background, gray):
    film = make_film(rows=ROWS, columns=COLUMNS, WindowCenter="2048", WindowWidth="4096")
    stored = np.full((ROWS, COLUMNS), background, "<u2")
    stored[::2] += 250
    film.PixelData = stored.tobytes()
    image = image_of(film_bytes(film), accept_any=True)
    state = pydicom.dcmread(BytesIO(Result(image, make_certificate(decisions=decisions)).encode("gsps")))
    inks = {layer.GraphicLayer: layer.GraphicLayerRecommendedDisplayGrayscaleValue for layer in state.GraphicLayerSequence}
    assert inks["CERTIFICATE"] == inks["NAME LUNGS"] == gray
    assert inks["LUNGS"] == 65535
    assert inks["CASING"] == 0


def test_names_stand_in_what_they_name(make):
    result, _, path = make()
    for label in result.structures:
        for text in texts(pydicom.dcmread(path))[f"NAME {label.upper()}"]:
            assert text.UnformattedTextValue == label
            corners = np.array([text.BoundingBoxTopLeftHandCorner, text.BoundingBoxBottomRightHandCorner])
            column, row = corners.mean(axis=0).astype(int)
            assert result.mask(label)[row, column]


def test_an_outline_of_more_points_than_an_element_holds_is_drawn_in_pieces(make_film, make_certificate, shown, tmp_path):
    rows, columns = 160, 128
    film = make_film(rows=rows, columns=columns)
    (tmp_path / "film.dcm").write_bytes(film_bytes(film))
    comb = np.zeros((rows, columns), bool)
    comb[0::4], comb[1::4, ::2], comb[:, 0] = True, True, True
    decisions = np.where(comb, PRESENT, ABSENT).astype(np.uint8)[np.newaxis].repeat(3, axis=0)
    image = read_image(tmp_path / "film.dcm", accept_any=True)
    state = build_presentation_state(image, decisions, make_certificate(), draw_identity="cd" * 32)
    path = save(state, tmp_path / "state.dcm")
    lines = polylines(pydicom.dcmread(path), "HEART")
    assert sum(map(len, lines)) > 8191
    assert any((line[0] != line[-1]).any() for line in lines)
    np.testing.assert_array_equal(enclosed(lines, comb.shape), comb)
    np.testing.assert_array_equal(shown(tmp_path / "film.dcm", path), shown(tmp_path / "film.dcm"))


@pytest.mark.parametrize("value", [ABSENT, PRESENT, ABSTAIN])
def test_all_or_nothing_is_a_valid_state_with_every_layer(make_film, make_certificate, dciodvfy, faults, tmp_path, value):
    image = image_of(film_bytes(make_film(rows=ROWS, columns=COLUMNS)), accept_any=True)
    result = Result(image, make_certificate(decisions=np.full((3, 16, 14), value, np.uint8)))
    path = result.save(tmp_path / "state.gsps.dcm")
    assert faults(dciodvfy(path, recognised="GrayscaleSoftcopyPresentationState")) == []
    names = {layer.GraphicLayer for layer in pydicom.dcmread(path).GraphicLayerSequence}
    assert {"ABSTAIN", "LUNGS", "HEART", "CLAVICLES", "CERTIFICATE"} <= names


def test_names_that_are_no_code_strings_still_have_layers_of_their_own(make_film, make_certificate, dciodvfy, faults, tmp_path):
    labels = ("left upper lobe of the lung", "left upper lobe of the liver", "Lösion", "肺", "abstain")
    structures = tuple(Structure(label, ("39607008", "SCT", "Lung"), (86, 180, 233)) for label in labels)
    certificate = make_certificate(structures=structures, decisions=np.full((5, 16, 14), PRESENT, np.uint8))
    image = image_of(film_bytes(make_film(rows=ROWS, columns=COLUMNS)), accept_any=True)
    path = Result(image, certificate).save(tmp_path / "state.gsps.dcm")
    assert faults(dciodvfy(path, recognised="GrayscaleSoftcopyPresentationState")) == []
    state = pydicom.dcmread(path)
    names = [layer.GraphicLayer for layer in state.GraphicLayerSequence]
    assert len(set(names)) == len(names)
    assert {annotation.GraphicLayer for annotation in state.GraphicAnnotationSequence} <= set(names)
    assert "肺: certified outline" in [layer.GraphicLayerDescription for layer in state.GraphicLayerSequence]


def test_pixels_keep_their_shape_and_the_shutter_its_place(make):
    area = pydicom.dcmread(make("unequal spacing")[2]).DisplayedAreaSelectionSequence[0]
    assert list(area.PresentationPixelAspectRatio) == [2, 1]
    assert list(area.DisplayedAreaBottomRightHandCorner) == [COLUMNS, ROWS]
    state = pydicom.dcmread(make("MONOCHROME1 behind a circle")[2])
    assert (state.ShutterShape, list(state.CenterOfCircularShutter), state.RadiusOfCircularShutter) == ("CIRCULAR", [64, 56], 50)
    assert state.ShutterPresentationValue == 0
    assert "ShutterShape" not in pydicom.dcmread(make()[2])


def test_one_window_alone_is_stated(make):
    (item,) = pydicom.dcmread(make("several windows")[2]).SoftcopyVOILUTSequence
    assert (item.WindowCenter, item.WindowWidth) == (1800, 3000)
    (item,) = pydicom.dcmread(make("no window")[2]).SoftcopyVOILUTSequence
    assert item.WindowCenterWidthExplanation == "1st to 99th percentile of the film"


def test_it_lies_in_the_films_study_and_refers_to_it_alone(make):
    result, _, path = make()
    state, film = pydicom.dcmread(path), result.image.dataset
    assert (state.Modality, state.StudyInstanceUID, state.PatientID) == ("PR", film.StudyInstanceUID, film.PatientID)
    assert state.SeriesInstanceUID != film.SeriesInstanceUID
    assert state.BodyPartExamined == film.BodyPartExamined
    assert "Laterality" not in state
    (series,) = state.ReferencedSeriesSequence
    assert [item.ReferencedSOPInstanceUID for item in series.ReferencedImageSequence] == [film.SOPInstanceUID]
    assert "Laterality" in pydicom.dcmread(make("capture")[2])


def test_a_photograph_has_none_and_the_reason_is_told(make_photograph, make_certificate, tmp_path):
    image = image_of(film_bytes(make_photograph()), accept_any=True)
    result = Result(image, make_certificate(medium="photograph", native_unit="RGB values"))
    with pytest.raises(UsageError, match="cannot refer to a colour photograph; --sc makes a picture of it"):
        result.encode("gsps")
    with pytest.raises(OutputError, match="--gsps cannot be made, and nothing was written: a grayscale presentation state"):
        write_outputs(result, {output_named("gsps"): tmp_path / "a.gsps.dcm"})
