"""The border of an attempt: whatever happens inside, its step learns how it ended.

An attempt may end by returning, by any exception, a decoder's panic included, or not at all. Its end is kept in memory before the database
hears of it, and told until the database has it: a disk that is full for a while delays, and repeats nothing.
"""

from __future__ import annotations

import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import CertdicomError, OutputError
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import End, JobState, Later, Lost, Step

LOG = logging.getLogger("certdicom.node.work.attempts")

LONGEST_WAIT_S: Final = 60.0
"""Longest pause before certifying again."""

_MOST_PANICS: Final = 3
"""What is no Exception was raised by something that wanted to end the process; it is not met often."""

_MOST_DOUBLINGS: Final = 30

Do = Callable[[Step], End]


class Attempts:
    """Makes attempts for the job queue, and keeps their ends until they are written."""

    def __init__(
        self,
        ledger: Ledger,
        do: Do,
        *,
        executor_id: str,
        first_wait_s: float,
        most_losses: int,
        certify_s: float,
        ended: Callable[[Step, End, JobState], None],
    ) -> None:
        """`certify_s`: seconds after which another process may take a certifying attempt for hung; `ended`: called when an end was
        written, in any thread.
        """
        self._ledger, self._do, self._executor_id = ledger, do, executor_id
        self._first_wait_s, self._most_losses, self._certify_s, self._ended = first_wait_s, most_losses, certify_s, ended
        self._lock = threading.Condition()
        self._live: set[str] = set()
        self._ends: dict[str, tuple[Step, End]] = {}
        self._stopping = False

    def __call__(self, run_id: str) -> None:
        """Make the attempt of a run; `port.Attempt`."""
        with self._lock:
            if self._stopping:
                return
            self._live.add(run_id)
        try:
            self._attempt(run_id)
        finally:
            with self._lock:
                self._live.discard(run_id)
                self._lock.notify_all()

    @property
    def known(self) -> set[str]:
        """Runs that have a thread here, or an end that is not written yet."""
        with self._lock:
            return self._live | set(self._ends)

    def write_ends(self) -> None:
        """Write the ends that are kept. SQLAlchemyError when the database cannot."""
        with self._lock:
            kept = list(self._ends.items())
        for run_id, (step, end) in kept:
            try:
                state = self._ledger.steps.finish(run_id, end)
            except SQLAlchemyError:
                raise
            except Exception as error:  # noqa: BLE001  # this one cannot be written, whatever is done: its step is found lost
                LOG.error("the end of an attempt could not be written", extra={"job": step.job_id, "error": type(error).__name__})
                state = None
            with self._lock:
                self._ends.pop(run_id, None)
            if state is not None:
                self._ended(step, end, state)

    def lost(self, step: Step, end: Lost) -> bool:
        """End an attempt that is in nobody's hands; False when it has ended meanwhile."""
        state = self._ledger.steps.finish(step.run_id, end)
        if state is not None:
            self._ended(step, end, state)
        return state is not None

    def stop(self, grace_s: float) -> bool:
        """Begin nothing more, and give what runs `grace_s` seconds; what then still runs waits again. False when there was some."""
        with self._lock:
            self._stopping = True
            finished = self._lock.wait_for(lambda: not self._live, timeout=grace_s)
            left = self._live - set(self._ends)
        try:
            self.write_ends()
            for run_id in left:
                self._ledger.steps.take_back(run_id)
        except SQLAlchemyError as error:
            LOG.warning("what was running is taken up at the next start", extra={"error": type(error).__name__})
        return finished

    def _attempt(self, run_id: str) -> None:
        try:
            step = self._ledger.steps.begin(run_id, owner=self._executor_id, certify_s=self._certify_s)
        except Exception as error:  # noqa: BLE001  # nothing has begun: the step is handed over again
            LOG.warning("an attempt could not begin", extra={"error": type(error).__name__, "reason": public(error)})
            return
        if step is None:
            return
        end = self._end_of(step)
        with self._lock:
            self._ends[run_id] = (step, end)
        try:
            self.write_ends()
        except SQLAlchemyError as error:
            LOG.warning("the end of an attempt is kept until it can be written", extra={"job": step.job_id, "error": type(error).__name__})

    def _end_of(self, step: Step) -> End:
        """What an attempt comes to. Errors are logged without values that could come from a header."""
        wait_s = pause_s(self._first_wait_s, step.losses, LONGEST_WAIT_S)
        details = {"job": step.job_id, "destination": step.destination}
        try:
            return self._do(step)
        except (SQLAlchemyError, OutputError, OSError) as error:
            # Not this film's fault: it costs no attempt, however long the disk is full or the database away.
            details |= {"error": type(error).__name__, "reason": public(error)}
            LOG.warning("an attempt failed and will be repeated", extra=details)
            return Later(wait_s, "database" if isinstance(error, SQLAlchemyError) else "disk", public(error), counted=False)
        except BaseException as error:  # noqa: BLE001  # a run must not end without its step saying so
            details |= {"error": type(error).__name__, "reason": public(error)}
            LOG.error("an attempt failed", extra=details)
            most = self._most_losses if isinstance(error, Exception) else min(self._most_losses, _MOST_PANICS)
            return Lost(wait_s, "defect", f"{type(error).__name__}, {public(error)}", most)


def pause_s(first_s: float, repeated: int, longest_s: float) -> float:
    """Seconds before the next attempt: doubled with each one that was repeated already."""
    return min(first_s * 2 ** min(repeated, _MOST_DOUBLINGS), longest_s)


def public(error: BaseException) -> str:
    """What may be said of an error: our own words, the system's, or where it happened."""
    if isinstance(error, CertdicomError):
        return " ".join(str(error).split())
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return "; ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in last)
