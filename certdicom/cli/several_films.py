"""A run over several films: each is certified, left out or refused by itself, and a summary tells how it went, however it ends."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Generator, Sequence
from contextlib import closing
from pathlib import Path

from certdicom.cli.film_work import FilmWork, Outcome, lost, outcome_of
from certdicom.cli.films import SUMMARY_NAME, FilmJob
from certdicom.cli.summary import print_films
from certdicom.cli.summary_files import SummaryFiles
from certdicom.pipeline import Certifier, CertifierServer
from certdicom.pool import ProcessEndedError, usual_processes, work_in_processes
from certdicom.progress import FilmLine, FilmsProgress

INTERRUPTED = 130


def certify_all(jobs: Sequence[FilmJob], certifier: Certifier, arguments: argparse.Namespace) -> int:
    """Certify all films, print their table and write the summary files; returns the exit code, the largest of the films'.

    Ctrl-C ends the run, with table and summary of what was done.
    """
    done, todo = _divided(jobs, arguments)
    outcomes: list[Outcome] = []
    files = SummaryFiles(_summary_place(jobs), certifier)
    files.keep(done)
    code = 0
    try:
        with (
            FilmsProgress(films=len(todo), quiet=arguments.quiet) as display,
            closing(_outcomes(todo, certifier, arguments, display)) as coming,
        ):
            for outcome in coming:
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
    jobs: Sequence[FilmJob], certifier: Certifier, arguments: argparse.Namespace, display: FilmsProgress
) -> Generator[Outcome, None, None]:
    """The outcomes of all films: read and written in processes and certified in this one, or one after the other in this one alone."""

    def line(job: FilmJob) -> FilmLine:
        return display.film(job.film.name)

    processes = arguments.jobs or usual_processes()
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            own = line(job)
            yield outcome_of(job, certifier, arguments, own)
            own.end()
        return
    work, server = FilmWork(certifier, arguments), CertifierServer(certifier)
    with closing(work_in_processes(jobs, work, server, processes=processes, line=line, in_order=False)) as done:
        for job, answer in done:
            if isinstance(answer, ProcessEndedError):
                yield lost(job, answer)
            elif isinstance(answer, Exception):
                raise answer
            else:
                yield answer


def _summary_place(jobs: Sequence[FilmJob]) -> Path:
    """Above all results of the first kind that was asked for."""
    folders = [next(iter(job.targets.values())).parent for job in jobs]
    shared = folders[0]
    while not all(folder.is_relative_to(shared) for folder in folders):
        shared = shared.parent
    return shared / SUMMARY_NAME
