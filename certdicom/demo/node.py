"""The node of the demonstration: `certdicom node` as a program of its own, and what becomes of each film."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from certdicom.demo.films import DemoFilm
from certdicom.demo.processes import free_port, require_alive, running, wait_for
from certdicom.node.configuration import load_configuration, print_configuration
from certdicom.node.queue import open_queue
from certdicom.node.store.records import Job

AE_TITLE = "CERTDICOM"
FINISHED = ("done", "ignored", "failed", "dropped")


@dataclass(frozen=True)
class Destination:
    """The archive to which results go."""

    ae_title: str
    port: int


class Node:
    """A running node: `page` is its status page's address, `dicom_port` its storage SCP's."""

    def __init__(self, configuration: Path, process: subprocess.Popen[bytes], log: Path, *, page: str, dicom_port: int) -> None:
        self.page, self.dicom_port = page, dicom_port
        self._process, self._log = process, log
        queue = open_queue(configuration)
        self._ledger, self._pseudonym = queue.ledger, queue.pseudonym_of

    def require_alive(self) -> None:
        """ProgramError when the node has ended."""
        require_alive(self._process, log=self._log)

    def jobs(self, films: Sequence[DemoFilm]) -> list[Job | None]:
        """What the node makes of each film; None for one that it does not know."""
        found = {job.subject: job for job in self._ledger.jobs(states=(), limit=10_000)}
        return [found.get(self._pseudonym(film.sop_instance_uid)) for film in films]


@contextlib.contextmanager
def node(folder: Path, *, archive: Destination, settings: Mapping[str, str]) -> Iterator[Node]:
    """A node with its state in `folder` that sends to `archive`; `settings` by environment variable, as CERTDICOM_CERTIFICATE_BUNDLE."""
    dicom_port, web_port = free_port(), free_port()
    configuration = load_configuration(
        None,
        {
            "CERTDICOM_NODE_PORT": str(dicom_port),
            "CERTDICOM_NODE_STATE_DIR": str(folder / "node"),
            "CERTDICOM_NODE_GRACE_S": "2",
            "CERTDICOM_WEB_PORT": str(web_port),
            "CERTDICOM_DELIVERY_FIRST_WAIT_S": "1",
            "CERTDICOM_LIMITS_MIN_FREE_MB": "64",
            "CERTDICOM_RESULTS_SR": "true",
            "CERTDICOM_RESULTS_SC": "true",
            "CERTDICOM_DESTINATIONS": f"{archive.ae_title}@127.0.0.1:{archive.port}",
            **settings,
        },
    )
    path, log = folder / "node.toml", folder / "node.log"
    path.write_text(print_configuration(configuration), encoding="utf-8")
    # Settings of somebody's own node must not reach this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CERTDICOM_")}
    scratch = folder / "tmp"
    scratch.mkdir(exist_ok=True)
    environment["TMPDIR"] = str(scratch)  # PyTorch leaves a folder there
    with running([sys.executable, "-m", "certdicom", "node", "--config", str(path)], log=log, environment=environment) as process:
        page = f"http://127.0.0.1:{web_port}/"
        wait_for(f"{page}healthz", process=process, log=log)
        yield Node(path, process, log, page=page, dicom_port=dicom_port)
