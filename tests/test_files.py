"""Files appear whole or not at all, and nobody's file is overwritten by accident."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from certdicom import files
from certdicom.errors import OutputError
from certdicom.files import write_atomically, write_together


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_are_written(tmp_path):
    assert write_atomically(tmp_path / "a", b"abc") == tmp_path / "a"
    assert (tmp_path / "a").read_bytes() == b"abc"
    assert names(tmp_path) == ["a"]


def test_a_function_may_write(tmp_path):
    write_atomically(tmp_path / "a", lambda stream: stream.write(b"abc"))
    assert (tmp_path / "a").read_bytes() == b"abc"


def test_an_existing_file_is_kept(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    with pytest.raises(OutputError, match="exists already"):
        write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_force_replaces(tmp_path):
    (tmp_path / "a").write_bytes(b"old")
    write_atomically(tmp_path / "a", b"new", force=True)
    assert (tmp_path / "a").read_bytes() == b"new"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("force", [False, True])
def test_a_writer_that_fails_midway_leaves_nothing(tmp_path, force):
    def fail(stream):
        stream.write(b"half")
        raise RuntimeError("defect")

    with pytest.raises(RuntimeError, match="defect"):
        write_atomically(tmp_path / "a", fail, force=force)
    assert names(tmp_path) == []


def test_a_failed_replacement_keeps_the_old_file(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError, match="the disk is full"):
        write_atomically(tmp_path / "a", b"new", force=True)
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_file_that_outgrows_its_limit_leaves_nothing(tmp_path):
    program = (
        "import resource, sys\n"
        "from certdicom.errors import OutputError\n"
        "from certdicom.files import write_atomically\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n"
        "    write_atomically(sys.argv[1], bytes(100_000))\n"
        "except OutputError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "a")], capture_output=True, text=True, check=True)
    assert "cannot be written" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert names(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match="folder does not exist"):
        write_atomically(tmp_path / "none" / "a", b"abc")


@pytest.mark.parametrize("force", [False, True])
def test_a_folder_is_not_overwritten(tmp_path, force):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "a", b"abc", force=force)
    assert names(tmp_path) == ["a"]


def test_a_device_is_not_replaced_even_by_force():
    with pytest.raises(OutputError, match="not a regular file"):
        write_atomically("/dev/null", b"abc", force=True)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_name_that_is_too_long_is_refused(tmp_path):
    with pytest.raises(OutputError, match="name is too long"):
        write_atomically(tmp_path / ("a" * 300), b"abc")
    assert names(tmp_path) == []


def test_the_longest_name_works(tmp_path):
    write_atomically(tmp_path / ("a" * 255), b"abc")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may write anywhere")
def test_a_read_only_folder_is_named(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission"):
        write_atomically(tmp_path / "a", b"abc")


def test_force_follows_a_link_and_keeps_it(tmp_path):
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "link", b"new")
    write_atomically(tmp_path / "link", b"new", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"abc")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


@pytest.mark.parametrize("hard_links", [True, False])
def test_of_many_racers_exactly_one_wins_and_its_file_is_whole(tmp_path, monkeypatch, hard_links):
    if not hard_links:

        def refuse(*_):
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(files.os, "link", refuse)
    start = threading.Barrier(8)
    won, lost = [], []

    def race(number: int) -> None:
        def write(stream):
            start.wait()  # all have looked for the file and found none
            stream.write(bytes([number]) * 100_000)

        try:
            write_atomically(tmp_path / "a", write)
            won.append(number)
        except OutputError:
            lost.append(number)

    racers = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert len(won) == 1
    assert len(lost) == 7
    assert (tmp_path / "a").read_bytes() == bytes(won) * 100_000
    assert names(tmp_path) == ["a"]


def test_several_files_are_written_together_or_not_at_all(tmp_path):
    assert write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"}) == [tmp_path / "a", tmp_path / "b"]
    assert write_together({}) == []
    with pytest.raises(OutputError, match="exists already"):
        write_together({tmp_path / "c": b"3", tmp_path / "b": b"4"})
    with pytest.raises(OutputError, match=r"missing/d cannot be written: the folder does not exist"):
        write_together({tmp_path / "c": b"3", tmp_path / "missing" / "d": b"4"})
    assert names(tmp_path) == ["a", "b"]
    assert (tmp_path / "b").read_bytes() == b"2"


def test_a_name_that_is_taken_in_the_meantime_takes_the_others_back(tmp_path, monkeypatch):
    give = files._give_name

    def somebody_is_first(temporary: Path, target: Path, *, force: bool) -> None:
        if target.name == "b":
            target.write_bytes(b"theirs")
        give(temporary, target, force=force)

    monkeypatch.setattr(files, "_give_name", somebody_is_first)
    with pytest.raises(OutputError, match="b was written by another process"):
        write_together({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_bytes() == b"theirs"
