"""Every setting of the node: its name, type, default and help, in one table.

The table is what `--print-config` prints, what the environment overrides, and what the documentation is checked against.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

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


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting: `[section] name`; `lowest`, `highest` bound a number; `choices` lists all allowed texts."""

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


def _text(key: str, default: str, help_line: str, *, choices: tuple[str, ...] = ()) -> Setting:
    section, name = key.split(".")
    return Setting(section=section, name=name, kind="text", default=default, help=help_line, choices=choices)


def _whole(key: str, default: int, help_line: str, *, lowest: int = 0, highest: int | None = None) -> Setting:
    section, name = key.split(".")
    return Setting(section=section, name=name, kind="whole", default=default, help=help_line, lowest=lowest, highest=highest)


def _number(key: str, default: float, help_line: str, *, lowest: float = 0.0, highest: float | None = None) -> Setting:
    section, name = key.split(".")
    return Setting(section=section, name=name, kind="number", default=default, help=help_line, lowest=lowest, highest=highest)


def _flag(key: str, *, default: bool, help_line: str) -> Setting:
    section, name = key.split(".")
    return Setting(section=section, name=name, kind="flag", default=default, help=help_line)


def _list(key: str, default: list[str], help_line: str) -> Setting:
    section, name = key.split(".")
    return Setting(section=section, name=name, kind="list", default=default, help=help_line)


SECTIONS: Final = {
    "node": "The storage SCP.",
    "access": "Who may send.",
    "limits": "What one sender may take.",
    "rules": "Which instances are certified; all others are stored and left alone, with the reason.",
    "certificate": "What is certified, and how.",
    "results": "What is made beside the segmentation; DICOM objects go to the destinations, other files stay in the spool.",
    "jobs": "The queue.",
    "spool": "What is kept on disk, and for how long. Nothing is deleted before every destination has confirmed it.",
    "delivery": "Sending results.",
    "destination": "Where results go; repeat the block for each destination.",
    "web": "Status page, /healthz, /readyz, /metrics.",
    "tls": "DICOM over TLS 1.2 or later with certificates on both sides; files are read again when they change.",
    "log": "Logs: one JSON object a line on standard error.",
}

SETTINGS: Final[tuple[Setting, ...]] = (
    _text("node.ae_title", "CERTDICOM", "AE title, at most 16 characters"),
    _text("node.host", "127.0.0.1", "address to listen on; 0.0.0.0 for all"),
    _whole("node.port", 11112, "port to listen on; 0 takes a free one", highest=65535),
    _text(
        "node.state_dir",
        "",
        "folder for films, results and the database; empty: the user's state directory; the same shared folder on all hosts",
    ),
    _number("node.grace_s", 30.0, "seconds that running work gets to finish after SIGTERM; it is resumed at the next start"),
    _list("access.calling_ae_titles", [], "AE titles that may send; empty: anybody on this machine, nobody else"),
    _flag("access.require_called_ae_title", default=True, help_line="reject associations that call another AE title than ours"),
    _list("access.peer_addresses", [], "addresses or networks (10.0.0.0/8) that may connect; empty: all"),
    _whole("limits.max_associations", 10, "associations at a time; more are rejected, to be tried again", lowest=1, highest=500),
    _whole(
        "limits.max_connections", 64, "connections at a time, also those that have not asked for an association yet", lowest=1, highest=5000
    ),
    _whole("limits.max_pdu_kb", 256, "largest PDU in KiB", lowest=16, highest=16384),
    _whole("limits.max_object_mb", 256, "largest instance in MiB; a larger one is cut off", lowest=1, highest=1900),
    _number("limits.request_timeout_s", 10.0, "seconds from the connection to the association request, TLS handshake included", lowest=0.1),
    _number("limits.network_timeout_s", 60.0, "seconds without a complete PDU after which a sender is cut off", lowest=0.1),
    _number("limits.message_timeout_s", 600.0, "seconds that one instance may take to arrive", lowest=0.1),
    _whole("limits.min_free_mb", 1024, "free disk space in MiB below which instances are answered with 0xA700"),
    _list(
        "rules.modalities",
        [],
        "Modality of instances that are certified; empty: CR, DX and RG, with a bundle for colour photographs XC, ES, DMS and OT",
    ),
    _list(
        "rules.sop_classes",
        [],
        "SOP class UIDs that are certified; empty: Computed Radiography, Digital X-Ray and Secondary Capture, with a bundle for colour "
        "photographs VL Photographic, VL Endoscopic and Secondary Capture",
    ),
    _text("certificate.bundle", DEFAULT_BUNDLE, "networks: a name or a folder"),
    _number("certificate.sigma", _SMOOTHING.sigma, HELP["sigma"]),
    _number("certificate.tau", _SMOOTHING.tau, HELP["tau"]),
    _whole("certificate.n0", _SMOOTHING.n0, HELP["n0"], lowest=1),
    _whole("certificate.n", _SMOOTHING.n, HELP["n"], lowest=1),
    _text("certificate.looks", "", f"{HELP['looks']}, such as 100,300,1000"),
    _number("certificate.abstain_target", _SMOOTHING.abstain_target, HELP["abstain_target"]),
    _text("certificate.fallback", "", f"{HELP['fallback']}, such as lungs,heart; a semicolon between several"),
    _number("certificate.alpha", _SMOOTHING.alpha, HELP["alpha"]),
    _text("certificate.device", "auto", "auto, cpu, cuda or cuda:i"),
    _text("certificate.precision", "auto", "of the networks", choices=("auto", "float32", "bfloat16", "float16")),
    _whole("certificate.batch", 10, "draws in memory at once", lowest=1),
    _text("certificate.geometry", "viewer", "viewer: with the plane that OHIF and Slicer need", choices=("viewer", "none")),
    _text("certificate.abstain", "union", "abstain segments", choices=("union", "per-structure")),
    _flag("certificate.accept_any", default=False, help_line="certify also what header or picture say the bundle is not for"),
    _number("certificate.expected_abstain", 0.0, "abstaining share of the model card; 0: none known, no alarm", highest=1.0),
    _number(
        "certificate.abstain_drift",
        0.1,
        "alarm when the mean share of the last 50 films is further than this from the expected one",
        highest=1.0,
    ),
    *(_flag(f"results.{output.name}", default=False, help_line=output.help) for output in outputs.OUTPUTS if not output.always),
    _text("jobs.database_url", "", "sqlite:///FILE or postgresql://…; empty: a SQLite file in state_dir"),
    _whole("jobs.workers", 1, "films certified at a time in this process; 0: only receive", highest=64),
    _whole("jobs.max_attempts", 5, "times that certifying a film may be interrupted before the film is set aside as failed", lowest=1),
    _number("jobs.stale_after_s", 60.0, "seconds without a sign of life after which a process's work goes to others", lowest=1.0),
    _number("jobs.poll_s", 0.5, "seconds between looks at the queue", lowest=0.02),
    _number(
        "jobs.keep_days",
        0.0,
        "days that the row of a finished film is kept after its last change, if nothing of it is left in the spool; 0: for ever",
    ),
    _number("spool.keep_films_days", 0.0, "days that a film is kept after all its results were confirmed"),
    _number("spool.keep_results_days", 30.0, "days that a confirmed result and its preview are kept"),
    _number("spool.keep_ignored_days", 30.0, "days that instances which are not certified are kept; 0: for ever"),
    _number("delivery.first_wait_s", 5.0, "seconds before the first repetition; doubled at each further one", lowest=0.01),
    _number("delivery.longest_wait_s", 900.0, "longest wait between two attempts, in seconds", lowest=0.01),
    _number("delivery.give_up_after_s", 604800.0, "seconds after which an unreachable destination makes a delivery fail"),
    _whole("delivery.refusals", 3, "refusals by the destination after which a delivery fails", lowest=1),
    _number("delivery.timeout_s", 60.0, "seconds to wait for a destination's answer", lowest=0.1),
    _whole("delivery.at_once", 2, "deliveries to one destination at a time, in each process", lowest=1, highest=32),
    _number("delivery.commitment_wait_s", 300.0, "seconds to wait for a storage commitment before asking again", lowest=0.1),
    _text("web.host", "127.0.0.1", "address of the status page; other than loopback only with a token"),
    _whole("web.port", 8085, "port of the status page; 0: none", highest=65535),
    _text("web.token_file", "", "file with the token that opens the page; needed outside loopback"),
    _text("tls.certificate", "", "our certificate chain (PEM); switches TLS on"),
    _text("tls.key", "", "our private key (PEM)"),
    _text("tls.ca", "", "certificates (PEM) that the other side's certificate must come from"),
    _text("log.level", "INFO", "least severe level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR")),
)

DESTINATION_SETTINGS: Final[tuple[Setting, ...]] = (
    _text("destination.ae_title", "", "AE title of the archive; with stow_url a name for it"),
    _text("destination.host", "127.0.0.1", "its address"),
    _whole("destination.port", 104, "its port", lowest=1, highest=65535),
    _flag(
        "destination.storage_commitment", default=False, help_line="ask for storage commitment, and wait for it before anything is deleted"
    ),
    _flag("destination.tls", default=False, help_line="use TLS, with the files of [tls]"),
    _text("destination.stow_url", "", "send by STOW-RS to this DICOMweb root (https://pacs/dicom-web) instead of host and port"),
    _text("destination.stow_token_file", "", "file with the bearer token for stow_url, read at each delivery"),
    _text("destination.stow_ca", "", "certificates (PEM) that stow_url's must come from; empty: the system's"),
)
"""Keys of each `[[destination]]`; the environment gives them all in CERTDICOM_DESTINATIONS=AE@host:port,… or AE@https://…"""

DESTINATIONS_VARIABLE: Final = "CERTDICOM_DESTINATIONS"
