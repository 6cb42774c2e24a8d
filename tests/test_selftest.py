"""The acceptance test that users run passes here, and fails when something is off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from certdicom import BundleError, load_bundle
from certdicom.selftest import EXPECTATION, run_selftest


def test_the_shipped_bundle_passes() -> None:
    checks = list(run_selftest(load_bundle()))
    assert [check.passed for check in checks] == [True, True, True], checks


def test_another_result_than_recorded_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from certdicom import selftest

    copy = tmp_path / "copy"
    shutil.copytree(load_bundle().folder, copy)
    expected = json.loads((copy / EXPECTATION).read_text())
    (copy / EXPECTATION).write_text(json.dumps({**expected, "heart": expected["heart"] + 0.02}))
    check = selftest._against_expectation(load_bundle(copy), expected, "cpu")
    assert not check.passed
    (copy / EXPECTATION).write_text(json.dumps({"lung": 0.5}))
    with pytest.raises(BundleError, match="measures lung, and the bundle gives abstain_fraction, lungs"):
        selftest._against_expectation(load_bundle(copy), expected, "cpu")
    assert selftest._against_expectation(load_bundle(), expected, "cpu").passed
