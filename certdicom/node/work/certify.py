"""From a film in the spool to a result folder: what the job's first step does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, cast

from certdicom.errors import ImageRefusedError
from certdicom.node.configuration import Configuration
from certdicom.node.store.records import Result
from certdicom.node.store.spool import CAPTURE, MEASUREMENTS, PREVIEW, RADIUS_MAP, REPORT, SEGMENTATION

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle


class FilmCertifier(Protocol):
    """Certifies one film into an empty folder: seg.dcm, preview.png and report.json, and what `[results]` asks for.

    Raises ImageRefusedError for a film that cannot be certified, OutputError when the folder cannot be written to.
    """

    def certify(self, film: Path, folder: Path) -> None: ...


class PipelineCertifier:
    """The real one: the bundle of the configuration, loaded on first use."""

    def __init__(self, configuration: Configuration, bundle: Bundle, site_key: bytes) -> None:
        """UsageError when the bundle cannot do what the configuration asks for."""
        from certdicom.pipeline import Certifier, Computation

        computation = Computation(
            device=configuration.text("certificate.device"),
            precision=configuration.text("certificate.precision"),
            batch_size=configuration.whole("certificate.batch"),
            site_key=site_key,
        )
        self._certifier = Certifier(bundle, configuration.smoothing(bundle), computation)
        self._geometry = cast("Literal['viewer', 'none']", configuration.text("certificate.geometry"))
        self._abstain = cast("Literal['union', 'per-structure']", configuration.text("certificate.abstain"))
        self._accept_any = configuration.flag("certificate.accept_any")
        self._targets = result_files(configuration)

    def certify(self, film: Path, folder: Path) -> None:
        from certdicom.imaging.reading import read_image
        from certdicom.pipeline import write_results

        image = read_image(film, accept_any=self._accept_any)
        certificate = self._certifier.certify(image, accept_any=self._accept_any)
        targets = {target: folder / name for target, name in self._targets.items()}
        write_results(certificate, image, targets, geometry=self._geometry, abstain=self._abstain)


def result_files(configuration: Configuration) -> dict[str, str]:
    """What `certdicom.pipeline.write_results` is to write, and the names that the spool gives it."""
    asked = {"sr": MEASUREMENTS, "sc": CAPTURE, "radius_map": RADIUS_MAP}
    extra = {target: name for target, name in asked.items() if configuration.flag(f"results.{target}")}
    return {"output": SEGMENTATION, **extra, "preview": PREVIEW, "report": REPORT}


def read_result(folder: Path) -> Result:
    """What the ledger keeps of a result folder."""
    report = json.loads((folder / REPORT).read_bytes())
    seconds = {name.removesuffix("_s"): float(value) for name, value in report["timing"].items()}
    digest = hashlib.sha256((folder / SEGMENTATION).read_bytes()).hexdigest()
    return Result(seg_sha256=digest, abstain=float(report["abstain_fraction"]), seconds=seconds)


_PRIVATE = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "AccessionNumber", "StudyID", "StudyDate", "PatientAddress",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName", "SOPInstanceUID", "StudyInstanceUID",
    "SeriesInstanceUID",
)  # fmt: skip


def public_reason(error: ImageRefusedError, film: Path) -> str:
    """The reason of a refusal without anything that names the patient, wherever in the header it stood."""
    import warnings

    from pydicom import dcmread

    reason = (
        " ".join(str(error).split())
        .replace("; use --accept-any to read it anyway", "")
        .replace("; --accept-any certifies it all the same", "")
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = dcmread(film, stop_before_pixels=True, force=True, specific_tags=list(_PRIVATE))
            values = [str(header[keyword].value) for keyword in _PRIVATE if keyword in header]
    except Exception:  # noqa: BLE001  # a header that cannot be read cannot be compared with: then only the kind of refusal is told
        return "the film cannot be read"
    words = {part for value in values for part in [value, *value.replace("^", " ").split()] if len(part) >= 3}
    for word in sorted(words, key=len, reverse=True):
        reason = reason.replace(word, "…").replace(word.upper(), "…")
    return reason[:500]
