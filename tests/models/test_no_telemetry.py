"""Nothing reaches out: no connection, no name looked up, no process forked for it, nothing left in the user's home."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, distribution

import pytest

from certdicom.imaging.synthetic import film_bytes, synthetic_film

WATCH = """
import os, sys, time

def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "os.fork"):
        os.write(2, f"reached out: {event}".encode())
        os._exit(9)

sys.addaudithook(watch)
"""
CERTIFY = WATCH + "from certdicom.cli.main import main; code = main(sys.argv[1:]); time.sleep(1); sys.exit(code)"
CONTROL = WATCH + "import openvino; time.sleep(5)"


def run(home, code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TF_BUILD", "JENKINS_URL")}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env={**environment, "HOME": str(home)}, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.timeout(300)
def test_certifying_reaches_out_to_nobody_and_leaves_nothing_at_home(tmp_path):
    home, film = tmp_path / "home", tmp_path / "film.dcm"
    home.mkdir()
    film.write_bytes(film_bytes(synthetic_film(rows=256, columns=256)[0]))
    done = run(home, CERTIFY, str(film), "-o", str(tmp_path / "seg.dcm"), "--accept-any", "--n0", "4", "--n", "70")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "seg.dcm").exists()
    assert not (home / "intel").exists()


def test_which_the_watch_would_have_seen(tmp_path):
    try:
        distribution("openvino-telemetry")
    except PackageNotFoundError:
        pytest.skip("this OpenVINO has no telemetry package")
    done = run(tmp_path, CONTROL)
    assert (done.returncode, (tmp_path / "intel").exists()) == (9, True), "or else the test above shows nothing"
