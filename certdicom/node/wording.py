"""What is owed, in words: the same on the page and on the command line."""

from __future__ import annotations

from certdicom.node.store.records import Step

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))


def what(step: Step) -> str:
    """What a step owes."""
    return {"certify": "certify", "deliver": f"deliver to {step.destination}", "commit": f"commitment at {step.destination}"}[step.kind]


def standing(step: Step, now: float) -> str:
    """How a step stands, and until when it waits; `now`: by the steady clock."""
    if step.state != "waiting":
        return "stopping" if step.stop_asked else step.state
    wait_s = step.due_at - now
    if wait_s < 1:
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
