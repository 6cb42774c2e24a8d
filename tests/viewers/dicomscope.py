"""DICOMscope 3.6, a viewer of presentation states, on a screen of its own that nobody sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]

JAR = Path("/usr/share/java/DICOMscope.jar")
WIDTH, HEIGHT = 1400, 1050

_CONFIGURATION = r"""[[GENERAL]]
[MONITOR]
Resolution = 1400\1050
Screensize = 400\300
PreviewSize = 256\256
[DATABASE]
Directory = db
[LUT]
Directory = /usr/share/dicomscope/lut
[REPORT]
Directory = /usr/share/dicomscope/reports
[GUI]
HighResolutionGraphics = false
AutoUpdateStudyBrowser = true
PSPanelOn = true
"""

_STUDY, _SERIES, _FIRST_OBJECT = (33, 97), (56, 121), (290, 144)
"""Where the browser's tree unfolds a study and a series, and where the first object of the series stands."""

VIEW = (slice(68, 978), slice(7, 1130))
"""Rows and columns of the screen in which an image is shown."""


def is_installed() -> bool:
    """Whether viewer, screen and mouse are there."""
    return JAR.exists() and all(map(shutil.which, ("java", "Xvfb", "xdotool", "dcmqridx")))


def show(film: Path, state: Path, folder: Path) -> Picture:
    """The viewer's image area (rows, columns) in gray, once it shows the film by the state; `folder` is for its files."""
    database = folder / "db"
    database.mkdir(parents=True)
    for name, path in (("film.dcm", film), ("state.dcm", state)):
        shutil.copy(path, database / name)
    subprocess.run(["dcmqridx", database, database / "film.dcm", database / "state.dcm"], check=True, capture_output=True, timeout=60)
    (folder / "DICOMscope.cfg").write_text(_CONFIGURATION)
    libraries = next(Path("/usr/lib").glob("*/jni"))
    with _screen(folder) as (display, screen):
        command = ["java", "-Xmx1g", f"-Djava.library.path={libraries}", "-jar", str(JAR)]
        environment = {**os.environ, "DISPLAY": display}
        with _running(command, cwd=folder, env=environment):
            _settled(screen)
            for place in (_STUDY, _SERIES, _FIRST_OBJECT):
                _mouse(environment, "mousemove", *map(str, place), "click", "1")
                time.sleep(2)
            _mouse(environment, "click", "--repeat", "2", "--delay", "120", "1")
            _mouse(environment, "mousemove", str(WIDTH - 1), str(HEIGHT - 1))
            time.sleep(3)
            return _settled(screen)[VIEW]


def _mouse(environment: dict[str, str], *words: str) -> None:
    subprocess.run(["xdotool", *words], check=True, env=environment, timeout=30)


@contextmanager
def _screen(folder: Path) -> Iterator[tuple[str, Path]]:
    """The name of a display, and the file that holds its picture."""
    reading, writing = os.pipe()
    size = f"{WIDTH}x{HEIGHT}x24"
    command = ["Xvfb", "-displayfd", str(writing), "-screen", "0", size, "-nolisten", "tcp", "-fbdir", str(folder)]
    with os.fdopen(reading) as named, _running(command, pass_fds=(writing,)):
        os.close(writing)
        yield f":{named.readline().strip()}", folder / "Xvfb_screen0"


@contextmanager
def _running(command: list[str], **options: object) -> Iterator[None]:
    with ExitStack() as stack:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)  # type: ignore[call-overload]
        stack.callback(process.wait, timeout=30)
        stack.callback(process.kill)
        yield


def _settled(screen: Path, *, seconds: float = 120) -> Picture:
    """The screen once there is something on it that has not changed for three seconds."""
    end = time.monotonic() + seconds
    before, since = _picture(screen), time.monotonic()
    while time.monotonic() < end:
        time.sleep(0.5)
        now = _picture(screen)
        if now.std() < 1 or not np.array_equal(now, before):
            before, since = now, time.monotonic()
        elif time.monotonic() - since > 3:
            return now
    raise TimeoutError(f"the screen did not come to rest within {seconds:.0f} s")


def _picture(screen: Path) -> Picture:
    """An X window dump in gray: a header of big-endian words, a colour map of 12 bytes an entry, then blue, green, red and nothing."""
    dump = screen.read_bytes()
    header = np.frombuffer(dump, ">u4", 25).astype(int)
    start, width, height, line, colours = header[[0, 4, 5, 12, 19]]
    pixels = np.frombuffer(dump, np.uint8, line * height, start + 12 * colours).reshape(height, line)[:, : 4 * width]
    return pixels.reshape(height, width, 4)[..., :3].mean(axis=2).round().astype(np.uint8)
