"""`certdicom FILE|FOLDER… -o OUT`: certify films or photographs and write what was asked for."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread

from certdicom import outputs
from certdicom.certification.options import HELP, unions_from
from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.computing_options import add_computing_options, computing_fields
from certdicom.cli.smoothing_options import add_smoothing_arguments, smoothing_parameters
from certdicom.cli.summary import print_explanation, print_films, print_result
from certdicom.errors import CertdicomError, ImageRefusedError, OutputError, UnreadableError, UsageError, one_line
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle
from certdicom.outputs import SEG, Output
from certdicom.pipeline import DEFAULT_BATCH, Certifier, Computation
from certdicom.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "films",
        nargs="+",
        metavar="FILE|FOLDER",
        type=Path,
        help="radiographs or colour photographs: DICOM files, or folders to search",
    )
    parser.add_argument(
        "-o",
        "--output",
        dest=SEG.name,
        required=True,
        metavar="OUT",
        type=Path,
        help="the SEG file to write; with several films or a folder, the folder to write into",
    )
    certificate = parser.add_argument_group("certificate")
    certificate.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|FOLDER", help="networks to use (default %(default)s)")
    certificate.add_argument("--sigma", type=float, default=SmoothingParameters.sigma, help=f"{HELP['sigma']} (default %(default)s)")
    add_smoothing_arguments(certificate)
    certificate.add_argument(
        "--site-key",
        metavar="FILE",
        type=Path,
        help="file with the secret that keys the draws, so that its owner can repeat them and nobody else predict them",
    )
    certificate.add_argument(
        "--accept-any",
        action="store_true",
        help="skip the checks that the image suits the bundle (modality, body part, view, plausible anatomy)",
    )
    computing = parser.add_argument_group("computing")
    add_computing_options(computing)
    computing.add_argument(
        "--batch",
        type=int,
        default=DEFAULT_BATCH,
        metavar="B",
        help="draws held in memory at once; changes no result (default %(default)s)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--geometry",
        choices=("viewer", "none"),
        default="viewer",
        help="viewer: place the SEG in the plane that OHIF and 3D Slicer need (default); none: leave geometry out",
    )
    output.add_argument(
        "--abstain",
        choices=("union", "per-structure"),
        default="union",
        help="one Abstain segment, or one more per structure (default %(default)s)",
    )
    for extra in outputs.OUTPUTS:
        if extra != SEG:
            output.add_argument(extra.option, dest=extra.name, metavar="FILE", type=Path, help=f"write {extra.help}")
    output.add_argument("--force", action="store_true", help="overwrite existing files")
    output.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


@dataclass(frozen=True)
class _Job:
    """One film and the files to write for it."""

    film: Path
    targets: dict[Output, Path]


def run(arguments: argparse.Namespace) -> int:
    bundle = load_bundle(arguments.bundle)
    unions = unions_from(arguments.fallback, bundle.structures, bundle=bundle.name)
    certifier = Certifier(
        bundle,
        smoothing_parameters(arguments, sigma=arguments.sigma, unions=unions),
        Computation(
            **computing_fields(arguments),
            batch_size=_batch(arguments.batch),
            site_key=_site_key(arguments.site_key),
        ),
    )
    several, jobs = _plan(arguments)
    if not several:
        _check_writable(jobs[0].targets, force=arguments.force)
        _load_ahead(certifier, jobs[0].targets)
        _run_one(jobs[0], certifier, arguments)
        return 0
    rows, code = [], 0
    for number, job in enumerate(jobs, 1):
        outcome, detail, film_code = _one_of_several(job, certifier, arguments, label=f"{number}/{len(jobs)} ")
        rows.append((str(job.film), outcome, detail))
        code = max(code, film_code)
    if code or not arguments.quiet:
        print_films(rows, stream=sys.stderr if code else sys.stdout)
    return code


def _load_ahead(certifier: Certifier, wanted: Iterable[Output]) -> None:
    """Load the networks, and what writes the outputs, in a thread while the film is read."""

    def load() -> None:
        with suppress(Exception):  # it happens again, and is said, where this is needed
            certifier.load()
            for output in wanted:
                import_module(output.module)

    Thread(target=load, name="certdicom-ahead").start()


def _one_of_several(job: _Job, certifier: Certifier, arguments: argparse.Namespace, *, label: str) -> tuple[str, str, int]:
    """Certify one film of many, whatever is wrong with it: (outcome, detail, exit code). A wrong request still raises."""
    try:
        for path in job.targets.values():
            _make_folder(path.parent)
        _check_writable(job.targets, force=arguments.force)
        return "certified", _run_one(job, certifier, arguments, label=label), 0
    except UnreadableError as error:
        return "not read", one_line(error), ImageRefusedError.exit_code
    except ImageRefusedError as error:
        return "refused", one_line(error), error.exit_code
    except OutputError as error:
        return "not written", one_line(error), error.exit_code
    except CertdicomError:
        raise
    except Exception as error:  # noqa: BLE001  # a defect that one film meets must not keep the others from being done
        if arguments.debug:
            traceback.print_exc()
        return "internal error", f"{type(error).__name__}: {one_line(error)}; run it alone with --debug", CertdicomError.exit_code


def _batch(size: int) -> int:
    if size < 1:
        raise UsageError(f"--batch must be at least 1, not {size}")
    return size


def _site_key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"cannot read the site key {path}: {error.strerror}") from error
    if len(key) < 16:
        raise UsageError(
            f"the site key {path} has {len(key)} bytes; at least 16 are needed (make one with: head -c 32 /dev/urandom | base64)"
        )
    return key


def _plan(arguments: argparse.Namespace) -> tuple[bool, list[_Job]]:
    """Whether there are several films, and each film with its files, checked as far as can be before any slow work."""
    films = _find_films(arguments.films)
    several = len(arguments.films) > 1 or arguments.films[0].is_dir()
    wanted = {output: getattr(arguments, output.name) for output in outputs.OUTPUTS if getattr(arguments, output.name) is not None}
    for output, path in wanted.items():
        if several and path.exists() and not path.is_dir():
            raise UsageError(f"{_option(output)} {path} is a file; with several films it must be a folder")
    jobs = [
        _Job(film, {output: _in_folder(path, name, output) if several or path.is_dir() else path for output, path in wanted.items()})
        for film, name in films
    ]
    _check_names(jobs)
    return several, jobs


def _find_films(given: list[Path]) -> list[tuple[Path, Path]]:
    """Each film with its name below an output folder; folders are searched, hidden files left out."""
    films: list[tuple[Path, Path]] = []
    for path in given:
        if path.is_dir():
            inside = ((found, found.relative_to(path)) for found in sorted(path.rglob("*")) if found.is_file())
            films += [(found, name) for found, name in inside if not any(part.startswith(".") for part in name.parts)]
        else:
            films.append((path, Path(path.name)))
    if not films:
        raise UsageError(f"no files in {', '.join(map(str, given))}")
    return films


def _check_names(jobs: list[_Job]) -> None:
    """No result may take the place of a film or of another result."""
    sources = {job.film.resolve() for job in jobs}
    owners: dict[Path, Path] = {}
    for job in jobs:
        for path in job.targets.values():
            if path.resolve() in sources:
                raise UsageError(f"{path} is a film to be certified; choose another name for the result")
            if path in owners:
                raise UsageError(f"two results, of {owners[path]} and {job.film}, would both be written to {path}; give them other names")
            owners[path] = job.film


def _in_folder(folder: Path, name: Path, output: Output) -> Path:
    stem = name.name[: -len(".dcm")] if name.name.lower().endswith(".dcm") else name.name
    return folder / name.parent / (stem + output.suffix)


def _option(output: Output) -> str:
    return "--output" if output == SEG else output.option


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error


def _check_writable(targets: dict[Output, Path], *, force: bool) -> None:
    """Fail before the long work where an output cannot be written after it."""
    for path in targets.values():
        if path.exists() and not force:
            raise OutputError(f"{path} exists; choose another name or overwrite it with --force")
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: the folder {path.parent} does not exist")
        if not os.access(path.parent, os.W_OK):
            raise OutputError(f"cannot write {path}: the folder {path.parent} is not writable")


def _run_one(job: _Job, certifier: Certifier, arguments: argparse.Namespace, *, label: str = "") -> str:
    """Certify one film and write its files; returns one line about the result. Nothing is written before all is computed."""
    from certdicom.imaging.reading import read_image
    from certdicom.outputs.report_json import report_of
    from certdicom.outputs.result import Stopwatch
    from certdicom.outputs.writing import write_outputs

    stopwatch = Stopwatch()
    image = read_image(job.film, accept_any=arguments.accept_any)
    with progress_bar(f"{label}{job.film.name}", quiet=arguments.quiet) as progress:
        result = certifier.certify(
            image,
            geometry=arguments.geometry,
            abstain=arguments.abstain,
            accept_any=arguments.accept_any,
            progress=progress,
            stopwatch=stopwatch,
        )
    write_outputs(result, job.targets, force=arguments.force)
    report = report_of(result)
    if not arguments.quiet:
        print_result(report, files={_option(output).lstrip("-"): path for output, path in job.targets.items()})
        if arguments.explain is not None:
            print_explanation(report)
    return f"{report['abstain_fraction']:.1%} abstained, {report['timing']['total_s']:.1f} s"
