"""What the ledger keeps of films, results and deliveries, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

JobState = Literal["queued", "certifying", "delivering", "done", "ignored", "failed", "dropped"]
JOB_STATES: Final[tuple[JobState, ...]] = ("queued", "certifying", "delivering", "done", "ignored", "failed", "dropped")

DeliveryState = Literal["queued", "waiting", "committing", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One film: `subject` its pseudonym, `abstain` the abstaining share of its certificate, `seconds` per stage."""

    job_id: str
    subject: str
    state: JobState
    reason: str
    generation: int
    attempts: int
    sender: str
    size: int
    received_at: float
    updated_at: float
    seg_sha256: str
    abstain: float | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Delivery:
    """One result on its way to one destination."""

    job_id: str
    destination: str
    state: DeliveryState
    reason: str
    generation: int
    attempts: int
    refusals: int
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class OutboxEntry:
    """Something that the job queue is to be told: certify a job, or deliver it to `destination`."""

    job_id: str
    generation: int
    destination: str | None = None

    @property
    def run_id(self) -> str:
        """The id under which the job queue runs it once."""
        return f"{self.job_id}:{'certify' if self.destination is None else 'deliver:' + self.destination}:{self.generation}"


@dataclass(frozen=True)
class Result:
    """What a finished certificate leaves in the ledger."""

    seg_sha256: str
    abstain: float
    seconds: Mapping[str, float] = field(default_factory=dict)
