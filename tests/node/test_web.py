"""The status page, its button, its token, and the addresses for monitors."""

from __future__ import annotations

import json
import urllib.error
import urllib.parse
import urllib.request

import pytest
from fakes import CheapCertifier, wait_until

from certdicom.outputs import PREVIEW, REPORT, SEG


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


@pytest.fixture
def ask():
    """GET, or POST when there are fields; returns (status, headers, body)."""
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))

    def request(node, path: str, *, fields: dict[str, str] | None = None, **headers: str):
        data = None if fields is None else urllib.parse.urlencode(fields).encode()
        query = urllib.request.Request(  # noqa: S310  # http, by the server's own address
            node.web.address.rstrip("/") + path, data=data, headers={key.replace("_", "-"): value for key, value in headers.items()}
        )
        try:
            with opener.open(query, timeout=30) as answer:
                return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers, error.read().decode("utf-8", "replace")

    return request


@pytest.fixture
def page_port():
    from fakes import free_port

    return free_port()


def test_the_page_shows_a_film_its_preview_its_certificate_and_starts_a_failed_one_again(
    run_node, configure, archive, make_film, send, ask, page_port
):
    archive.behaviour = lambda number: 0xA900
    certifier = CheapCertifier()
    certifier.outputs = [SEG, PREVIEW, REPORT]
    node = run_node(configure(archive, web__port=page_port), certifier)
    assert "No film has come yet" in ask(node, "/")[2]
    assert send(node, make_film(ImagerPixelSpacing=[0, 0])) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["failed"])
    (job,) = node.ledger.jobs()
    _, headers, page = ask(node, "/?state=failed")
    assert job.job_id[:8] in page
    assert "0xA900" in page
    assert "Retry" in page
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    _, _, page = ask(node, f"/jobs/{job.job_id}")
    assert "Certified radius" in page
    assert "lungs" in page
    assert "ImagerPixelSpacing is not two numbers above 0, and was left out" in page, "the notes of the certificate"
    assert "http://" not in page.replace("http-equiv", "")
    status, headers, picture = ask(node, f"/jobs/{job.job_id}/preview.png")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert len(picture) > 100
    archive.behaviour = lambda number: 0
    assert ask(node, f"/jobs/{job.job_id}/retry", fields={}, Origin="http://evil.example")[0] == 403
    assert ask(node, f"/jobs/{job.job_id}/retry", fields={})[0] == 303
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"])
    assert ask(node, f"/jobs/{job.job_id}/retry", fields={})[0] == 409
    assert ask(node, "/jobs/00000000-0000-0000-0000-000000000000")[0] == 404
    assert ask(node, "/jobs/..%2f..%2fsite.key")[0] == 404


def test_monitors_learn_whether_it_lives_is_ready_and_what_it_did(
    run_node, configure, archive, make_film, send, ask, page_port, monkeypatch
):
    node = run_node(configure(archive, web__port=page_port))
    assert send(node, make_film()) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"])
    assert ask(node, "/healthz")[0] == 200
    status, _, body = ask(node, "/readyz")
    assert (status, json.loads(body)) == (200, {"database": True, "disk": True, "supervised": True, "listening": True})
    metrics = ask(node, "/metrics")[2].splitlines()
    for line in (
        'certdicom_received_total{status="0x0000"} 1.0',
        'certdicom_jobs{state="done"} 1.0',
        'certdicom_delivered_total{destination="ARCHIVE"} 1.0',
    ):
        assert line in metrics
    monkeypatch.setattr(type(node.spool), "free_bytes", lambda self: 0)
    assert ask(node, "/readyz")[0] == 503
    assert "min_free_mb" in ask(node, "/")[2]


def test_with_a_token_only_who_has_it_sees_anything(run_node, configure, tmp_path, ask, page_port):
    token = "0123456789abcdef0123"  # noqa: S105  # no secret
    (tmp_path / "token").write_text(token + "\n", encoding="ascii")
    node = run_node(configure(web__port=page_port, web__token_file=tmp_path / "token"))
    for path in ("/", "/metrics", "/jobs/x"):
        assert ask(node, path)[0] == 303
    assert ask(node, "/healthz")[0] == 200
    assert ask(node, "/metrics", Authorization=f"Bearer {token}")[0] == 200
    assert ask(node, "/", Authorization="Bearer wrong")[0] == 303
    assert ask(node, "/login", fields={"token": "wrong"})[0] == 403
    status, headers, _ = ask(node, "/login", fields={"token": token})
    assert status == 303
    cookie = headers["Set-Cookie"].split(";")[0]
    assert token not in headers["Set-Cookie"]
    assert "HttpOnly" in headers["Set-Cookie"]
    assert ask(node, "/", Cookie=cookie)[0] == 200


def test_without_a_token_other_names_than_loopback_are_turned_away(run_node, configure, ask, page_port):
    node = run_node(configure(web__port=page_port))
    assert ask(node, "/", Host="evil.example")[0] == 403
    assert ask(node, "/", Host=f"localhost:{page_port}")[0] == 200


def test_a_short_token_is_refused_at_the_start(run_node, configure, tmp_path, page_port):
    from certdicom.errors import UsageError

    (tmp_path / "token").write_text("short", encoding="ascii")
    with pytest.raises(UsageError, match="has 5 characters"):
        run_node(configure(web__port=page_port, web__token_file=tmp_path / "token"))
