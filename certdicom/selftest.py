"""The acceptance test after an install or an upgrade: known answers, from the statistics to the written SEG.

A bundle keeps what its networks gave on the synthetic film when they were packed (`selftest.json`); another machine, device or
precision must come out within a tolerance. No patient data is involved.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
from pydicom import dcmread

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Certificate
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import Progress, certify_grid
from certdicom.errors import BundleError
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.bundle import Bundle
from certdicom.outputs.result import Result
from certdicom.pipeline import Certifier, Computation

EXPECTATION = "selftest.json"
_SITE_KEY = b"certdicom self-test, not a secret"
_TOLERANCE = 0.01
"""Share of the grid by which an area or the abstention may differ from what the bundle recorded."""


@dataclass(frozen=True)
class Check:
    """One check: its name, whether it held, and what was seen."""

    name: str
    passed: bool
    detail: str


def run_selftest(bundle: Bundle, computation: Computation | None = None, *, progress: Progress | None = None) -> Iterator[Check]:
    """All checks, one after the other. UsageError when what `computation` asks for is not there."""
    yield _known_probabilities()
    result = certify_synthetic_film(bundle, computation or Computation(), progress=progress)
    certificate = result.certificate
    place = f"{certificate.device}, {certificate.precision} by {certificate.backend}"
    yield _against_expectation(bundle, measurements(certificate), place)
    yield _written_and_read_back(result)


def certify_synthetic_film(bundle: Bundle, computation: Computation, *, progress: Progress | None = None) -> Result:
    """The synthetic film's result, with draws keyed by a published key."""
    dataset, _ = synthetic_film(rows=1280, columns=1024, seed=1)
    film = read_radiograph(film_bytes(dataset))
    parameters = SmoothingParameters(sigma=bundle.nearest_sigma(SmoothingParameters().sigma))
    return Certifier(bundle, parameters, replace(computation, site_key=_SITE_KEY)).certify(film, accept_any=True, progress=progress)


def measurements(certificate: Certificate) -> dict[str, float]:
    """Shares of the grid: abstained, and certified present per structure."""
    shares = {"abstain_fraction": certificate.abstain_fraction}
    for structure, plane in zip(certificate.structures, certificate.decisions, strict=True):
        shares[structure.label] = float((plane == PRESENT).mean())
    return {name: round(value, 5) for name, value in shares.items()}


def _known_probabilities() -> Check:
    """A base segmenter whose every probability is known: no certified decision may be wrong, most must be certified."""
    parameters = SmoothingParameters(sigma=0.25)
    p = np.linspace(0.0001, 0.9999, 64 * 64).reshape(1, 64, 64)
    u = (0.5 + 0.25 * np.vectorize(NormalDist().inv_cdf)(p)).astype(np.float32)
    decisions = certify_grid(u, lambda batch: batch > 0.5, parameters, seed=_SITE_KEY, arrays="numpy").decisions
    wrong = int(((decisions == PRESENT) & (p <= parameters.tau)).sum() + ((decisions == ABSENT) & (1 - p <= parameters.tau)).sum())
    certified = float((decisions != ABSTAIN).mean())
    return Check(
        "statistics on known probabilities", wrong == 0 and certified > 0.05, f"{wrong} of {p.size} wrong, {certified:.1%} certified"
    )


def _against_expectation(bundle: Bundle, seen: dict[str, float], place: str) -> Check:
    path = bundle.folder / EXPECTATION
    try:
        expected = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"bundle {bundle.name} has no readable {EXPECTATION}, so its self-test is unknown: {error}") from error
    if set(expected) != set(seen):
        raise BundleError(f"{path} measures {', '.join(expected)}, and the bundle gives {', '.join(seen)}; pack it again")
    worst = max(abs(seen[name] - expected[name]) for name in expected)
    shown = ", ".join(f"{name} {seen[name]:.3f} (expected {expected[name]:.3f})" for name in expected)
    return Check(f"certificate of the synthetic film on {place}", worst <= _TOLERANCE, shown)


def _written_and_read_back(result: Result) -> Check:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seg.dcm"
        result.save(path)
        planes = np.atleast_3d(dcmread(path).pixel_array)
    expected = np.stack([*map(result.mask, result.structures), result.abstained])
    same = planes.shape == expected.shape and bool((planes.astype(bool) == expected).all())
    return Check("SEG written and read back", same, f"{len(expected)} segments of {expected.shape[2]} × {expected.shape[1]} pixels")


def record_expectation(bundle: Bundle, write: Callable[[str], object]) -> None:
    """Write what the networks give in float32 on this machine, as the bundle's expectation."""
    result = certify_synthetic_film(bundle, Computation(device="cpu", precision="float32"))
    write(json.dumps(measurements(result.certificate), indent=2) + "\n")
