"""Who is kept out, what is cut off, and that the node goes on serving."""

from __future__ import annotations

import errno
import logging
import socket
import ssl
import struct
import time
import urllib.request

import pytest
from fakes import CheapCertifier, free_port, wait_until
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dsutils import encode

from certdicom.node.receive import association_server, receiving


def connect(node) -> socket.socket:
    return socket.create_connection(("127.0.0.1", node.scp.port), timeout=30)


def closed_by_peer(connection: socket.socket, seconds: float = 30.0) -> bool:
    """Whether the other side ends the connection; an A-ABORT before that does not matter."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def test_unknown_titles_are_rejected_and_listed_ones_served(run_node, configure, make_film, send):
    node = run_node(configure(access__calling_ae_titles="CR1"))
    film = make_film()
    assert send(node, film, calling="CR2") is None
    assert send(node, film, calling="CR1", called="SOMEBODY") is None
    assert send(node, film, calling="CR1") == [0]


def test_addresses_that_are_not_listed_are_turned_away(run_node, configure, make_film, send):
    node = run_node(configure(access__peer_addresses="10.1.0.0/16"))
    assert send(node, make_film()) is None


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(range(256)) * 20,
        struct.pack(">BBL", 0x01, 0, 0xFFFFFFFF) + b"\0" * 100,
        struct.pack(">BBL", 0x01, 0, 80) + b"\xff" * 80,
        struct.pack(">BBL", 0x04, 0, 6) + struct.pack(">L", 2) + b"\x01\x03",
        struct.pack(">BBL", 0x01, 0, 72)
        + struct.pack(">HH", 1, 0)
        + b"CERTDICOM       MODALITY        "
        + b"\0" * 32
        + struct.pack(">BBH", 0x10, 0, 0xFFFF),
    ],
    ids=["http", "noise", "4 GiB associate", "associate of 0xff", "data before associate", "item longer than the PDU"],
)
def test_garbage_is_cut_off_and_the_node_goes_on_serving(run_node, configure, make_film, send, garbage):
    node = run_node(configure(limits__request_timeout_s=1))
    with connect(node) as connection:
        connection.sendall(garbage)
        assert closed_by_peer(connection)
    assert send(node, make_film()) == [0]


def test_silent_and_half_open_connections_are_cut_off_and_do_not_keep_others_out(run_node, configure, make_film, send):
    node = run_node(configure(limits__request_timeout_s=1, limits__max_connections=30))
    silent = [connect(node) for _ in range(200)]
    silent[0].sendall(b"\x01")
    assert all(closed_by_peer(connection, 60) for connection in silent)
    for connection in silent:
        connection.close()
    wait_until(lambda: send(node, make_film()) == [0], 60, "service")


def test_a_slow_sender_is_cut_off(run_node, configure, make_film, send):
    node = run_node(configure(limits__network_timeout_s=1))
    film = dcmread(make_film())
    entity = ApplicationEntity("SLOW")
    entity.add_requested_context(film.SOPClassUID, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM")
    assert association.is_established
    # The head of a P-DATA-TF, and then a byte now and then: never a whole PDU.
    association.dul.socket.socket.sendall(struct.pack(">BBL", 0x04, 0, 10_000))
    started = time.monotonic()
    while association.dul.is_alive() and time.monotonic() - started < 20:
        try:
            association.dul.socket.socket.sendall(b"\0")
        except (OSError, AttributeError):
            break
        time.sleep(0.2)
    assert time.monotonic() - started < 15
    wait_until(lambda: not association.is_established)
    assert send(node, make_film(2)) == [0]


def large(film, mebibytes: int):
    """The film with so much pixel data."""
    dataset = dcmread(film)
    dataset.Rows, dataset.Columns, dataset.PixelData = 1024 * mebibytes // 2, 1024, b"\0" * (mebibytes * 1024 * 1024)
    dataset.save_as(film)
    return film


def test_an_instance_that_is_too_large_is_cut_off_and_leaves_nothing(run_node, configure, make_film, send):
    node = run_node(configure(limits__max_object_mb=1))
    assert send(node, large(make_film(), 8)) in ([None], None)
    assert node.ledger.jobs() == []
    wait_until(lambda: not list(node.spool.incoming.iterdir()), 10, "the removal of what had come")
    assert list(node.spool.film_ids()) == []
    assert send(node, make_film(2)) == [0]


def test_what_had_come_before_the_cut_is_not_kept_either(run_node, configure, make_film, send, monkeypatch):
    """A connection that was shut down gives what lies in its buffer, which may be all of the rest: as if it had not been shut down."""
    monkeypatch.setattr(association_server, "_shut_down", lambda connection: None)
    node = run_node(configure(limits__max_object_mb=1))
    (status,) = send(node, large(make_film(), 8))
    assert status != 0
    assert node.ledger.jobs() == []
    assert list(node.spool.film_ids()) == []
    assert list(node.spool.incoming.iterdir()) == []


@pytest.mark.parametrize("uid", ["", "Zwiebelfisch", "1." * 60 + "1", "\0\0"])
def test_a_request_with_a_uid_that_is_none_is_refused_and_the_node_goes_on_serving(run_node, configure, make_film, send, uid):
    node = run_node(configure())
    film = dcmread(make_film())
    incoming = node.scp._receiver.expect(
        sop_class_uid=film.SOPClassUID, sop_instance_uid=uid, transfer_syntax_uid=str(ExplicitVRLittleEndian)
    )
    instance = receiving.Instance(film.SOPClassUID, uid, ExplicitVRLittleEndian, incoming, "CR", 1)
    assert node.scp._receiver.store(instance) in (receiving.CANNOT_UNDERSTAND, receiving.NOT_THIS_SOP_CLASS)
    assert list(node.spool.incoming.iterdir()) == []
    assert send(node, make_film(2)) == [0]


def test_what_a_sender_that_breaks_off_had_sent_is_removed(run_node, configure, make_film):
    node = run_node(configure())
    film = dcmread(make_film())
    entity = ApplicationEntity("BROKEN")
    entity.add_requested_context(film.SOPClassUID, ExplicitVRLittleEndian)
    association = entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM")
    request = Dataset()
    request.AffectedSOPClassUID, request.CommandField, request.MessageID = film.SOPClassUID, 0x0001, 1
    request.Priority, request.CommandDataSetType, request.AffectedSOPInstanceUID = 2, 1, film.SOPInstanceUID
    context = association.accepted_contexts[0].context_id
    # The request and the first bytes of its data set in one PDU, as PS3.8 allows.
    values = [bytes([3]) + encode(request, True, True), bytes([0]) + b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"]
    body = b"".join(struct.pack(">LB", len(value) + 1, context) + value for value in values)
    association.dul.socket.socket.sendall(struct.pack(">BBL", 0x04, 0, len(body)) + body)
    wait_until(lambda: len(list(node.spool.incoming.iterdir())) == 1, 10, "the incoming")
    association.abort()
    wait_until(lambda: not list(node.spool.incoming.iterdir()), 10, "the removal of what had come")


def test_too_many_associations_are_rejected_and_later_served(run_node, configure, make_film, send):
    node = run_node(configure(limits__max_associations=2))
    film = dcmread(make_film())
    entity = ApplicationEntity("MANY")
    entity.add_requested_context(film.SOPClassUID)
    kept = [entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM") for _ in range(2)]
    assert all(association.is_established for association in kept)
    third = entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM")
    assert third.is_rejected
    for association in kept:
        association.release()
    wait_until(lambda: send(node, make_film(2)) == [0], what="service")


def test_a_truncated_film_is_stored_and_put_aside(run_node, configure, make_film, send):
    node = run_node(configure())
    film = make_film()
    dataset = dcmread(film)
    dataset.PixelData = dataset.PixelData[: len(dataset.PixelData) // 2 // 2 * 2]
    dataset.save_as(film)
    assert send(node, film) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["ignored"])


def arrived(receiver, sop_class_uid: str, sop_instance_uid: str, content: bytes) -> receiving.Instance:
    """An instance with `content` as its data set, as it stands when all of it has come."""
    names = {"sop_class_uid": sop_class_uid, "sop_instance_uid": sop_instance_uid, "transfer_syntax_uid": ExplicitVRLittleEndian}
    incoming = receiver.expect(**names)
    incoming.write(content)
    return receiving.Instance(**names, incoming=incoming, sender="CR", priority=1)


def test_what_cannot_be_read_is_refused(run_node, configure, make_film):
    node = run_node(configure())
    receiver = node.scp._receiver
    instance = arrived(receiver, "1.2.840.10008.5.1.4.1.1.1", "1.2.3", b"\x08\x00\x18\x00UI\xff\xff1.2")
    assert receiver.store(instance) in (receiving.CANNOT_UNDERSTAND, receiving.NOT_THIS_SOP_CLASS)
    assert list(node.spool.film_ids()) == []


def test_a_data_set_with_another_uid_than_its_request_is_refused(run_node, configure, make_film):
    node = run_node(configure())
    raw = make_film().read_bytes()
    dataset = dcmread(make_film())
    content = raw[raw.index(b"\x08\x00\x05\x00CS") :]
    instance = arrived(node.scp._receiver, str(dataset.SOPClassUID), "1.2.3.4", content)
    assert node.scp._receiver.store(instance) == receiving.NOT_THIS_SOP_CLASS


def test_below_the_watermark_films_are_refused_before_a_byte_is_written_until_there_is_space(
    run_node, configure, make_film, send, monkeypatch
):
    node = run_node(configure(limits__min_free_mb=100))
    film = make_film()
    with monkeypatch.context() as full:
        full.setattr(type(node.spool), "free_bytes", lambda self: 50 * 1024 * 1024)
        full.setattr(type(node.spool), "new_file", lambda self: pytest.fail("a file was begun below the watermark"))
        assert send(node, film) == [0xA700]
        assert node.ready()["disk"] is False
    assert node.ledger.jobs() == []
    assert send(node, film) == [0]


def test_an_instance_that_takes_the_disk_below_the_watermark_is_refused_and_removed(run_node, configure, make_film, send, monkeypatch):
    node = run_node(configure(limits__min_free_mb=100, limits__max_object_mb=200))
    film = large(make_film(), 48)
    taken = iter([200, 200, 90])  # MiB free: before the first byte, after it, and 16 MiB later
    with monkeypatch.context() as filling:
        filling.setattr(type(node.spool), "free_bytes", lambda self: next(taken, 90) * 1024 * 1024)
        assert send(node, film) == [0xA700]
    assert list(node.spool.incoming.iterdir()) == []
    assert node.ledger.jobs() == []
    assert send(node, film) == [0]


def test_a_disk_filled_to_the_brim_refuses_and_loses_nothing(run_node, configure, make_film, send, monkeypatch):
    node = run_node(configure())
    film = make_film()

    def full(self, stream):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(type(node.spool), "sync", full)
        assert send(node, film) == [0xA700]
    assert list(node.spool.film_ids()) == []
    assert list(node.spool.incoming.iterdir()) == []
    assert send(node, film) == [0]


def test_nothing_private_is_in_logs_database_metrics_or_names(run_node, configure, archive, make_film, send, caplog):
    from prometheus_client import generate_latest

    caplog.set_level(logging.DEBUG, "certdicom")

    def stumble(film):
        if dcmread(film).InstanceNumber == 2:
            raise ValueError(str(dcmread(film)))

    node = run_node(configure(archive, jobs__max_attempts=2, web__port=free_port()), CheapCertifier(stumble))
    films = [
        make_film(1),
        make_film(2, InstanceNumber=2),
        make_film(3, Modality="CT"),
        make_film(4, BodyPartExamined="PID_4711_SECRET"),
        make_film(5, ViewPosition="QUERULANT LAT"),
        make_film(6, BodyPartExamined="ASK DR HOLMBERG"),
        make_film(7, ViewPosition="DR HOLMBERG SAW"),
        make_film(8, VOILUTFunction="HOLMBERG"),
        make_film(9, PatientOrientation=["HOLMBERG", "A"]),
        make_film(10, Modality="HOLMBERG"),
    ]
    assert send(node, *films) == [0] * 10
    wait_until(lambda: {job.state for job in node.ledger.jobs()} <= {"done", "ignored", "failed"})
    uids = {str(dcmread(film).SOPInstanceUID) for film in films}
    addresses = ["", "?state=failed", *(f"jobs/{job.job_id}" for job in node.ledger.jobs())]
    pages = "".join(urllib.request.urlopen(node.web.address + path, timeout=30).read().decode() for path in addresses)  # noqa: S310
    node.stop()
    words = {"Zwiebelfisch", "ZWIEBELFISCH", "Querulant", "QUERULANT", "PID_4711_SECRET", "19530217", "1953-02-17", "HOLMBERG", *uids}
    ours = "\n".join(record.getMessage() + str(record.__dict__) for record in caplog.records if record.name.startswith("certdicom"))
    database = b"".join(path.read_bytes() for path in node.spool.root.glob("node.sqlite*"))
    names = "\n".join(str(path) for path in node.spool.root.rglob("*"))
    for word in words:
        assert word not in ours
        assert word not in pages
        assert word.encode() not in database
        assert word not in names
        assert word.encode() not in generate_latest(node.metrics.registry)
    assert len(ours) > 500, "the logs that were searched are not empty"
    assert pages.count("<html") == 12


def test_over_tls_only_certificates_of_the_authority_are_served(run_node, configure, make_film, certificates):
    names = {name: certificates / name for name in ("node.pem", "node.key", "authority.pem")}
    settings = {"tls__certificate": names["node.pem"], "tls__key": names["node.key"], "tls__ca": names["authority.pem"]}
    node = run_node(configure(limits__request_timeout_s=2, **settings))
    film = make_film()
    meta = dcmread(film).file_meta

    def served(certificate: str | None, version=ssl.TLSVersion.TLSv1_3) -> bool:
        context = ssl.create_default_context(cafile=str(names["authority.pem"]))
        context.maximum_version = version
        if certificate is not None:
            context.load_cert_chain(certificates / f"{certificate}.pem", certificates / f"{certificate}.key")
        entity = ApplicationEntity("MODALITY")
        entity.acse_timeout = entity.network_timeout = 10
        entity.add_requested_context(meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM", tls_args=(context, "127.0.0.1"))
        if not association.is_established:
            return False
        status = association.send_c_store(film)
        association.release()
        return status.Status == 0

    silent = connect(node)  # never begins the handshake: must not keep others waiting
    assert served("sender")
    assert not served(None)
    assert not served("expired")
    assert not served("stranger")
    assert served("sender", ssl.TLSVersion.TLSv1_2)
    assert closed_by_peer(silent, 20)
    silent.close()
    with connect(node) as plain:
        plain.sendall(b"\x01\0\0\0\0\x04aaaa")
        assert closed_by_peer(plain)
    for ending in ("pem", "key"):
        (certificates / f"node.{ending}").write_bytes((certificates / f"renewed.{ending}").read_bytes())
    context = ssl.create_default_context(cafile=str(names["authority.pem"]))
    context.load_cert_chain(certificates / "sender.pem", certificates / "sender.key")
    with context.wrap_socket(connect(node), server_hostname="127.0.0.1") as shown:
        assert dict(entry[0] for entry in shown.getpeercert()["subject"])["commonName"] == "renewed"
