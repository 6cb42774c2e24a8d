"""Synthetic films as files, and what their pixels are by a route that does not pass through the reader."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film


@pytest.fixture
def film():
    """A small synthetic film, uncompressed; keyword arguments go to synthetic_film."""

    def make(*, rows: int = 120, columns: int = 96, **arguments):
        return synthetic_film(rows=rows, columns=columns, **arguments)[0]

    return make


@pytest.fixture
def read(film):
    """The Radiograph of a synthetic film after `change` edited its header; other arguments go to synthetic_film."""

    def make(change=None, *, encoding="explicit-little", accept_any=False, **arguments):
        dataset = film(**arguments)
        if change is not None:
            change(dataset)
        return read_radiograph(film_bytes(compress(dataset, encoding)), accept_any=accept_any)

    return make


@pytest.fixture
def words():
    """The stored values of an uncompressed little endian film: masked to BitsStored and sign-extended, nothing else."""

    def decode(dataset) -> np.ndarray:
        raw = np.frombuffer(dataset.PixelData, "u1" if dataset.BitsAllocated == 8 else "<u2")[: dataset.Rows * dataset.Columns]
        values = (raw.astype(np.int64) >> (dataset.HighBit + 1 - dataset.BitsStored)) % (1 << dataset.BitsStored)
        if dataset.PixelRepresentation:
            values = np.where(values >= 1 << (dataset.BitsStored - 1), values - (1 << dataset.BitsStored), values)
        return values.reshape(dataset.Rows, dataset.Columns)

    return decode


@pytest.fixture
def real():
    """The path of a file of pydicom-data, or a skip."""

    def find(name: str) -> str:
        path = get_testdata_file(name, download=False)
        if path is None:
            pytest.skip(f"{name} is not here (pip install pydicom-data)")
        return path

    return find
