"""Background maintenance: what is past its time is removed, and the abstaining share is watched."""

from __future__ import annotations

import logging
import time
from typing import Final

from certdicom.node.configuration import Configuration
from certdicom.node.metrics import Metrics, drifted
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Job
from certdicom.node.store.spool import Spool
from certdicom.node.work.jobs.port import JobQueue

LOG = logging.getLogger("certdicom.node.work.maintenance")

_SWEEP_S: Final = 3600.0
_DAY_S: Final = 86400.0
_KEEP_RUNS_S: Final = 7 * _DAY_S


class Maintenance:
    """Every duty may be done by several processes at once. Ages are the steady clock's: a wall clock that was set removes nothing."""

    def __init__(self, *, configuration: Configuration, spool: Spool, ledger: Ledger, job_queue: JobQueue, metrics: Metrics) -> None:
        self._configuration, self._spool, self._ledger, self._job_queue, self._metrics = configuration, spool, ledger, job_queue, metrics
        self._next_sweep = 0.0
        self._drifting = False

    def __call__(self) -> None:
        """What is to be done at every round. SQLAlchemyError when the database does not answer."""
        if time.monotonic() >= self._next_sweep:
            self._next_sweep = time.monotonic() + _SWEEP_S
            self.sweep()
        self._watch_drift()
        self._ledger.destinations.tell(self._configuration.notify.destination_after_s)

    def sweep(self) -> None:
        """Remove what is past its time: films and results of jobs that are done, ignored instances, leftovers."""
        leftovers = self._spool.sweep()
        if leftovers:
            LOG.info("removed leftovers of interrupted work", extra={"count": leftovers})
        for path in [*self._spool.films.glob("*.dcm"), *self._spool.ignored.glob("*.dcm"), *self._spool.results.iterdir()]:
            job = self._ledger.job(path.stem if path.suffix else path.name)
            if job is not None:
                self._expire(job, self._ledger.age_s(job))
        self._forget()

    def _forget(self) -> None:
        """Forget the job queue's finished runs, and the rows of films of which nothing is left: one that comes again is a new one then."""
        self._job_queue.forget(time.time() - _KEEP_RUNS_S)
        keep_s = self._configuration.jobs.keep_days * _DAY_S
        if not keep_s:
            return
        spool, settled = self._spool, self._ledger.settled(keep_s)
        gone = [
            job_id
            for job_id in settled
            if not any(path.exists() for path in (spool.film(job_id), spool.ignored_instance(job_id), spool.result(job_id)))
        ]
        if gone:
            self._ledger.purge(gone)
            LOG.info("forgot finished films after jobs.keep_days", extra={"count": len(gone)})

    def _expire(self, job: Job, age_s: float) -> None:
        settings = self._configuration
        if job.state in ("done", "dropped"):
            if age_s >= settings.spool.keep_films_days * _DAY_S:
                self._remove_film(job, age_s)
            if age_s > settings.spool.keep_results_days * _DAY_S:
                self._spool.remove_result(job.job_id)
        elif job.state == "ignored":
            days = settings.spool.keep_ignored_days
            if days and age_s > days * _DAY_S:
                self._remove_film(job, age_s)

    def _remove_film(self, job: Job, age_s: float) -> None:
        """Remove the bytes of an instance, unless a sender relies on us for them."""
        days = self._configuration.spool.keep_committed_days
        if job.promised and days and age_s > days * _DAY_S:
            self._spool.remove_film(job.job_id)
        else:
            self._ledger.promises.unless_kept(job.job_id, lambda: self._spool.remove_film(job.job_id))

    def _watch_drift(self) -> None:
        expected, drift = self._configuration.certificate.expected_abstain, self._configuration.certificate.abstain_drift
        drifting = expected > 0 and drifted(self._ledger, expected=expected, drift=drift)
        if drifting and not self._drifting:
            LOG.error("the abstaining share has left what the model card expects: look at the last films")
        self._drifting = drifting
