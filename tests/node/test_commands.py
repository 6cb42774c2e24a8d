"""`certdicom queue` and `certdicom doctor`."""

from __future__ import annotations

import json

import pytest
from fakes import Archive, wait_until
from pydicom import dcmread

from certdicom.cli.main import main
from certdicom.node.settings import Destination


@pytest.fixture
def command(configure, monkeypatch, capsys):
    """Run a command with the configuration of a test in its environment; returns (exit code, output, errors)."""

    def run(configuration, *words: str):
        monkeypatch.setenv("CERTDICOM_NODE_STATE_DIR", str(configuration.state_dir))
        monkeypatch.setenv("CERTDICOM_CERTIFICATE_BUNDLE", configuration.certificate.bundle)
        monkeypatch.setenv("CERTDICOM_LIMITS_MIN_FREE_MB", "1")
        monkeypatch.setenv("CERTDICOM_DELIVERY_TIMEOUT_S", "5")
        peers = ",".join(f"{entry.ae_title}@{entry.host}:{entry.port}" for entry in configuration.destinations)
        monkeypatch.setenv("CERTDICOM_DESTINATIONS", peers)
        code = main(list(words))
        output = capsys.readouterr()
        return code, output.out, output.err

    return run


def test_the_queue_lists_shows_retries_and_drops(run_node, configure, archive, make_film, send, command):
    archive.behaviour = lambda number: 0xC001
    configuration = configure(archive)
    node = run_node(configuration)
    film = make_film()
    assert send(node, film) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["failed"])
    (job,) = node.ledger.jobs()
    code, output, _ = command(configuration, "queue", "ls", "--json")
    assert (code, json.loads(output)["job_id"]) == (0, job.job_id)
    assert job.job_id in command(configuration, "queue", "ls", "--state", "failed")[1]
    assert command(configuration, "queue", "ls", "--state", "done")[1] == ""
    shown = command(configuration, "queue", "show", str(dcmread(film).SOPInstanceUID))[1]
    assert job.job_id in shown
    assert "refused 3 times" in shown
    archive.behaviour = lambda number: 0
    assert command(configuration, "queue", "retry", job.job_id[:8])[0] == 0
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["done"])
    code, _, errors = command(configuration, "queue", "drop", job.job_id)
    assert code == 2
    assert "only queued, certifying, delivering, failed and ignored jobs can be dropped" in errors
    code, _, errors = command(configuration, "queue", "show", "ffff-none")
    assert (code, errors.count("\n")) == (2, 1)


def test_the_configuration_may_be_named_before_or_after_the_verb(tmp_path, capsys):
    missing = str(tmp_path / "none.toml")
    for words in (["queue", "--config", missing, "ls"], ["queue", "ls", "--config", missing]):
        assert main(words) == 2
        assert "cannot read the configuration" in capsys.readouterr().err


def test_a_queue_without_a_node_is_one_clear_line(configure, command):
    code, _, errors = command(configure(), "queue", "ls")
    assert code == 2
    assert "there is no node's state in" in errors


def test_the_doctor_finds_what_is_wrong(run_node, configure, archive, make_film, send, command):
    gone = Archive().start()
    gone.stop()
    node = run_node(configure(archive, gone))
    assert send(node, make_film()) == [0]
    wait_until(lambda: node.ledger.awaited() == {"ARCHIVE1"})
    configuration = configure(archive)
    elsewhere = Destination(ae_title="ELSEWHERE", port=gone.port)
    configuration = configuration.model_copy(update={"destinations": (*configuration.destinations, elsewhere)})
    code, output, errors = command(configuration, "doctor", "--json")
    found = {line["subject"]: line["verdict"] for line in map(json.loads, output.splitlines())}
    assert code == 2, errors
    assert found["disk"] == "ok"
    assert found["bundle"] == "fail"  # its weights do not exist
    assert found["database"] == "ok"
    assert found["destination ARCHIVE"] == "ok"
    assert found["destination ELSEWHERE"] == "fail"
    assert found["deliveries"] == "warn"  # some wait for ARCHIVE1
