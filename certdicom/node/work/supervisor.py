"""The supervisor: hands over what is due, and looks for what was lost. One thread in each process, a round every two seconds.

Ends of attempts are written first, so that what is done is not taken for lost. What then stands as handed over, and of which neither a
thread here, nor the job queue, nor a living process knows, is owed again.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from certdicom.node.metrics import Metrics
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Lost, Step, StepKind
from certdicom.node.work.attempts import Attempts
from certdicom.node.work.jobs.port import JobQueue, Standing

LOG = logging.getLogger("certdicom.node.work.supervisor")

ROUND_S: Final = 2.0
_IN_HAND: Final = 32
"""Steps of one queue that the job queue has waiting: enough for its slots, few enough for a STAT film to be served soon."""

_PAUSE_S: Final = 0.05

_MISSING_S: Final = 3.0
"""A run that nobody knows may be on its way: between our row and the job queue's, or between its end and ours. Not for longer than this."""


class Supervisor:
    """Its `round` may be done by several processes at once; a run that two of them hand over or find lost is so once."""

    def __init__(
        self,
        ledger: Ledger,
        job_queue: JobQueue,
        attempts: Attempts,
        metrics: Metrics,
        *,
        queues: Sequence[tuple[StepKind, str]],
        executor_id: str,
        stale_after_s: float,
        most_losses: int,
        upkeep: Callable[[], None],
    ) -> None:
        """`queues`: kinds and destinations that are handed over; `upkeep`: what else is to be done, called at every round."""
        self._ledger, self._job_queue, self._attempts, self._metrics = ledger, job_queue, attempts, metrics
        self._queues, self._executor_id, self._stale_after_s, self._most_losses = queues, executor_id, stale_after_s, most_losses
        self._upkeep = upkeep
        self._missing: dict[str, float] = {}
        self._lock = threading.Condition()
        self._due: list[tuple[float, bool]] = []  # a heap of moments at which something is due, and whether only films to certify
        self._last_round = time.monotonic()
        self._trouble = ""
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._thread.join(timeout=10)

    def nudge(self, in_s: float = 0.0, *, certify_only: bool = False) -> None:
        """Have what is due in so many seconds handed over then, and not only at the next round."""
        with self._lock:
            heapq.heappush(self._due, (time.monotonic() + in_s, certify_only))
            self._lock.notify_all()

    def received(self) -> None:
        """Have a film that has come handed over: nothing else is due for that reason."""
        self.nudge(certify_only=True)

    @property
    def age_s(self) -> float:
        """Seconds since a round was last done without trouble."""
        return time.monotonic() - self._last_round

    def take_up(self) -> int:
        """At the start: take back what this process's former life had in hand; returns how many attempts were running then."""
        count = 0
        for step in self._ledger.steps.of_dead_processes(None if self._ledger.on_one_host else self._executor_id):
            if step.state == "running":
                self._lose(step, "the process ended while it was at it", at_once=True)
                count += 1
            else:
                self._ledger.steps.release(step.run_id)
        return count

    def round(self) -> None:
        """Do everything once. SQLAlchemyError when the database does not answer."""
        self._ledger.heartbeat.beat(self._executor_id)
        jump = self._ledger.clock.tick()
        if jump:
            self._metrics.clock_jumps.inc()
            text = "the clock of this machine was set; nothing that waits or is kept goes by it"
            LOG.warning(text, extra={"seconds": round(jump, 1)})
        self._attempts.write_ends()
        self.hand_over()
        self.find_lost()
        self._ledger.sum_up()
        self._upkeep()

    def hand_over(self, *, certify_only: bool = False) -> int:
        """Give the job queue what is due; returns how much there was."""
        count, paused = 0, set() if certify_only else self._ledger.destinations.paused()
        for kind, destination in self._queues:
            if (certify_only and kind != "certify") or (kind == "deliver" and destination in paused):
                continue
            for step in self._ledger.steps.hand_over(self._ledger.steps.due(kind, destination, _IN_HAND)):
                self._job_queue.enqueue(step.queue, step.run_id, step.priority)
                count += 1
        return count

    def find_lost(self) -> int:
        """Let what is in nobody's hands be owed again; returns how much there was."""
        known = self._attempts.known
        in_hand = [step for step in self._ledger.steps.in_hand() if step.run_id not in known]
        standings = self._job_queue.standings(step.run_id for step in in_hand) if in_hand else {}
        alive = self._ledger.heartbeat.alive(self._stale_after_s)
        now, missing, count = time.monotonic(), {}, 0
        for step in in_hand:
            why = self._why_lost(step, standings.get(step.run_id), alive)
            if not why:
                continue
            since = missing[step.run_id] = self._missing.get(step.run_id, now)
            if now - since >= _MISSING_S:
                count += self._lose(step, why)
        self._missing = missing
        return count

    def _why_lost(self, step: Step, standing: Standing | None, alive: set[str]) -> str:
        """Why nobody has a step that was handed over; "" when somebody has it."""
        if step.deadline_at is not None and self._ledger.clock.now() > step.deadline_at + self._stale_after_s:
            return "its process did not end it in time"
        if standing is None:
            return "the job queue does not know its run"
        if standing.state == "ended":
            return "its run ended without a word"
        owner = step.owner or standing.executor_id
        if standing.state == "running" and owner == self._executor_id:
            return "its run has no thread any more"
        if owner and owner not in alive:
            return "the process that had it is silent"
        return ""

    def _lose(self, step: Step, why: str, *, at_once: bool = False) -> bool:
        """Take a step out of a run's hands."""
        if step.state == "waiting":
            self._ledger.steps.release(step.run_id)
        elif self._attempts.lost(step, Lost(0.0 if at_once else ROUND_S, "lost", why, self._most_losses)):
            self._metrics.lost.inc()
        else:
            return False
        try:
            self._job_queue.give_up(step.run_id)
        except Exception as error:  # noqa: BLE001  # a run that comes back all the same finds that its step has another
            LOG.debug("the job queue did not give a lost run up", extra={"error": type(error).__name__})
        return True

    def _run(self) -> None:
        round_due = 0.0
        while True:
            with self._lock:
                if self._stopping:
                    return
                certify_only = True
                while self._due and self._due[0][0] <= time.monotonic():
                    certify_only &= heapq.heappop(self._due)[1]
            try:
                if time.monotonic() >= round_due:
                    round_due = time.monotonic() + ROUND_S
                    self.round()
                    self._last_round = time.monotonic()
                    self._recovered()
                else:
                    self._attempts.write_ends()
                    self.hand_over(certify_only=certify_only)
            except SQLAlchemyError as error:
                self._troubled("the database cannot be used; what is owed waits for it", error)
            except BaseException as error:  # noqa: BLE001  # without this thread nothing would be taken up any more
                self._troubled("a round of the supervisor failed and will be repeated", error)
            self._wait(round_due)

    def _wait(self, round_due: float) -> None:
        """Until the next round, or until something is due before it; a little at least, so that what comes together is done together."""
        with self._lock:
            self._lock.wait_for(lambda: self._stopping, timeout=_PAUSE_S)
            while not self._stopping and (wait_s := min([round_due, *(moment for moment, _ in self._due[:1])]) - time.monotonic()) > 0:
                self._lock.wait(wait_s)

    def _troubled(self, text: str, error: BaseException) -> None:
        if text != self._trouble:
            LOG.error(text, extra={"error": type(error).__name__})
        self._trouble = text

    def _recovered(self) -> None:
        if self._trouble:
            LOG.warning("the supervisor's rounds succeed again")
        self._trouble = ""
