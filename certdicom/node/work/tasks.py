"""The two tasks of the node, as the job queue runs them: certify a film, deliver a result to one destination.

Every step is idempotent: certifying looks for the result first, sending repeats the same bytes under the same UID.
"""

from __future__ import annotations

import hashlib
import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import CertdicomError, ImageRefusedError, OutputError
from certdicom.node.configuration import Configuration
from certdicom.node.deliver import commitment, delivery
from certdicom.node.metrics import Metrics
from certdicom.node.settings import Destination
from certdicom.node.store.delivery_log import Sendings
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.spool import Spool
from certdicom.node.work.certify import FilmCertifier, public_reason, read_result
from certdicom.node.work.dispatcher import Dispatcher
from certdicom.node.work.jobs.port import Run

LOG = logging.getLogger("certdicom.node.work.tasks")

Next = Literal["go on", "commit", "again", "stop"]

_LONGEST_PAUSE_S = 60.0
_COMMITMENT_PAUSE_S = 0.5


@dataclass(frozen=True)
class Tasks:
    """The tasks and what they work with."""

    configuration: Configuration
    spool: Spool
    ledger: Ledger
    certifier: FilmCertifier
    metrics: Metrics
    dispatcher: Dispatcher

    def certify(self, run: Run, job_id: str) -> None:
        """Certify the film of a job, and order its deliveries."""
        try:
            outcome = self._repeat(run, "certify", lambda: self._certify(job_id), longest=_LONGEST_PAUSE_S)
            if outcome == "go on":
                self._repeat(run, "record", lambda: self._record(job_id))
                self.dispatcher.nudge()
        except Exception as error:
            # A run must not end without its row saying so: people could not see it, nor start it again.
            self._fail(job_id, f"internal error: {type(error).__name__}, {_public(error)}")
            raise

    def deliver(self, run: Run, argument: str) -> None:
        """Deliver a result to a destination, and clean up after the last one. `argument`: job id and AE title."""
        job_id, _, ae_title = argument.partition(" ")
        destination = self.configuration.destination(ae_title)
        if destination is None:
            raise RuntimeError("a delivery was queued for a destination that is not configured")
        longest = self.configuration.delivery.longest_wait_s
        try:
            while True:
                outcome = self._repeat(run, "send", lambda: self._send(job_id, destination), longest=longest)
                if outcome == "stop":
                    return
                if outcome == "go on" or self._committed(run, job_id, destination):
                    break
            self._repeat(run, "confirm", lambda: self._confirm(job_id, destination))
            self._repeat(run, "clean", lambda: self.clean(job_id))
        except Exception as error:
            self._fail_delivery(job_id, destination, f"internal error: {type(error).__name__}, {_public(error)}")
            raise

    def _repeat(self, run: Run, name: str, step: Callable[[], Next], *, longest: float = _LONGEST_PAUSE_S) -> Next:
        """Run a step until it says something else than "again", with growing pauses.

        Which step comes next depends on nothing but what steps returned: a job queue that replays a run relies on it.
        """
        pause = self.configuration.delivery.first_wait_s
        while (outcome := run.step(name, lambda: self._surviving(step))) == "again":
            run.sleep(pause)
            pause = min(2 * pause, longest)
        return outcome

    # steps of certify

    def _certify(self, job_id: str) -> Next:
        job = self.ledger.job(job_id)
        if job is None or job.state not in ("queued", "certifying"):
            return "stop"
        if self.spool.result(job_id).exists():
            return "go on"
        film = self.spool.film(job_id)
        if not film.exists():
            return self._fail(job_id, "the film is no longer in the spool; send it again")
        most = self.configuration.jobs.max_attempts
        if self.ledger.begin(job_id) > most:
            return self._fail(
                job_id, f"certifying this film was interrupted or failed {most} times: {job.reason or 'the process ended each time'}"
            )
        folder = self.spool.new_folder()
        try:
            self.certifier.certify(film, folder, sender=job.sender)
            self.spool.adopt(folder, job_id)
        except ImageRefusedError as error:
            reason = public_reason(error)
            self.ledger.move(job_id, "ignored", reason)
            self.spool.ignore(job_id)
            self.metrics.ignored.inc()
            LOG.info("stored and left alone", extra={"job": job_id, "reason": reason})
            return "stop"
        except (OutputError, OSError) as error:
            self.ledger.forgive(job_id, _public(error))
            raise
        except Exception as error:
            self.ledger.move(job_id, "certifying", f"{type(error).__name__}, {_public(error)}")
            raise
        finally:
            self.spool.discard(folder)
        return "go on"

    def _record(self, job_id: str) -> Next:
        result = read_result(self.spool.result(job_id))
        self.ledger.certified(job_id, result, [destination.ae_title for destination in self.configuration.destinations])
        self.metrics.certified.inc()
        self.metrics.abstain.observe(result.abstain)
        for stage, seconds in result.seconds.items():
            self.metrics.stage.labels(stage=stage).observe(seconds)
        LOG.info("certified", extra={"job": job_id, "abstain": round(result.abstain, 4), "seconds": result.seconds.get("total")})
        if not self.configuration.destinations:
            self.clean(job_id)
        return "go on"

    # steps of deliver

    def _send(self, job_id: str, destination: Destination) -> Next:
        row = self.ledger.delivery(job_id, destination.ae_title)
        if row is None or row.state in ("done", "failed"):
            return "stop"
        paths = self.spool.objects(job_id)
        if not paths:
            self._fail_delivery(job_id, destination, "the result is no longer in the spool")
            return "stop"
        answer = delivery.send(self.configuration, destination, paths, _Notes(self.ledger.sendings, job_id, destination.ae_title))
        self.metrics.delivery_attempts.labels(destination=destination.ae_title, verdict=answer.verdict).inc()
        details = {"job": job_id, "destination": destination.ae_title, "reason": answer.reason}
        if answer.verdict == "stored":
            LOG.info("sent", extra=details)
            self.ledger.note_delivery(job_id, destination.ae_title, "committing", answer.reason, attempts=1)
            return "commit" if destination.storage_commitment else "go on"
        row = self.ledger.note_delivery(
            job_id, destination.ae_title, "waiting", answer.reason, attempts=1, refusals=int(answer.verdict == "refused")
        )
        LOG.warning("not sent", extra={**details, "attempts": row.attempts})
        if row.refusals >= self.configuration.delivery.refusals:
            self._fail_delivery(job_id, destination, f"refused {row.refusals} times: {answer.reason}")
            return "stop"
        if time.time() - row.created_at > self.configuration.delivery.give_up_after_s:
            self._fail_delivery(job_id, destination, f"{answer.reason}, for longer than delivery.give_up_after_s")
            return "stop"
        return "again"

    def _committed(self, run: Run, job_id: str, destination: Destination) -> bool:
        """Ask for storage commitment until there is an answer; False when the destination says that it has not got the result."""
        longest = self.configuration.delivery.longest_wait_s
        while True:
            self._repeat(run, "ask commitment", lambda: self._ask(job_id, destination), longest=longest)
            waited, pause = 0.0, _COMMITMENT_PAUSE_S
            while waited < self.configuration.delivery.commitment_wait_s:
                answer = run.step("look for the answer", lambda: self._commitment(job_id, destination))
                if answer != "none":
                    return answer == "committed"
                run.sleep(pause)
                waited, pause = waited + pause, min(2 * pause, _LONGEST_PAUSE_S)

    def _commitment(self, job_id: str, destination: Destination) -> str:
        try:
            states = self.ledger.commitments.states(job_id, destination.ae_title)
            if "committed" in states:
                return "committed"
            if "refused" in states:
                self.ledger.commitments.forget(job_id, destination.ae_title)
                LOG.warning("not committed; sent again", extra={"job": job_id, "destination": destination.ae_title})
                return "refused"
        except SQLAlchemyError as error:
            LOG.warning("a step failed and will be repeated", extra={"error": type(error).__name__, "reason": _public(error)})
        return "none"

    def _ask(self, job_id: str, destination: Destination) -> Next:
        paths = self.spool.objects(job_id)
        problem = commitment.request(self.configuration, destination, paths, job_id=job_id, ledger=self.ledger)
        if problem is None:
            return "go on"
        self.ledger.note_delivery(job_id, destination.ae_title, "committing", problem)
        LOG.warning("commitment not asked for", extra={"job": job_id, "destination": destination.ae_title, "reason": problem})
        return "again"

    def _confirm(self, job_id: str, destination: Destination) -> Next:
        self.ledger.note_delivery(job_id, destination.ae_title, "done")
        self.metrics.delivered.labels(destination=destination.ae_title).inc()
        LOG.info("delivered", extra={"job": job_id, "destination": destination.ae_title})
        return "go on"

    def clean(self, job_id: str) -> Next:
        """Remove the film of a job that is done, unless films are kept."""
        job = self.ledger.job(job_id)
        if job is not None and job.state == "done" and not self.configuration.spool.keep_films_days:
            self.spool.remove_film(job_id)
        return "go on"

    # failing

    def _fail(self, job_id: str, reason: str) -> Next:
        self.ledger.move(job_id, "failed", reason)
        self.metrics.failed.inc()
        LOG.error("failed", extra={"job": job_id, "reason": reason})
        return "stop"

    def _fail_delivery(self, job_id: str, destination: Destination, reason: str) -> None:
        self.ledger.note_delivery(job_id, destination.ae_title, "failed", reason)
        self.metrics.failed.inc()
        LOG.error("not delivered", extra={"job": job_id, "destination": destination.ae_title, "reason": reason})

    def _surviving(self, step: Callable[[], Next]) -> Next:
        """Turn what a step raises into another try, and log it without values that could come from a header."""
        try:
            return step()
        except (SQLAlchemyError, OutputError, OSError) as error:
            LOG.warning("a step failed and will be repeated", extra={"error": type(error).__name__, "reason": _public(error)})
        except Exception as error:  # noqa: BLE001  # a defect must not lose the film: it is tried again, and set aside in the end
            LOG.error("a step failed and will be repeated", extra={"error": type(error).__name__, "reason": _public(error)})
        return "again"


@dataclass(frozen=True)
class _Notes:
    """`delivery.Notes` of one delivery, in the ledger."""

    sendings: Sendings
    job_id: str
    destination: str

    def begin(self, path: Path) -> bool:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        return self.sendings.begin(self.job_id, self.destination, path.name, digest)

    def forget(self, path: Path) -> None:
        self.sendings.forget(self.job_id, self.destination, path.name)


def _public(error: BaseException) -> str:
    """What may be said of an error: our own words, the system's, or where it happened."""
    if isinstance(error, CertdicomError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "; ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last)
