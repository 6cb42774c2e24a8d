"""What is written of a colour photograph: valid, in its study, pixel by pixel, and coded as what it shows."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from certdicom import ImageRefusedError
from certdicom.certification.certificate import ABSTAIN, PRESENT, Structure, Window
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import film_bytes
from certdicom.outputs import codes, output_named
from certdicom.outputs.result import Result
from certdicom.outputs.writing import write_outputs

LESION = Structure("lesion", ("95324001", "SCT", "Skin lesion"), (86, 180, 233))
POLYP = Structure("polyp", ("68496003", "SCT", "Polyp of colon"), (213, 94, 0))


@pytest.fixture
def certificate(make_certificate):
    def make(structure: Structure = LESION):
        decisions = np.zeros((1, 12, 16), np.uint8)
        decisions[0, 3:8, 6:11], decisions[0, 8, 6:11] = PRESENT, ABSTAIN
        return make_certificate(
            structures=(structure,),
            decisions=decisions,
            medium="photograph",
            native_unit="RGB values",
            window=Window(0.0, 255.0, "the full range of 8 bits"),
            bundle_name="skin",
        )

    return make


@pytest.fixture
def written(certificate, make_photograph, tmp_path):
    """All DICOM objects of a photograph by name, as files, and the photograph."""

    def write(kind: str = "XC", structure: Structure = LESION, **changes):
        image = read_image(film_bytes(make_photograph(kind, **changes)))
        paths = {name: tmp_path / f"{name}.dcm" for name in ("seg", "sr", "sc", "radius_map")}
        result = Result(image, certificate(structure), abstain="per-structure")
        write_outputs(result, {output_named(name): path for name, path in paths.items()})
        return paths, image

    return write


REGION = pydicom.Dataset()
REGION.CodeValue, REGION.CodingSchemeDesignator, REGION.CodeMeaning = "71854001", "SCT", "Colon"
RECOGNISED = {"seg": "Segmentation", "sr": "Comprehensive3DSR", "sc": "SCImage", "radius_map": "ParametricMap"}


@pytest.mark.parametrize(
    ("kind", "structure", "changes"),
    [
        ("XC", LESION, {}),
        ("ES", POLYP, {"AnatomicRegionSequence": [REGION]}),
        ("SC", LESION, {"PixelSpacing": ["0.05", "0.05"], "BurnedInAnnotation": "YES"}),
        ("ES", POLYP, {"LossyImageCompression": "01", "LossyImageCompressionRatio": "9", "LossyImageCompressionMethod": "ISO_10918_1"}),
    ],
)
def test_dciodvfy_finds_no_fault(written, dciodvfy, faults, kind, structure, changes):
    paths, _ = written(kind, structure, **changes)
    assert {name: faults(dciodvfy(paths[name], recognised=RECOGNISED[name])) for name in paths} == {name: [] for name in paths}


@pytest.mark.parametrize("kind", ["XC", "ES", "SC"])
def test_dcmqi_reads_the_segments_back_pixel_by_pixel(written, certificate, dcmqi, kind):
    paths, image = written(kind)
    decisions = Result(image, certificate()).decisions
    segments = dcmqi(paths["seg"])
    assert [attributes["SegmentLabel"] for attributes, _, _ in segments] == ["lesion", "Abstain: lesion", "Abstain"]
    for (_, mask, read), expected in zip(
        segments, (decisions[0] == PRESENT, decisions[0] == ABSTAIN, decisions[0] == ABSTAIN), strict=True
    ):
        np.testing.assert_array_equal(mask, expected)
        assert read.GetSpacing() == (1, 1, 1)


def test_dcmqi_reads_the_report(written, tid1500reader):
    paths, _ = written()
    groups = tid1500reader(paths["sr"])["Measurements"]
    assert [group["TrackingIdentifier"] for group in groups] == ["Whole photograph", "lesion", "Abstain: lesion", "Abstain"]


def test_they_point_at_the_photograph_and_lie_in_one_plane(written):
    paths, image = written("ES")
    segmentation, radius_map, capture = (pydicom.dcmread(paths[name]) for name in ("seg", "radius_map", "sc"))
    reference = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert (reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID) == (image.dataset.SOPClassUID, image.sop_instance_uid)
    assert segmentation.FrameOfReferenceUID == radius_map.FrameOfReferenceUID
    assert {item.StudyInstanceUID for item in (segmentation, radius_map, capture)} == {image.dataset.StudyInstanceUID}
    assert (segmentation.Rows, segmentation.Columns) == (96, 128)
    assert "under any change of the photograph up to L2 norm R" in segmentation.SegmentSequence[0].SegmentDescription
    assert "RGB values" in segmentation.SegmentSequence[0].SegmentDescription
    assert '"grid":[12,16]' in segmentation.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert "film" not in capture.DerivationDescription.lower()


@pytest.mark.parametrize(("region", "expected"), [(None, None), (REGION, "71854001")])
def test_a_lesion_is_no_anatomy_and_lies_where_the_header_says_not_in_the_chest(written, region, expected):
    paths, _ = written("ES", POLYP, **({} if region is None else {"AnatomicRegionSequence": [region]}))
    lesion, *_, abstain = pydicom.dcmread(paths["seg"]).SegmentSequence
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE[0]
    regions = [item.AnatomicRegionSequence[0].CodeValue for item in (lesion, abstain) if "AnatomicRegionSequence" in item]
    assert regions == ([] if expected is None else [expected] * 2)
    frame = pydicom.dcmread(paths["radius_map"]).SharedFunctionalGroupsSequence[0].FrameAnatomySequence[0]
    assert frame.AnatomicRegionSequence[0].CodeValue == (expected or codes.ENTIRE_BODY[0])


def test_the_picture_of_a_result_is_not_certified_again(written):
    paths, _ = written()
    for accept_any in (False, True):
        with pytest.raises(ImageRefusedError, match="a result that certdicom wrote"):
            read_image(paths["sc"], accept_any=accept_any)
