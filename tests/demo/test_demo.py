"""The demonstration as people start it, and that nothing of it stays."""

# ruff: noqa: S310 -- every address is one that the test itself opened on this machine

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from certdicom.cli.main import main
from certdicom.demo.films import demo_films, find_sample, own_films
from certdicom.demo.folder_archive import AE_TITLE, folder_archive
from certdicom.demo.modality import send
from certdicom.demo.orthanc import find_orthanc
from certdicom.demo.processes import ProgramError, free_port, running, wait_for
from certdicom.demo.viewer_site import find_ohif, viewer_site
from certdicom.errors import UnreadableError
from certdicom.imaging.synthetic import synthetic_film, write_film


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.dcm"
    write_film(synthetic_film(rows=160, columns=128)[0], path)
    return path


@contextlib.contextmanager
def started(*words: object, folder: Path, browser: Path | str = "") -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own, with a temporary folder of its own; it is ended when a check in the block fails.

    Shells start background jobs with SIGINT ignored, and their children inherit that: a handler of ours is reset to the default instead.
    """
    environment = {
        **os.environ,
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
        "BROWSER": str(browser),
        "CERTDICOM_NODE_AE_TITLE": "SOMEBODY_ELSE",
    }
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "certdicom", "demo", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with process:
        try:
            yield process
        finally:
            process.terminate()


def processes_of(folder: Path) -> list[str]:
    """Command lines of living processes that work in the folder: it stands in their arguments or their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:  # it has ended, or is somebody else's
            continue
        if bytes(folder) in line + environment:
            found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def fetched(address: str) -> bytes:
    with urllib.request.urlopen(address, timeout=30) as answer:
        return answer.read()


def nothing_is_left(folder: Path) -> bool:
    return not processes_of(folder) and not list(folder.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("archive", ["folder", "orthanc"])
def test_films_are_certified_delivered_and_shown_and_nothing_stays(archive, film, tmp_path):
    if archive == "orthanc" and find_orthanc() is None:
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (Debian: apt install orthanc orthanc-dicomweb)")
    scratch, opened = tmp_path / "scratch", tmp_path / "opened"
    scratch.mkdir()
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o700)
    options = ["--no-orthanc"] if archive == "folder" else []
    said, places = "", {}
    with started(film, "--accept-any", "--n", 75, "--open", "--exit-after", 20, *options, folder=scratch, browser=browser) as process:
        for line in process.stdout:
            said += line
            if line.startswith("    "):
                what, _, address = line.strip().partition("  ")
                places[what] = address.strip()
            if line.startswith("Films and SEGs"):
                folder = Path(line.split(" in ")[1].strip())
                assert {"DX", "SEG", "SR"} <= {dcmread(path).Modality for path in folder.iterdir()}
            if line.startswith("It ends after"):  # all is said
                assert b"Why it abstains" in fetched(places["picture and certificate"])
                if "film and SEG in OHIF" in places:
                    site, _, study = places["film and SEG in OHIF"].partition("/viewer?StudyInstanceUIDs=")
                    series = json.loads(fetched(f"{site}/dicom-web/studies/{study}/series"))
                    assert {"DX", "SEG", "SR"} <= {item["00080060"]["Value"][0] for item in series}
        assert process.wait(60) == 0, said
    assert "certified and delivered" in said
    assert ("film and SEG in OHIF" in places) == (archive == "orthanc" and find_ohif() is not None)
    assert opened.read_text().strip() == places.get("film and SEG in OHIF", places["picture and certificate"])
    assert nothing_is_left(scratch)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_it_works_ends_everything(how, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with started("--no-orthanc", folder=scratch) as process:
        for line in process.stdout:
            if line.startswith("Node"):
                break
        assert any("certdicom node" in line for line in processes_of(scratch))
        process.send_signal(how)
        process.stdout.read()
        assert process.wait(60) == 130
    assert nothing_is_left(scratch)


def test_the_films_are_a_digital_one_an_inverted_plate_and_the_real_one_where_it_is(tmp_path):
    films = demo_films(tmp_path)
    assert len({film.study_instance_uid for film in films}) == len(films) == (3 if find_sample() else 2)
    assert all(dcmread(film.path).get("PixelSpacing", [1, 1]) > [0, 0] for film in films)  # OHIF draws a spacing of 0 black
    plate = dcmread(films[-1].path)
    assert (plate.Modality, plate.PhotometricInterpretation) == ("CR", "MONOCHROME1")


def test_a_film_that_ohif_draws_black_is_known(tmp_path):
    for name, spacing in {"black": [0, 0], "seen": [0.2, 0.2]}.items():
        film, _ = synthetic_film(rows=160, columns=128)
        film.PixelSpacing = spacing
        write_film(film, tmp_path / f"{name}.dcm")
    assert [film.black_in_ohif for film in own_films([tmp_path / "black.dcm", tmp_path / "seen.dcm"])] == [True, False]
    assert not any(film.black_in_ohif for film in demo_films(tmp_path))


def test_what_is_no_film_is_refused_before_anything_starts(tmp_path, capsys):
    note = tmp_path / "note.txt"
    note.write_text("no film")
    with pytest.raises(UnreadableError, match="no complete DICOM file"):
        own_films([note])
    assert main(["demo", "--ohif", str(tmp_path)]) == 2
    assert "holds no index.html" in capsys.readouterr().err
    assert main(["demo", "--exit-after", "-1"]) == 2


@pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")  # pynetdicom leaves the sockets of failed connections to the collector
def test_the_folder_archive_stores_what_a_modality_sends(film, tmp_path):
    films = own_films([film])
    with folder_archive(tmp_path / "archive") as archive:
        send(films, ae_title=AE_TITLE, port=archive.dicom_port)
        stored = [dcmread(path) for path in archive.folder.iterdir()]
    assert [item.SOPInstanceUID for item in stored] == [films[0].sop_instance_uid]
    assert stored[0].pixel_array.shape == (160, 128)
    with pytest.raises(ProgramError, match="lets no modality in"):
        send(films, ae_title=AE_TITLE, port=archive.dicom_port)
    gc.collect()


def test_programs_end_with_their_block_and_one_that_dies_is_told(tmp_path):
    with running([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log") as process:
        assert process.poll() is None
    assert process.poll() is not None
    with (
        running([sys.executable, "-c", "print('the reason')"], log=tmp_path / "log") as process,
        pytest.raises(ProgramError, match="the last that it said: the reason"),
    ):
        wait_for(f"http://127.0.0.1:{free_port()}/", process=process, log=tmp_path / "log")
    with pytest.raises(ProgramError, match="cannot be started"), running([str(tmp_path / "missing")], log=tmp_path / "log"):
        pass


@pytest.fixture
def _interruptible():
    """SIGINT as a terminal's programs have it: shells start background jobs, and all below them, with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interruption_while_a_modality_sends_waits_for_the_last_answer_and_leaves_no_thread(film):
    """One that fell into pynetdicom's negotiation left its network thread behind, and Python waited for that for ever."""
    threads, stored = set(threading.enumerate()), []

    def interrupt(event: evt.Event) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.3)

    def store(event: evt.Event) -> int:
        stored.append(event.request.AffectedSOPInstanceUID)
        return 0x0000

    films = own_films([film])
    entity = ApplicationEntity(AE_TITLE)
    entity.add_supported_context(films[0].sop_class_uid, films[0].transfer_syntax_uid)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_REQUESTED, interrupt), (evt.EVT_C_STORE, store)])
    with pytest.raises(KeyboardInterrupt):
        send(films, ae_title=AE_TITLE, port=server.server_address[1])
    server.shutdown()
    assert stored == [films[0].sop_instance_uid]
    assert not {thread for thread in set(threading.enumerate()) - threads if not thread.daemon}


@pytest.mark.usefixtures("_interruptible")
def test_a_program_that_is_interrupted_at_its_start_is_ended(tmp_path, monkeypatch):
    programs: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)
            programs.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), running([sys.executable, "-c", "import time; time.sleep(60)"], log=tmp_path / "log"):
        pytest.fail("the interruption was lost")
    assert programs[0].poll() is not None


def test_the_viewers_site_serves_its_files_and_answers_to_this_machine_only(tmp_path):
    dist = tmp_path / "dist"
    dist.mkdir()
    (dist / "index.html").write_text("the viewer")
    (tmp_path / "secret").write_text("not to be seen")
    assert find_ohif(dist) == dist
    assert find_ohif(tmp_path) is None
    with viewer_site(dist, f"http://127.0.0.1:{free_port()}") as site:
        for path in ("/", "/viewer?StudyInstanceUIDs=1", "/../secret", "/%2e%2e/secret"):
            with urllib.request.urlopen(site + path, timeout=10) as answer:
                assert answer.read() == b"the viewer"
        for path, host, status in (("/dicom-web/studies", None, 502), ("/", "evil.example:80", 403)):
            request = urllib.request.Request(site + path, headers={"Host": host} if host else {})
            with pytest.raises(urllib.error.HTTPError) as told:
                urllib.request.urlopen(request, timeout=10)
            assert told.value.code == status
            told.value.close()
