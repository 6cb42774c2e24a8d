"""The node and the worker put together, started and stopped."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import socket
import time
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from pynetdicom import _config
from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import UsageError
from certdicom.files import keep_private
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.node.configuration import Configuration
from certdicom.node.identity import Work, pseudonym, read_site_key
from certdicom.node.metrics import Metrics
from certdicom.node.receive.commitment_scp import CommitmentScp
from certdicom.node.receive.receiving import Receiver
from certdicom.node.receive.reconcile import Reconciliation
from certdicom.node.receive.rules import Rules
from certdicom.node.receive.scp import StorageScp
from certdicom.node.store.database import connect
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import End, JobState, Later, Step, StepKind, queue_name
from certdicom.node.store.spool import Spool
from certdicom.node.web.server import WebServer
from certdicom.node.work.attempts import Attempts
from certdicom.node.work.certify import FilmCertifier, PipelineCertifier
from certdicom.node.work.isolated import IsolatedCertifier
from certdicom.node.work.jobs.dbos_queue import DbosQueue
from certdicom.node.work.jobs.port import JobQueue, Queue
from certdicom.node.work.maintenance import Maintenance
from certdicom.node.work.supervisor import ROUND_S, Supervisor
from certdicom.node.work.tasks import Tasks

LOG = logging.getLogger("certdicom.node.service")

_DATABASE_WAIT_S: Final = 60.0
_MOST_PROCESSES: Final = 64
_WATCHED_ROUNDS: Final = 3
_LATE_ROUNDS: Final = 15
"""So many rounds of the supervisor may be late before the node is not ready any more."""


class Service:
    """A node (`listens`) or a worker: everything made and checked in the constructor, running between `start` and `stop`."""

    def __init__(
        self,
        configuration: Configuration,
        *,
        listens: bool = True,
        certifier: FilmCertifier | None = None,
        job_queue: JobQueue | None = None,
    ) -> None:
        """`certifier`, `job_queue`: others than the bundle of the configuration and DBOS. UsageError for anything that cannot work."""
        _use_pynetdicom_frugally()
        self.configuration = configuration
        if not listens and configuration.database_url.startswith("sqlite"):
            raise UsageError("certdicom worker needs jobs.database_url = postgresql://…: a SQLite file serves one process only")
        self.spool = Spool(configuration.state_dir)
        self.site_key = read_site_key(self.spool.root / "site.key")
        bundle = load_bundle(configuration.certificate.bundle)
        self.work = Work(bundle.sha256, configuration.smoothing(bundle), configuration.certificate.geometry)
        self.metrics = Metrics()
        self.ledger = Ledger(_connected(configuration.database_url))
        self._lock, self.executor_id = _claim_name(self.spool.root, "node" if listens else "worker", alone=self.ledger.on_one_host)
        before, after = self.ledger.prepare(spool=self.spool.identity)
        if before != after:
            LOG.info("the database was brought to a new version", extra={"before": before or "none", "state": after})
        self.metrics.watch(
            self.ledger,
            self.spool,
            expected_abstain=configuration.certificate.expected_abstain,
            drift=configuration.certificate.abstain_drift,
        )
        self.job_queue = job_queue or DbosQueue(
            database_url=configuration.database_url, executor_id=self.executor_id, poll_s=configuration.jobs.poll_s
        )
        if certifier is None:
            PipelineCertifier(configuration, bundle, self.site_key)  # says at once what the bundle cannot do
        self.certifier = certifier or IsolatedCertifier(configuration)
        self.commitment_scp = CommitmentScp(configuration, self.spool, self.ledger, partial(pseudonym, site_key=self.site_key))
        self.ledger.events.wanted = bool(configuration.notify.url)
        self.tasks = Tasks(
            configuration=configuration,
            spool=self.spool,
            ledger=self.ledger,
            certifier=self.certifier,
            metrics=self.metrics,
            work=self.work,
            commitment_scp=self.commitment_scp,
        )
        self.attempts = Attempts(
            self.ledger,
            self.tasks,
            executor_id=self.executor_id,
            first_wait_s=configuration.delivery.first_wait_s,
            most_losses=configuration.jobs.max_attempts,
            certify_s=configuration.jobs.certify_timeout_s,
            ended=self._ended,
        )
        self.maintenance = Maintenance(
            configuration=configuration, spool=self.spool, ledger=self.ledger, job_queue=self.job_queue, metrics=self.metrics
        )
        self._slots: dict[tuple[StepKind, str], int] = {("certify", ""): configuration.jobs.workers}
        for entry in configuration.destinations:
            at_once = entry.at_once or configuration.delivery.at_once
            self._slots |= {("deliver", entry.ae_title): at_once, ("commit", entry.ae_title): at_once}
        self._slots |= {("notify", ""): 1, ("report", ""): int(listens)}  # a request's association is known to who has received it
        self.supervisor = Supervisor(
            self.ledger,
            self.job_queue,
            self.attempts,
            self.metrics,
            queues=list(self._slots),
            executor_id=self.executor_id,
            stale_after_s=configuration.jobs.stale_after_s,
            most_losses=configuration.jobs.max_attempts,
            upkeep=self.maintenance,
        )
        self.scp = self._scp(bundle) if listens else None
        self.web: WebServer | None = None

    def start(self) -> None:
        """Take up what was left, then listen. UsageError when an address is taken."""
        if self.ledger.on_one_host:
            _require_to_be_alone(self.ledger, self.executor_id)
        self.ledger.heartbeat.beat(self.executor_id)
        taken_up, entered = self.supervisor.take_up(), 0
        if self.scp is not None:
            configuration = self.configuration
            entered = Reconciliation(self.spool, self.ledger, self.work, self.site_key, configuration).run()
            self.ledger.steps.hurry()
        self.job_queue.start([Queue(queue_name(*which), at_once) for which, at_once in self._slots.items()], self.attempts)
        self.supervisor.start()
        if self.scp is not None:
            self.scp.start()
            LOG.info("listening", extra={"address": f"{self.configuration.node.host}:{self.scp.port}", "count": entered})
            self._start_web()
        LOG.info("started", extra={"executor": self.executor_id, "count": taken_up})

    def ready(self) -> dict[str, bool]:
        """What must hold for the node to take films, by name."""
        try:
            self.ledger.ping()
            database = True
        except SQLAlchemyError:
            database = False
        disk = self.spool.free_bytes() > self.configuration.limits.min_free_mb * 1024 * 1024
        supervised = self.supervisor.age_s < _LATE_ROUNDS * ROUND_S
        return {"database": database, "disk": disk, "supervised": supervised, "listening": self.scp is None or self.scp.listening}

    def retry(self, job_id: str) -> None:
        """Retry what failed or was not processed. UsageError when there is nothing to retry."""
        self.spool.recall(job_id)
        self.ledger.retry(job_id)
        self.supervisor.nudge()

    def stop(self) -> bool:
        """No new associations; running work gets `node.grace_s`. False when some of it did not end and waits for the next start."""
        started, grace = time.monotonic(), self.configuration.node.grace_s
        LOG.info("stopping")
        if self.scp is not None:
            self.scp.stop(grace_s=min(10.0, grace))
        self.job_queue.close()
        self.supervisor.stop()
        finished = self.attempts.stop(max(0.0, grace - (time.monotonic() - started)))
        self.certifier.close()
        if self.web is not None:
            self.web.stop()
        try:
            self.ledger.heartbeat.end(self.executor_id)
        except SQLAlchemyError as error:
            LOG.warning("could not sign off", extra={"error": type(error).__name__})
        self._lock.close()
        LOG.info("stopped" if finished else "stopped; unfinished work is resumed at the next start")
        return finished

    def _scp(self, bundle: Bundle) -> StorageScp:
        receiver = Receiver(
            spool=self.spool,
            ledger=self.ledger,
            nudge=self.supervisor.received,
            rules=Rules.of(self.configuration, bundle),
            work=self.work,
            site_key=self.site_key,
            metrics=self.metrics,
            min_free=self.configuration.limits.min_free_mb * 1024 * 1024,
            asked_of=self.configuration.asked_of,
        )
        return StorageScp(self.configuration, receiver, self.tasks.reported, self.commitment_scp, self.metrics)

    def _ended(self, step: Step, end: End, state: JobState) -> None:
        self.tasks.ended(step, end, state)
        self.supervisor.nudge()
        if isinstance(end, Later):
            self.supervisor.nudge(end.wait_s)

    def _start_web(self) -> None:
        if not self.configuration.web.port:
            return

        self.web = WebServer(self)
        self.web.start()
        LOG.info("status page", extra={"address": self.web.address})


def _use_pynetdicom_frugally() -> None:
    _config.STORE_SEND_CHUNKED_DATASET = True  # sends the file's own bytes, a piece at a time
    _config.LOG_HANDLER_LEVEL = "none"
    _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False


def _connected(database_url: str) -> sa.Engine:
    """An engine whose database answers; after a power cut the database may start later than we do. UsageError when it does not."""
    engine = connect(database_url)
    deadline = time.monotonic() + _DATABASE_WAIT_S
    said = False
    while True:
        try:
            with engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except SQLAlchemyError as error:
            if time.monotonic() > deadline or database_url.startswith("sqlite"):
                reason = str(error.__cause__ or error).splitlines()[0]
                raise UsageError(f"the database {engine.url.render_as_string(hide_password=True)} cannot be used: {reason}") from error
            if not said:
                LOG.warning("waiting for the database")
            said = True
            time.sleep(1.0)
        else:
            return engine


def _claim_name(root: Path, role: str, *, alone: bool) -> tuple[_Lock, str]:
    """A name for this process that its successor after a restart gets again, and no other living process has.

    `alone`: no other process may use the folder, on whichever host. UsageError when one does.
    """
    host = re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:64]
    folder = root / "processes"
    folder.mkdir(exist_ok=True, mode=0o700)
    keep_private(folder)
    if alone:
        lock = _Lock(folder / "alone.lock")
        if not lock.held:
            raise UsageError(f"another certdicom node runs with node.state_dir {root}; stop it, or choose another folder")
        return lock, f"{host}-{role}-1"
    for number in range(1, _MOST_PROCESSES + 1):
        name = f"{host}-{role}-{number}"
        lock = _Lock(folder / f"{name}.lock")
        if lock.held:
            return lock, name
        if role == "node":
            raise UsageError(f"another certdicom node runs on this machine with node.state_dir {root}; stop it, or choose another folder")
    raise UsageError(f"{_MOST_PROCESSES} workers run on this machine with node.state_dir {root}; stop some")


def _require_to_be_alone(ledger: Ledger, executor_id: str) -> None:
    """UsageError when another process shows signs of life in a SQLite file: a lock does not reach every host on every file system."""
    before = {name: beats for name, beats in ledger.heartbeat.beats().items() if name != executor_id}
    if before:
        time.sleep(_WATCHED_ROUNDS * ROUND_S)
        for name, beats in ledger.heartbeat.beats().items():
            if name != executor_id and before.get(name) != beats:
                raise UsageError(f"{name} runs with this node.state_dir; several hosts need jobs.database_url = postgresql://…")
    for name in before:
        ledger.heartbeat.end(name)


class _Lock:
    """A file that is locked while this process lives."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.held = True
        except OSError:
            os.close(self._descriptor)
            self.held = False

    def close(self) -> None:
        if self.held:
            os.close(self._descriptor)
            self.held = False
