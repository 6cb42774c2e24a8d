"""The demonstration itself: start everything, send, wait, say where the result is seen, and end everything."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.text import Text

from certdicom.demo import folder_archive as folder_archives
from certdicom.demo import modality
from certdicom.demo import orthanc as orthancs
from certdicom.demo.films import DemoFilm, demo_films, own_films
from certdicom.demo.node import AE_TITLE, FINISHED, Destination, Node, node
from certdicom.demo.viewer_site import find_ohif, viewer_site
from certdicom.errors import OutputError
from certdicom.node.store.records import Job

_LOOK_S = 0.5


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What to show. `films`: none for those of the demonstration; `ohif`: the folder of a built OHIF, None to look for one;
    `orthanc`: whether to use it where it is installed; `settings`: of the node, by environment variable; `folder`: where to
    work and leave everything, None for a temporary folder that is removed; `opens`: open a browser; `exit_after`: seconds
    for which the result can be seen, None until Ctrl-C.
    """

    films: Sequence[Path] = ()
    ohif: Path | None = None
    orthanc: bool = True
    settings: Mapping[str, str]
    folder: Path | None = None
    opens: bool = False
    exit_after: float | None = None


@dataclass(frozen=True)
class _Place:
    """The archive: as a destination, and where its films are seen (None where it is a folder)."""

    destination: Destination
    explorer: str | None
    viewer: str | None
    folder: Path | None


def show(demo: Demo, console: Console) -> int:
    """Run the demonstration; returns the exit code, 3 when a film was not certified. Ctrl-C before the end raises KeyboardInterrupt."""
    with contextlib.ExitStack() as stack:
        folder = demo.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="certdicom-demo-")))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from error
        films = own_films(demo.films) if demo.films else demo_films(folder)
        place = _archive(demo, folder, stack, console)
        with console.status("Starting the node"):
            running = stack.enter_context(node(folder, archive=place.destination, settings=demo.settings))
        console.print(f"Node      {AE_TITLE} on port {running.dicom_port}, status page {running.page}", soft_wrap=True)
        modality.send(films, ae_title=place.destination.ae_title, port=place.destination.port)
        modality.send(films, ae_title=AE_TITLE, port=running.dicom_port)
        console.print(f"Sent      {len(films)} film{'s' * (len(films) > 1)} to the archive and to the node, as a modality does")
        jobs = _wait(running, films, console)
        _say_where(place, running, films, jobs, console)
        if demo.opens and not webbrowser.open(_first_address(place, running, films, jobs)):
            console.print("No browser could be opened here; open one of the addresses yourself.")
        _let_look(demo, folder, console)
    return 0 if all(job.state == "done" for job in jobs) else 3


def _archive(demo: Demo, folder: Path, stack: contextlib.ExitStack, console: Console) -> _Place:
    """Start Orthanc and OHIF as far as they are installed, else an archive that is a folder; say which."""
    found = orthancs.find_orthanc() if demo.orthanc else None
    if found is None:
        archive = stack.enter_context(folder_archives.folder_archive(folder / "archive"))
        why = "Orthanc and its DICOMweb plugin are not installed (Debian: orthanc, orthanc-dicomweb)" if demo.orthanc else "as asked"
        console.print(f"Archive   a folder, {archive.folder}: {why}", soft_wrap=True)
        return _Place(Destination(folder_archives.AE_TITLE, archive.dicom_port), None, None, archive.folder)
    with console.status("Starting Orthanc"):
        running = stack.enter_context(orthancs.orthanc(*found, folder / "orthanc", senders=(modality.AE_TITLE, AE_TITLE)))
    console.print(f"Archive   Orthanc, {running.address}/app/explorer.html", soft_wrap=True)
    dist = find_ohif(demo.ohif)
    viewer = stack.enter_context(viewer_site(dist, running.address)) if dist is not None else None
    if viewer is None:
        console.print("Viewer    none: fetch OHIF with scripts/fetch_ohif, or name its folder with --ohif")
    else:
        console.print(f"Viewer    OHIF, {viewer}/", soft_wrap=True)
    return _Place(Destination(orthancs.AE_TITLE, running.dicom_port), f"{running.address}/app/explorer.html", viewer, None)


def _wait(running: Node, films: Sequence[DemoFilm], console: Console) -> list[Job]:
    """Follow the films until the node is done with each, a line whenever one changes."""
    seen: dict[str, str] = {}
    started = time.monotonic()
    with console.status("") as status:
        while True:
            running.require_alive()
            jobs = running.jobs(films)
            for film, job in zip(films, jobs, strict=True):
                state = _state(job)
                if seen.get(film.name) != state:
                    seen[film.name] = state
                    console.print(Text(f"          {film.name}: {state}"), soft_wrap=True)
            finished = [job for job in jobs if job is not None and job.state in FINISHED]
            if len(finished) == len(films):
                return finished
            status.update(
                f"{len(finished)} of {len(films)} films done, {time.monotonic() - started:.0f} s; an idle CPU takes ten seconds for each"
            )
            time.sleep(_LOOK_S)


def _state(job: Job | None) -> str:
    if job is None:
        return "sent"
    if job.state == "done" and job.abstain is not None:
        return f"certified and delivered, {job.abstain:.1%} abstained"
    return f"{job.state}: {job.reason}" if job.reason else job.state


def _say_where(place: _Place, running: Node, films: Sequence[DemoFilm], jobs: Sequence[Job], console: Console) -> None:
    console.print("\nSee the results:")
    for film, job in zip(films, jobs, strict=True):
        console.print(Text(f"  {film.name}"))
        console.print(f"    picture and certificate  {running.page}jobs/{job.job_id}", soft_wrap=True)
        if place.viewer is not None:
            console.print(f"    film and SEG in OHIF     {_study(place.viewer, film)}", soft_wrap=True)
            if film.black_in_ohif:
                console.print("    OHIF draws this film black, because its PixelSpacing is 0; the picture shows it", soft_wrap=True)
    if place.viewer is not None:
        console.print('In OHIF, double-click the series "Certified SEG" and answer "Yes".')
    if place.folder is not None:
        console.print(f"Films and SEGs are files in {place.folder}", soft_wrap=True)
    console.print(
        "Outlined or coloured is certified, hatched or yellow is abstained. Stability, not correctness. Research use only.", soft_wrap=True
    )


def _study(viewer: str, film: DemoFilm) -> str:
    return f"{viewer}/viewer?StudyInstanceUIDs={film.study_instance_uid}"


def _first_address(place: _Place, running: Node, films: Sequence[DemoFilm], jobs: Sequence[Job]) -> str:
    return _study(place.viewer, films[0]) if place.viewer is not None else f"{running.page}jobs/{jobs[0].job_id}"


def _let_look(demo: Demo, folder: Path, console: Console) -> None:
    after = f"everything stays in {folder}" if demo.folder is not None else "everything is removed then"
    end = "Ctrl-C ends it" if demo.exit_after is None else f"It ends after {demo.exit_after:g} s"
    console.print(f"{end}; {after}.", soft_wrap=True)
    with contextlib.suppress(KeyboardInterrupt):
        if demo.exit_after is not None:
            time.sleep(demo.exit_after)
        else:
            signal.pause()
