"""One image from file to objects: the only place that joins imaging, certification, models, DICOM and presentation.

The command line and the node both come through here.
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Certificate
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.noise import derive_seed
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import Progress, certify_grids
from certdicom.files import write_atomically
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.suitability import judge_picture, notes_for, require_suitable

if TYPE_CHECKING:
    from certdicom.certification.certificate import SeedKind
    from certdicom.certification.sampling import BaseSegmenter
    from certdicom.imaging.image import SourceImage
    from certdicom.models.backends.torch import TorchBackend
    from certdicom.outputs.explanation_picture import StructureExplanation

Geometry = Literal["viewer", "none"]
AbstainSegments = Literal["union", "per-structure"]

TARGETS = {
    "output": ".seg.dcm",
    "sr": ".sr.dcm",
    "sc": ".sc.dcm",
    "radius_map": ".radius.dcm",
    "preview": ".png",
    "report": ".json",
    "explain": ".why.png",
    "nrrd": ".seg.nrrd",
    "nifti": ".nii.gz",
}
"""What can be written of a result, and the ending of its file's name."""

DEFAULT_BATCH = 10


@dataclass(frozen=True, kw_only=True)
class Computation:
    """How to compute, as opposed to what.

    `device`: auto, cpu, cuda or cuda:i; `precision`: auto, float32, bfloat16 or float16; `batch_size`: draws in memory at once, which
    changes nothing else; `site_key`: makes the draws repeatable by its owner and unpredictable to others; without it the system's
    entropy is used.
    """

    device: str = "auto"
    precision: str = "auto"
    batch_size: int = DEFAULT_BATCH
    site_key: bytes | None = None


class _Stopwatch:
    """Seconds per named stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def stage(self, name: str) -> AbstractContextManager[None]:
        @contextmanager
        def timed() -> Iterator[None]:
            start = time.perf_counter()
            try:
                yield
            finally:
                self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

        return timed()


class Certifier:
    """A bundle at one noise level, ready on a device: load once, certify many films."""

    def __init__(self, bundle: Bundle, parameters: SmoothingParameters, computation: Computation | None = None) -> None:
        """Check the request before any slow work; networks are loaded on first use. UsageError when it is impossible."""
        bundle.require_sigma(parameters.sigma)
        Hypotheses(len(bundle.structures), parameters.unions).require_certifiable(parameters, cells=bundle.cells)
        self.bundle = bundle
        self.parameters = parameters
        self.computation = computation or Computation()
        self._loaded: tuple[TorchBackend, BaseSegmenter] | None = None

    def load(self) -> tuple[TorchBackend, BaseSegmenter]:
        """What runs the networks, imported and loaded on the first call."""
        if self._loaded is None:
            from certdicom.models.backends.torch import TorchBackend

            backend = TorchBackend(device=self.computation.device, precision=self.computation.precision)
            self._loaded = backend, backend.base_segmenter(self.bundle, sigma=self.parameters.sigma)
        return self._loaded

    def certify(self, film: SourceImage, *, accept_any: bool = False, progress: Progress | None = None) -> Certificate:
        """Certify one film or photograph. ImageRefusedError when the bundle is not for such an image, or the picture implausible.

        `accept_any` waives both, but for colours in a bundle that takes gray films.
        """
        require_suitable(film, self.bundle, accept_any=accept_any)
        watch = _Stopwatch()
        with watch.stage("networks"):
            backend, segmenter = self.load()
        with watch.stage("grid"):
            from certdicom.imaging.grid import to_grid

            image = to_grid(film, self.bundle.shape)
        seed, seed_kind = self._seed(film)
        notes = [*image.notes, *notes_for(film, self.bundle)]
        repeated = self.bundle.channels // film.channels

        def judge(selected: NDArray[np.bool_]) -> None:
            notes.extend(judge_picture(selected, image.u[0], self.bundle, accept_any=accept_any))

        with watch.stage("draws"):
            ((result,),) = certify_grids(
                [np.concatenate([image.u] * repeated)],
                [segmenter],
                [self.parameters],
                seeds=[seed],
                batch_size=self.computation.batch_size,
                after_selection=judge,
                progress=progress,
            )
        return Certificate(
            decisions=result.decisions,
            counts=result.counts,
            parameters=self.parameters,
            structures=self.bundle.structures,
            native_scale=image.native_scale / math.sqrt(repeated),  # a change of d on a gray film is one of d·√repeated on its copies
            native_unit=image.native_unit,
            window=image.window,
            bundle_name=self.bundle.name,
            bundle_sha256=self.bundle.sha256,
            seed_kind=seed_kind,
            draw_identity=hashlib.sha256(seed).hexdigest(),
            backend=backend.name,
            device=str(backend.device),
            precision=backend.precision,
            unions=result.unions,
            stopped_at=result.draws if result.draws < self.parameters.n else None,
            medium=film.medium,
            notes=tuple(notes),
            seconds=watch.seconds,
        )

    def _seed(self, film: SourceImage) -> tuple[bytes, SeedKind]:
        """The seed of this image's draws. It depends on pixels, bundle and parameters, and on nothing by which anybody could draw again."""
        asked = {**self.parameters.as_dict(), "bundle": self.bundle.sha256}
        return derive_seed(self.computation.site_key, pixels_sha256=_digest_of_pixels(film.stored_values), parameters=asked)


def _digest_of_pixels(stored: NDArray[np.integer]) -> bytes:
    """SHA-256 over shape and values, whatever the type that holds them."""
    digest = hashlib.sha256(repr(stored.shape).encode())
    for row in stored:
        digest.update(row.astype("<i8").tobytes())
    return digest.digest()


def certify(
    film: SourceImage,
    bundle: Bundle | None = None,
    parameters: SmoothingParameters | None = None,
    *,
    computation: Computation | None = None,
    accept_any: bool = False,
    progress: Progress | None = None,
) -> Certificate:
    """Certify one film or photograph with `bundle` (the default one when None): see Certificate for what the result claims.

    UsageError for an impossible request, ImageRefusedError when image and bundle do not go together (`Certifier.certify`).
    """
    certifier = Certifier(bundle or load_bundle(), parameters or SmoothingParameters(), computation)
    return certifier.certify(film, accept_any=accept_any, progress=progress)


def film_decisions(certificate: Certificate, film: SourceImage) -> NDArray[np.uint8]:
    """The certificate's decisions on the film: uint8 (structures, rows, columns); each stored pixel takes its grid cell's."""
    from certdicom.imaging.grid import to_film

    return to_film(certificate.decisions, rows=film.rows, columns=film.columns).astype(np.uint8, copy=False)


def film_unions(certificate: Certificate, film: SourceImage) -> NDArray[np.uint8] | None:
    """The decisions about unions on the film, like `film_decisions`: uint8 (unions, rows, columns); None where there are none."""
    from certdicom.imaging.grid import to_film

    if certificate.unions is None:
        return None
    return to_film(certificate.unions.decisions, rows=film.rows, columns=film.columns).astype(np.uint8, copy=False)


def write_segmentation(
    certificate: Certificate,
    film: SourceImage,
    path: str | Path,
    *,
    geometry: Geometry = "viewer",
    abstain: AbstainSegments = "union",
    force: bool = False,
) -> None:
    """Write the certified segmentation of `film` as a DICOM SEG file, atomically.

    OutputError when it cannot be written, or exists and not `force`.
    """
    write_results(certificate, film, {"output": Path(path)}, geometry=geometry, abstain=abstain, force=force)


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Libraries' warnings quote values of the film, which may be private: they must reach neither screen nor log."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@_without_warnings()
def write_results(
    certificate: Certificate,
    film: SourceImage,
    targets: Mapping[str, Path],
    *,
    geometry: Geometry = "viewer",
    abstain: AbstainSegments = "union",
    force: bool = False,
    started: float | None = None,
) -> dict[str, Any]:
    """Write what `targets` names (a subset of TARGETS, each with its file) and return the report.

    `started`: a `time.perf_counter()` from which the report's total time counts. Each file is written atomically, the report
    last. OutputError when one cannot be written, or exists and not `force`.
    """
    from certdicom.outputs.report_json import build_report, report_json

    watch = _Stopwatch()
    decisions, unions = film_decisions(certificate, film), film_unions(certificate, film)
    if "output" in targets or "sr" in targets:  # the report points at the segmentation, whether or not that is written too
        from certdicom.outputs.seg import build_segmentation, save

        with watch.stage("seg"):
            segmentation = build_segmentation(
                film.dataset,
                decisions,
                certificate,
                geometry=geometry,
                abstain=abstain,
                file_sha256=film.file_sha256,
                draw_identity=certificate.draw_identity,
            )
            if "output" in targets:
                save(segmentation, targets["output"], force=force)
        if "sr" in targets:
            from certdicom.outputs.sr import build_measurement_report

            with watch.stage("sr"):
                save(build_measurement_report(film.dataset, segmentation, decisions, certificate), targets["sr"], force=force)
    if "preview" in targets or "sc" in targets:
        _write_pictures(certificate, film, decisions, unions, targets, watch=watch, force=force)
    if "radius_map" in targets:
        with watch.stage("radius_map"):
            _write_radius_map(certificate, film, targets["radius_map"], force=force)
    if "nrrd" in targets:
        from certdicom.outputs.nrrd import save_seg_nrrd

        with watch.stage("nrrd"):
            save_seg_nrrd(film.dataset, decisions, certificate, targets["nrrd"], abstain=abstain, force=force)
    if "nifti" in targets:
        from certdicom.outputs.nifti import save_nifti

        with watch.stage("nifti"):
            save_nifti(film.dataset, decisions, certificate, targets["nifti"], abstain=abstain, force=force)
    with watch.stage("explanation"):
        explanation = _explain(certificate, film, decisions, targets.get("explain"), force=force)
    seconds = {**certificate.seconds, **watch.seconds}
    seconds["total"] = time.perf_counter() - started if started is not None else sum(seconds.values())
    report = build_report(
        certificate,
        decisions,
        unions=unions,
        explanation=explanation,
        sop_instance_uid=film.sop_instance_uid,
        file_sha256=film.file_sha256,
        seconds=seconds,
    )
    if "report" in targets:
        write_atomically(targets["report"], report_json(report), force=force)
    return report


def _write_pictures(
    certificate: Certificate,
    film: SourceImage,
    decisions: NDArray[np.uint8],
    unions: NDArray[np.uint8] | None,
    targets: Mapping[str, Path],
    *,
    watch: _Stopwatch,
    force: bool,
) -> None:
    from certdicom.outputs.preview import render_preview, save_preview

    with watch.stage("preview"):
        picture = render_preview(film.display(), decisions, certificate, unions=unions)
        if "preview" in targets:
            save_preview(picture, targets["preview"], force=force)
    if "sc" in targets:
        from certdicom.outputs.secondary_capture import build_secondary_capture
        from certdicom.outputs.seg import save

        with watch.stage("sc"):
            capture = build_secondary_capture(
                film.dataset,
                np.asarray(picture),
                certificate,
                file_sha256=film.file_sha256,
                draw_identity=certificate.draw_identity,
            )
            save(capture, targets["sc"], force=force)


def _explain(
    certificate: Certificate, film: SourceImage, decisions: NDArray[np.uint8], picture: Path | None, *, force: bool
) -> list[StructureExplanation]:
    """Why each structure abstains; drawn to `picture` if it is given."""
    from certdicom.certification.explanation import explain_certificate
    from certdicom.imaging.grid import to_film
    from certdicom.outputs.explanation_picture import render_explanation, summarize
    from certdicom.outputs.preview import save_preview

    explanation = explain_certificate(certificate)
    reasons = to_film(explanation.reasons, rows=film.rows, columns=film.columns).astype(np.uint8, copy=False)
    summary = summarize(explanation, reasons, certificate)
    if picture is not None:
        display = film.display()
        save_preview(render_explanation(display, decisions, reasons, certificate, summary), picture, force=force)
    return summary


def _write_radius_map(certificate: Certificate, film: SourceImage, path: Path, *, force: bool) -> None:
    from certdicom.imaging.grid import to_film
    from certdicom.outputs.radius_map import build_radius_map, joint_radii
    from certdicom.outputs.seg import save

    radii = to_film(joint_radii(certificate), rows=film.rows, columns=film.columns).astype(np.float32, copy=False)
    radius_map = build_radius_map(film.dataset, radii, certificate, file_sha256=film.file_sha256, draw_identity=certificate.draw_identity)
    save(radius_map, path, force=force)
