"""The claims of speed, measured."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.slow
def test_the_statistics_are_at_least_300_times_as_fast_as_per_pixel_at_512() -> None:
    outcome = subprocess.run([sys.executable, str(ROOT / "benchmarks" / "statistics_speed.py")], capture_output=True, text=True, check=True)
    ratio = re.search(r"ratio (\d+) x, equal decisions", outcome.stdout)
    assert ratio is not None, outcome.stdout
    assert int(ratio[1]) >= 300
