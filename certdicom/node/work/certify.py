"""From a film in the spool to a result folder: what certifying does, in whichever process."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from certdicom import outputs
from certdicom.certification.crop import Crop
from certdicom.errors import ImageRefusedError
from certdicom.files import write_together
from certdicom.imaging.reading import read_image
from certdicom.node.configuration import Configuration
from certdicom.node.store.records import Result
from certdicom.outputs import REPORT, SEG, Output
from certdicom.outputs.result import Stopwatch
from certdicom.outputs.writing import encode_outputs
from certdicom.pipeline import Certifier, Computation

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle
    from certdicom.outputs.result import Result as CertifiedResult

LOG = logging.getLogger("certdicom.node.work.certify")


class FilmCertifier(Protocol):
    """Certifies one image, with the window and the crop that were asked for, into an empty folder.

    It writes what a node always writes (`Output.always`), and what `[results]` asks for. Raises ImageRefusedError for an image that cannot
    be certified, OutputError when the folder cannot be written to.
    """

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None: ...

    def close(self) -> None:
        """End what is running, at once."""


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
        self._body_parts = configuration.certificate.body_parts
        self._outputs = outputs_of(configuration)

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None:
        stopwatch = Stopwatch()
        with stopwatch.stage("read"):
            image = read_image(film, accept_any=self._accept_any, body_parts=self._body_parts)
        result = self._certifier.certify(
            image,
            geometry=self._geometry,
            abstain=self._abstain,
            accept_any=self._accept_any,
            window=window or None,
            crop=Crop.read(crop) if crop else None,
            stopwatch=stopwatch,
        )
        write_result(result, self._outputs, folder)

    def close(self) -> None:
        """Nothing to end: what runs here ends with the process."""


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


_SETTINGS: Final = {
    "; use --accept-any to read it anyway": "",
    "; --accept-any certifies it all the same": "",
    "--window LO HI": "certificate.sender_windows",
    "--window displayed": 'certificate.window = "displayed"',
    "--crop": "certificate.sender_crops",
}


def public_reason(error: ImageRefusedError) -> str:
    """The reason of a refusal for log, job table and page: without words of the header, and with settings for the options."""
    reason = error.public
    for option, setting in _SETTINGS.items():
        reason = reason.replace(option, setting)
    return " ".join(reason.split())[:500]
