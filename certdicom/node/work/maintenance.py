"""Background maintenance: heartbeats, the outbox, jobs of dead workers, expiry."""

from __future__ import annotations

import logging
import threading
import time
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from certdicom.node.configuration import Configuration
from certdicom.node.metrics import Metrics, drifted
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Job
from certdicom.node.store.spool import Spool
from certdicom.node.work.dispatcher import Dispatcher
from certdicom.node.work.jobs.port import JobQueue

LOG = logging.getLogger("certdicom.node.work.maintenance")

ROUND_S: Final = 2.0
_SWEEP_S: Final = 3600.0
_DAY_S: Final = 86400.0
_KEEP_RUNS_S: Final = 7 * _DAY_S


class Maintenance:
    """One thread in each process; every duty may be done by several processes at once."""

    def __init__(
        self,
        *,
        configuration: Configuration,
        spool: Spool,
        ledger: Ledger,
        job_queue: JobQueue,
        dispatcher: Dispatcher,
        metrics: Metrics,
        executor_id: str,
    ) -> None:
        self._configuration, self._spool, self._ledger, self._job_queue = configuration, spool, ledger, job_queue
        self._dispatcher, self._metrics, self._executor_id = dispatcher, metrics, executor_id
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._last_sweep = 0.0
        self._database_down = False
        self._drifting = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._dispatcher.nudge()
        self._thread.join(timeout=10)

    def round(self) -> None:
        """Do all duties once. SQLAlchemyError when the database does not answer."""
        self._ledger.heartbeat.beat(self._executor_id)
        self._dispatcher.tell_all()
        self.reap()
        if time.monotonic() - self._last_sweep > _SWEEP_S or not self._last_sweep:
            self._last_sweep = time.monotonic()
            self.sweep()
        self._watch_drift()

    def reap(self) -> int:
        """Take over what dead processes left unfinished; returns how many runs."""
        unfinished = self._job_queue.unfinished()
        if not unfinished:
            return 0
        alive = self._ledger.heartbeat.alive(self._configuration.jobs.stale_after_s) | {self._executor_id}
        orphans = [orphan for orphan in unfinished if orphan.executor_id not in alive]
        for orphan in orphans:
            self._job_queue.take_over(orphan)
            self._metrics.taken_over.inc()
            LOG.warning("took over a run of a dead process", extra={"job": orphan.run_id, "executor": orphan.executor_id})
        return len(orphans)

    def sweep(self) -> None:
        """Remove what is past its time: films and results of jobs that are done, ignored instances, leftovers."""
        leftovers = self._spool.sweep()
        if leftovers:
            LOG.info("removed leftovers of interrupted work", extra={"count": leftovers})
        now = time.time()
        for path in [*self._spool.films.glob("*.dcm"), *self._spool.ignored.glob("*.dcm"), *self._spool.results.iterdir()]:
            job = self._ledger.job(path.stem if path.suffix else path.name)
            if job is not None:
                self._expire(job, now - job.updated_at)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Forget the job queue's finished runs, then rows of films of which nothing is left: a film that comes again is a new one then."""
        keep_s = self._configuration.jobs.keep_days * _DAY_S
        # The job queue first: a run that it still knew would not be run again for a film that comes back.
        self._job_queue.forget(now - (min(keep_s, _KEEP_RUNS_S) if keep_s else _KEEP_RUNS_S))
        if not keep_s:
            return
        spool, settled = self._spool, self._ledger.settled(now - keep_s)
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
                self._spool.remove_film(job.job_id)
            if age_s > settings.spool.keep_results_days * _DAY_S:
                self._spool.remove_result(job.job_id)
        elif job.state == "ignored":
            days = settings.spool.keep_ignored_days
            if days and age_s > days * _DAY_S:
                self._spool.remove_film(job.job_id)
                LOG.info("removed an ignored instance after spool.keep_ignored_days", extra={"job": job.job_id})

    def _watch_drift(self) -> None:
        expected, drift = self._configuration.certificate.expected_abstain, self._configuration.certificate.abstain_drift
        drifting = expected > 0 and drifted(self._ledger, expected=expected, drift=drift)
        if drifting and not self._drifting:
            LOG.error("the abstaining share has left what the model card expects: look at the last films")
        self._drifting = drifting

    def _run(self) -> None:
        due = 0.0
        while not self._stopping.is_set():
            self._dispatcher.nudged.clear()
            try:
                if time.monotonic() >= due:
                    due = time.monotonic() + ROUND_S
                    self.round()
                else:
                    self._dispatcher.tell_all()
                if self._database_down:
                    LOG.warning("the database answers again")
                self._database_down = False
            except SQLAlchemyError as error:
                if not self._database_down:
                    LOG.error("the database does not answer; receiving is refused until it does", extra={"error": type(error).__name__})
                self._database_down = True
            except Exception as error:  # noqa: BLE001  # a failed duty is done again in the next round
                LOG.error("housekeeping failed and will be repeated", extra={"error": type(error).__name__})
            self._dispatcher.nudged.wait(max(0.05, due - time.monotonic()))
