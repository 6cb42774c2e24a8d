"""What is owed, in words: the same on the page and on the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from certdicom.node.store.destinations import DestinationState
from certdicom.node.store.records import Step, StepKind

_ROUND_S: Final = 2.5
"""Who reads the clock from outside the node may be late by a round of the supervisor."""

_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def what(step: Step) -> str:
    """What a step owes."""
    told = {"deliver": f"deliver to {step.destination}", "commit": f"commitment at {step.destination}"}
    return told.get(step.kind, step.kind)


def standing(step: Step, now: float) -> str:
    """How a step stands, and until when it waits; `now`: by the steady clock."""
    if step.state != "waiting":
        return "stopping" if step.stop_asked else step.state
    wait_s = step.due_at - now
    if wait_s < _ROUND_S:
        return "waiting for its turn"
    return (
        f"waiting for the report, asked again in {span(wait_s)}"
        if step.code == "awaiting-report"
        else f"waiting, next try in {span(wait_s)}"
    )


def tries(step: Step) -> str:
    """How often it was tried."""
    return "not tried yet" if not step.attempts else "1 attempt" if step.attempts == 1 else f"{step.attempts} attempts"


def span(seconds: float) -> str:
    """A span of time, in its largest unit."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds / size)} {unit}"
    return f"{max(0, int(seconds))} s"


def destination_standing(title: str, state: DestinationState | None, owed: Mapping[tuple[StepKind, str, str], tuple[int, float]]) -> str:
    """How a destination stands: what waits for it and for how long, whether it is paused, and since when it takes nothing."""
    waiting = [entry for (_, destination, _), entry in owed.items() if destination == title]
    parts = ["nothing owed"]
    if waiting:
        parts = [f"{sum(number for number, _ in waiting)} owed, the oldest for {span(max(age_s for _, age_s in waiting))}"]
    if state is not None and state.paused:
        parts.append("paused")
    if state is not None and state.failing_s is not None:
        parts.append(f"takes nothing for {span(state.failing_s)}: {state.reason}")
    return "; ".join(parts)
