"""The certified radius map: right by the definition, valid, in the plane of the film, and never too optimistic."""

from __future__ import annotations

import subprocess

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813
from scipy.stats import beta, norm

from certdicom.certification.parameters import SmoothingParameters
from certdicom.errors import UsageError
from certdicom.outputs.radii import joint_radii, largest_radius
from certdicom.outputs.radius_map import build_radius_map
from certdicom.outputs.seg import build_segmentation
from tests.saving import save


@pytest.fixture
def build(make_certificate):
    def build(film, radii=None):
        if radii is None:
            radii = np.random.default_rng(3).random((film.Rows, film.Columns), np.float32) * np.float32(0.2)
        return build_radius_map(film, radii, make_certificate(), file_sha256="ef" * 32, draw_identity="cd" * 32), radii

    return build


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("DX", {}),
        ("CR", {"ImagerPixelSpacing": None}),
        ("SC", {"BodyPartExamined": None, "PatientOrientation": None}),
        ("DX", {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10", "LossyImageCompressionMethod": "ISO_10918_1"}),
    ],
)
def test_dciodvfy_finds_no_fault(build, make_film, dciodvfy, faults, tmp_path, kind, changes):
    path = save(build(make_film(kind, **changes))[0], tmp_path / "map.dcm")
    assert faults(dciodvfy(path, recognised="ParametricMap")) == []


def test_dcmqi_gives_the_radii_back_in_the_plane_of_the_film(build, make_film, program, tmp_path):
    radius_map, radii = build(make_film(ImagerPixelSpacing=["0.2", "0.1"]))
    path = save(radius_map, tmp_path / "map.dcm")
    folder = tmp_path / "dcmqi"
    folder.mkdir()
    command = [program("paramap2itkimage"), "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    image = sitk.ReadImage(str(next(folder.glob("*.nrrd"))))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[0], radii)
    assert image.GetSpacing() == pytest.approx((0.1, 0.2, 1.0))
    assert image.GetOrigin() == (0, 0, 0)
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)


def test_radii_follow_the_definition_and_the_weakest_structure_decides(make_certificate):
    parameters = SmoothingParameters(sigma=0.5, n=100, alpha=0.01)
    counts = np.full((3, 4, 4), 100, np.int32)
    counts[1, 0, 0], counts[2, 1, 1], counts[0, 2, 2] = 97, 55, 30
    radii = joint_radii(make_certificate(decisions=np.zeros((3, 4, 4), np.uint8), counts=counts, parameters=parameters))
    level = 0.01 / counts.size
    full = 0.5 * norm.ppf(beta.ppf(level, 100, 1))
    assert radii[3, 3] == pytest.approx(full, rel=1e-5)
    assert radii[0, 0] == pytest.approx(0.5 * norm.ppf(beta.ppf(level, 97, 4)), rel=1e-5)
    assert radii[1, 1] == radii[2, 2] == 0
    assert float(radii[3, 3]) <= full


def test_no_radius_exceeds_what_unanimous_draws_are_worth(make_certificate):
    certificate = make_certificate()
    radii = joint_radii(certificate)
    assert float(radii.max()) <= largest_radius(certificate)
    assert float(radii.max()) == pytest.approx(largest_radius(certificate), rel=1e-5)


def test_simulated_radii_are_jointly_below_the_truth(make_certificate):
    """In at most alpha of all images any radius is too large; 400 images at alpha = 5 %."""
    random = np.random.default_rng(5)
    p = random.uniform(0.4, 1.0, (3, 8, 8))
    parameters = SmoothingParameters(sigma=1.0, n=60, alpha=0.05)
    truth = norm.ppf(p).min(axis=0)
    wrong = 0
    for _ in range(400):
        counts = random.binomial(60, p).astype(np.int32)
        radii = joint_radii(make_certificate(decisions=np.zeros(p.shape, np.uint8), counts=counts, parameters=parameters))
        wrong += bool((radii > np.maximum(truth, 0)).any())
    assert wrong <= 400 * 0.05


def test_the_map_of_a_large_film_has_its_size_which_is_the_only_one_that_ohif_opens(build, make_film):
    film = make_film(ImagerPixelSpacing=["0.2", "0.1"])
    film.Rows, film.Columns = 2500, 40
    radius_map, radii = build(film)
    assert (radius_map.Rows, radius_map.Columns) == (2500, 40)
    shared, frame = radius_map.SharedFunctionalGroupsSequence[0], radius_map.PerFrameFunctionalGroupsSequence[0]
    groups = {element.keyword: element.value[0] for item in (shared, frame) for element in item}
    assert list(groups["PixelMeasuresSequence"].PixelSpacing) == [0.2, 0.1]
    assert list(groups["PlanePositionSequence"].ImagePositionPatient) == [0, 0, 0]
    np.testing.assert_array_equal(np.frombuffer(radius_map.FloatPixelData, np.float32).reshape(2500, 40), radii)


def test_it_says_what_its_numbers_are_in_the_plane_of_the_segmentation(build, make_film, make_decisions, make_certificate, tmp_path):
    film = make_film()
    written = pydicom.dcmread(save(build(film)[0], tmp_path / "map.dcm"))
    mapping = written.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"
    assert mapping.QuantityDefinitionSequence[0].ConceptCodeSequence[0].CodeValue == "certified-radius"
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1, 0)
    segmentation = build_segmentation(film, make_decisions("noise"), make_certificate(), file_sha256="ef" * 32, draw_identity="cd" * 32)
    assert written.FrameOfReferenceUID == segmentation.FrameOfReferenceUID
    assert written.StudyInstanceUID == film.StudyInstanceUID
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == film.SeriesInstanceUID
    assert "99.9 % confidence for all pixels together. One unit is 1,270 stored values" in written.ImageComments


def test_radii_of_another_size_or_kind_are_refused(build, make_film):
    film = make_film()
    for radii in (np.zeros((3, 3), np.float32), np.zeros((film.Rows, film.Columns))):
        with pytest.raises(UsageError, match="radii must be float32"):
            build(film, radii)
