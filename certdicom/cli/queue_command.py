"""`certdicom queue ls|show|retry|drop`: the films of a node. Works whether the node runs or not."""

from __future__ import annotations

import argparse
import json
import re
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from certdicom.errors import UsageError

if TYPE_CHECKING:
    from certdicom.node.store.ledger import Ledger
    from certdicom.node.store.records import Job
    from certdicom.node.store.spool import Spool

_UID = re.compile(r"[0-9.]{1,64}")
_SHORTEST = 4


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from certdicom.node.store.records import JOB_STATES

    parser.add_argument("--config", metavar="TOML", type=Path, help="the node's configuration file")
    verbs = parser.add_subparsers(dest="verb", metavar="ls|show|retry|drop", required=True)
    listing = verbs.add_parser("ls", help="list films, the last changed first")
    listing.add_argument("--state", choices=JOB_STATES, help="only films in this state")
    listing.add_argument("--limit", type=int, default=50, metavar="N", help="at most so many (default %(default)s)")
    listing.add_argument("--json", action="store_true", help="one JSON object a line")
    show = verbs.add_parser("show", help="everything about a film")
    show.add_argument("job", metavar="JOB|UID", help="a job id, its beginning, or the film's SOP Instance UID")
    for verb, help_line in (("retry", "start failed, ignored or dropped films again"), ("drop", "give films up that are not done")):
        child = verbs.add_parser(verb, help=help_line)
        child.add_argument("jobs", metavar="JOB|UID", nargs="*", help="job ids, their beginnings, or SOP Instance UIDs")
        if verb == "retry":
            child.add_argument("--all-failed", action="store_true", help="all that failed")
    for child in verbs.choices.values():  # people write it after the verb as well
        child.add_argument("--config", metavar="TOML", type=Path, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    from certdicom.node.queue import open_queue

    ledger, spool, pseudonym_of = open_queue(arguments.config)
    if arguments.verb == "ls":
        return _list(ledger, arguments)
    if arguments.verb == "show":
        for job in _find(ledger, arguments.job, pseudonym_of):
            _show(ledger, spool, job)
        return 0
    jobs = [job for given in arguments.jobs for job in _find(ledger, given, pseudonym_of)]
    if arguments.verb == "retry" and arguments.all_failed:
        jobs += ledger.jobs(states=("failed",), limit=100_000)
    if not jobs and not getattr(arguments, "all_failed", False):
        raise UsageError(f"name the films to {arguments.verb}; certdicom queue ls lists them")
    for job in jobs:
        if arguments.verb == "retry":
            spool.recall(job.job_id)
            ledger.retry(job.job_id)
        else:
            ledger.drop(job.job_id)
        print(f"{job.job_id} {'will be started again' if arguments.verb == 'retry' else 'dropped'}")
    return 0


def _list(ledger: Ledger, arguments: argparse.Namespace) -> int:
    for job in ledger.jobs(states=(arguments.state,) if arguments.state else (), limit=arguments.limit):
        if arguments.json:
            print(json.dumps(asdict(job)))
        else:
            share = "" if job.abstain is None else f"{job.abstain:6.1%} abstained"
            print(f"{job.job_id}  {job.state:<10}  {_moment(job.received_at)}  {share:<16}  {job.reason}".rstrip())
    return 0


def _moment(seconds: float) -> str:
    """A moment on this machine's clock."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _show(ledger: Ledger, spool: Spool, job: Job) -> None:
    from certdicom.node.wording import standing, tries, what

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
    ):
        if value:
            print(f"{name:<14}{value}")
    for step in ledger.steps.of([job.job_id]):
        why = f": {step.reason}" if step.reason else ""
        print(f"{'step':<14}{what(step)}: {standing(step, ledger.clock.now())}, {tries(step)}{why}")
    for name, path in (
        ("film file", spool.film(job.job_id)),
        ("ignored film", spool.ignored_instance(job.job_id)),
        ("result", spool.result(job.job_id)),
    ):
        if path.exists():
            print(f"{name:<14}{path}")


def _find(ledger: Ledger, given: str, pseudonym_of: object) -> list[Job]:
    """The jobs that a person means by `given`."""
    if _UID.fullmatch(given) and "." in given and callable(pseudonym_of):
        jobs = ledger.jobs(subject=pseudonym_of(given))
    else:
        exact = ledger.job(given)
        jobs = [exact] if exact else ledger.beginning_with(given) if len(given) >= _SHORTEST else []
        if len(jobs) > 1:
            raise UsageError(f"{given} is the beginning of {len(jobs)} job ids; give more of it")
    if not jobs:
        raise UsageError(f"there is no job {given}; certdicom queue ls lists them")
    return jobs
