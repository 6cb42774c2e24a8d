"""The same result has the same UID, and any difference makes another."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import UID

from certdicom.certification.certificate import Window
from certdicom.certification.parameters import SmoothingParameters
from certdicom.imaging.reading import image_of
from certdicom.imaging.synthetic import film_bytes
from certdicom.outputs.gsps import build_presentation_state
from certdicom.outputs.radius_map import build_radius_map
from certdicom.outputs.secondary_capture import build_secondary_capture
from certdicom.outputs.seg import build_segmentation
from certdicom.outputs.sr import build_measurement_report
from certdicom.outputs.uids import IMPLEMENTATION_CLASS_UID, ResultIdentity, canonical_json, derive_uid, frame_of_reference_uid

IDENTITY = ResultIdentity(
    source_sop_instance_uid="1.2.3",
    file_sha256="aa",
    bundle_sha256="bb",
    parameters={"sigma": 0.25, "n": 100},
    window=(0.0, 4095.0, "window of the film"),
    backend="PyTorch 2.13.0",
    device="cpu",
    precision="float32",
    draw_identity="cc",
)


def test_a_repeated_derivation_gives_the_same_uid_in_every_process_and_version():
    assert IDENTITY.uid("segmentation instance") == "2.25.197510869320960759735378916699184250281"


@pytest.mark.parametrize(
    "other",
    [
        replace(IDENTITY, source_sop_instance_uid="1.2.4"),
        replace(IDENTITY, file_sha256="ab"),
        replace(IDENTITY, bundle_sha256="bc"),
        replace(IDENTITY, parameters={"sigma": 0.5, "n": 100}),
        replace(IDENTITY, window=(0.0, 4096.0, "window of the film")),
        replace(IDENTITY, window=(1.0, 4095.0, "window of the film")),
        replace(IDENTITY, window=(0.0, 4095.0, "percentiles")),
        replace(IDENTITY, backend="PyTorch 2.14.0"),
        replace(IDENTITY, device="cuda:0"),
        replace(IDENTITY, precision="bfloat16"),
        replace(IDENTITY, draw_identity="cd"),
    ],
)
def test_any_other_ingredient_gives_another_uid(other):
    assert other.uid("series") != IDENTITY.uid("series")


def test_another_version_of_the_method_gives_another_uid(monkeypatch):
    before = IDENTITY.uid("series")
    monkeypatch.setattr("certdicom.outputs.uids.METHOD_VERSION", 99)
    assert IDENTITY.uid("series") != before


def test_every_field_of_an_identity_is_an_ingredient():
    """A new field must be varied above, or two contents may share a UID."""
    assert {field.name for field in fields(IDENTITY)} == {
        *("source_sop_instance_uid", "file_sha256", "bundle_sha256", "parameters", "window", "backend", "device", "precision"),
        "draw_identity",
    }


VARIED = {
    "bundle_sha256": "ef" * 32,
    "parameters": SmoothingParameters(n=101),
    "window": Window(1.0, 4095.0, "window of the film"),
    "draw_identity": "ab" * 32,
    "backend": "another",
    "device": "cuda:0",
    "precision": "bfloat16",
}
"""What a certificate's objects depend on beside film, file and layout."""


def built(film, certificate, **options):
    """SOP Instance and Series Instance UID of each object that is made of a certificate."""
    rows, columns = int(film.Rows), int(film.Columns)
    decisions = np.zeros((3, rows, columns), np.uint8)
    identity = {"file_sha256": options.get("file_sha256", "ef" * 32), "draw_identity": certificate.draw_identity}
    layout = {name: value for name, value in options.items() if name in ("geometry", "abstain")}
    segmentation = build_segmentation(film, decisions, certificate, **identity, **layout)
    image = replace(image_of(film_bytes(film), accept_any=True), file_sha256=identity["file_sha256"])
    abstain = {name: value for name, value in layout.items() if name == "abstain"}
    made = {
        "seg": segmentation,
        "sr": build_measurement_report(film, segmentation, decisions, certificate),
        "sc": build_secondary_capture(film, np.zeros((8, 8, 3), np.uint8), certificate, **identity),
        "gsps": build_presentation_state(image, decisions, certificate, draw_identity=certificate.draw_identity, **abstain),
        "map": build_radius_map(film, np.zeros((rows, columns), np.float32), certificate, **identity),
    }
    return {name: (str(data.SOPInstanceUID), str(data.SeriesInstanceUID)) for name, data in made.items()}


def test_no_object_keeps_its_uid_when_an_ingredient_changes(make_film, make_certificate):
    film, certificate = make_film("CR", rows=64), make_certificate()
    first = built(film, certificate)
    assert first == built(film, certificate), "a repeated run names the same objects"
    others = {name: built(film, replace(certificate, **{name: value})) for name, value in VARIED.items()}
    others["file_sha256"] = built(film, certificate, file_sha256="00" * 32)
    others["film"] = built(make_film("CR", rows=64, SOPInstanceUID="2.25.999"), certificate)
    for ingredient, uids in others.items():
        for name, pair in uids.items():
            assert not set(pair) & set(first[name]), f"{name} keeps a UID under another {ingredient}"
    for layout in ({"geometry": "none"}, {"abstain": "per-structure"}):
        uids = built(film, certificate, **layout)
        changed = ("seg", "sr", "gsps") if "abstain" in layout else ("seg", "sr")
        assert all(not set(uids[name]) & set(first[name]) for name in changed), layout


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
