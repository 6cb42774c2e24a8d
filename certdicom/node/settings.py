"""Every setting of the node: its name, type, default, bounds and help, a model for each section of the TOML file.

The models are what `--print-config` prints, what the environment overrides, and what the documentation is checked against.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast, get_args, get_origin

from annotated_types import Ge, Le
from pydantic import BaseModel, ConfigDict, Field, create_model

from certdicom import outputs
from certdicom.certification.options import HELP
from certdicom.certification.parameters import SmoothingParameters
from certdicom.models.bundle import DEFAULT_BUNDLE

Value = str | int | float | bool | list[str]
Kind = Literal["text", "whole", "number", "flag", "list"]

_SMOOTHING = SmoothingParameters()


def default_state_dir() -> str:
    """Where state belongs on this system: $XDG_STATE_HOME/certdicom, or ~/.local/state/certdicom."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return str(Path(base) / "certdicom")


class Section(BaseModel):
    """One section; values are of their types as they stand, a number in quotes is none."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class NodeSettings(Section):
    """The storage SCP."""

    ae_title: str = Field(default="CERTDICOM", description="AE title, at most 16 characters")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for all")
    port: int = Field(default=11112, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    state_dir: str = Field(
        default="",
        description="folder for films, results and the database; empty: the user's state directory; the same shared folder on all hosts",
    )
    grace_s: float = Field(
        default=30.0,
        ge=0.0,
        description="seconds that running work gets to finish after SIGTERM; what is left is taken up at the next start",
    )


class AccessSettings(Section):
    """Who may send."""

    calling_ae_titles: list[str] = Field(
        default_factory=list, description="AE titles that may send; empty: anybody on this machine, nobody else"
    )
    require_called_ae_title: bool = Field(default=True, description="reject associations that call another AE title than ours")
    peer_addresses: list[str] = Field(default_factory=list, description="addresses or networks (10.0.0.0/8) that may connect; empty: all")
    commitment_addresses: list[str] = Field(
        default_factory=list,
        description="where senders that ask for storage commitment take reports: AE=host:port, such as CR1=10.0.0.7:104",
    )


class LimitsSettings(Section):
    """What one sender may take."""

    max_associations: int = Field(default=10, ge=1, le=500, description="associations at a time; more are rejected, to be tried again")
    max_connections: int = Field(
        default=64, ge=1, le=5000, description="connections at a time, also those that have not asked for an association yet"
    )
    max_pdu_kb: int = Field(default=256, ge=16, le=16384, description="largest PDU in KiB")
    max_object_mb: int = Field(default=256, ge=1, le=1900, description="largest instance in MiB; a larger one is cut off")
    request_timeout_s: float = Field(
        default=10.0, ge=0.1, description="seconds from the connection to the association request, TLS handshake included"
    )
    network_timeout_s: float = Field(default=60.0, ge=0.1, description="seconds without a complete PDU after which a sender is cut off")
    message_timeout_s: float = Field(default=600.0, ge=0.1, description="seconds that one instance may take to arrive")
    min_free_mb: int = Field(default=1024, ge=0, description="free disk space in MiB below which instances are answered with 0xA700")


class RulesSettings(Section):
    """Which instances are certified; all others are stored, not processed, with the reason."""

    modalities: list[str] = Field(
        default_factory=list,
        description="Modality of instances that are certified; empty: CR, DX and RG, "
        "with a bundle for colour photographs XC, ES, DMS and OT",
    )
    sop_classes: list[str] = Field(
        default_factory=list,
        description="SOP class UIDs that are certified; empty: Computed Radiography, Digital X-Ray and Secondary Capture, "
        "with a bundle for colour photographs VL Photographic, VL Endoscopic and Secondary Capture",
    )


class CertificateSettings(Section):
    """What is certified, and how."""

    bundle: str = Field(default=DEFAULT_BUNDLE, description="networks: a name or a folder")
    sigma: float = Field(default=_SMOOTHING.sigma, ge=0.0, description=HELP["sigma"])
    tau: float = Field(default=_SMOOTHING.tau, ge=0.0, description=HELP["tau"])
    n0: int = Field(default=_SMOOTHING.n0, ge=1, description=HELP["n0"])
    n: int = Field(default=_SMOOTHING.n, ge=1, description=HELP["n"])
    looks: str = Field(default="", description=f"{HELP['looks']}, such as 100,300,1000")
    abstain_target: float = Field(default=_SMOOTHING.abstain_target, ge=0.0, description=HELP["abstain_target"])
    fallback: str = Field(default="", description=f"{HELP['fallback']}, such as lungs,heart; a semicolon between several")
    alpha: float = Field(default=_SMOOTHING.alpha, ge=0.0, description=HELP["alpha"])
    backend: Literal["auto", "openvino", "torch"] = Field(
        default="auto", description="what runs the networks; auto: PyTorch on a GPU, OpenVINO on a processor"
    )
    device: str = Field(default="auto", description="auto, cpu, cuda, cuda:i, or GPUs that share the draws: cuda:0,cuda:1 or cuda:all")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="of the networks; auto: float32 on a processor"
    )
    batch: int = Field(default=10, ge=1, description="draws held in memory at once; changes no result")
    geometry: Literal["viewer", "none"] = Field(
        default="viewer", description="viewer: place objects in the plane that OHIF and 3D Slicer need"
    )
    abstain: Literal["union", "per-structure"] = Field(default="union", description="one Abstain segment, or one more per structure")
    accept_any: bool = Field(
        default=False, description="skip the checks that an image suits the bundle (modality, body part, view, plausible anatomy)"
    )
    body_parts: list[str] = Field(
        default_factory=list, description="what else than the usual words BodyPartExamined says here for the chest"
    )
    window: str = Field(
        default="",
        description="LO HI in modality values, or displayed; empty: what the bundle says, the header's window or else displayed",
    )
    sender_windows: list[str] = Field(
        default_factory=list, description="the window of films from one sender: AE=LO HI or AE=displayed, such as CR1=0 4095"
    )
    sender_crops: list[str] = Field(
        default_factory=list,
        description="the part of films from one sender that is certified, in stored pixels: AE=TOP LEFT ROWS COLUMNS",
    )
    expected_abstain: float = Field(default=0.0, ge=0.0, le=1.0, description="abstaining share of the model card; 0: none known, no alarm")
    abstain_drift: float = Field(
        default=0.1, ge=0.0, le=1.0, description="alarm when the mean share of the last 50 films is further than this from the expected one"
    )


Results: type[Section] = create_model(  # type: ignore[call-overload]  # fields by name
    "Results",
    __base__=Section,
    __doc__="What is made beside the segmentation; DICOM objects go to the destinations, other files stay in the spool.",
    **{output.name: (bool, Field(default=False, description=output.help)) for output in outputs.OUTPUTS if not output.always},
)


class JobsSettings(Section):
    """The queue."""

    database_url: str = Field(default="", description="sqlite:///FILE or postgresql://…; empty: a SQLite file in state_dir")
    workers: int = Field(
        default=1,
        ge=0,
        le=64,
        description="films certified at a time by this node or worker, each in a process of its own; 0: only receive",
    )
    max_attempts: int = Field(
        default=5, ge=1, description="times that an attempt may be lost to a defect, a crash or a dead process before it counts as failed"
    )
    certify_timeout_s: float = Field(
        default=1800.0, ge=0.1, description="seconds after which certifying one film is taken for hung and ended"
    )
    certify_memory_mb: int = Field(default=0, ge=0, description="memory in MiB that each certifying process may allocate; 0: no limit")
    stale_after_s: float = Field(
        default=60.0, ge=1.0, description="seconds without a heartbeat after which a process's work goes to others"
    )
    poll_s: float = Field(default=0.5, ge=0.02, description="seconds between looks at the queue")
    keep_days: float = Field(
        default=0.0,
        ge=0.0,
        description="days that the row of a finished film is kept after its last change, "
        "if nothing of it is left in the spool; 0: for ever",
    )


class SpoolSettings(Section):
    """What is kept on disk, and for how long. Nothing is deleted before every destination has confirmed it."""

    keep_films_days: float = Field(default=0.0, ge=0.0, description="days that a film is kept after all its results were confirmed")
    keep_results_days: float = Field(default=30.0, ge=0.0, description="days that a confirmed result and its preview are kept")
    keep_committed_days: float = Field(
        default=0.0, ge=0.0, description="days that an instance is kept which a sender was told that we are committed to; 0: for ever"
    )
    keep_ignored_days: float = Field(default=30.0, ge=0.0, description="days that instances which are not certified are kept; 0: for ever")


class DeliverySettings(Section):
    """Sending results."""

    first_wait_s: float = Field(default=5.0, ge=0.01, description="seconds before the first repetition; doubled at each further one")
    longest_wait_s: float = Field(default=900.0, ge=0.01, description="longest wait between two attempts, in seconds")
    give_up_after_s: float = Field(
        default=604800.0, ge=0.0, description="seconds after which an unreachable destination makes a delivery fail"
    )
    refusals: int = Field(default=3, ge=1, description="refusals by the destination after which a delivery fails")
    timeout_s: float = Field(default=60.0, ge=0.1, description="seconds to wait for a destination's answer")
    at_once: int = Field(default=2, ge=1, le=32, description="deliveries to one destination at a time, in each process")
    commitment_wait_s: float = Field(default=300.0, ge=0.1, description="seconds to wait for a storage commitment before asking again")
    commitment_give_up_s: float = Field(
        default=604800.0, ge=0.0, description="seconds after which a delivery fails that was never committed"
    )


class Destination(Section):
    """Where results go; repeat the block for each destination."""

    ae_title: str = Field(default="", description="AE title of the archive; with stow_url a name for it")
    host: str = Field(default="127.0.0.1", description="its address")
    port: int = Field(default=104, ge=1, le=65535, description="its port")
    storage_commitment: bool = Field(default=False, description="ask for storage commitment, and wait for it before anything is deleted")
    at_once: int = Field(default=0, ge=0, le=32, description="deliveries to it at a time, in each process; 0: delivery.at_once")
    first_wait_s: float = Field(default=0.0, ge=0.0, description="seconds before the first repetition; 0: delivery.first_wait_s")
    longest_wait_s: float = Field(default=0.0, ge=0.0, description="longest wait between two attempts; 0: delivery.longest_wait_s")
    tls: bool = Field(default=False, description="use TLS, with the files of [tls]")
    stow_url: str = Field(default="", description="send by STOW-RS to this DICOMweb root (https://pacs/dicom-web) instead of host and port")
    stow_token_file: str = Field(default="", description="file with the bearer token for stow_url, read at each delivery")
    stow_ca: str = Field(default="", description="certificates (PEM) that stow_url's must come from; empty: the system's")


class NotifySettings(Section):
    """A webhook: failed jobs, and destinations that take nothing any more or take results again, are posted as JSON."""

    url: str = Field(default="", description="address that is posted to; empty: nobody is notified")
    token_file: str = Field(default="", description="file with the bearer token for it, read each time")
    ca: str = Field(default="", description="certificates (PEM) that its own must come from; empty: the system's")
    timeout_s: float = Field(default=10.0, ge=0.1, description="seconds to wait for its answer")
    destination_after_s: float = Field(
        default=300.0, ge=0.0, description="seconds without any success after which a destination counts as failing"
    )
    give_up_after_s: float = Field(default=86400.0, ge=0.0, description="seconds after which a notification is given up")


class WebSettings(Section):
    """Status page, /healthz, /readyz, /metrics."""

    host: str = Field(default="127.0.0.1", description="address of the status page; other than loopback only with a token")
    port: int = Field(default=8085, ge=0, le=65535, description="port of the status page; 0: none")
    token_file: str = Field(default="", description="file with the token that opens the page; needed outside loopback")


class TlsSettings(Section):
    """DICOM over TLS 1.2 or later with certificates on both sides; files are read again when they change."""

    certificate: str = Field(default="", description="our certificate chain (PEM); switches TLS on")
    key: str = Field(default="", description="our private key (PEM)")
    ca: str = Field(default="", description="certificates (PEM) that the other side's certificate must come from")


class LogSettings(Section):
    """Logs: one JSON object a line on standard error."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(default="INFO", description="least severe level that is logged")


SECTIONS: Final[dict[str, type[Section]]] = {
    "node": NodeSettings,
    "access": AccessSettings,
    "limits": LimitsSettings,
    "rules": RulesSettings,
    "certificate": CertificateSettings,
    "results": Results,
    "jobs": JobsSettings,
    "spool": SpoolSettings,
    "delivery": DeliverySettings,
    "destination": Destination,
    "notify": NotifySettings,
    "web": WebSettings,
    "tls": TlsSettings,
    "log": LogSettings,
}
"""The sections in the order in which they are printed; `destination` may be repeated."""

DESTINATIONS_VARIABLE: Final = "CERTDICOM_DESTINATIONS"
"""The environment gives all destinations at once: CERTDICOM_DESTINATIONS=AE@host:port,… or AE@https://…"""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting, as people read of it: `[section] name`; `lowest`, `highest` bound a number; `choices` lists all allowed texts."""

    section: str
    name: str
    kind: Kind
    default: Value
    help: str
    lowest: float | None = None
    highest: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.section}.{self.name}"

    @property
    def variable(self) -> str:
        """The environment variable that overrides it."""
        return f"CERTDICOM_{self.section}_{self.name}".upper()


_KINDS: Final[dict[Any, Kind]] = {str: "text", int: "whole", float: "number", bool: "flag"}


def _settings(section: str) -> Iterator[Setting]:
    for name, field in SECTIONS[section].model_fields.items():
        choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        kind: Kind = "text" if choices else "list" if get_origin(field.annotation) is list else _KINDS[field.annotation]
        bounds = {type(bound): bound for bound in field.metadata}
        yield Setting(
            section=section,
            name=name,
            kind=kind,
            default=field.get_default(call_default_factory=True),
            help=field.description or "",
            lowest=cast("float", bounds[Ge].ge) if Ge in bounds else None,
            highest=cast("float", bounds[Le].le) if Le in bounds else None,
            choices=choices,
        )


SETTINGS: Final = tuple(setting for section in SECTIONS if section != "destination" for setting in _settings(section))
DESTINATION_SETTINGS: Final = tuple(_settings("destination"))
"""Keys of each `[[destination]]`."""
