"""Two results of one film can be told apart in a list of series."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certdicom.certification.certificate import Window
from certdicom.certification.parameters import SmoothingParameters
from certdicom.outputs import series, statements

KINDS = [value for value in vars(series).values() if isinstance(value, series.Series)]
VARIED = {
    "parameters": SmoothingParameters(sigma=0.5),
    "bundle_sha256": "ef" * 32,
    "window": Window(1.0, 4095.0, "given with the request"),
}


@pytest.mark.parametrize("ingredient", VARIED)
def test_another_result_has_other_numbers(make_certificate, ingredient):
    certificate = make_certificate()
    other = replace(certificate, **{ingredient: VARIED[ingredient]})
    numbers = [kind.number_of(one) for kind in KINDS for one in (certificate, other)]
    assert len(set(numbers)) == 2 * len(KINDS)
    assert all(0 < number < 2**31 for number in numbers)
    assert numbers == [kind.number_of(one) for kind in KINDS for one in (certificate, other)]


def test_descriptions_say_sigma_radius_and_bundle_as_far_as_they_fit(make_certificate):
    certificate = make_certificate()
    assert series.SEGMENTATION.description_of(certificate) == "Certified SEG, research use, sigma 0.25, R 0.168, cxr-gray-256"
    long = replace(certificate, bundle_name="a-very-long-name-of-a-bundle", parameters=SmoothingParameters(sigma=0.123456))
    for kind in KINDS:
        assert len(kind.description_of(long)) <= 64
        assert "research use, sigma 0.12" in kind.description_of(long)
    assert series.DRAWING.description_of(certificate).startswith("Drawing, not for measuring, research use, sigma 0.25")


def test_numbers_for_people_are_plain():
    assert [statements.grouped(number) for number in ("214.1", "52200", "0.5", "1234567.25")] == ["214.1", "52,200", "0.5", "1,234,567.25"]
    assert [statements.level(value) for value in (-1024.0, 204.5, 4095.0, 1e7, 0.0)] == ["-1024", "204.5", "4095", "10000000", "0"]
