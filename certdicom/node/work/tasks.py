"""What an attempt of each kind does: certify a film, deliver a result to a destination, ask for its commitment.

Everything is idempotent: certifying looks for the result first, sending repeats the same bytes under the same UID. Nothing waits here:
what is to be tried again says so and when, and gives its slot back.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from certdicom.errors import ImageRefusedError
from certdicom.node.configuration import Configuration
from certdicom.node.deliver import commitment, delivery, webhook
from certdicom.node.identity import Work
from certdicom.node.metrics import Metrics
from certdicom.node.receive.commitment_scp import CommitmentScp
from certdicom.node.settings import Destination
from certdicom.node.store.delivery_log import Sendings
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Done, End, Failed, Ignored, Job, JobState, Later, Lost, Step, StepKind
from certdicom.node.store.spool import Spool
from certdicom.node.work.attempts import LONGEST_WAIT_S, pause_s
from certdicom.node.work.certify import FilmCertifier, public_reason, read_result
from certdicom.node.work.isolated import CertifyingError

LOG = logging.getLogger("certdicom.node.work.tasks")

_OTHER_WORK_S: Final = 30.0


@dataclass(frozen=True)
class Tasks:
    """The tasks and what they work with."""

    configuration: Configuration
    spool: Spool
    ledger: Ledger
    certifier: FilmCertifier
    metrics: Metrics
    work: Work
    commitment_scp: CommitmentScp

    def __call__(self, step: Step) -> End:
        """Do what a step owes; `attempts.Do`."""
        if step.kind == "certify":
            return self._certify(step)
        if step.kind == "notify":
            return self._notify(step)
        if step.kind == "report":
            return self._report(step)
        destination = self.configuration.destination(step.destination)
        if destination is None:  # its queue is listened to by another process, which has another configuration
            return Later(_OTHER_WORK_S, "other-work", "this process has no such destination", counted=False)
        return self._deliver(step, destination) if step.kind == "deliver" else self._commit(step, destination)

    def ended(self, step: Step, end: End, state: JobState) -> None:
        """Tell people how an attempt ended, once its end is written."""
        details = {"job": step.job_id, "destination": step.destination, "reason": getattr(end, "reason", "")}
        if step.kind in ("notify", "report"):
            self._told(step, end)
            return
        if step.kind == "deliver":
            self._watch(step.destination, end)
        if isinstance(end, Ignored):
            self.metrics.ignored.inc()
            LOG.info("stored, not processed", extra=details)
        elif isinstance(end, Done):
            self._done(step, end, state, details)
        elif state == "dropped":
            LOG.info("stopped", extra=details)
        elif isinstance(end, Failed) or (isinstance(end, Lost) and step.losses + 1 >= end.most):
            self.metrics.failed.inc()
            LOG.error("failed" if step.kind == "certify" else "not delivered", extra=details)
        elif end.code != "awaiting-report":
            LOG.warning("to be repeated", extra={**details, "attempts": step.attempts, "executor": step.owner})
        if state == "done":
            self.clean(step.job_id)

    def clean(self, job_id: str) -> None:
        """Remove the film of a job that is done, unless films are kept, or a sender relies on us for this one."""
        if not self.configuration.spool.keep_films_days:
            self.ledger.promises.unless_kept(job_id, lambda: self.spool.remove_film(job_id))

    def _done(self, step: Step, end: Done, state: JobState, details: dict[str, str]) -> None:
        if end.result is not None:
            self.metrics.certified.inc()
            self.metrics.abstain.observe(end.result.abstain)
            for stage, seconds in end.result.seconds.items():
                self.metrics.stage.labels(stage=stage).observe(seconds)
            figures = {"abstain": round(end.result.abstain, 4), "seconds": end.result.seconds.get("total")}
            LOG.info("certified", extra={"job": step.job_id, **figures})
        elif step.kind == "deliver":
            LOG.info("sent", extra=details)
            if not end.then:
                self.metrics.delivered.labels(destination=step.destination).inc()
        if state == "done" and step.kind != "certify":
            LOG.info("delivered", extra={"job": step.job_id})

    def _watch(self, ae_title: str, end: End) -> None:
        """Note, and tell once, that a destination takes nothing any more, or takes results again."""
        if isinstance(end, Done):
            if self.ledger.destinations.takes(ae_title):
                LOG.warning("a destination takes results again", extra={"destination": ae_title})
        elif isinstance(end, Later) and end.code == "unreachable" and self.ledger.destinations.fails(ae_title, end.reason):
            LOG.warning("a destination takes nothing", extra={"destination": ae_title, "reason": end.reason})

    # people and senders

    def _notify(self, step: Step) -> End:
        event = self.ledger.events.event(step.job_id)
        if event is None or not self.configuration.notify.url:
            return Done()
        problem = webhook.post(self.configuration, event)
        return Done() if problem is None else self._told_later(step, problem, self.configuration.notify.give_up_after_s)

    def _report(self, step: Step) -> End:
        promise = self.ledger.promises.promise(step.job_id)
        if promise is None or not self.spool.request(step.job_id).exists():
            return Done()  # it was forgotten
        problem = self.commitment_scp.report(promise)
        if problem is None:
            LOG.info("told a sender what we are committed to", extra={"sender": promise.requestor})
            return Done()
        return self._told_later(step, problem, self.configuration.delivery.commitment_give_up_s)

    def _told_later(self, step: Step, problem: str, give_up_after_s: float) -> Later | Failed:
        if self.ledger.clock.now() - step.since > give_up_after_s:
            return Failed("gave-up", problem)
        wait_s = pause_s(self._first_wait_s, step.attempts - 1, self.configuration.delivery.longest_wait_s)
        return Later(wait_s, "unreachable", problem)

    def _told(self, step: Step, end: End) -> None:
        """What became of a notification or a report: what is told or given up is forgotten."""
        details = {"state": step.kind, "reason": getattr(end, "reason", "")}
        if isinstance(end, Later):
            LOG.warning("a message was not taken and will be repeated", extra={**details, "attempts": step.attempts})
        elif not isinstance(end, Lost):
            if isinstance(end, Failed):
                LOG.error("a message was given up", extra=details)
            if step.kind == "notify":
                self.ledger.events.forget(step.job_id)
            else:
                self.commitment_scp.forget(step.job_id)

    # certify

    def _certify(self, step: Step) -> End:
        job_id, job = step.job_id, self.ledger.job(step.job_id)
        if self.spool.result(job_id).exists():
            return self._made(job_id)
        if job is None or job.work not in ("", self.work.digest):
            return Later(_OTHER_WORK_S, "other-work", "waits for a process with the bundle and parameters that it came for", counted=False)
        if not self.spool.film(job_id).exists():
            self.spool.recall(job_id)
        if not self.spool.film(job_id).exists():
            return Failed("no-film", "the film is no longer in the spool; send it again")
        try:
            self._make(job)
        except ImageRefusedError as error:
            self.spool.ignore(job_id)
            return Ignored("image-refused", public_reason(error))
        except CertifyingError as error:
            wait_s = pause_s(self._first_wait_s, step.losses, LONGEST_WAIT_S)
            return Lost(wait_s, error.code, str(error), self.configuration.jobs.max_attempts)
        return self._made(job_id)

    def _make(self, job: Job) -> None:
        folder = self.spool.new_folder()
        try:
            self.certifier.certify(self.spool.film(job.job_id), folder, window=job.window, crop=job.crop)
            self.spool.adopt(folder, job.job_id)
        finally:
            self.spool.discard(folder)

    def _made(self, job_id: str) -> Done:
        then: tuple[tuple[StepKind, str], ...] = tuple(("deliver", entry.ae_title) for entry in self.configuration.destinations)
        return Done(result=read_result(self.spool.result(job_id)), then=then)

    # deliver

    def _deliver(self, step: Step, destination: Destination) -> End:
        paths = self.spool.objects(step.job_id)
        if not paths:
            return Failed("no-result", "the result is no longer in the spool")
        answer = delivery.send(self.configuration, destination, paths, _Notes(self.ledger.sendings, step.job_id, destination.ae_title))
        self.metrics.delivery_attempts.labels(destination=destination.ae_title, verdict=answer.verdict).inc()
        if answer.verdict == "stored":
            return Done(answer.reason, then=(("commit", destination.ae_title),) if destination.storage_commitment else ())
        refused = answer.verdict == "refused"
        refusals = step.refusals + refused
        if refused and refusals >= self.configuration.delivery.refusals:
            return Failed("refused", f"refused {refusals} times: {answer.reason}")
        return self._again(step, destination, answer.reason, refused=refused)

    def _again(self, step: Step, destination: Destination, reason: str, *, refused: bool = False) -> Later | Failed:
        """Another try after a pause that grows, as long as delivery.give_up_after_s has not passed."""
        if self.ledger.clock.now() - step.since > self.configuration.delivery.give_up_after_s:
            return Failed("gave-up", f"{reason}, for longer than delivery.give_up_after_s")
        first_s = destination.first_wait_s or self._first_wait_s
        wait_s = pause_s(first_s, step.attempts - 1, destination.longest_wait_s or self.configuration.delivery.longest_wait_s)
        return Later(wait_s, "refused" if refused else "unreachable", reason, refused=refused)

    # commit

    def _commit(self, step: Step, destination: Destination) -> End:
        """Ask for commitment; the report ends this step, whenever it comes. Asked again after delivery.commitment_wait_s without one."""
        paths = self.spool.objects(step.job_id)
        if not paths:
            return Failed("no-result", "the result is no longer in the spool")
        waited = self.ledger.clock.now() - step.since
        if waited > self.configuration.delivery.commitment_give_up_s:
            return Failed("not-committed", "no commitment report came within delivery.commitment_give_up_s")
        problem = commitment.request(self.configuration, destination, paths, job_id=step.job_id, ledger=self.ledger, reported=self.reported)
        if problem is not None:
            return self._again(step, destination, f"commitment not asked for: {problem}")
        if step.attempts > 1:
            LOG.warning("asked for commitment again: no report came", extra={"job": step.job_id, "destination": step.destination})
        return Later(self.configuration.delivery.commitment_wait_s, "awaiting-report", "asked for storage commitment")

    def reported(self, report: commitment.Report) -> bool:
        """Take a commitment report; False when it is not about what was asked. SQLAlchemyError when it cannot be written down."""
        asked = self.ledger.commitments.asked(report.transaction_uid)
        committed = report.about(asked) if asked else None
        if committed is None:
            return False
        most = self.configuration.delivery.refusals
        answer = self.ledger.commitments.answer(report.transaction_uid, committed=committed, most_refusals=most)
        if answer is None:
            return True  # it comes again
        job_id, destination, state = answer
        details = {"job": job_id, "destination": destination}
        if committed:
            self.metrics.delivered.labels(destination=destination).inc()
            LOG.info("committed", extra=details)
        elif state == "failed":
            self.metrics.failed.inc()
            LOG.error("not delivered", extra={**details, "reason": f"not committed {most} times"})
        else:
            LOG.warning("not committed; to be sent again", extra=details)
        if state == "done":
            LOG.info("delivered", extra={"job": job_id})
            self.clean(job_id)
        return True

    @property
    def _first_wait_s(self) -> float:
        return self.configuration.delivery.first_wait_s


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
