"""Nothing that names a patient is shown by accident: not by messages, and not by tracebacks that show local variables."""

from __future__ import annotations

import copy
import pickle
import traceback
from pathlib import Path

import pytest

from certdicom.errors import ImageRefusedError
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import film_bytes, synthetic_film

PRIVATE = {
    "PatientName": "Zwiebelfisch^Querulant",
    "PatientID": "PID_4711_SECRET",
    "PatientBirthDate": "19530217",
    "InstitutionName": "Klinik am Quellenhof",
    "AccessionNumber": "ACC0815",
}
WORDS = ("Zwiebelfisch", "Querulant", "4711", "19530217", "Quellenhof", "ACC0815")


def film(tmp_path: Path, **changes: object) -> Path:
    dataset, _ = synthetic_film(rows=80, columns=72)
    for keyword, value in (PRIVATE | changes).items():
        setattr(dataset, keyword, value)
    path = tmp_path / "film.dcm"
    path.write_bytes(film_bytes(dataset))
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"ViewPosition": "LL"},
        {"Modality": "CT"},
        {"BodyPartExamined": "PELVIS"},
        {"PixelData": b"\0" * 100},
        {"Columns": 7},
        {"BitsStored": 40},
        {"NumberOfFrames": 7},
        {"PhotometricInterpretation": "QUERULANT"},
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_refusal_names_no_patient_in_message_or_traceback(tmp_path: Path, changes: dict) -> None:
    path = film(tmp_path, **changes)
    with pytest.raises(ImageRefusedError) as caught:
        read_image(path)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert "image_of" in shown
    assert not any(word in shown for word in WORDS)
    with pytest.raises(ImageRefusedError) as caught:
        read_image(path.read_bytes())
    assert not any(word in str(caught.value) for word in WORDS)


def test_a_truncated_file_names_no_patient(tmp_path: Path) -> None:
    path = film(tmp_path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(ImageRefusedError) as caught:
        read_image(path)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert not any(word in shown for word in WORDS)


def test_the_data_set_is_a_line_in_a_notebook_and_whole_for_who_prints_it(tmp_path: Path) -> None:
    dataset = read_image(film(tmp_path)).dataset
    assert repr(dataset).startswith("<data set of ")
    assert "Zwiebelfisch" in str(dataset)
    for copied in (copy.deepcopy(dataset), pickle.loads(pickle.dumps(dataset))):  # noqa: S301  # our own
        assert copied == dataset
        assert repr(copied) == repr(dataset)
