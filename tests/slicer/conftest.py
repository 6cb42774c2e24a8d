"""Slicer's module lies beside the package: its parts without Slicer are imported as Slicer imports them."""

from __future__ import annotations

import sys
from pathlib import Path

MODULE = Path(__file__).parents[2] / "slicer" / "CertDicom"
sys.path.insert(0, str(MODULE))
