"""Nodes, workers and a PostgreSQL in processes of their own, for tests that kill them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import Archive, free_port, wait_until, write_bundle
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom.ae import ApplicationEntity

from certdicom.node.store.database import connect
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Job

HARNESS = Path(__file__).parent / "harness.py"


def uid_of(film: Path) -> str:
    return str(dcmread(film, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID)


def store(port: int, *films: Path, priority: int = 2) -> list[bool]:
    """C-STORE each film to a node; whether it was answered with 0x0000. `priority`: as DICOM has it, 1 for HIGH."""
    meta = dcmread(films[0], stop_before_pixels=True).file_meta
    entity = ApplicationEntity("MODALITY")
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 30
    entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
    association = entity.associate("127.0.0.1", port, ae_title="CERTDICOM")
    answers = []
    for film in films:
        if not association.is_established:
            answers.append(False)
            continue
        try:
            status = association.send_c_store(film, priority=priority)
        except RuntimeError:  # the association broke
            answers.append(False)
            continue
        answers.append("Status" in status and status.Status == 0)
    if association.is_established:
        association.release()
    return answers


def listens(port: int) -> bool:
    """Whether somebody accepts connections on a port of this machine."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


class NodeProcess:
    """`certdicom node` as people start it, with a configuration file."""

    def __init__(self, folder: Path, settings: str, port: int) -> None:
        self.configuration, self.log, self.port = folder / "node.toml", folder / "node.log", port
        self.configuration.write_text(settings, encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-W", "ignore", "-m", "certdicom", "node", "--config", str(self.configuration)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(lambda: listens(self.port) or self.dead(), 300, "listening")
        assert not self.dead(), self.log.read_text(encoding="utf-8")

    def send(self, *films: Path) -> list[bool]:
        return store(self.port, *films)

    def dead(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(120)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


class Cluster:
    """A folder with a configuration, and the processes that were started from it."""

    def __init__(
        self,
        folder: Path,
        archive: Archive,
        *,
        database_url: str = "",
        workers: int = 1,
        stale_after_s: float = 4.0,
        max_attempts: int = 50,
        state: Path | None = None,
        delay_s: float = 0.0,
        extra: str = "",
    ) -> None:
        """`state`: another state folder than one in `folder`; `delay_s`: what certifying takes; `extra`: settings of the destination."""
        self.folder, self.archive, self.state, self.delay_s = folder, archive, state or folder / "state", delay_s
        self.port = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.database_url = database_url
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "node.toml").write_text(
            f"""
[node]
port = {self.port}
state_dir = "{self.state}"
grace_s = 5.0
[web]
port = 0
[limits]
min_free_mb = 1
[certificate]
bundle = "{write_bundle(folder / "bundle")}"
[jobs]
database_url = "{database_url}"
workers = {workers}
poll_s = 0.1
stale_after_s = {stale_after_s}
max_attempts = {max_attempts}
[delivery]
first_wait_s = 0.1
longest_wait_s = 1.0
timeout_s = 10.0
[[destination]]
ae_title = "ARCHIVE"
port = {archive.port}
{extra}
""",
            encoding="utf-8",
        )

    def start(self, name: str, role: str = "node") -> None:
        """Start a process; a node is waited for until it listens."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HARNESS_DELAY_S": str(self.delay_s)}
        with (self.folder / f"{name}.log").open("ab") as log:
            command = [sys.executable, str(HARNESS), role, str(self.folder)]
            self.processes[name] = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        if role == "node":
            wait_until(lambda: self.listens() or self.dead(name), 120, "listening")
            assert not self.dead(name), self.logs()

    def listens(self) -> bool:
        return listens(self.port)

    def dead(self, name: str) -> bool:
        return self.processes[name].poll() is not None

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait(30)

    def stop(self, name: str) -> int:
        self.processes[name].terminate()
        return self.processes[name].wait(120)

    def stop_all(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait(30)

    def logs(self) -> str:
        return "\n".join(path.read_text(encoding="utf-8") for path in sorted(self.folder.glob("*.log")))

    def arm(self, boundary: str) -> None:
        """Kill the next process that comes to a boundary."""
        (self.folder / boundary).touch()

    def armed(self, boundary: str) -> bool:
        return (self.folder / boundary).exists()

    def send(self, *films: Path, priority: int = 2) -> list[bool]:
        """C-STORE each film; whether it was answered with 0x0000."""
        return store(self.port, *films, priority=priority)

    def jobs(self, *states: str) -> list[Job]:
        """The jobs in the database, all or those in some states."""
        engine = connect(self.database_url or f"sqlite:///{self.state / 'node.sqlite'}")
        try:
            return Ledger(engine).jobs(states=states, limit=1000)
        finally:
            engine.dispose()

    def segmentations(self) -> dict[str, set[str]]:
        return segmentations(self.archive)


def segmentations(archive: Archive) -> dict[str, set[str]]:
    """SOP Instance UIDs of the segmentations in an archive, by the film that they refer to."""
    found: dict[str, set[str]] = {}
    for uid, contents in archive.instances.items():
        assert len(contents) == 1, "an instance was sent twice with different contents"
        dataset = dcmread(DicomBytesIO(next(iter(contents))), force=True, stop_before_pixels=True)
        film = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        found.setdefault(str(film), set()).add(uid)
    return found


def each_film_once(cluster: Cluster, films: list[Path], archive: Archive | None = None) -> bool:
    found = segmentations(archive or cluster.archive)
    return all(len(found.get(uid_of(film), ())) == 1 for film in films)


@contextlib.contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """A file system of its own, so small that it can be filled. Skips where this user may not mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("a file system can be mounted by the administrator only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a small disk to its last byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while stream.write(b"\0" * size):
                    pass
    yield
    ballast.unlink()


class PostgreSql:
    """A PostgreSQL server of its own, on a free port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.binaries = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
        if self.binaries is None or not (self.binaries / "initdb").exists():
            pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
        self.folder, self.port = folder / "postgres", free_port()
        self.folder.mkdir()
        self._prefix: list[str] = []
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            shutil.chown(self.folder, "postgres", "postgres")
            for parent in self.folder.parents:
                if parent.stat().st_mode & 0o001 == 0:
                    parent.chmod(parent.stat().st_mode | 0o011)
            self._prefix = ["runuser", "-u", "postgres", "--"]
        self._call("initdb", "-D", str(self.folder / "data"), "-U", "certdicom", "--auth=trust", "--no-sync")
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self.port), "-U", "certdicom", "certdicom")

    @property
    def url(self) -> str:
        return f"postgresql://certdicom@127.0.0.1:{self.port}/certdicom"

    def start(self) -> None:
        options = f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories= -c fsync=off"
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-w", "-l", str(self.folder / "log"), "start")

    def stop(self) -> None:
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def _call(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [*self._prefix, str(self.binaries / program), *arguments], check=True, capture_output=True, timeout=120, cwd=self.folder
        )


def shuffled(names: tuple[str, ...], count: int, seed: int) -> list[str]:
    """`count` names in random order, each about equally often."""
    chosen = [names[index % len(names)] for index in range(count)]
    random.Random(seed).shuffle(chosen)  # noqa: S311  # an order that can be repeated
    return chosen
