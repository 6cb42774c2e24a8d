"""`certdicom queue`: the films of a node, and what is to happen to them. Works whether the node runs or not."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from certdicom.errors import CertdicomError, UsageError

if TYPE_CHECKING:
    from certdicom.node.queue import OpenQueue
    from certdicom.node.store.records import Job

_UID: Final = re.compile(r"[0-9.]{1,64}")
_SHORTEST: Final = 4
_MOST: Final = 100_000

_VERBS: Final = {
    "retry": "start failed, ignored, stopped and waiting films again, now",
    "redeliver": "send results again, also those that were delivered",
    "redirect": "send what waits for one destination to another",
    "stop": "stop what waits, all of it or for one destination; retry starts it again",
    "drop": "give films up that are not done",
}
_DONE: Final = {
    "retry": "will be started again",
    "redeliver": "will be sent again",
    "redirect": "redirected",
    "stop": "stopped",
    "drop": "dropped",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="TOML", type=Path, help="the node's configuration file")
    metavar = "ls|show|retry|redeliver|redirect|stop|drop|destinations|pause|resume"
    verbs = parser.add_subparsers(dest="verb", metavar=metavar, required=True)
    listing = verbs.add_parser("ls", help="list films, the last changed first")
    _add_selection(listing)
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default %(default)s)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = verbs.add_parser("show", help="everything about a film: its steps, what each waits for and until when")
    show.add_argument("job", metavar="JOB|UID", help="a job id, its beginning, or the film's SOP Instance UID")
    for verb, help_line in _VERBS.items():
        child = verbs.add_parser(verb, help=help_line)
        child.add_argument("jobs", metavar="JOB|UID", nargs="*", help="job ids, their beginnings, or SOP Instance UIDs")
        _add_selection(child)
        child.add_argument("--dry-run", action="store_true", help="name the films, and leave them alone")
        if verb == "retry":
            child.add_argument("--all-failed", action="store_true", help="all that failed: --state failed")
        if verb == "redirect":
            child.add_argument("--to", metavar="AE", required=True, help="the other destination; --destination names the one")
    verbs.add_parser("destinations", help="list destinations: what waits for each, and whether it takes anything")
    for verb, help_line in (("pause", "send a destination nothing more until resume"), ("resume", "send a destination what waits for it")):
        verbs.add_parser(verb, help=help_line).add_argument("destination", metavar="AE", help="its AE title")
    for child in verbs.choices.values():  # people write it after the verb as well
        child.add_argument("--config", metavar="TOML", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _add_selection(parser: argparse.ArgumentParser) -> None:
    from certdicom.node.store.records import JOB_STATES

    parser.add_argument("--state", choices=JOB_STATES, help="only films in this state")
    parser.add_argument("--since", metavar="DATE", type=_moment_of, help="only films received since then: 2026-11-27 or 2026-11-27T08:00")
    parser.add_argument("--until", metavar="DATE", type=_moment_of, help="only films received before")
    parser.add_argument("--destination", metavar="AE", help="only films with a result for this destination")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.node.queue import open_queue

    queue = open_queue(arguments.config)
    if arguments.verb == "ls":
        return _list(queue, arguments)
    if arguments.verb == "show":
        for job in _find(queue, arguments.job):
            _show(queue, job)
        return 0
    if arguments.verb == "destinations":
        return _list_destinations(queue)
    if arguments.verb in ("pause", "resume"):
        return _switch(queue, arguments.destination, pause=arguments.verb == "pause")
    return _change(queue, arguments)


def _change(queue: OpenQueue, arguments: argparse.Namespace) -> int:
    """Change all that is named or selected; what cannot be changed is told, and keeps nobody else."""
    verb, change = arguments.verb, _change_of(queue, arguments)
    if getattr(arguments, "all_failed", False):
        arguments.state = "failed"
    selected = any((arguments.state, arguments.since, arguments.until, arguments.destination and verb != "redirect"))
    if not arguments.jobs and not selected and verb != "redirect":
        raise UsageError(f"name the films to {verb}, or select them with --state, --since, --until or --destination; queue ls lists them")
    code, jobs = 0, [] if arguments.jobs else _selected(queue, arguments, limit=_MOST)
    for given in arguments.jobs:
        try:
            jobs += _find(queue, given)
        except CertdicomError as error:
            code = _told(error)
    for job in jobs:
        try:
            if not arguments.dry_run:
                change(job)
            print(f"{job.job_id} {'would be changed' if arguments.dry_run else _DONE[verb]}")
        except CertdicomError as error:
            code = _told(error)
    if not jobs and not code:
        print("no film is meant by that", file=sys.stderr)
    return code


def _change_of(queue: OpenQueue, arguments: argparse.Namespace) -> Callable[[Job], object]:
    """What a verb does to a job; each raises UsageError where that cannot be done."""
    ledger, spool, destination = queue.ledger, queue.spool, arguments.destination
    configured = [entry.ae_title for entry in queue.configuration.destinations]

    def retry(job: Job) -> None:
        spool.recall(job.job_id)
        ledger.retry(job.job_id)

    def redeliver(job: Job) -> None:
        if not spool.objects(job.job_id):
            raise UsageError(f"job {job.job_id} has no result in the spool; send the film again")
        ledger.redeliver(job.job_id, [destination] if destination else configured)

    for title in filter(None, (destination if arguments.verb == "redeliver" else None, getattr(arguments, "to", None))):
        if title not in configured:
            raise UsageError(f"{title} is not a destination of the configuration; it has {', '.join(configured) or 'none'}")
    if arguments.verb == "redirect" and not destination:
        raise UsageError("name the destination that is to be replaced with --destination, and the other with --to")
    return {
        "retry": retry,
        "redeliver": redeliver,
        "redirect": lambda job: ledger.redirect(job.job_id, destination, arguments.to),
        "stop": lambda job: ledger.stop(job.job_id, destination),
        "drop": lambda job: ledger.drop(job.job_id),
    }[arguments.verb]


def _told(error: CertdicomError) -> int:
    print(f"certdicom: {' '.join(str(error).split())}", file=sys.stderr)
    return error.exit_code


def _selected(queue: OpenQueue, arguments: argparse.Namespace, *, limit: int) -> list[Job]:
    return queue.ledger.jobs(
        states=(arguments.state,) if arguments.state else (),
        since=arguments.since,
        until=arguments.until,
        destination=arguments.destination,
        limit=limit,
    )


def _list(queue: OpenQueue, arguments: argparse.Namespace) -> int:
    for job in _selected(queue, arguments, limit=arguments.limit):
        if arguments.json:
            print(json.dumps(asdict(job)))
        else:
            share = "" if job.abstain is None else f"{job.abstain:6.1%} abstained"
            print(f"{job.job_id}  {job.state:<10}  {_moment(job.received_at)}  {share:<16}  {job.reason}".rstrip())
    return 0


def _list_destinations(queue: OpenQueue) -> int:
    from certdicom.node.wording import destination_standing

    states, owed = queue.ledger.destinations.states(), queue.ledger.steps.oldest()
    configured = [entry.ae_title for entry in queue.configuration.destinations]
    for title in [*configured, *sorted({name for _, name, _ in owed if name} - set(configured))]:
        note = "" if title in configured else "; not in the configuration"
        print(f"{title:<18}{destination_standing(title, states.get(title), owed)}{note}")
    return 0


def _switch(queue: OpenQueue, title: str, *, pause: bool) -> int:
    if queue.configuration.destination(title) is None:
        titles = ", ".join(entry.ae_title for entry in queue.configuration.destinations)
        raise UsageError(f"{title} is not a destination of the configuration; it has {titles or 'none'}")
    (queue.ledger.destinations.pause if pause else queue.ledger.destinations.resume)(title)
    print(f"{title} {'is paused; what waits for it waits for resume' if pause else 'is sent to again'}")
    return 0


def _moment_of(text: str) -> float:
    """A date or a date with a time, on this machine's clock, in seconds since 1970."""
    try:
        return dt.datetime.fromisoformat(text).timestamp()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date such as 2026-11-27 or 2026-11-27T08:00") from error


def _moment(seconds: float) -> str:
    """A moment on this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _show(queue: OpenQueue, job: Job) -> None:
    from certdicom.node.wording import standing, tries, what

    ledger, spool = queue.ledger, queue.spool
    for name, value in (
        ("film", job.job_id),
        ("subject", job.subject),
        ("state", job.state + (f": {job.reason}" if job.reason else "")),
        ("priority", {0: "STAT", 1: "", 2: "low"}[job.priority]),
        ("received", f"{_moment(job.received_at)} from {job.sender or 'an unnamed sender'}, {job.size / 1e6:.1f} MB"),
        ("last changed", _moment(job.updated_at)),
        ("abstained", "" if job.abstain is None else f"{job.abstain:.1%}"),
        ("took", ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in job.seconds.items())),
        ("SEG SHA-256", job.seg_sha256),
        ("committed", "its sender relies on our storage commitment: the film is kept" if job.promised else ""),
    ):
        if value:
            print(f"{name:<14}{value}")
    paused = ledger.destinations.paused()
    for step in ledger.steps.of([job.job_id]):
        why = f": {step.reason}" if step.reason else ""
        note = " (the destination is paused)" if step.destination in paused and step.state == "waiting" else ""
        print(f"{'step':<14}{what(step)}: {standing(step, ledger.clock.now())}{note}, {tries(step)}{why}")
    for name, path in (
        ("film file", spool.film(job.job_id)),
        ("ignored film", spool.ignored_instance(job.job_id)),
        ("result", spool.result(job.job_id)),
    ):
        if path.exists():
            print(f"{name:<14}{path}")


def _find(queue: OpenQueue, given: str) -> list[Job]:
    """The jobs that a person means by `given`. UsageError when there is none, or more than one begins with it."""
    if _UID.fullmatch(given) and "." in given:
        jobs = queue.ledger.jobs(subject=queue.pseudonym_of(given))
    else:
        exact = queue.ledger.job(given)
        jobs = [exact] if exact else queue.ledger.beginning_with(given) if len(given) >= _SHORTEST else []
        if len(jobs) > 1:
            raise UsageError(f"{given} is the beginning of {len(jobs)} job ids; give more of it")
    if not jobs:
        raise UsageError(f"there is no job {given}; certdicom queue ls lists them")
    return jobs
