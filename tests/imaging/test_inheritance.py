"""What results take over of a header: identity to the byte, whatever character set it says it is in."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset

from certdicom.certification.certificate import Structure
from certdicom.imaging.describe import describe
from certdicom.imaging.inheritance import inheritance_of
from certdicom.imaging.reading import image_of
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.outputs import OUTPUTS
from certdicom.outputs.result import Result

LATIN = "Müller^Jörg".encode("latin-1")
NAMES = {
    "utf-8 declared, latin-1 written": ("ISO_IR 192", LATIN),
    "utf-8 declared, cp1251 written": ("ISO_IR 192", "Иванов^Иван".encode("cp1251")),
    "gb18030 declared, broken": ("GB18030", b"\xff\xff^\x80"),
    "latin-1 declared, utf-8 written": ("ISO_IR 100", "Müller^Jörg".encode()),
    "nothing declared": (None, LATIN),
    "a term that is none": ("UTF-8", "Müller^Jörg".encode()),
    "japanese with an escape too many": (r"\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B\x1b(B^\x1b$BB@O:\x1b(B"),
    "half a japanese character": (r"\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;\x1b(B"),
    "korean": (r"\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
}
KEYWORDS = ("PatientName", "PatientID", "AccessionNumber", "StudyID", "IssuerOfPatientID", "StudyDescription", "OtherPatientNames")


def film_with(declared: str | None, name: bytes) -> bytes:
    """A film in whose identity every text element holds `name` in place of its ASCII letters."""
    dataset, _ = synthetic_film(modality="DX", rows=96, columns=96)
    placeholder = "N" * (len(name) + len(name) % 2)
    for keyword in KEYWORDS:
        setattr(dataset, keyword, placeholder)
    item = Dataset()
    item.PatientID, item.TypeOfPatientID = placeholder, "TEXT"
    dataset.OtherPatientIDsSequence = [item]
    if "SpecificCharacterSet" in dataset:
        del dataset.SpecificCharacterSet
    if declared is not None:
        dataset.SpecificCharacterSet = declared.split("\\")
    return film_bytes(dataset).replace(placeholder.encode(), name.ljust(len(placeholder)))


def identity_bytes(dataset: FileDataset) -> dict[str, bytes]:
    found = {keyword: bytes(dataset.get_item(keyword).value).rstrip() for keyword in KEYWORDS if keyword in dataset}
    inner = dataset["OtherPatientIDsSequence"].value[0]
    return {**found, "OtherPatientIDs": bytes(inner.get_item("PatientID").value).rstrip()}


@pytest.mark.parametrize(("declared", "name"), NAMES.values(), ids=NAMES.keys())
@pytest.mark.filterwarnings("ignore")
def test_identity_survives_byte_for_byte_in_every_object(declared, name, make_certificate) -> None:
    data = film_with(declared, name)
    wanted = identity_bytes(dcmread(BytesIO(data)))
    assert set(wanted.values()) == {name}
    result = Result(image_of(data, accept_any=False), make_certificate(decisions=np.zeros((3, 16, 16), np.uint8)))
    for output in OUTPUTS:
        if output.sop_class:
            written = dcmread(BytesIO(result.encode(output.name)))
            assert identity_bytes(written) == {keyword: wanted[keyword] for keyword in wanted}, output.name
            assert written.get("SpecificCharacterSet") == (declared.split("\\") if declared and "\\" in declared else declared)


@pytest.mark.parametrize("touched", [False, True])
@pytest.mark.filterwarnings("ignore")
def test_a_misfit_is_told_everywhere_in_the_same_words_and_without_the_name(touched: bool) -> None:
    data = film_with("ISO_IR 192", LATIN)
    image = image_of(data, accept_any=False)
    if touched:
        assert "�" in str(image.dataset.StudyDescription)
    (note,) = (note for note in image.notes if "character set" in note)
    assert note in describe(data).notes
    assert "PatientName" in note
    assert "PatientID" in note
    assert "ller" not in note
    assert "�" not in note


@pytest.mark.filterwarnings("ignore")
def test_a_name_that_fits_is_no_misfit() -> None:
    dataset = dcmread(BytesIO(film_with("ISO_IR 100", LATIN)))
    taken = inheritance_of(dataset)
    assert taken.fits
    assert taken.notes == ()
    assert str(taken.elements.PatientName) == "Müller^Jörg"
    assert taken.elements.StudyDescription == "Müller^Jörg", "text is text wherever it can be"


@pytest.mark.parametrize(("declared", "name", "fits"), [("ISO_IR 100", LATIN, True), ("ISO_IR 192", LATIN, False)])
@pytest.mark.filterwarnings("ignore")
def test_our_own_words_give_way_to_the_patients(declared: str, name: bytes, fits: bool, make_certificate) -> None:
    structures = (Structure("Lunge λ", ("39607008", "SCT", "Lung"), (90, 160, 220)),)
    certificate = make_certificate(structures=structures, decisions=np.zeros((1, 16, 16), np.uint8))
    result = Result(image_of(film_with(declared, name), accept_any=False), certificate)
    written = dcmread(BytesIO(result.encode("seg")))
    assert written.SpecificCharacterSet == "ISO_IR 192", "the film's where its bytes mean nothing in another, UTF-8 otherwise"
    raw = written.get_item("PatientName").value.rstrip()
    assert raw == ("Müller^Jörg".encode() if fits else name)
    assert written.SegmentSequence[0].SegmentLabel == "Lunge λ"
