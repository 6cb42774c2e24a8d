"""`certdicom FILE|FOLDER… -o OUT`: certify films or photographs and write what was asked for."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from threading import Thread

from certdicom import outputs
from certdicom.certification.options import HELP, unions_from
from certdicom.certification.parameters import SmoothingParameters
from certdicom.cli.computing_options import add_computing_options, computing_fields
from certdicom.cli.film_work import certify_film
from certdicom.cli.films import (
    Place,
    add_body_part_option,
    add_crop_option,
    add_window_option,
    are_several,
    film_jobs,
    require_writable,
    wanted_outputs,
)
from certdicom.cli.several_films import certify_all
from certdicom.cli.smoothing_options import add_smoothing_arguments, smoothing_parameters
from certdicom.cli.summary import print_explanation, print_result
from certdicom.errors import UsageError
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle
from certdicom.outputs import Output
from certdicom.pipeline import DEFAULT_BATCH, Certifier, Computation
from certdicom.progress import FilmsProgress


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
        metavar="OUT",
        type=Place.of,
        help="the file to write, whose name says its kind: .dcm is a SEG, .nii.gz NIfTI, …; with several films, the folder for their SEGs",
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
    add_body_part_option(certificate)
    add_window_option(certificate)
    add_crop_option(certificate)
    computing = parser.add_argument_group("computing")
    add_computing_options(computing)
    computing.add_argument(
        "--batch",
        type=int,
        default=DEFAULT_BATCH,
        metavar="B",
        help="draws held in memory at once; changes no result (default %(default)s)",
    )
    computing.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="several films: so many processes read and write while this one certifies; 1: this one alone (default: one a core, 2 to 16)",
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
    for kind in outputs.OUTPUTS:
        output.add_argument(kind.option, dest=kind.name, metavar="FILE", type=Place.of, help=f"write {kind.help}")
    output.add_argument("--force", action="store_true", help="overwrite existing files")
    output.add_argument(
        "--skip-existing", action="store_true", help="leave out films whose files are all there, to go on where a run stopped"
    )
    output.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def certifier_of(arguments: argparse.Namespace) -> Certifier:
    """The certifier that the options ask for. UsageError for an impossible request, before any slow work."""
    bundle = load_bundle(arguments.bundle)
    unions = unions_from(arguments.fallback, bundle.structures, bundle=bundle.name)
    return Certifier(
        bundle,
        smoothing_parameters(arguments, sigma=arguments.sigma, unions=unions),
        Computation(
            **computing_fields(arguments),
            batch_size=_batch(arguments.batch),
            site_key=_site_key(arguments.site_key),
        ),
    )


def run(arguments: argparse.Namespace) -> int:
    named = {kind: getattr(arguments, kind.name) for kind in outputs.OUTPUTS if getattr(arguments, kind.name) is not None}
    several = are_several(arguments.films)
    jobs = film_jobs(arguments.films, wanted_outputs(arguments.output, named, several=several))
    if arguments.jobs is not None and arguments.jobs < 1:
        raise UsageError(f"--jobs must be at least 1, not {arguments.jobs}")
    certifier = certifier_of(arguments)
    if several:
        return certify_all(jobs, certifier, arguments)
    (job,) = jobs
    if arguments.skip_existing and job.is_done:
        if not arguments.quiet:
            print(f"{', '.join(map(str, job.targets.values()))} exists already")
        return 0
    require_writable(job.targets, force=arguments.force)
    _load_ahead(certifier, job.targets)
    with FilmsProgress(films=1, quiet=arguments.quiet) as display:
        line = display.film(job.film.name)
        report = certify_film(job, certifier, arguments, line)
        line.end()
    if not arguments.quiet:
        print_result(report, files={kind.option.lstrip("-"): path for kind, path in job.targets.items()})
        if arguments.explain is not None:
            print_explanation(report)
    return 0


def _load_ahead(certifier: Certifier, wanted: Iterable[Output]) -> None:
    """Load the networks, and what writes the outputs, in a thread while the film is read."""

    def load() -> None:
        with suppress(Exception):  # it happens again, and is said, where this is needed
            certifier.load()
            for output in wanted:
                import_module(output.module)

    Thread(target=load, name="certdicom-ahead").start()


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
