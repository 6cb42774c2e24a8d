"""Delivery by STOW-RS: the same bytes, the same patience, and a judgement of what HTTP and the answer's data set say."""

from __future__ import annotations

import json
import ssl
import threading
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from fakes import CheapCertifier, free_port, wait_until
from orthanc import Orthanc
from pydicom import dcmread

from certdicom.node.doctor import examine
from certdicom.node.work.certify import outputs_of

TOKEN = "abcdefghijklmnop"  # noqa: S105  # no secret


def failed(reason: int) -> bytes:
    return json.dumps([{"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}]).encode()


def stored(warning: int | None = None) -> bytes:
    item = {} if warning is None else {"00081196": {"vr": "US", "Value": [warning]}}
    return json.dumps([{"00081199": {"vr": "SQ", "Value": [item]}}]).encode()


class WebArchive:
    """A STOW-RS server that gives `answers` in turn, the last for ever: (status, body), or None to break the connection off."""

    def __init__(self, *answers, context: ssl.SSLContext | None = None) -> None:
        self.answers, self.bodies, self.tokens = list(answers), [], []
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = self.rfile.read(int(self.headers["Content-Length"]))
                archive.tokens.append(self.headers["Authorization"])
                head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
                (part,) = BytesParser().parsebytes(head + content).get_payload()
                assert self.path == "/dicom-web/studies"
                assert part.get_content_type() == "application/dicom"
                boundary = self.headers["Content-Type"].rpartition("boundary=")[2].encode()
                archive.bodies.append(content.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n--" + boundary + b"--\r\n"))
                answer = archive.answers.pop(0) if len(archive.answers) > 1 else archive.answers[0]
                if answer is None:
                    self.close_connection = True
                    return
                self.send_response(answer[0])
                self.send_header("Content-Length", str(len(answer[1])))
                self.end_headers()
                self.wfile.write(answer[1])

            def do_GET(self):
                code = 200 if self.headers["Authorization"] == f"Bearer {TOKEN}" else 401
                self.send_response(code)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'http' if context is None else 'https'}://127.0.0.1:{self.server.server_address[1]}/dicom-web/"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()


@pytest.fixture
def web_archive():
    started = []

    def start(*answers, **options) -> WebArchive:
        started.append(WebArchive(*answers, **options))
        return started[-1]

    yield start
    for archive in started:
        archive.server.shutdown()
        archive.server.server_close()


@pytest.fixture
def node_with(run_node, configure, tmp_path):
    """A node with one STOW-RS destination; further arguments are lines of its block."""

    def start(url: str, *lines: str, certifier=None, results: str = "", **settings):
        toml = tmp_path / "node.toml"
        block = [results, "[[destination]]", 'ae_title = "WEB"', f'stow_url = "{url}"', *lines]
        toml.write_text("\n".join(block), encoding="utf-8")
        configuration = configure(path=toml, **settings)
        certifier = certifier or CheapCertifier()
        certifier.outputs = outputs_of(configuration)
        return run_node(configuration, certifier)

    return start


def outcome(node) -> tuple[str, str]:
    (job,) = node.ledger.jobs()
    return job.state, job.reason


def test_the_file_goes_out_as_it_is_with_the_token(node_with, web_archive, make_film, send, tmp_path):
    archive = web_archive((200, stored()))
    (tmp_path / "token").write_text(TOKEN + "\n", encoding="ascii")
    node = node_with(archive.url, f'stow_token_file = "{tmp_path / "token"}"')
    assert send(node, make_film()) == [0]
    wait_until(lambda: outcome(node)[0] == "done")
    (job,) = node.ledger.jobs()
    assert archive.bodies == [(node.spool.result(job.job_id) / "seg.dcm").read_bytes()]
    assert archive.tokens == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("trouble", "answers"),
    [
        (
            "is down, full, busy, breaks off and forgot us",
            [(503, b""), (409, failed(0xA700)), (429, b""), None, (401, b""), (200, stored())],
        ),
        ("warns", [(200, stored(0xB000))]),
        ("warns of the whole request", [(202, stored(0xB000))]),
        ("has it from an attempt whose answer was lost", [None, (409, failed(0x0111))]),
        ("refuses once", [(400, b""), (200, stored())]),
        ("answers with nothing that can be understood", [(200, b"<html>"), (200, stored())]),
    ],
)
def test_delivery_survives_a_web_archive_that(node_with, web_archive, make_film, send, trouble, answers):
    archive = web_archive(*answers)
    node = node_with(archive.url)
    assert send(node, make_film()) == [0]
    wait_until(lambda: outcome(node)[0] == "done", what=trouble)
    assert len(archive.bodies) == len(answers)
    assert len(set(archive.bodies)) == 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ((409, failed(0x0111)), "other contents"),
        ((409, failed(0xA900)), "0xA900"),
        ((202, failed(0xC000)), "0xC000"),
        ((415, b""), "HTTP 415"),
    ],
)
def test_what_a_web_archive_does_not_want_fails_with_its_reason(node_with, web_archive, make_film, send, answer, reason):
    archive = web_archive(answer)
    node = node_with(archive.url, delivery__refusals=1)
    assert send(node, make_film()) == [0]
    wait_until(lambda: outcome(node)[0] == "failed")
    assert reason in outcome(node)[1]


def test_only_a_server_whose_certificate_comes_from_the_authority_gets_anything(node_with, web_archive, make_film, send, certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "stranger.pem", certificates / "stranger.key")
    archive = web_archive((200, stored()), context=context)
    node = node_with(archive.url, f'stow_ca = "{certificates / "authority.pem"}"')
    assert send(node, make_film()) == [0]
    wait_until(lambda: any(row.attempts > 1 for job in node.ledger.jobs() for row in node.ledger.steps.of([job.job_id])))
    assert archive.bodies == []
    context.load_cert_chain(certificates / "node.pem", certificates / "node.key")
    wait_until(lambda: outcome(node)[0] == "done")
    assert len(archive.bodies) == 1


def test_the_doctor_asks_a_web_archive(configure, web_archive, tmp_path):
    archive = web_archive((200, stored()))
    (tmp_path / "token").write_text(TOKEN, encoding="ascii")
    toml = tmp_path / "node.toml"
    block = f'[[destination]]\nae_title = "WEB"\nstow_url = "{archive.url}"\n'

    def verdict() -> tuple[str, str]:
        (finding,) = (finding for finding in examine(configure(path=toml)) if finding.subject == "destination WEB")
        return finding.verdict, finding.text

    toml.write_text(block + f'stow_token_file = "{tmp_path / "token"}"\n', encoding="utf-8")
    assert verdict()[0] == "ok"
    toml.write_text(block, encoding="utf-8")
    assert verdict() == ("fail", f"{archive.url}studies answers HTTP 401; look at stow_token_file")
    toml.write_text(block + f'stow_token_file = "{tmp_path / "none"}"\n', encoding="utf-8")
    assert "cannot be read" in verdict()[1]
    toml.write_text(f'[[destination]]\nae_title = "WEB"\nstow_url = "http://127.0.0.1:{free_port()}"\n', encoding="utf-8")
    assert "cannot be asked: ConnectError" in verdict()[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_results_are_stored_by_orthanc_and_found_by_qido(node_with, make_film, send, tmp_path):
    orthanc = Orthanc(tmp_path / "orthanc", node_port=free_port())
    try:
        node = node_with(f"{orthanc.address}/dicom-web", results="[results]\nsr = true\nsc = true\nradius_map = true\ngsps = true")
        film = make_film()
        assert send(node, film) == [0]
        wait_until(lambda: outcome(node)[0] == "done", 120)
        study = str(dcmread(film).StudyInstanceUID)
        (segmentation,) = orthanc.found(study, "SEG")
        assert len(orthanc.found(study, "SR")) == 1
        assert len(orthanc.ask(f"/dicom-web/studies/{study}/instances")) == 5
        (job,) = node.ledger.jobs()
        kept = dcmread(node.spool.result(job.job_id) / "seg.dcm", stop_before_pixels=True)
        assert segmentation["00080018"]["Value"] == [kept.SOPInstanceUID]
    finally:
        orthanc.stop()
