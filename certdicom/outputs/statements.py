"""What a certificate says, in words for people and in JSON for programs; ASCII only, so that any character set holds it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from certdicom.certification.answer import answer_of
from certdicom.certification.certificate import Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.outputs.uids import canonical_json

RESEARCH_USE = "Research use only, not a medical device."
STABILITY = "Stability, not correctness."
EXPLANATION = (
    "Too few draws is a forecast from the observed agreement and no guarantee. Unstable is shown with the certificate's confidence "
    "for all pixels together, beside the certificate."
)

OUTSIDE = "Every pixel outside the Abstain segment"
UNHATCHED = "Every unhatched pixel"

_LONG_TEXT = 10240


def confidence(certificate: Certificate) -> str:
    """`99.9 %` for alpha = 0.001: the probability that no certificate of the image is wrong."""
    return f"{100 * (1 - certificate.parameters.alpha):.10g} %"


def grouped(number: str) -> str:
    """`52200` as `52,200`; what follows a decimal point stays."""
    whole, point, rest = number.partition(".")
    return f"{int(whole):,}{point}{rest}"


def level(value: float) -> str:
    """One end of a window to six significant digits, without an exponent: `-1024`, `204.5`, `1000000`."""
    text = format(Decimal(f"{value:.6g}"), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def radius_phrase(certificate: Certificate) -> str:
    """`L2 norm R = 0.1686 on the model grid (= 214.1 stored values)`, both rounded down."""
    grid, native = rounded_down(certificate.radius), rounded_down(certificate.native_radius)
    return f"L2 norm R = {grid} on the model grid (= {grouped(native)} {certificate.native_unit})"


def terms(certificate: Certificate) -> str:
    """Under what the claim holds: which window the image is shown by, and what must be the same for it."""
    window = certificate.window
    if window.displayed:
        held = "its displayed window found anew"
    elif certificate.medium == "film":
        held = f"shown by the same window, {level(window.lo)} to {level(window.hi)} ({window.source})"
    else:
        held = f"shown by {window.source}"
    if certificate.padding_declared:
        held = f"{held}, with the same pixels declared as padding"
    if (crop := certificate.crop) is not None:
        rows, columns = f"{crop.top + 1} to {crop.top + crop.rows}", f"{crop.left + 1} to {crop.left + crop.columns}"
        held = f"{held}, analysed in rows {rows} and columns {columns} alone (nothing is said elsewhere, and no change there matters)"
    return held


def guarantee(certificate: Certificate, *, subject: str) -> str:
    """The claim of section 1 of the method: `subject` keeps its label under any small enough change of the image, on its terms."""
    within = f"under any change of the {certificate.medium} up to {radius_phrase(certificate)}, {terms(certificate)}"
    return f"{subject} keeps its label, the model's majority decision under noise, {within}, with {confidence(certificate)} confidence."


def what_can_happen(certificate: Certificate) -> str:
    """What a claim about majorities leaves open."""
    return (
        f"Of a {certificate.medium} changed within this radius, or of the same one certified again, a label may be silenced, by "
        "abstaining or by a refusal of the whole, but not turned into its opposite. Who keeps the best of m runs has m times the chance of "
        "a wrong label."
    )


def answer(certificate: Certificate) -> dict[str, Any]:
    """At which radius another run answers again, for programs and in a sentence (`certification.answer`)."""
    found = answer_of(certificate)
    power, n = f"{100 * found.power:.0f} %", certificate.parameters.n
    half = float(np.median(found.radii)) if found.radii.size else 0.0
    if found.largest == 0:
        text = f"No radius at n = {n} is small enough to promise with {power} power that another run answers again; take more draws."
    else:
        text = (
            f"Another run with n = {n} answers again with {power} power under changes up to {rounded_down(found.largest)} on the grid "
            f"where all draws agreed, and up to some radius at {100 * found.share:.1f} % of what is certified."
        )
    return {
        "power": found.power,
        "largest_radius": float(rounded_down(found.largest, 9)) if found.largest else None,
        "median_radius": float(rounded_down(half, 9)) if half else None,
        "share": found.share,
        "text": text,
    }


def claim(certificate: Certificate, *, subject: str) -> str:
    """All that is claimed, and what is not, in sentences."""
    return " ".join([guarantee(certificate, subject=subject), what_can_happen(certificate), STABILITY, RESEARCH_USE])


def radius_claim(certificate: Certificate) -> str:
    """What a map of the certified radius claims."""
    return (
        f"No structure's majority decision under noise changes at a pixel under any change of the {certificate.medium} up to the L2 norm "
        f"shown there, in units of the model grid, {terms(certificate)}, with {confidence(certificate)} confidence "
        f"for all pixels together. One unit is {grouped(rounded_down(certificate.native_scale))} {certificate.native_unit}. "
        f"{what_can_happen(certificate)} {STABILITY} {RESEARCH_USE}"
    )


def plain(certificate: Certificate) -> tuple[str, str, str]:
    """For who looks at a picture of it: what is certified, what is hatched, and what neither of them says."""
    return (
        f"Not hatched: stable. With {confidence(certificate)} confidence no change of the {certificate.medium} within the radius below "
        "turns what the model says here into its opposite. Another run may say nothing here.",
        "Hatched: no answer. Not a finding, and not the absence of one.",
        f"{STABILITY} A stable outline can be wrong.",
    )


def at_a_glance(certificate: Certificate) -> str:
    """`plain` with the radius, for where there is room for a few lines and the whole claim stands elsewhere in the object."""
    return (
        f"Not hatched: stable. With {confidence(certificate)} confidence no change of the {certificate.medium} up to "
        f"{radius_phrase(certificate)} turns what the model says here into its opposite. Hatched: no answer, not a finding. "
        f"{STABILITY} {RESEARCH_USE}"
    )


def draws(certificate: Certificate) -> str:
    """`100`; after a test with several looks `300 of looks 100, 300, 1000`."""
    looks = certificate.parameters.planned_looks
    return f"{certificate.draws} of looks {', '.join(map(str, looks))}" if len(looks) > 1 else str(certificate.draws)


def settings(certificate: Certificate) -> str:
    """What a picture says of its making, in a line."""
    parameters = certificate.parameters
    return (
        f"sigma {parameters.sigma:g}, tau {parameters.tau:g}, n0 {parameters.n0}, n {draws(certificate)}, "
        f"alpha {parameters.alpha:g}. Bundle {certificate.bundle_name}, {certificate.bundle_sha256[:12]}."
    )


def structure_description(label: str, certificate: Certificate) -> str:
    claim = guarantee(certificate, subject="Every pixel of this segment")
    outside = "Pixels outside it are certified absent or in the Abstain segment."
    return f"{label}: certified present. {claim} {outside} {STABILITY} {RESEARCH_USE}"


def abstain_description(label: str | None, certificate: Certificate) -> str:
    """Of the union over all structures (`label` None) or of one structure."""
    not_analysed = " What was not analysed is part of it." if certificate.crop else ""
    which = "at least one structure" if label is None else label
    return (
        f"Pixels at which the decision for {which} is not certified: the result says nothing there.{not_analysed} "
        f"Abstaining is not a finding and not the absence of one. {RESEARCH_USE}"
    )


def parameter_lines(certificate: Certificate, *, extra: Sequence[str] = ()) -> list[str]:
    """The certificate for a structured report, one statement a line: claim, limits, `name = value` and what `extra` adds."""
    window, parameters = certificate.window, certificate.parameters
    values: dict[str, object] = {
        **parameters.as_dict(),
        "radius on the model grid (L2)": rounded_down(certificate.radius, 6),
        f"radius in {certificate.native_unit} (L2)": grouped(rounded_down(certificate.native_radius, 6)),
        "model grid": "{} x {}".format(*certificate.shape),
        "hypotheses": certificate.hypotheses,
        "family": certificate.family,
        "draws counted": draws(certificate),
        **({"unions": "; ".join(certificate.union_labels)} if certificate.union_labels else {}),
        "window": f"{level(window.lo)} to {level(window.hi)}, {window.source}",
        "bundle": certificate.bundle_name,
        "bundle SHA-256": certificate.bundle_sha256,
        "draws": certificate.seed_kind,
        "computed on": f"{certificate.device} in {certificate.precision} by {certificate.backend}",
    }
    return [
        f"claim: {guarantee(certificate, subject=OUTSIDE)}",
        f"limits: {what_can_happen(certificate)} {STABILITY} {RESEARCH_USE}",
        *(f"{name} = {value}" for name, value in values.items()),
        *extra,
        *(f"note: {note}" for note in certificate.notes),
    ]


def machine_readable(certificate: Certificate, *, software_version: str) -> str:
    """The certificate's parameters as canonical JSON of at most 10240 characters, the limit of LT."""
    window = certificate.window
    content: dict[str, Any] = {
        **certificate.parameters.as_dict(),
        "radius_grid": float(rounded_down(certificate.radius, 9)),
        "radius_native": float(rounded_down(certificate.native_radius, 9)),
        "native_unit": certificate.native_unit,
        "norm": "L2",
        "grid": certificate.grid,
        "hypotheses": certificate.hypotheses,
        "family": certificate.family,
        "draws_counted": certificate.draws,
        "bundle": certificate.bundle_name,
        "bundle_sha256": certificate.bundle_sha256,
        "window": {"lo": float(window.lo), "hi": float(window.hi), "source": window.source},
        "terms": terms(certificate),
        "draws": certificate.seed_kind,
        "backend": certificate.backend,
        "device": certificate.device,
        "precision": certificate.precision,
        "abstain_fraction": certificate.abstain_fraction,
        "software": f"certdicom {software_version}",
        "notes": list(certificate.notes),
    }
    text = canonical_json(content)
    if len(text) > _LONG_TEXT:
        content["notes"] = [f"{len(certificate.notes)} notes left out for length"]
        text = canonical_json(content)
    return text
