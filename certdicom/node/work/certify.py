"""From a film in the spool to a result folder: what the job's first step does."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydicom import dcmread

from certdicom import outputs
from certdicom.errors import ImageRefusedError
from certdicom.files import write_together
from certdicom.node.configuration import Configuration
from certdicom.node.store.records import Result
from certdicom.outputs import REPORT, SEG, Output
from certdicom.outputs.writing import encode_outputs
from certdicom.pipeline import Certifier, Computation

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle
    from certdicom.outputs.result import Result as CertifiedResult

LOG = logging.getLogger("certdicom.node.work.certify")


class FilmCertifier(Protocol):
    """Certifies one image into an empty folder: what a node always writes (`Output.always`), and what `[results]` asks for.

    Raises ImageRefusedError for an image that cannot be certified, OutputError when the folder cannot be written to.
    """

    def certify(self, film: Path, folder: Path) -> None: ...


class PipelineCertifier:
    """The real one: the bundle of the configuration, loaded on first use."""

    def __init__(self, configuration: Configuration, bundle: Bundle, site_key: bytes) -> None:
        """UsageError when the bundle cannot do what the configuration asks for."""
        computation = Computation(
            backend=configuration.certificate.backend,
            device=configuration.certificate.device,
            precision=configuration.certificate.precision,
            batch_size=configuration.certificate.batch,
            site_key=site_key,
        )
        self._certifier = Certifier(bundle, configuration.smoothing(bundle), computation)
        self._geometry = configuration.certificate.geometry
        self._abstain = configuration.certificate.abstain
        self._accept_any = configuration.certificate.accept_any
        self._outputs = outputs_of(configuration)

    def certify(self, film: Path, folder: Path) -> None:
        result = self._certifier.certify(film, geometry=self._geometry, abstain=self._abstain, accept_any=self._accept_any)
        write_result(result, self._outputs, folder)


def outputs_of(configuration: Configuration) -> list[Output]:
    """What a node writes of each result."""
    return [output for output in outputs.OUTPUTS if output.always or getattr(configuration.results, output.name)]


def write_result(result: CertifiedResult, wanted: Sequence[Output], folder: Path) -> None:
    """Write what is wanted into an empty folder of the spool; an extra that cannot be made is logged, and named in the report."""
    encoded = encode_outputs(result, wanted)
    for output, error in encoded.failures.items():
        details = {"output": output.name, "error": type(error).__name__}
        LOG.error("an extra could not be made; the segmentation goes out without it", extra=details)
    write_together({folder / output.file_name: content for output, content in encoded.contents.items()})


def read_result(folder: Path) -> Result:
    """What the ledger keeps of a result folder."""
    report = json.loads((folder / REPORT.file_name).read_bytes())
    seconds = {name.removesuffix("_s"): float(value) for name, value in report["timing"].items()}
    digest = hashlib.sha256((folder / SEG.file_name).read_bytes()).hexdigest()
    return Result(seg_sha256=digest, abstain=float(report["abstain_fraction"]), seconds=seconds)


_PRIVATE = (
    "PatientName", "PatientID", "PatientBirthDate", "OtherPatientIDs", "AccessionNumber", "StudyID", "StudyDate", "PatientAddress",
    "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName", "InstitutionName", "SOPInstanceUID", "StudyInstanceUID",
    "SeriesInstanceUID",
)  # fmt: skip


def public_reason(error: ImageRefusedError, film: Path) -> str:
    """The reason of a refusal without anything that names the patient, wherever in the header it stood."""
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
