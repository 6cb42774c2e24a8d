"""The names and signatures that people build on."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import certdicom
import certdicom.certification


def test_the_public_names_are_these() -> None:
    assert set(certdicom.__all__) >= {"SmoothingParameters", "certify", "load_bundle", "read_radiograph", "write_segmentation"}
    for name in certdicom.__all__:
        assert getattr(certdicom, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'certfy'"):
        _ = certdicom.certfy


def test_the_signatures_take_what_they_promise() -> None:
    assert list(inspect.signature(certdicom.certify).parameters)[:3] == ["film", "bundle", "parameters"]
    assert list(inspect.signature(certdicom.write_segmentation).parameters)[:3] == ["certificate", "film", "path"]
    assert next(iter(inspect.signature(certdicom.read_radiograph).parameters)) == "source"
    parameters = inspect.signature(certdicom.certification.certify_grid).parameters
    assert list(parameters)[:3] == ["u", "decide", "parameters"]
    assert parameters["seed"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["batch_size"].default == 16


def test_the_core_certifies_any_decision_function() -> None:
    result = certdicom.certification.certify_grid(
        np.zeros((2, 12, 10), np.float32),
        lambda batch: batch.mean(1, keepdim=True).expand(-1, 3, -1, -1) > -5,
        certdicom.SmoothingParameters(sigma=0.25, n0=10, n=100, alpha=1e-3),
        seed=b"any bytes",
        batch_size=16,
    )
    assert result.decisions.shape == (3, 12, 10)
    assert result.decisions.dtype == np.uint8
    assert result.counts.dtype == np.int32
    assert (result.decisions == 1).all()
