"""Builders that several folders of tests share: synthetic certificates and synthetic films."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import SecondaryCaptureImageStorage

from certdicom.certification.certificate import Certificate, Structure, Window
from certdicom.certification.parameters import SmoothingParameters
from certdicom.imaging.synthetic import synthetic_film

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
            "device": "cpu",
            "precision": "float32",
        }
        return Certificate(**{**fields, **changes})

    return make


@cache
def _synthetic(modality: str, rows: int, columns: int) -> FileDataset:
    film, _ = synthetic_film(modality=modality, rows=rows, columns=columns)
    return film


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
        for keyword, value in changes.items():
            if value is None:
                del film[keyword]
            else:
                setattr(film, keyword, value)
        return film

    return make
