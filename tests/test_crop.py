"""A part of an image is certified as if it were the image; nothing is said of the rest, and no change there matters."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate
from certdicom.certification.crop import Crop
from certdicom.certification.window import WindowRule
from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.reading import image_of, read_radiograph
from certdicom.imaging.resampling import operator_norm
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.node.configuration import load_configuration
from certdicom.node.identity import Work
from certdicom.outputs.result import Result
from certdicom.pipeline import Certifier
from tests.tiny import write_tiny_bundle

CROP = Crop(20, 8, 70, 64)
ROWS, COLUMNS = 96, 80


def film(**options: object) -> Radiograph:
    return read_radiograph(film_bytes(synthetic_film(modality="CR", rows=ROWS, columns=COLUMNS, **options)[0]))


@pytest.mark.parametrize("options", [{}, {"window": None}, {"voi_lut_bits": 12}, {"window": None, "padding": 9}], ids=str)
def test_it_is_as_if_the_part_were_the_image(options: dict) -> None:
    whole = film(**options)
    part = Radiograph(Dataset(), CROP.of(whole.stored_values), whole.presentation.cropped(CROP), "")
    found, alone = to_grid(whole, 32, crop=CROP), to_grid(part, 32)
    np.testing.assert_array_equal(found.u, alone.u)
    assert found.window == alone.window
    assert found.native_radius(0.1686) == alone.native_radius(0.1686)


def test_the_norm_is_that_of_the_part() -> None:
    image = to_grid(film(), 32, WindowRule("given", (0.0, 4095.0)), CROP)
    assert image.native_radius(1.0) == pytest.approx(4095 / operator_norm(70, 64, 32))


@pytest.mark.parametrize("options", [{}, {"window": None}], ids=str)
def test_a_change_outside_changes_nothing(options: dict) -> None:
    whole = film(**options)
    changed = 4095 - whole.stored_values
    CROP.of(changed)[...] = CROP.of(whole.stored_values)
    after = Radiograph(whole.dataset, changed, whole.presentation, "")
    np.testing.assert_array_equal(to_grid(whole, 32, crop=CROP).u, to_grid(after, 32, crop=CROP).u)


@pytest.fixture
def certificate(make_certificate) -> Certificate:
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, 4:12, 3:7] = decisions[2, :3, 2:9] = PRESENT
    decisions[1, 8:12, 8:12] = ABSTAIN
    return make_certificate(decisions=decisions, crop=CROP)


@pytest.fixture
def result(certificate) -> Result:
    return Result(image_of(film_bytes(synthetic_film(rows=ROWS, columns=COLUMNS)[0]), accept_any=False), certificate)


def test_outside_every_structure_abstains_and_is_not_counted(result) -> None:
    outside = np.ones((ROWS, COLUMNS), bool)
    CROP.of(outside)[...] = False
    assert (result.decisions[:, outside] == ABSTAIN).all()
    assert 0 < (CROP.of(result.decisions) == ABSTAIN).mean() < 0.1
    report = json.loads(result.encode("report"))
    assert report["crop"] == {"top": 20, "left": 8, "rows": 70, "columns": 64}
    assert report["abstain_fraction"] == pytest.approx((CROP.of(result.decisions) == ABSTAIN).any(axis=0).mean())
    for structure in report["structures"]:
        assert sum(structure[f"{name}_px"] for name in ("certified_present", "certified_absent", "abstain")) == 70 * 64


@pytest.mark.parametrize("kind", ["seg", "sr", "sc", "radius_map", "gsps", "preview", "nifti", "nrrd", "report"])
def test_every_output_can_be_made(result, kind: str) -> None:
    assert len(result.encode(kind)) > 100


def test_the_segmentation_covers_the_rest_with_abstain_and_says_so(result) -> None:
    seg = dcmread(BytesIO(result.encode("seg")))
    abstain = seg.pixel_array[-1].astype(bool)
    np.testing.assert_array_equal(abstain, result.abstained)
    assert "What was not analysed is part of it." in seg.SegmentSequence[-1].SegmentDescription
    assert "analysed in rows 21 to 90 and columns 9 to 72 alone (nothing is said elsewhere" in seg.ImageComments


def test_measurements_are_of_the_part_alone(result) -> None:
    report = dcmread(BytesIO(result.encode("sr")))
    assert "measurements: of the analysed part of the image alone" in " ".join(str(element.value) for element in report.iterall())
    areas = [float(item.MeasuredValueSequence[0].NumericValue) for item in _numeric(report) if "mm2" in str(item.MeasuredValueSequence[0])]
    upper = (result.decisions[0] != 0).sum() * 0.14**2
    assert areas
    assert upper > CROP.rows * CROP.columns * 0.14**2 / 2, "outside counted, a structure could be almost anywhere"
    assert max(areas[: 2 * len(result.structures)]) < upper


def _numeric(item: Dataset) -> list[Dataset]:
    inner = [found for child in item.get("ContentSequence", []) for found in _numeric(child)]
    return [*([item] if item.get("ValueType") == "NUM" else []), *inner]


def test_the_radius_is_zero_outside(result) -> None:
    radii = dcmread(BytesIO(result.encode("radius_map"))).FloatPixelData
    values = np.frombuffer(radii, "<f4").reshape(ROWS, COLUMNS)
    assert values[:20].max() == values[90:].max() == 0
    assert CROP.of(values).max() > 0


def test_another_crop_is_another_object(result, make_certificate) -> None:
    uids = set()
    for crop in (None, CROP, Crop(20, 8, 70, 65)):
        made = make_certificate(decisions=result.certificate.decisions, crop=crop)
        uids.add(str(dcmread(BytesIO(Result(result.image, made).encode("seg"))).SOPInstanceUID))
    assert len(uids) == 3


@pytest.mark.parametrize("crop", [Crop(40, 0, 64, 64), Crop(0, 20, 64, 64)])
def test_a_crop_beyond_the_image_refuses_that_image(crop: Crop) -> None:
    with pytest.raises(ImageRefusedError, match=r"reaches beyond the image of 96 x 80 pixels"):
        to_grid(film(), 32, crop=crop)


@pytest.mark.parametrize("text", ["", "1 2 3", "0 0 10 100", "-1 0 100 100", "a b c d", "0 0 64 64 64"])
def test_what_is_no_crop_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="crop"):
        Crop.read(text)


def test_the_certifier_takes_it(tmp_path) -> None:
    certifier = Certifier(write_tiny_bundle(tmp_path / "tiny"))
    result = certifier.certify(film(), crop=(20, 8, 70, 64), window=(0, 4095), accept_any=True)
    assert result.certificate.crop == CROP
    assert result.certificate.window.source == "given with the request"
    assert (result.decisions[:, :20] == ABSTAIN).all()


# per sender on a node


def test_a_node_asks_for_each_sender_what_is_configured_for_it(tmp_path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        '[certificate]\nwindow = "displayed"\nsender_windows = ["CR1=0  4095"]\nsender_crops = ["CR1=0 0 100 100", "DX2 = 5 5 99 99"]\n'
    )
    settings = load_configuration(path, {})
    assert (settings.window_of("CR1"), settings.crop_of("CR1")) == ("0 4095", "0 0 100 100")
    assert (settings.window_of("DX2"), settings.crop_of("DX2")) == ("displayed", "5 5 99 99")
    assert (settings.window_of("ELSE"), settings.crop_of("ELSE")) == ("displayed", "")


@pytest.mark.parametrize(
    "setting", ['window = "percentiles"', 'sender_windows = ["0 4095"]', 'sender_windows = ["CR1="]', 'sender_crops = ["CR1=1 2 3"]']
)
def test_a_request_that_means_nothing_is_told_at_the_start(tmp_path, setting: str) -> None:
    path = tmp_path / "node.toml"
    path.write_text(f"[certificate]\n{setting}\n")
    with pytest.raises(UsageError, match=r"window|crop"):
        load_configuration(path, {})


def test_another_window_or_crop_is_another_job_of_the_same_film() -> None:
    from certdicom.certification.parameters import SmoothingParameters

    work = Work("ab", SmoothingParameters())
    same = {"sop_instance_uid": "1.2", "dataset_sha256": "00"}
    ids = {work.job_id(**same), *(work.job_id(**same, **asked) for asked in ({"window": "0 1"}, {"window": "0 2"}, {"crop": "0 0 64 64"}))}
    assert len(ids) == 4
    assert work.job_id(**same) == work.job_id(**same, window="", crop=""), "what is not asked for leaves the ids of the first edition"
