"""The structured report as validators and readers see it: what it measures are bounds, and they are right."""

from __future__ import annotations

import warnings
from io import BytesIO

import numpy as np
import pydicom
import pytest
from highdicom import sr

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Structure
from certdicom.errors import UsageError
from certdicom.imaging.plane import PixelSpacing
from certdicom.outputs.codes import area_bounds, saying_zero
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.measurements import abstained_percent, structure_area, structure_widths
from certdicom.outputs.report_groups import Anchors
from certdicom.outputs.seg import build_segmentation
from certdicom.outputs.sr import build_measurement_report
from tests.conftest import LUNGS
from tests.saving import save

KINDS = ("overlapping", "no abstention", "all abstain", "all absent", "noise")


@pytest.fixture
def build(make_certificate):
    def build(film, decisions, certificate=None, *, abstain="union"):
        certificate = certificate or make_certificate()
        segmentation = build_segmentation(film, decisions, certificate, file_sha256="ef" * 32, draw_identity="cd" * 32, abstain=abstain)
        return build_measurement_report(film, segmentation, decisions, certificate), segmentation

    return build


def numbers(group):
    """(concept value, derivation value or None) → (value, unit) of a measurement group."""
    found = {}
    for measurement in group.get_measurements():
        derivation = measurement.derivation.value if measurement.derivation else None
        site = tuple(item.value.value for item in measurement.finding_sites)
        found[measurement.name.value, derivation, *site] = (measurement.value, measurement.unit.value)
    return found


def name_of(end, structure):
    """The code of a bound of a structure's area."""
    return area_bounds(structure)[end == "upper"][0]


def read(path):
    document = sr.srread(path)
    content = document.content
    groups = [*content.get_image_measurement_groups(), *content.get_planar_roi_measurement_groups()]
    return document, {group.tracking_identifier: group for group in groups}


@pytest.mark.parametrize("abstain", ["union", "per-structure"])
@pytest.mark.parametrize("kind", KINDS)
def test_dciodvfy_finds_no_fault(build, make_film, make_decisions, dciodvfy, faults, tmp_path, kind, abstain):
    report, _ = build(make_film(), make_decisions(kind), abstain=abstain)
    assert faults(dciodvfy(save(report, tmp_path / "sr.dcm"), recognised="Comprehensive3DSR")) == []


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("CR", {"PhotometricInterpretation": "MONOCHROME1", "ImagerPixelSpacing": None}),
        ("SC", {"PatientOrientation": None}),
        ("DX", {"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müßig^Jürgen"}),
        ("CR", {"SpecificCharacterSet": ["", "ISO 2022 IR 87"], "PatientName": "Yamada^Tarou=山田^太郎", "StudyDescription": "胸部"}),
        ("DX", {"SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": "Hong^Gildong=洪^吉洞=홍^길동"}),
        ("DX", dict.fromkeys(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "Manufacturer", "PatientOrientation"))),
    ],
)
def test_films_of_many_kinds_give_valid_reports(build, make_film, make_decisions, dciodvfy, faults, tmp_path, kind, changes):
    stream = BytesIO()
    make_film(kind, **changes).save_as(stream, enforce_file_format=True)
    stream.seek(0)
    film = pydicom.dcmread(stream)
    report, _ = build(film, make_decisions("overlapping"))
    path = save(report, tmp_path / "sr.dcm")
    found = [line for line in faults(dciodvfy(path, recognised="Comprehensive3DSR")) if "needed to build DICOMDIR" not in line]
    assert found == []
    assert str(pydicom.dcmread(path).get("PatientName") or "") == str(film.get("PatientName") or "")


@pytest.mark.parametrize("charset", [["", "ISO 2022 IR 87"], ["", "ISO 2022 IR 149"], "UTF-8", ["ISO 2022 IR 6", "IS"]])
def test_the_report_keeps_the_films_character_set_and_its_bytes(build, make_film, make_decisions, charset, tmp_path):
    """Valid sets with an empty first value, and terms that nobody knows: the film's text goes into the report as it is."""
    film = make_film(PatientID="4711")
    name = "Yamada^Tarou=山田^太郎".encode("iso2022_jp") if "ISO 2022 IR 87" in charset else b"Smith^John"
    film.PatientName = name.decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        film.SpecificCharacterSet = charset
        film = pydicom.dcmread(BytesIO(encoded(film)))
        report, _ = build(film, make_decisions("overlapping"))
        written = pydicom.dcmread(save(report, tmp_path / "sr.dcm"))
    assert written.SpecificCharacterSet == charset
    assert written.get_item("PatientName").value.strip() == name


def test_highdicom_reads_the_bounds_back(build, make_film, make_decisions, make_certificate, tmp_path):
    decisions = make_decisions("overlapping")
    report, segmentation = build(make_film(ImagerPixelSpacing=["0.2", "0.1"]), decisions)
    document, groups = read(save(report, tmp_path / "sr.dcm"))
    assert document.content[0].name.value == "126000"
    one = 0.02
    for structure, plane, segment in zip(make_certificate().structures, decisions, segmentation.SegmentSequence, strict=False):
        area = numbers(groups[structure.label])
        assert area[name_of("lower", structure), "255605001"] == (pytest.approx((plane == PRESENT).sum() * one), "mm2")
        assert area[name_of("upper", structure), "56851009"] == (pytest.approx((plane != ABSENT).sum() * one), "mm2")
        assert groups[structure.label].tracking_uid == segment.TrackingUID
        assert groups[structure.label].finding_type.value == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
    widths = numbers(groups["Widths"])
    assert widths["heart-w-lower", "255605001", "80891009"] == (pytest.approx(5.3), "mm")
    assert widths["heart-w-upper", "56851009", "80891009"] == (pytest.approx(8.3), "mm")
    assert (
        widths["thorax-w-lower", "255605001", "39607008"] == widths["thorax-w-upper", "56851009", "39607008"] == (pytest.approx(5.4), "mm")
    )
    ratio = numbers(groups["Cardiothoracic ratio"])
    assert ratio["ctr-lower", "255605001"] == (0.98, "{ratio}")  # 53 / 54 = 0.981…, rounded down
    assert ratio["ctr-upper", "56851009"] == (1.54, "{ratio}")  # 83 / 54 = 1.537…, rounded up
    abstained = (decisions == ABSTAIN).any(axis=0).mean()
    value, unit = numbers(groups["Whole film"])["abstained-share", None]
    assert unit == "%"
    assert 100 * abstained <= value < 100 * abstained + 0.01
    assert numbers(groups["Abstain"])["abstained-area", None][0] == pytest.approx(abstained * decisions[0].size * one)


def test_dcmqi_reads_the_groups_with_their_findings_and_bounds(build, make_film, make_decisions, tid1500reader, tmp_path):
    report, segmentation = build(make_film(), make_decisions("overlapping"))
    found = tid1500reader(save(report, tmp_path / "sr.dcm"))
    groups = {group["TrackingIdentifier"]: group for group in found["Measurements"]}
    assert list(groups) == ["Cardiothoracic ratio", "Widths", "Whole film", "lungs", "heart", "clavicles", "Abstain"]
    for segment in segmentation.SegmentSequence:
        group = groups[segment.SegmentLabel]
        assert group["TrackingUniqueIdentifier"] == segment.TrackingUID
        assert group["Finding"]["CodeValue"] == segment.SegmentedPropertyTypeCodeSequence[0].CodeValue
    modifiers = [item["derivationModifier"]["CodeMeaning"] for item in groups["heart"]["measurementItems"]]
    assert modifiers == ["Minimum", "Maximum"]
    names = [item["quantity"]["CodeMeaning"] for item in groups["heart"]["measurementItems"]]
    assert names == ["Heart area at least", "Heart area at most"]


def test_no_two_measurements_of_a_group_have_one_name_and_bounds_name_the_standard_concept(build, make_film, make_decisions):
    """Viewers show names and no modifiers; programs look for the standard's codes."""
    report, _ = build(make_film(), make_decisions("overlapping"))
    equivalents = set()
    for group in report.ContentSequence[-1].ContentSequence:
        measured = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        names = [item.ConceptNameCodeSequence[0].CodeMeaning for item in measured]
        assert len(names) == len(set(names))
        for item in measured:
            for modifier in item.get("ContentSequence", []):
                if modifier.ConceptNameCodeSequence[0].CodeValue == "121050":
                    equivalents.add((item.ConceptNameCodeSequence[0].CodeMeaning, modifier.ConceptCodeSequence[0].CodeValue))
    areas = {(f"{name} area {end}", "42798000") for name in ("Lungs", "Heart", "Clavicles") for end in ("at least", "at most")}
    widths = {(f"{name} width {end}", "103355008") for name in ("Heart", "Thorax") for end in ("at least", "at most")}
    assert equivalents == areas | widths | {("Abstain area", "42798000")}


def test_references_are_to_segments_and_not_to_frames_too(build, make_film, make_decisions):
    report, segmentation = build(make_film(), make_decisions("overlapping"))
    referenced = [item for item in report.iterall() if item.keyword == "ReferencedSegmentNumber"]
    assert [item.value for item in referenced] == [1, 2, 3, 4]
    assert not any(item.keyword == "ReferencedFrameNumber" for item in report.iterall())
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0]
    assert evidence.StudyInstanceUID == "2.25.102"
    instances = {item.ReferencedSOPInstanceUID for series in evidence.ReferencedSeriesSequence for item in series.ReferencedSOPSequence}
    assert instances == {"2.25.101", segmentation.SOPInstanceUID}


def test_the_certificate_is_in_the_algorithm_parameters(build, make_film, make_decisions, make_certificate, tmp_path):
    certificate = make_certificate(notes=("percentile window",))
    _, groups = read(save(build(make_film(), make_decisions("overlapping"), certificate)[0], tmp_path / "sr.dcm"))
    texts = [item.TextValue for item in groups["heart"][0].ContentSequence if item.name.value == "111002"]
    for wanted in ("sigma = 0.25", "tau = 0.75", "n0 = 10", "n = 100", "alpha = 0.001", "bundle = cxr-gray-256", "note: percentile window"):
        assert wanted in texts
    assert any("Stability, not correctness. Research use only" in text for text in texts)
    assert any("bundle SHA-256 = abab" in text for text in texts)


def test_without_a_spacing_areas_are_counted_in_pixels(build, make_film, make_decisions, tmp_path):
    report, _ = build(make_film(ImagerPixelSpacing=["0", "0"]), make_decisions("overlapping"))
    _, groups = read(save(report, tmp_path / "sr.dcm"))
    assert numbers(groups["lungs"])[name_of("lower", LUNGS), "255605001"] == (45 * 54, "{pixels}")
    assert numbers(groups["Widths"])["heart-w-lower", "255605001", "80891009"] == (53, "{pixels}")


@pytest.mark.parametrize("abstain", ["union", "per-structure"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_measurement_of_a_group_hangs_on_one_short_line_and_groups_follow_each_other(build, make_film, make_decisions, kind, abstain):
    """OHIF shows no measurement without coordinates, asks whether closed outlines are to be tracked, and lets texts overlap."""
    decisions = make_decisions(kind)
    report, _ = build(make_film(), decisions, abstain=abstain)
    measured = report.ContentSequence[-1]
    assert measured.ConceptNameCodeSequence[0].CodeValue == "126010"
    rows, columns = decisions.shape[1:]
    tops, counts = [], []
    for group in measured.ContentSequence:
        numeric = [item for item in group.ContentSequence if item.ValueType == "NUM"]
        drawn = [[part for part in item.ContentSequence if part.ValueType == "SCOORD"] for item in numeric]
        assert all(len(parts) == 1 and parts[0].GraphicType == "POLYLINE" for parts in drawn)
        (line,) = {tuple(parts[0].GraphicData) for parts in drawn}
        assert len(line) == 4
        assert 0 <= line[0] < line[2] <= columns
        assert line[1] == line[3] <= rows
        assert sum(item.ValueType == "SCOORD" for item in _items(group)) == len(numeric)
        tops.append(line[1] / rows)
        counts.append(len(numeric))
        assert len(numeric) <= 5, "OHIF shows five lines of a group"
    for above, below, count in zip(tops, tops[1:], counts, strict=False):
        assert below - above >= (count + 1.2) * 0.024 - 1.01 / rows


def test_anchors_begin_at_their_structure_left_of_the_middle_and_share_what_room_there_is():
    mask = np.zeros((1000, 500), bool)
    mask[:, 100:300] = True
    anchors = Anchors(rows=1000, columns=500, lines=[2, 4, 1])
    first, second, third = anchors.next(mask, 2), anchors.next(None, 4), anchors.next(np.roll(mask, 180, axis=1), 1)
    np.testing.assert_allclose(first, [[100, 60.5], [115, 60.5]])
    np.testing.assert_allclose(second, [[10, 136.5], [25, 136.5]])  # 3.2 lines of 24 rows below
    assert third[0, 0] == 250
    crowd = Anchors(rows=1000, columns=500, lines=[2] * 40)
    ends = [crowd.next(None, 2)[0, 1] for _ in range(40)]
    assert ends[-1] < 1000
    assert np.diff(ends).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_zero_is_said_in_the_name_because_viewers_print_no_number_for_it(build, make_film, make_decisions, kind):
    report, _ = build(make_film(), make_decisions(kind))
    said = {
        (item.ConceptNameCodeSequence[0].CodeMeaning.endswith(" 0"), float(item.MeasuredValueSequence[0].NumericValue) == 0)
        for item in _items(report)
        if item.ValueType == "NUM"
    }
    assert said <= {(True, True), (False, False)}
    if kind in ("all absent", "all abstain"):
        assert (True, True) in said


def test_structures_of_one_code_and_long_names_have_names_of_their_own():
    structures = [Structure(label, ("1", "99X", "one"), (0, 0, 0)) for label in ("left part " * 9 + "a", "left part " * 9 + "b")]
    concepts = [concept for structure in structures for concept in area_bounds(structure)]
    assert len({value for value, _, _ in concepts}) == 4
    assert all(len(value) <= 16 and len(saying_zero((value, scheme, meaning))[2]) <= 64 for value, scheme, meaning in concepts)


def _items(dataset):
    for item in dataset.get("ContentSequence", []):
        yield item
        yield from _items(item)


def test_bounds_are_rounded_outwards():
    plane = np.zeros((7, 9), np.uint8)
    plane[2:4, 3:6], plane[5, 5] = PRESENT, ABSTAIN
    spacing = PixelSpacing("0.1433", "0.1433", "ImagerPixelSpacing")
    bounds = structure_area(plane, spacing)
    exact = 0.1433**2
    assert bounds.lower <= 6 * exact < bounds.lower + 0.01
    assert bounds.upper - 0.01 < 7 * exact <= bounds.upper
    assert 100 / 63 <= abstained_percent(plane[None]) == 1.59


@pytest.mark.parametrize("seed", range(5))
def test_reported_widths_hold_for_random_completions(make_certificate, seed):
    random = np.random.default_rng(seed)
    decisions = random.choice(np.array([0, 0, 1, 2], np.uint8), (3, 6, 11))
    found = structure_widths(decisions, make_certificate(), PixelSpacing("0.3", "0.1", "PixelSpacing"))
    for _ in range(50):
        lungs, heart, _ = np.where(decisions == ABSTAIN, random.random(decisions.shape) < 0.5, decisions == PRESENT)
        heart_width, thorax_width = (np.ptp(np.flatnonzero(mask.any(axis=0))) + 1 for mask in (heart, lungs))
        assert found.heart.lower <= heart_width * 0.1 + 1e-9
        assert heart_width * 0.1 - 1e-9 <= found.heart.upper
        assert found.ratio.lower <= heart_width / thorax_width <= found.ratio.upper


def test_a_segmentation_of_another_film_is_refused(build, make_film, make_decisions, make_certificate):
    _, segmentation = build(make_film(), make_decisions("overlapping"))
    with pytest.raises(UsageError, match="another film"):
        build_measurement_report(make_film(SOPInstanceUID="2.25.999"), segmentation, make_decisions("overlapping"), make_certificate())
    with pytest.raises(UsageError, match="shape"):
        build_measurement_report(make_film(), segmentation, make_decisions("overlapping")[:, :-1], make_certificate())
    turned = make_certificate(structures=make_certificate().structures[::-1])
    with pytest.raises(UsageError, match="other structures"):
        build_measurement_report(make_film(), segmentation, make_decisions("overlapping"), turned)


def test_the_same_certificate_names_the_same_report(build, make_film, make_decisions):
    first, _ = build(make_film(), make_decisions("overlapping"))
    second, _ = build(make_film(), make_decisions("overlapping"))
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID != first.SOPInstanceUID
