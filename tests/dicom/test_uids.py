"""The same result has the same UID, and any difference makes another."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from certdicom.dicom.uids import IMPLEMENTATION_CLASS_UID, ResultIdentity, canonical_json, derive_uid, frame_of_reference_uid

IDENTITY = ResultIdentity(
    source_sop_instance_uid="1.2.3", file_sha256="aa", bundle_sha256="bb", parameters={"sigma": 0.25, "n": 100}, draw_identity="cc"
)


def test_a_repeated_derivation_gives_the_same_uid_in_every_process_and_version():
    assert IDENTITY.uid("segmentation instance") == "2.25.245469350765270358526451981117700251762"


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, source_sop_instance_uid="1.2.4"),
        replace(IDENTITY, file_sha256="ab"),
        replace(IDENTITY, bundle_sha256="bc"),
        replace(IDENTITY, parameters={"sigma": 0.5, "n": 100}),
        replace(IDENTITY, draw_identity="cd"),
    ],
)
def test_any_other_ingredient_gives_another_uid(other):
    assert other.uid("series") != IDENTITY.uid("series")


def test_roles_do_not_share_a_uid():
    assert IDENTITY.uid("series") != IDENTITY.uid("instance")


def test_the_order_of_parameters_does_not_matter():
    assert replace(IDENTITY, parameters={"n": 100, "sigma": 0.25}).uid("series") == IDENTITY.uid("series")


def test_results_of_one_film_share_their_frame_of_reference():
    assert frame_of_reference_uid("1.2.3") == frame_of_reference_uid("1.2.3") != frame_of_reference_uid("1.2.4")


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_every_derived_uid_is_valid_and_fits_64_characters(parts):
    uid = UID(derive_uid(*parts))
    assert uid.is_valid
    assert len(uid) <= 64


def test_parts_cannot_run_into_each_other():
    assert derive_uid("ab", "c") != derive_uid("a", "bc")


def test_the_implementation_class_uid_is_valid():
    assert UID(IMPLEMENTATION_CLASS_UID).is_valid


def test_canonical_json_refuses_what_json_does_not_know():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"x": float("nan")})
