"""Examining what a node depends on. Nothing is changed, and the node may be running."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import httpx
import sqlalchemy as sa
from cryptography import x509
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]  # pynetdicom makes its names at run time
from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import CertdicomError, UsageError
from certdicom.models.bundle import load_bundle
from certdicom.node.configuration import Configuration
from certdicom.node.deliver.peers import associate, local_entity
from certdicom.node.deliver.stow import client
from certdicom.node.settings import Destination
from certdicom.node.store.database import connect
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.tables import STEPS
from certdicom.node.tls import client_context
from certdicom.suitability import takes_photographs

Verdict = Literal["ok", "warn", "fail"]

_CLOCK_WARN_S: Final = 2.0
_CERTIFICATE_WARN_DAYS: Final = 30
_MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class Finding:
    """One thing examined: `ok`, `warn` (works, look at it) or `fail`."""

    verdict: Verdict
    subject: str
    text: str


def examine(configuration: Configuration) -> Iterator[Finding]:
    """Examine everything, one finding after the other."""
    examinations: list[tuple[str, Callable[[Configuration], Finding]]] = [
        ("disk", _disk),
        ("bundle", _bundle),
        ("device", _device),
        ("database", _database),
        ("deliveries", _deliveries),
        ("listening", _listening),
        ("certificates", _certificates),
    ]
    for subject, examination in examinations:
        yield _finding(subject, lambda examination=examination: examination(configuration))  # type: ignore[misc]
    if not configuration.destinations:
        yield Finding("warn", "destinations", "none is configured: results stay in the spool")
    for destination in configuration.destinations:
        yield _finding(f"destination {destination.ae_title}", lambda entry=destination: _echo(configuration, entry))  # type: ignore[misc]


def _finding(subject: str, examination: Callable[[], Finding]) -> Finding:
    try:
        return examination()
    except CertdicomError as error:
        return Finding("fail", subject, " ".join(str(error).split()))
    except (OSError, SQLAlchemyError) as error:
        reason = getattr(error, "strerror", None) or str(error.__cause__ or error).splitlines()[0]
        return Finding("fail", subject, reason)


def _disk(configuration: Configuration) -> Finding:
    place = configuration.state_dir
    while not place.exists():
        place = place.parent
    started = time.perf_counter()
    with tempfile.TemporaryFile(dir=place) as probe:
        probe.write(b"\0" * _MIB)
        probe.flush()
        os.fsync(probe.fileno())
    wrote = time.perf_counter() - started
    free, least = shutil.disk_usage(place).free // _MIB, configuration.limits.min_free_mb
    text = f"{free:,} MiB free in {place}, 1 MiB written and synced in {1000 * wrote:.0f} ms"
    if free <= least:
        return Finding("fail", "disk", f"{text}; films are refused below limits.min_free_mb = {least:,}")
    return Finding("warn" if free < 2 * least else "ok", "disk", text)


def _bundle(configuration: Configuration) -> Finding:
    bundle = load_bundle(configuration.certificate.bundle)
    bundle.require_sigma(configuration.certificate.sigma)
    for role in bundle.networks:
        bundle.weights(role)
    images = "colour photographs" if takes_photographs(bundle) else "radiographs"
    return Finding("ok", "bundle", f"{bundle.name} for {images}, SHA-256 {bundle.sha256[:12]}…, weights undamaged")


def _device(configuration: Configuration) -> Finding:
    from certdicom.models.backends.choice import choose_backend

    asked = configuration.certificate
    backend = choose_backend([load_bundle(asked.bundle)], backend=asked.backend, device=asked.device, precision=asked.precision)
    return Finding("ok", "device", f"{backend.device}, {backend.precision} by {backend.name}")


def _database(configuration: Configuration) -> Finding:
    url = configuration.database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return Finding("ok", "database", "a SQLite file that the first start makes")
    engine = connect(url)
    try:
        with engine.connect() as connection:
            if engine.dialect.name != "postgresql":
                connection.execute(sa.text("SELECT 1"))
                return Finding("ok", "database", "SQLite answers")
            theirs = float(connection.execute(sa.text("SELECT extract(epoch from clock_timestamp())")).scalar_one())
    finally:
        engine.dispose()
    apart = abs(theirs - time.time())
    return Finding("ok" if apart < _CLOCK_WARN_S else "warn", "database", f"PostgreSQL answers; its clock and ours are {apart:.1f} s apart")


def _deliveries(configuration: Configuration) -> Finding:
    url = configuration.database_url
    if url.startswith("sqlite") and not Path(url.removeprefix("sqlite:///")).exists():
        return Finding("ok", "deliveries", "none yet")
    engine = connect(url)
    try:
        awaited = Ledger(engine).awaited() if sa.inspect(engine).has_table(STEPS.name) else set()
    finally:
        engine.dispose()
    gone = sorted(awaited - {destination.ae_title for destination in configuration.destinations})
    if gone:
        return Finding("warn", "deliveries", f"some wait for {', '.join(gone)}, which is not configured; add the destination again")
    return Finding("ok", "deliveries", "none waits for a destination that is not configured")


def _listening(configuration: Configuration) -> Finding:
    host, port = configuration.node.host, configuration.node.port
    target = "127.0.0.1" if host == "0.0.0.0" else host  # noqa: S104  # compared with, not bound to
    try:
        with socket.create_connection((target, port), timeout=3):
            return Finding("ok", "listening", f"something answers on {host}:{port}")
    except OSError:
        return Finding("warn", "listening", f"nothing answers on {host}:{port}; start it with: certdicom node")


def _certificates(configuration: Configuration) -> Finding:
    if not configuration.uses_tls:
        return Finding("ok", "certificates", "TLS is not used")

    client_context(configuration)
    now, soonest = dt.datetime.now(dt.UTC), None
    for key, name in (("tls.certificate", configuration.tls.certificate), ("tls.ca", configuration.tls.ca)):
        try:
            found = x509.load_pem_x509_certificates(Path(name).expanduser().read_bytes())
        except ValueError as error:
            raise UsageError(f"{key} holds no certificate that can be read: {error}") from error
        for certificate in found:
            left = certificate.not_valid_after_utc - now
            soonest = left if soonest is None else min(soonest, left)
    if soonest is None or soonest.total_seconds() <= 0:
        return Finding("fail", "certificates", "a certificate has expired; renew it, the node reads it again by itself")
    text = f"the first of them expires in {soonest.days} days"
    return Finding("warn" if soonest.days < _CERTIFICATE_WARN_DAYS else "ok", "certificates", text)


def _echo(configuration: Configuration, destination: Destination) -> Finding:
    if destination.stow_url:
        return _ask_by_web(configuration, destination)
    subject, where = f"destination {destination.ae_title}", f"{destination.host}:{destination.port}"
    entity = local_entity(configuration)
    entity.add_requested_context(Verification)
    association = associate(entity, configuration, destination)
    if association.is_rejected:
        ours = configuration.node.ae_title
        return Finding("fail", subject, f"{where} rejects us; does it know our AE title {ours}, and is its own {destination.ae_title}?")
    if not association.is_established:
        return Finding("fail", subject, f"no association with {where}; is it running, and is the address right?")
    started = time.perf_counter()
    status = association.send_c_echo()
    took = time.perf_counter() - started
    association.release()
    if "Status" not in status or int(status.Status):
        return Finding("fail", subject, f"{where} does not answer C-ECHO with success")
    return Finding("ok", subject, f"{where} answers C-ECHO in {1000 * took:.0f} ms")


def _ask_by_web(configuration: Configuration, destination: Destination) -> Finding:

    subject, address = f"destination {destination.ae_title}", f"{destination.stow_url.rstrip('/')}/studies"
    started = time.perf_counter()
    try:
        with client(configuration, destination) as http:
            code = http.get(address, params={"limit": "1"}).status_code
    except httpx.HTTPError as error:
        return Finding("fail", subject, f"{address} cannot be asked: {type(error).__name__}: {error}")
    took = 1000 * (time.perf_counter() - started)
    if code in (200, 204):
        return Finding("ok", subject, f"{address} answers in {took:.0f} ms")
    hint = {401: "; look at stow_token_file", 403: "; look at stow_token_file", 404: "; look at stow_url"}.get(code, "")
    # A store that may not be searched answers so, and may take what it is sent all the same.
    return Finding("warn" if code in (403, 405, 501) else "fail", subject, f"{address} answers HTTP {code}{hint}")
