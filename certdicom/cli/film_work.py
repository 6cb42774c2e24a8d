"""The work on one film, from its file to its results, and what came of it."""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from certdicom.cli.films import FilmJob, make_folders, require_writable
from certdicom.errors import CertdicomError, ImageRefusedError, NoImageError, OutputError, UnreadableError, one_line
from certdicom.pool import Parent, ProcessEndedError
from certdicom.progress import FilmLine, in_words

if TYPE_CHECKING:
    from certdicom.pipeline import Certifier

What = Literal["certified", "exists", "no image", "refused", "not read", "not written", "internal error"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one film: `detail` says why, `report` is that of its certificate."""

    film: Path
    what: What
    detail: str = ""
    exit_code: int = 0
    report: Mapping[str, Any] | None = None


def certify_film(job: FilmJob, certifier: Certifier, arguments: argparse.Namespace, line: FilmLine) -> dict[str, Any]:
    """Certify one film and write its files; returns its report. Nothing is written before all is computed."""
    from certdicom.imaging.reading import read_image
    from certdicom.outputs.report_json import report_of
    from certdicom.outputs.result import Stopwatch
    from certdicom.outputs.writing import write_outputs

    stopwatch = Stopwatch(watching=lambda stage: line.phase(in_words(stage)))
    with stopwatch.stage("read"):
        image = read_image(job.film, accept_any=arguments.accept_any, body_parts=arguments.body_part)
    result = certifier.certify(
        image,
        geometry=arguments.geometry,
        abstain=arguments.abstain,
        accept_any=arguments.accept_any,
        window=arguments.window,
        crop=arguments.crop,
        progress=line.draws,
        stopwatch=stopwatch,
    )
    make_folders(job.targets)
    write_outputs(result, job.targets, force=arguments.force)
    return report_of(result)


def outcome_of(job: FilmJob, certifier: Certifier, arguments: argparse.Namespace, line: FilmLine) -> Outcome:
    """Certify one film of many, whatever is wrong with it. A wrong request still raises."""

    def outcome(what: What, error: CertdicomError, code: int) -> Outcome:
        return Outcome(film=job.film, what=what, detail=one_line(error), exit_code=code)

    try:
        require_writable(job.targets, force=arguments.force)
        report = certify_film(job, certifier, arguments, line)
        detail = f"{report['abstain_fraction']:.1%} abstained, {report['timing']['total_s']:.1f} s"
        return Outcome(film=job.film, what="certified", detail=detail, report=report)
    except UnreadableError as error:
        return outcome("not read", error, ImageRefusedError.exit_code)
    except NoImageError as error:
        return outcome("no image", error, 0) if job.found else outcome("refused", error, error.exit_code)
    except ImageRefusedError as error:
        return outcome("refused", error, error.exit_code)
    except OutputError as error:
        return outcome("not written", error, error.exit_code)
    except CertdicomError:
        raise
    except Exception as error:  # noqa: BLE001  # a defect that one film meets must not keep the others from being done
        if arguments.debug:
            traceback.print_exc()
        detail = f"{type(error).__name__}: {one_line(error)}; run it alone with --debug"
        return Outcome(film=job.film, what="internal error", detail=detail, exit_code=CertdicomError.exit_code)


@dataclass(frozen=True)
class FilmWork:
    """The work on each of many films in a process of its own, which has its draws made where the networks are."""

    certifier: Certifier
    arguments: argparse.Namespace

    def __call__(self, job: FilmJob, parent: Parent) -> Outcome:
        return outcome_of(job, self.certifier.drawing_at(parent), self.arguments, parent)


def lost(job: FilmJob, error: ProcessEndedError) -> Outcome:
    """What is said of a film whose process ended in the middle of it."""
    return Outcome(film=job.film, what="internal error", detail=f"{one_line(error)}; run it alone with --debug", exit_code=error.exit_code)
