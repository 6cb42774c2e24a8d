"""Spacings and planes as films state them: read where they can be, left out with a note where not, one reading for all."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from certdicom.certification.certificate import PRESENT
from certdicom.imaging.describe import describe
from certdicom.imaging.plane import NO_SPACING, PixelSpacing, plane_notes, plane_of, spacing_of
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.outputs.nrrd import encode_seg_nrrd
from certdicom.outputs.radius_map import build_radius_map
from certdicom.outputs.seg import build_segmentation


def written(**texts: str) -> Dataset:
    """A film whose attributes are written as these very texts, right or wrong, and read again."""
    dataset, _ = synthetic_film(rows=96, columns=80)
    for keyword in ("ImagerPixelSpacing", "PixelSpacing"):
        if keyword in dataset:
            del dataset[keyword]
    for keyword in texts:
        setattr(dataset, keyword, ["0.987654", "0.987654"] if "Spacing" in keyword else "1.2.3.4" if "UID" in keyword else ["1.234567"])
    content = film_bytes(dataset)
    for keyword, text in texts.items():
        old = b"0.987654\\0.987654 " if "Spacing" in keyword else b"1.2.3.4\0" if "UID" in keyword else b"1.234567"
        place = content.index(old)
        assert content[place - 2 : place] == len(old).to_bytes(2, "little")
        new = text.encode().ljust(len(text) + len(text) % 2, b"\0" if "UID" in keyword else b" ")
        content = content[: place - 2] + len(new).to_bytes(2, "little") + new + content[place + len(old) :]
    return dcmread(BytesIO(content))


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        (r"0.143\0.143", ("0.143", "0.143"), None),
        (r"0,143\0,144", ("0.143", "0.144"), "read as 0.143 and 0.144 mm"),
        ("0.143,0.144", ("0.143", "0.144"), "read as 0.143 and 0.144 mm"),
        ("0.143", None, "not two numbers above 0"),
        (r"0\0", None, "not two numbers above 0"),
        (r"-0.1\0.1", None, "not two numbers above 0"),
        ("abc", None, "not two numbers above 0"),
        (r"0.1\0.1\0.1", None, "not two numbers above 0"),
    ],
)
def test_spacings(text: str, expected: tuple[str, str] | None, note: str | None) -> None:
    dataset = written(ImagerPixelSpacing=text)
    assert spacing_of(dataset) == (PixelSpacing("1", "1", None) if expected is None else PixelSpacing(*expected, "ImagerPixelSpacing"))
    notes = plane_notes(dataset)
    assert len(notes) == (0 if note is None else 1 if expected else 2)
    assert note is None or note in notes[-1]
    assert (NO_SPACING in notes) == (expected is None)
    image = read_image(film_bytes(dataset) if note is None else _bytes(dataset))
    described = describe(_bytes(dataset))
    assert set(notes) <= set(image.notes)
    assert set(notes) <= set(described.notes)
    assert (described.spacing is None) == (expected is None)


def _bytes(dataset: Dataset) -> bytes:
    stream = BytesIO()
    dataset.save_as(stream)
    return stream.getvalue()


def test_the_detector_goes_before_the_film_and_a_bad_one_before_neither() -> None:
    dataset = written(ImagerPixelSpacing="0.2", PixelSpacing=r"0.3\0.3")
    assert spacing_of(dataset).keyword == "PixelSpacing"
    dataset = Dataset()
    dataset.NominalScannedPixelSpacing = ["0.2", "0.1"]
    assert spacing_of(dataset) == PixelSpacing("0.2", "0.1", "NominalScannedPixelSpacing")


CORONAL = {"FrameOfReferenceUID": "1.2.3.4.5", "ImageOrientationPatient": [1, 0, 0, 0, 0, -1], "ImagePositionPatient": [-15, -100, 30]}


def placed(**changes: object) -> Dataset:
    dataset, _ = synthetic_film(rows=96, columns=80)
    for keyword, value in {**CORONAL, "PixelSpacing": [0.3, 0.2], **changes}.items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def test_a_film_with_a_plane_of_its_own() -> None:
    plane = plane_of(placed())
    assert plane is not None
    assert (plane.frame_of_reference, plane.orientation, plane.position) == ("1.2.3.4.5", (1, 0, 0, 0, 0, -1), (-15, -100, 30))
    assert plane.spacing == PixelSpacing("0.3", "0.2", "PixelSpacing"), "the plane's, not the detector's"
    assert plane_notes(placed()) == ()
    assert plane_notes(placed(ImageOrientationPatient=None, ImagePositionPatient=None)) == (), "a frame alone is no plane, and no fault"


@pytest.mark.parametrize(
    "changes",
    [
        {"FrameOfReferenceUID": None},
        {"ImagePositionPatient": None},
        {"ImageOrientationPatient": None},
        {"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]},
        {"ImageOrientationPatient": [2, 0, 0, 0, 1, 0]},
        {"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]},
        {"ImagePositionPatient": [1, 2]},
    ],
)
def test_half_a_plane_is_none_and_is_told(changes: dict[str, object]) -> None:
    dataset = placed(**changes)
    assert plane_of(dataset) is None
    (note,) = plane_notes(dataset)
    assert "is incomplete or not valid" in note


def test_results_lie_in_the_films_own_plane(make_certificate) -> None:
    certificate = make_certificate()
    dataset = placed()
    decisions = np.zeros((len(certificate.structures), 96, 80), np.uint8)
    decisions[:, 10:30, 5:15] = PRESENT
    identity = {"file_sha256": "ab" * 32, "draw_identity": "cd" * 32}
    radii = np.ones((96, 80), np.float32)
    for derived in (
        build_segmentation(dataset, decisions, certificate, **identity),
        build_radius_map(dataset, radii, certificate, **identity),
    ):
        assert derived.FrameOfReferenceUID == "1.2.3.4.5"
        shared, frame = derived.SharedFunctionalGroupsSequence[0], derived.PerFrameFunctionalGroupsSequence[0]
        where = {**{e.keyword: e for e in shared}, **{e.keyword: e for e in frame}}
        assert [float(v) for v in where["PlaneOrientationSequence"].value[0].ImageOrientationPatient] == CORONAL["ImageOrientationPatient"]
        assert [float(v) for v in where["PlanePositionSequence"].value[0].ImagePositionPatient] == CORONAL["ImagePositionPatient"]
        assert [float(v) for v in where["PixelMeasuresSequence"].value[0].PixelSpacing] == [0.3, 0.2]
    without = build_segmentation(dataset, decisions, certificate, geometry="none", **identity)
    assert "FrameOfReferenceUID" not in without


def test_slicers_file_lies_there_too(make_certificate) -> None:
    certificate = make_certificate()
    decisions = np.zeros((len(certificate.structures), 96, 80), np.uint8)
    header = encode_seg_nrrd(placed(), decisions, certificate).partition(b"\n\n")[0].decode()
    assert "space origin: (-15,-100,30)" in header
    directions = next(line for line in header.splitlines() if line.startswith("space directions:"))
    vectors = [[float(number) for number in vector.strip("()").split(",")] for vector in directions.split()[2:] if vector != "none"]
    assert np.allclose(vectors, [[0.2, 0, 0], [0, 0, -0.3], [0, 1, 0]])
