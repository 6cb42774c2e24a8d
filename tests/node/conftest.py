"""A node in this process, on free ports, with a job queue in memory and a certifier that costs nothing."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom.ae import ApplicationEntity

sys.path.insert(0, str(Path(__file__).parent))

from fakes import Archive, CheapCertifier, write_bundle
from processes import Cluster, PostgreSql

from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.node.configuration import load_configuration
from certdicom.node.service import Service
from certdicom.node.work.jobs.memory import MemoryQueue


def pytest_collection_modifyitems(items):
    """pynetdicom drops the sockets of failed connections without closing them; that is no concern of ours."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"))


@pytest.fixture(autouse=True)
def _no_litter():
    """Such sockets are found by the garbage collector: here and now, not in somebody else's test."""
    yield
    gc.collect()
    gc.freeze()  # what is left need not be looked through after each test


@pytest.fixture
def make_film(tmp_path):
    """Small synthetic films with conspicuous identifiers; the seed makes them different."""

    def make(seed: int = 0, **changes):
        dataset, _ = synthetic_film(rows=80, columns=72, seed=seed)
        dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Zwiebelfisch^Querulant", "PID_4711_SECRET", "19530217"
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        path = tmp_path / f"film-{seed}-{time.monotonic_ns()}.dcm"
        path.write_bytes(film_bytes(dataset))
        return path

    return make


@pytest.fixture
def configure(tmp_path):
    """A configuration for tests: small waits, a free port, no page; keyword arguments are settings with __ for the dot."""

    def make(*destinations: Archive, path: Path | None = None, **settings):
        values = {
            "NODE_PORT": "0",
            "NODE_STATE_DIR": str(tmp_path / "state"),
            "NODE_GRACE_S": "5",
            "WEB_PORT": "0",
            "CERTIFICATE_BUNDLE": str(write_bundle(tmp_path / "bundle")),
            "LIMITS_MIN_FREE_MB": "1",
            "DELIVERY_FIRST_WAIT_S": "0.02",
            "DELIVERY_LONGEST_WAIT_S": "0.2",
            "DELIVERY_TIMEOUT_S": "5",
            "JOBS_POLL_S": "0.05",
            **{name.upper().replace("__", "_"): str(value) for name, value in settings.items()},
        }
        environment = {f"CERTDICOM_{name}": value for name, value in values.items()}
        if destinations:
            environment["CERTDICOM_DESTINATIONS"] = ",".join(
                f"ARCHIVE{number or ''}@127.0.0.1:{peer.port}" for number, peer in enumerate(destinations)
            )
        return load_configuration(path, environment)

    return make


@pytest.fixture
def run_node():
    """Start nodes; all are stopped in the end, and none of their tasks may have failed."""
    services = []

    def start(configuration, certifier=None):
        service = Service(configuration, certifier=certifier or CheapCertifier(), job_queue=MemoryQueue())
        services.append(service)
        service.start()
        return service

    yield start
    for service in services:
        service.stop()
        assert service.job_queue.errors == []


@pytest.fixture
def archive():
    peer = Archive().start()
    yield peer
    peer.stop()


@pytest.fixture
def database(tmp_path):
    """A PostgreSQL server of the test's own."""
    server = PostgreSql(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def make_cluster(tmp_path):
    """Make nodes, workers and an archive in processes of their own; all are ended."""
    clusters = []

    def make(**options) -> Cluster:
        cluster = Cluster(tmp_path / f"cluster-{len(clusters)}", options.pop("archive", None) or Archive().start(), **options)
        clusters.append(cluster)
        return cluster

    yield make
    for cluster in clusters:
        cluster.stop_all()
        cluster.archive.stop()


@pytest.fixture
def send():
    """C-STORE files to a node, as a modality would; returns the statuses, or None when there was no association."""

    def store(service, *paths: Path, calling: str = "MODALITY", called: str = "CERTDICOM"):
        entity = ApplicationEntity(calling)
        for path in paths:
            meta = dcmread(path, stop_before_pixels=True, force=True).file_meta
            if (meta.MediaStorageSOPClassUID, [meta.TransferSyntaxUID]) not in [
                (c.abstract_syntax, c.transfer_syntax) for c in entity.requested_contexts
            ]:
                entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", service.scp.port, ae_title=called)
        if not association.is_established:
            return None
        statuses = [association.send_c_store(path) for path in paths]
        association.release()
        return [int(status.Status) if "Status" in status else None for status in statuses]

    return store


@pytest.fixture
def certificates(tmp_path):
    """A certificate authority, a certificate of a node, one of a sender, an expired one, and a stranger's."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path, timeout=60)

    def make(name: str, authority: str | None, days: int = 10):
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        subject = ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        if authority is None:
            openssl("req", "-new", "-x509", "-key", f"{name}.key", "-out", f"{name}.pem", "-days", "10", "-subj", f"/CN={name}")
            return
        openssl("req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", *subject)
        dates = ["-days", str(days)]
        openssl(
            "x509",
            "-req",
            "-in",
            f"{name}.csr",
            "-CA",
            f"{authority}.pem",
            "-CAkey",
            f"{authority}.key",
            "-CAcreateserial",
            "-copy_extensions",
            "copy",
            "-out",
            f"{name}.pem",
            *dates,
        )

    make("authority", None)
    make("stranger-authority", None)
    make("node", "authority")
    make("renewed", "authority")
    make("sender", "authority")
    make("expired", "authority", days=-1)
    make("stranger", "stranger-authority")
    return tmp_path
