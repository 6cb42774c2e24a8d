"""Slicer's module lies beside the package: its parts without Slicer are imported as Slicer imports them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from certdicom import Bundle, load_bundle
from certdicom.models.backends.export import export_bundle
from tests.tiny import write_tiny_bundle

MODULE = Path(__file__).parents[2] / "slicer" / "CertDicom"
sys.path.insert(0, str(MODULE))


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> Bundle:
    """Untrained networks as programs, which a process loads in a moment."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    write_tiny_bundle(folder)
    export_bundle(folder)
    return load_bundle(folder)
