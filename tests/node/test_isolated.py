"""Certifying in a child process: what it does with films, and what becomes of one that hangs, crashes, lies or needs too much."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import wait_until

from certdicom.errors import ImageRefusedError, OutputError
from certdicom.files import write_atomically
from certdicom.models.bundle import DEFAULT_BUNDLE
from certdicom.node.identity import read_site_key
from certdicom.node.work import isolated
from certdicom.node.work.certify import read_result
from certdicom.node.work.isolated import CertifyingError, IsolatedCertifier

STUB = """
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
json.loads(sys.stdin.readline())
for line in sys.stdin:
    do = json.loads(line)["window"]
    if do == "hang":
        time.sleep(1000)
    if do == "crash":
        os.abort()
    if do == "exit":
        sys.exit(7)
    print("nonsense" if do == "lie" else "[1]" if do == "list" else json.dumps({"kind": "done", "pid": os.getpid()}), flush=True)
"""


@pytest.fixture
def make(configure):
    made = []

    def certifier(**settings) -> IsolatedCertifier:
        made.append(IsolatedCertifier(configure(**settings)))
        return made[-1]

    yield certifier
    for entry in made:
        entry.close()


@pytest.fixture
def stub(make, tmp_path, monkeypatch):
    """A certifier whose child does what its window says."""
    path = tmp_path / "stub.py"
    path.write_text(STUB, encoding="utf-8")
    monkeypatch.setattr(isolated, "_COMMAND", (sys.executable, str(path)))
    return lambda seconds=30.0: make(jobs__certify_timeout_s=seconds)


def ask(certifier, what: str = "") -> None:
    certifier.certify(Path("film"), Path("folder"), window=what)


def outcome(do, *arguments) -> Exception | None:
    try:
        do(*arguments)
    except (CertifyingError, OSError, ValueError) as error:
        return error
    return None


def children(certifier) -> list[int]:
    return [child._process.pid for child in (*certifier._idle, *certifier._busy)]


@pytest.mark.parametrize(
    ("trouble", "code", "reason"),
    [
        ("hang", "time-out", "it took longer than jobs.certify_timeout_s, 0.5 s"),
        ("crash", "crash", f"the certifying process ended: signal {int(signal.SIGABRT)}"),
        ("exit", "crash", "the certifying process ended: exit code 7"),
        ("lie", "crash", "the certifying process ended"),
        ("list", "crash", "answered nonsense"),
    ],
)
def test_a_child_that_misbehaves_is_ended_and_the_next_film_gets_another(stub, trouble, code, reason):
    certifier = stub(0.5)
    with pytest.raises(CertifyingError, match=reason) as caught:
        ask(certifier, trouble)
    assert caught.value.code == code
    assert children(certifier) == []
    ask(certifier)


def test_a_child_is_kept_for_the_next_film_and_two_films_at_a_time_have_two(stub):
    certifier = stub()
    ask(certifier)
    first = children(certifier)
    ask(certifier)
    assert children(certifier) == first
    os.kill(first[0], signal.SIGKILL)
    wait_until(lambda: not certifier._idle[0].lives)
    ask(certifier)
    assert children(certifier) != first, "one that was killed between two films costs none of them"
    slow = threading.Thread(target=outcome, args=(ask, certifier, "hang"))
    slow.start()
    wait_until(lambda: certifier._busy)
    ask(certifier)
    assert len(children(certifier)) == 2
    certifier.close()
    slow.join(10)
    assert not slow.is_alive(), "closing ends what hangs"


@pytest.fixture
def real(make, tmp_path):
    """A certifier with the shipped bundle, quick, and a folder for results."""
    state = tmp_path / "state"
    state.mkdir()
    read_site_key(state / "site.key")
    folder = tmp_path / "result"
    folder.mkdir()

    def certifier(**settings):
        return make(certificate__bundle=DEFAULT_BUNDLE, certificate__accept_any=True, certificate__n0=4, certificate__n=70, **settings)

    return certifier, folder


@pytest.mark.timeout(300)
def test_the_real_child_certifies_refuses_and_says_what_the_disk_did(real, make_film, tmp_path):
    make_certifier, folder = real
    certifier = make_certifier()
    certifier.certify(make_film(1), folder)
    assert read_result(folder).seg_sha256
    first = children(certifier)
    text = tmp_path / "text.dcm"
    write_atomically(text, b"no film")
    with pytest.raises(ImageRefusedError, match="not a DICOM file"):
        certifier.certify(text, folder)
    with pytest.raises(OutputError):
        certifier.certify(make_film(2), tmp_path / "missing")
    assert children(certifier) == first, "none of which is a reason to start another"


@pytest.mark.timeout(300)
def test_the_real_child_that_stops_or_is_killed_costs_one_attempt(real, make_film):
    make_certifier, folder = real
    certifier = make_certifier(jobs__certify_timeout_s=1.5)

    def soon(number):
        wait_until(lambda: children(certifier))
        time.sleep(0.3)
        os.kill(children(certifier)[0], number)

    for number, code in ((signal.SIGSTOP, "time-out"), (signal.SIGKILL, "crash")):
        killer = threading.Thread(target=soon, args=(number,))
        killer.start()
        with pytest.raises(CertifyingError) as caught:
            certifier.certify(make_film(1), folder)
        killer.join()
        assert caught.value.code == code
        assert list(folder.iterdir()) == []


@pytest.mark.timeout(300)
def test_memory_is_bounded_where_the_settings_say_so(real, make_film):
    make_certifier, folder = real
    with pytest.raises(CertifyingError):
        make_certifier(jobs__certify_memory_mb=150).certify(make_film(1), folder)


@pytest.mark.timeout(300)
def test_it_ends_with_the_node_however_that_ends(real, make_film):
    make_certifier, folder = real
    certifier = make_certifier()
    thread = threading.Thread(target=outcome, args=(certifier.certify, make_film(1), folder))
    thread.start()
    wait_until(lambda: certifier._busy)
    time.sleep(1.0)
    (child,) = certifier._busy
    child._process.stdin.close()  # as the end of the node closes it
    wait_until(lambda: not child.lives, 5, "the end of a child in the middle of its work")
    thread.join(10)
