"""A run over several films: each is certified, left out or refused by itself, and a summary tells how it went, however it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from certdicom.cli.film_work import Outcome, outcome_of
from certdicom.cli.film_workers import MakeCertifier, work_in_processes
from certdicom.cli.films import SUMMARY_NAME, FilmJob
from certdicom.cli.summary import print_films
from certdicom.cli.summary_files import SummaryFiles
from certdicom.pipeline import Certifier
from certdicom.progress import FilmsProgress

INTERRUPTED = 130


def certify_all(jobs: Sequence[FilmJob], certifier: Certifier, arguments: argparse.Namespace, *, make_certifier: MakeCertifier) -> int:
    """Certify all films, print their table and write the summary files; returns the exit code, the largest of the films'.

    `make_certifier` makes the certifier of another process from `arguments`. Ctrl-C ends the run, with table and summary of what was done.
    """
    done, todo = _divided(jobs, arguments)
    outcomes: list[Outcome] = []
    files = SummaryFiles(_summary_place(jobs), certifier)
    files.keep(done)
    code = 0
    try:
        with FilmsProgress(films=len(todo), quiet=arguments.quiet) as display:
            for outcome in _outcomes(todo, certifier, arguments, make_certifier, display):
                outcomes.append(outcome)
                files.add(outcome)
                display.passed()
                code = max(code, outcome.exit_code)
    except KeyboardInterrupt:
        code = INTERRUPTED
    finally:
        if done or outcomes:
            files.write()
            if code or not arguments.quiet:
                print_films([*done, *outcomes], films=len(jobs), places=files.places, stream=sys.stderr if code else sys.stdout)
    if code == INTERRUPTED:
        print("certdicom: interrupted; nothing half-written was left. Go on with --skip-existing", file=sys.stderr)
    return code


def _divided(jobs: Sequence[FilmJob], arguments: argparse.Namespace) -> tuple[list[Outcome], list[FilmJob]]:
    """What --skip-existing leaves out, and what is to be done."""
    if not arguments.skip_existing:
        return [], list(jobs)
    todo = [job for job in jobs if not job.is_done]
    return [Outcome(film=job.film, what="exists") for job in jobs if job not in todo], todo


def _outcomes(
    jobs: Sequence[FilmJob], certifier: Certifier, arguments: argparse.Namespace, make_certifier: MakeCertifier, display: FilmsProgress
) -> Iterator[Outcome]:
    if arguments.jobs > 1 and len(jobs) > 1:
        yield from work_in_processes(jobs, arguments, make_certifier, processes=arguments.jobs, display=display)
        return
    for job in jobs:
        line = display.film(job.film.name)
        yield outcome_of(job, certifier, arguments, line)
        line.end()


def _summary_place(jobs: Sequence[FilmJob]) -> Path:
    """Above all results of the first kind that was asked for."""
    folders = [next(iter(job.targets.values())).parent for job in jobs]
    shared = folders[0]
    while not all(folder.is_relative_to(shared) for folder in folders):
        shared = shared.parent
    return shared / SUMMARY_NAME
