"""Builders that several folders of tests share: synthetic certificates, synthetic films and synthetic photographs."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    VLEndoscopicImageStorage,
    VLPhotographicImageStorage,
)

from certdicom.certification.certificate import Certificate, Structure, Window
from certdicom.certification.parameters import SmoothingParameters
from certdicom.imaging.synthetic import synthetic_film
from certdicom.models import backends

assert backends  # blocks OpenVINO's telemetry before a test imports OpenVINO itself

LUNGS = Structure("lungs", ("39607008", "SCT", "Lung"), (86, 180, 233))
HEART = Structure("heart", ("80891009", "SCT", "Heart"), (213, 94, 0))
CLAVICLES = Structure("clavicles", ("51299004", "SCT", "Clavicle"), (0, 158, 115))


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
            "backend": "PyTorch 2.13.0",
            "device": "cpu",
            "precision": "float32",
        }
        return Certificate(**{**fields, **changes})

    return make


@cache
def _synthetic(modality: str, rows: int, columns: int) -> FileDataset:
    film, _ = synthetic_film(modality=modality, rows=rows, columns=columns)
    return film


def _changed(dataset, changes: dict):
    """The data set with attributes set or, when None, removed."""
    for keyword, value in changes.items():
        if value is None:
            del dataset[keyword]
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture
def make_film():
    """A small synthetic film; keyword arguments set or, when None, remove attributes. "SC" is a film that poses as a capture."""

    def make(kind: str = "DX", *, rows: int = 61, columns: int = 83, **changes) -> Dataset:
        film = copy.deepcopy(_synthetic("CR" if kind == "SC" else kind, rows, columns))
        if kind == "SC":
            film.SOPClassUID, film.Modality, film.ConversionType = SecondaryCaptureImageStorage, "OT", "DI"
        film.SOPInstanceUID, film.StudyInstanceUID, film.SeriesInstanceUID = "2.25.101", "2.25.102", "2.25.103"
        film.PatientBirthDate, film.AccessionNumber, film.StudyID = "19700101", "A1", "S1"
        film.ImagerPixelSpacing = ["0.143", "0.143"]
        return _changed(film, changes)

    return make


def draw_photograph(rows: int, columns: int) -> np.ndarray:
    """Skin with a dark spot and a light reflex, (rows, columns, 3) uint8, all three channels different."""
    down, across = np.mgrid[0:rows, 0:columns]
    spot = np.hypot((down - 0.45 * rows) / (0.22 * rows), (across - 0.55 * columns) / (0.18 * columns))
    skin = np.stack([210 - 40 * down / rows, 150 - 20 * across / columns, 130 - 10 * (down + across) / (rows + columns)], axis=-1)
    dark = np.array([95.0, 50.0, 45.0])
    blend = np.clip(4 * (1.15 - spot), 0, 1)[..., None]
    grain = np.random.default_rng(3).normal(0, 4, (rows, columns, 3))
    picture = (1 - blend) * skin + blend * dark + grain
    picture[(down - 0.2 * rows) ** 2 + (across - 0.2 * columns) ** 2 < (0.05 * rows) ** 2] = 255
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def photograph(kind: str = "XC", *, rows: int = 96, columns: int = 128, **changes) -> FileDataset:
    """A synthetic RGB photograph, uncompressed, of the SOP class "XC", "ES" or "SC"; keyword arguments set or remove attributes."""
    classes = {"XC": VLPhotographicImageStorage, "ES": VLEndoscopicImageStorage, "SC": SecondaryCaptureImageStorage}
    made = FileDataset("", {}, preamble=b"\0" * 128, is_implicit_VR=False, is_little_endian=True)
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = classes[kind]
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "2.25.201"
    made.StudyInstanceUID, made.SeriesInstanceUID = "2.25.202", "2.25.203"
    made.Modality = {"XC": "XC", "ES": "ES", "SC": "OT"}[kind]
    made.SpecificCharacterSet = "ISO_IR 192"
    made.PatientName, made.PatientID = "Synthetic^Photograph", "SYNTHETIC"
    made.PatientBirthDate, made.PatientSex = "", "O"
    made.StudyDate = made.ContentDate = made.AcquisitionDate = "20200101"
    made.StudyTime = made.ContentTime = made.AcquisitionTime = "120000"
    made.StudyID, made.AccessionNumber, made.ReferringPhysicianName = "1", "A1", ""
    made.SeriesNumber, made.InstanceNumber, made.Manufacturer = 1, 1, "tests"
    made.ImageType, made.BurnedInAnnotation, made.LossyImageCompression = ["ORIGINAL", "PRIMARY"], "NO", "00"
    made.PatientOrientation = ""
    made.AcquisitionContextSequence = []
    if kind == "SC":
        made.ConversionType = "DI"
        del made.AcquisitionContextSequence
    made.Rows, made.Columns, made.SamplesPerPixel, made.PlanarConfiguration = rows, columns, 3, 0
    made.PhotometricInterpretation = "RGB"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 8, 8, 7, 0
    data = draw_photograph(rows, columns).tobytes()
    made.add_new("PixelData", "OB", data + b"\0" * (len(data) % 2))
    return _changed(made, changes)


@pytest.fixture
def make_photograph():
    """`photograph`."""
    return photograph
