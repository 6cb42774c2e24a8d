"""Builders that several folders of tests share: synthetic certificates and synthetic films."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from certdicom.certification.certificate import Certificate, Structure, Window
from certdicom.certification.parameters import SmoothingParameters

LUNGS = Structure("lungs", ("39607008", "SCT", "Lung"), (86, 180, 233))
HEART = Structure("heart", ("80891009", "SCT", "Heart"), (213, 94, 0))
CLAVICLES = Structure("clavicles", ("51299004", "SCT", "Clavicle"), (0, 158, 115))

SOP_CLASSES = {
    "DX": "1.2.840.10008.5.1.4.1.1.1.1",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
    "SC": "1.2.840.10008.5.1.4.1.1.7",
}


@pytest.fixture
def make_certificate():
    """A certificate over a small grid; keyword arguments replace any of its fields."""

    def make(**changes) -> Certificate:
        structures = changes.get("structures", (LUNGS, HEART, CLAVICLES))
        decisions = changes.pop("decisions", np.zeros((len(structures), 16, 16), np.uint8))
        fields = {
            "decisions": decisions,
            "counts": np.full(decisions.shape, 100, np.int32),
            "parameters": SmoothingParameters(),
            "structures": structures,
            "native_scale": 1270.0,
            "native_unit": "stored values",
            "window": Window(0.0, 4095.0, "window of the film"),
            "bundle_name": "cxr-gray-256",
            "bundle_sha256": "ab" * 32,
            "seed_kind": "os-entropy",
            "draw_identity": "cd" * 32,
            "device": "cpu",
            "precision": "float32",
        }
        return Certificate(**{**fields, **changes})

    return make


@pytest.fixture
def make_film():
    """A small film with the attributes that its IOD requires; keyword arguments set or, when None, remove attributes."""

    def make(kind: str = "DX", *, rows: int = 61, columns: int = 83, **changes) -> Dataset:
        film = Dataset()
        film.file_meta = FileMetaDataset()
        film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        film.SOPClassUID = SOP_CLASSES[kind]
        film.SOPInstanceUID, film.StudyInstanceUID, film.SeriesInstanceUID = "2.25.101", "2.25.102", "2.25.103"
        film.PatientName, film.PatientID = "Synthetic^Film", "SYNTHETIC-1"
        film.PatientBirthDate, film.PatientSex = "19700101", "O"
        film.AccessionNumber, film.StudyID, film.StudyDate, film.StudyTime = "A1", "S1", "20260102", "030405"
        film.ReferringPhysicianName, film.Manufacturer = "", "Synthetic Films"
        film.Modality = {"SC": "OT"}.get(kind, kind)
        film.SeriesNumber, film.InstanceNumber = 1, 1
        film.BodyPartExamined, film.PatientOrientation, film.ViewPosition = "CHEST", ["L", "F"], "PA"
        film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
        film.Rows, film.Columns = rows, columns
        film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
        film.ImagerPixelSpacing = ["0.143", "0.143"]
        film.PixelData = np.zeros((rows, columns), np.uint16).tobytes()
        for keyword, value in changes.items():
            if value is None:
                del film[keyword]
            else:
                setattr(film, keyword, value)
        return film

    return make
