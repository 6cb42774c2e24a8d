"""What the ledger keeps of films, results and what is owed, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

JobState = Literal["queued", "certifying", "delivering", "done", "ignored", "failed", "dropped"]
JOB_STATES: Final[tuple[JobState, ...]] = ("queued", "certifying", "delivering", "done", "ignored", "failed", "dropped")

StepKind = Literal["certify", "deliver", "commit", "notify", "report"]
"""The last two are not about a job: people are notified of an event, a sender told what we are committed to."""

StepState = Literal["waiting", "running", "done", "failed", "stopped"]

STAT, ROUTINE, LOW = 0, 1, 2
"""Priorities of jobs, in the order in which they are served."""

Code = Literal[
    "",
    "rules",  # stored, not processed: a rule of the configuration
    "image-refused",  # stored, not processed: this film cannot be certified
    "no-film",  # the spool has lost it
    "no-result",
    "renewed",  # another job does it, with the present bundle and parameters
    "other-work",  # waits for a process with the job's bundle and parameters
    "disk",  # the disk cannot be written to
    "database",
    "time-out",  # it took longer than the settings allow
    "crash",  # the certifying process ended
    "defect",  # an exception that no code of ours expects
    "lost",  # the process that had it died, or its run ended without a word
    "unreachable",
    "refused",  # by a destination
    "gave-up",
    "not-committed",
    "awaiting-report",  # asked for storage commitment
    "no-destination",
    "stopped",  # by a person
]
"""Why something is as it is, for programs; the reason beside it is for people."""


@dataclass(frozen=True)
class Job:
    """One film: `subject` its pseudonym, `abstain` the abstaining share of its certificate, `seconds` per stage; see `tables.JOBS`."""

    job_id: str
    subject: str
    state: JobState
    code: Code
    reason: str
    priority: int
    sender: str
    size: int
    work: str
    window: str
    crop: str
    received_at: float
    updated_at: float
    changed_at: float
    seg_sha256: str
    abstain: float | None
    seconds: Mapping[str, float]
    promised: bool


@dataclass(frozen=True)
class Step:
    """One thing that is owed: certify a job, deliver its result to `destination`, or have that committed.

    `due_at`, `deadline_at`, `since` (when it was asked for): seconds of the steady clock. `attempts`: begun; `refusals`: by the
    destination; `losses`: attempts that ended in a way that no code intends. `run_id`: the run that it was handed to, "" for none.
    """

    job_id: str
    kind: StepKind
    destination: str
    state: StepState
    priority: int
    due_at: float
    deadline_at: float | None
    attempts: int
    refusals: int
    losses: int
    code: Code
    reason: str
    run_id: str
    owner: str
    stop_asked: bool
    since: float
    updated_at: float

    @property
    def queue(self) -> str:
        """The name of the queue that runs it."""
        return queue_name(self.kind, self.destination)


def queue_name(kind: StepKind, destination: str = "") -> str:
    """The job queue's name for one kind of work: each destination has queues of its own."""
    return f"{kind}:{destination}" if destination else kind


@dataclass(frozen=True)
class Result:
    """What a finished certificate leaves in the ledger."""

    seg_sha256: str
    abstain: float
    seconds: Mapping[str, float] = field(default_factory=dict)


# How an attempt can end.


@dataclass(frozen=True)
class Done:
    """It is done. `result`: of a certificate; `then`: what is owed now, kind and destination."""

    reason: str = ""
    result: Result | None = None
    then: tuple[tuple[StepKind, str], ...] = ()


@dataclass(frozen=True)
class Later:
    """Worth another try in `wait_s` seconds. `counted`: as an attempt; `refused`: the destination said no."""

    wait_s: float
    code: Code
    reason: str
    counted: bool = True
    refused: bool = False


@dataclass(frozen=True)
class Failed:
    """No further try would help."""

    code: Code
    reason: str


@dataclass(frozen=True)
class Ignored:
    """The film is none that can be certified: stored, not processed."""

    code: Code
    reason: str


@dataclass(frozen=True)
class Lost:
    """It ended as no code intends: tried again in `wait_s` seconds, failed at the `most`-th time."""

    wait_s: float
    code: Code
    reason: str
    most: int


End = Done | Later | Failed | Ignored | Lost
