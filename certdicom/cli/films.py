"""Which films a command line names, and which files are to be written for each."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from certdicom import outputs
from certdicom.errors import CertdicomError, NoImageError, OutputError, UsageError
from certdicom.extras import how_to_get
from certdicom.outputs import SEG, Output, output_for

_SLASHES = tuple(filter(None, (os.sep, os.altsep)))

SUMMARY_NAME = "certdicom-summary"
"""Of the files that tell how a run over several films went, in the folder of the results."""


def add_body_part_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--body-part",
        action="append",
        default=[],
        metavar="NAME",
        help="what BodyPartExamined says for the chest where the films come from, beside the usual words; may be given again",
    )


def add_window_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--window",
        metavar="LO HI|displayed",
        help="the values shown as black and white, as viewers tell them; displayed: a window found from the picture and certified with it. "
        "Left alone: the header's window, and displayed where there is none",
    )


def add_crop_option(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        "--crop",
        nargs=4,
        type=int,
        metavar=("TOP", "LEFT", "ROWS", "COLUMNS"),
        help="certify only this part of the image, in stored pixels; nothing is said of the rest",
    )


@dataclass(frozen=True)
class FilmJob:
    """One film and the files to write for it; `found`: in a folder, where what is no image is left out instead of refused."""

    film: Path
    targets: Mapping[Output, Path]
    found: bool = False

    @property
    def is_done(self) -> bool:
        """Whether all its files are there."""
        return all(path.exists() for path in self.targets.values())


@dataclass(frozen=True)
class Place:
    """Where something is to be written: to a file of that path, or into that folder."""

    path: Path
    is_folder: bool

    @classmethod
    def of(cls, text: str) -> Place:
        """What a person means: a name that ends in a slash, or is a folder's, is a folder."""
        path = Path(text)
        return cls(path, text.endswith(_SLASHES) or path.is_dir())


def wanted_outputs(output: Place | None, options: Mapping[Output, Place], *, several: bool = False) -> dict[Output, Place]:
    """What is to be written where: `output` (-o) is of the kind that its name says, or a folder for SEGs; `options` name their kind.

    With `several` films all are folders.

    UsageError for a name that fits no kind, or not that of its option, and for a kind that is wanted twice.
    """
    if output is None and not options:
        raise UsageError("name what is to be written, as -o seg.dcm; certdicom certify --help lists the kinds")
    wanted = dict(options)
    if output is not None:
        kind = SEG if several or output.is_folder else output_for(output.path)
        if kind in wanted:
            raise UsageError(f"-o {output.path} and {kind.option} {wanted[kind].path} both name {kind.help}: give one of them")
        wanted = {kind: output, **wanted}
    for kind, place in wanted.items():
        name = place.path.name
        if several and place.path.exists() and not place.is_folder:
            raise UsageError(f"{kind.option} {place.path} is a file; with several films it must be a folder")
        if "." in name and not (several or place.is_folder) and not name.lower().endswith(kind.endings):
            raise UsageError(f"{kind.option} writes {kind.help}, which {name} would not be: end the name in {' or '.join(kind.endings)}")
        if kind.needs and find_spec(kind.needs) is None:
            raise UsageError(f"{kind.option} needs {kind.needs}, which is not installed: {how_to_get(kind.needs)}")
    return {kind: wanted[kind] for kind in outputs.OUTPUTS if kind in wanted}


def are_several(given: Sequence[Path]) -> bool:
    """Whether paths stand for several films: several of them, or a folder."""
    return len(given) > 1 or given[0].is_dir()


def film_jobs(given: Sequence[Path], wanted: Mapping[Output, Place]) -> list[FilmJob]:
    """Each film with its files. UsageError where two results, or a film and a result, would share a name.

    Results of an earlier run that lie in the folder of the films are left out.
    """
    several = are_several(given)
    films = _find(given)
    stems = _stems([name for _, name, _ in films])

    def targets(stem: Path) -> dict[Output, Path]:
        return {kind: place.path / f"{stem}{kind.suffix}" if several or place.is_folder else place.path for kind, place in wanted.items()}

    jobs = [FilmJob(film, targets(stem), found) for (film, _, found), stem in zip(films, stems, strict=True)]
    taken = {path.resolve() for job in jobs for path in job.targets.values()}
    jobs = [job for job in jobs if not (job.found and job.film.resolve() in taken and _is_no_image(job.film))]
    _check_names(jobs)
    return jobs


def _is_no_image(path: Path) -> bool:
    from certdicom.imaging.acceptance import require_image
    from certdicom.imaging.reading import parse_quietly

    try:
        require_image(parse_quietly(path).dataset)
    except NoImageError:
        return True
    except CertdicomError:  # a film, if a damaged one
        return False
    return False


def _find(given: Sequence[Path]) -> list[tuple[Path, Path, bool]]:
    """Each film, its name below an output folder, and whether it was found in a folder; hidden files and summaries are left out."""
    films: list[tuple[Path, Path, bool]] = []
    for path in given:
        if path.is_dir():
            inside = ((found, found.relative_to(path)) for found in sorted(path.rglob("*")) if found.is_file())
            films += [(found, name, True) for found, name in inside if not _is_hidden(name)]
        else:
            films.append((path, Path(path.name), False))
    if not films:
        raise UsageError(f"no files in {', '.join(map(str, given))}")
    return films


def _is_hidden(name: Path) -> bool:
    return any(part.startswith(".") for part in name.parts) or name.stem == SUMMARY_NAME


def _stems(names: Sequence[Path]) -> list[Path]:
    """Names without .dcm; whole where two films would share one, as IM0001 and IM0001.dcm do."""
    short = [name.with_suffix("") if name.suffix.lower() == ".dcm" else name for name in names]
    times = Counter(short)
    return [name if times[stem] > 1 else stem for name, stem in zip(names, short, strict=True)]


def _check_names(jobs: Sequence[FilmJob]) -> None:
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


def require_writable(targets: Mapping[Output, Path], *, force: bool) -> None:
    """OutputError before the long work where a file could not be written after it. Folders that are missing will be made."""
    for path in targets.values():
        if os.path.lexists(path) and not force:
            raise OutputError(f"{path} exists; choose another name or overwrite it with --force")
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir():
            raise OutputError(f"cannot write {path}: {folder} is no folder")
        if not os.access(folder, os.W_OK):
            raise OutputError(f"cannot write {path}: the folder {folder} is not writable")


def make_folders(targets: Mapping[Output, Path]) -> None:
    """The folders of these files. OutputError where one cannot be made."""
    for path in targets.values():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {path.parent}: {error.strerror}") from error
