"""Every destination on its own: statuses, pauses, notifications, commitment in both directions, and what people can order."""

from __future__ import annotations

import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
from fakes import Archive, CheapCertifier, wait_until
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import build_role, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel

from certdicom.cli.main import main
from certdicom.node.deliver.commitment import EVENT_INVALID, WELL_KNOWN_INSTANCE, Report, answer, sequence_of
from certdicom.node.deliver.store_status import classify

SEG = "1.2.840.10008.5.1.4.1.1.66.4"


def states(node) -> list[str]:
    return sorted(job.state for job in node.ledger.jobs())


def step_of(node, kind="deliver", destination="ARCHIVE"):
    jobs = [job.job_id for job in node.ledger.jobs()]
    return next((step for step in node.ledger.steps.of(jobs) if (step.kind, step.destination) == (kind, destination)), None)


# statuses


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        (0x0000, "stored", ""),
        (0x0001, "stored", "warning: status 0x0001, requested optional attributes are not supported"),
        (0x0107, "stored", "warning: status 0x0107, attribute list error"),
        (0x0116, "stored", "warning: status 0x0116, attribute value out of range"),
        (0xB000, "stored", "warning: status 0xB000, coercion of data elements"),
        (0xB007, "stored", "warning: status 0xB007, data set does not match SOP class, stored all the same"),
        (0xB1FF, "stored", "warning: status 0xB1FF, coercion of data elements"),
        (0x0110, "unreachable", "processing failure"),
        (0x0124, "unreachable", "not authorised"),
        (0x0213, "unreachable", "resource limitation"),
        (0xA701, "unreachable", "out of resources"),
        (0xFE00, "unreachable", "cancelled"),
        (0x0117, "refused", "invalid SOP instance"),
        (0x0122, "refused", "SOP class not supported"),
        (0xA900, "refused", "data set does not match SOP class"),
        (0xC123, "refused", "cannot understand"),
        (0x0042, "refused", "not in the Standard"),
    ],
)
def test_statuses_mean_what_the_standard_says(status, verdict, words):
    outcome = classify(status)
    assert outcome.verdict == verdict
    assert outcome.reason.endswith(words)


def test_a_processing_failure_is_retried_and_not_a_refusal(run_node, configure, archive, make_film, send):
    archive.behaviour = lambda number: 0x0110 if number < 6 else 0
    node = run_node(configure(archive, delivery__refusals=2))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert archive.requests == 6


def test_a_destination_that_does_not_know_our_ae_title_says_so_in_the_log(run_node, configure, make_film, send, caplog):
    peer = Archive().start()
    peer._server.ae.require_calling_aet = ["SOMEBODY"]
    node = run_node(configure(peer))
    assert send(node, make_film()) == [0]
    wait_until(lambda: step_of(node) is not None and step_of(node).attempts > 1)
    reason = "association rejected: Calling AE title not recognised; list our AE title CERTDICOM there"
    assert step_of(node).reason == reason
    assert any(record.reason == reason for record in caplog.records if record.message == "a destination takes nothing")
    peer._server.ae.require_calling_aet = []
    wait_until(lambda: any(record.message == "a destination takes results again" for record in caplog.records))
    assert states(node) == ["done"]
    peer.stop()


# pause and resume


def test_a_paused_destination_gets_nothing_and_the_other_everything(run_node, configure, archive, make_film, send):
    other = Archive().start()
    node = run_node(configure(archive, other))
    node.ledger.destinations.pause("ARCHIVE")
    assert send(node, make_film(1), make_film(2)) == [0, 0]
    wait_until(lambda: len(other.received) == 2)
    time.sleep(0.5)
    assert archive.requests == 0
    assert states(node) == ["delivering"] * 2
    node.ledger.destinations.resume("ARCHIVE")
    node.supervisor.nudge()
    wait_until(lambda: states(node) == ["done"] * 2)
    assert archive.requests == 2
    other.stop()


def test_each_destination_has_its_own_slots_and_waits(run_node, configure, make_film, send, tmp_path):
    toml = tmp_path / "node.toml"
    entries = ['ae_title = "ONE"\nport = 1\nat_once = 5\nfirst_wait_s = 7.0\nlongest_wait_s = 8.0', 'ae_title = "TWO"\nport = 1']
    toml.write_text("".join(f"[[destination]]\n{entry}\n" for entry in entries), encoding="utf-8")
    node = run_node(configure(path=toml))
    assert (node._slots["deliver", "ONE"], node._slots["deliver", "TWO"]) == (5, 2)
    assert send(node, make_film()) == [0]
    tried = lambda title: (step := step_of(node, destination=title)) and step.attempts and step.state == "waiting"  # noqa: E731
    wait_until(lambda: tried("ONE"))
    waits = step_of(node, destination="ONE")
    assert 6 < waits.due_at - node.ledger.clock.now() <= 8
    wait_until(lambda: tried("TWO"))
    assert step_of(node, destination="TWO").due_at - node.ledger.clock.now() < 1


# notifications


class Hook:
    """A webhook that takes what is posted once it is `up`."""

    def __init__(self) -> None:
        self.taken, self.tokens, self.up, hook = [], [], True, self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.up:
                    hook.taken.append(content)
                    hook.tokens.append(self.headers["Authorization"])
                self.send_response(204 if hook.up else 503)
                self.end_headers()

            def log_message(self, *_):
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/certdicom"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def hook():
    made = Hook()
    yield made
    made.stop()


def test_people_are_notified_of_failures_and_of_recovery_until_somebody_takes_it(
    run_node, configure, archive, make_film, send, hook, tmp_path
):
    token = tmp_path / "token"
    token.write_text("abcdefghijklmnop\n", encoding="ascii")
    archive.behaviour = lambda number: 0xA700
    hook.up = False
    settings = {"notify__url": hook.url, "notify__token_file": token, "notify__destination_after_s": 0.2}
    node = run_node(configure(archive, **settings))
    assert send(node, make_film()) == [0]
    wait_until(lambda: node.ledger.steps.oldest().get(("notify", "", "waiting")), what="a notification that waits")
    hook.up = True
    wait_until(lambda: [event["event"] for event in hook.taken] == ["destination-failing"])
    archive.behaviour = lambda number: 0
    wait_until(lambda: [event["event"] for event in hook.taken] == ["destination-failing", "destination-recovered"])
    archive.behaviour = lambda number: 0xC000
    assert send(node, make_film(2)) == [0]
    wait_until(lambda: len(hook.taken) == 3)
    failing, _, failed = hook.taken
    assert failing["destination"] == "ARCHIVE"
    assert "out of resources" in failing["reason"]
    (job,) = node.ledger.jobs(states=("failed",))
    assert (failed["event"], failed["job"], failed["code"], failed["node"]) == ("job-failed", job.job_id, "refused", "CERTDICOM")
    assert set(hook.tokens) == {"Bearer abcdefghijklmnop"}
    assert "Zwiebelfisch" not in json.dumps(hook.taken)
    wait_until(lambda: not node.ledger.steps.oldest(), what="an empty list of what is owed")


def test_nobody_is_notified_where_nobody_is_named(run_node, configure, archive, make_film, send):
    archive.behaviour = lambda number: 0xC000
    node = run_node(configure(archive))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["failed"])
    assert not node.ledger.steps.oldest()


# commitment that we ask for


ONE, TWO, FOREIGN = (SEG, "2.25.1"), (SEG, "2.25.2"), (SEG, "2.25.666")


@pytest.mark.parametrize(
    ("committed", "failed", "verdict"),
    [
        ({ONE, TWO}, set(), True),
        ({ONE}, {TWO}, False),
        (set(), {ONE, TWO}, False),
        (set(), set(), None),
        ({ONE}, set(), None),
        ({ONE, TWO, FOREIGN}, set(), None),
        ({FOREIGN}, set(), None),
        ({ONE, TWO}, {TWO}, None),
        (set(), {FOREIGN}, None),
    ],
)
def test_a_report_counts_only_when_it_is_about_exactly_what_was_asked(committed, failed, verdict):
    assert Report("1.2.3", frozenset(committed), frozenset(failed)).about(frozenset({ONE, TWO})) is verdict


@pytest.mark.parametrize("wrong", ["type 1 with a failure", "type 2 without one", "type 7", "no transaction", "no item UIDs"])
def test_a_report_that_contradicts_itself_is_answered_with_an_error(wrong):
    information = Dataset()
    information.TransactionUID = "1.2.3"
    information.ReferencedSOPSequence = sequence_of({ONE})
    event_type = {"type 2 without one": 2, "type 7": 7}.get(wrong, 1)
    if wrong == "type 1 with a failure":
        information.FailedSOPSequence = sequence_of({TWO})
    if wrong == "no transaction":
        del information.TransactionUID
    if wrong == "no item UIDs":
        del information.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
    event = SimpleNamespace(event_information=information, event_type=event_type)
    assert answer(event, lambda report: pytest.fail("it was taken")) == (EVENT_INVALID, None)


class Committer(Archive):
    """An archive whose commitment reports are what `reports` makes of them: a function of the request's instances."""

    def __init__(self, reports) -> None:
        super().__init__(commitment=lambda number: True)
        self.reports, self.answers = reports, []

    def _report(self, information, committed) -> None:
        title, port = self.report_to
        for instances in self.reports(
            {(item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID) for item in information.ReferencedSOPSequence}
        ):
            entity = ApplicationEntity("ARCHIVE")
            entity.add_requested_context(StorageCommitmentPushModel)
            role = build_role(StorageCommitmentPushModel, scp_role=True)
            association = entity.associate("127.0.0.1", port, ae_title=title, ext_neg=[role])
            report = Dataset()
            report.TransactionUID = information.TransactionUID
            report.ReferencedSOPSequence = sequence_of(instances)
            status, _ = association.send_n_event_report(report, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
            self.answers.append(status.Status)
            association.release()


def test_a_foreign_or_empty_report_is_not_believed_and_the_right_one_is(run_node, configure, make_film, send, tmp_path):
    peer = Committer(lambda asked: [set(), {FOREIGN}, {*asked, FOREIGN}, asked, asked]).start()
    toml = tmp_path / "node.toml"
    toml.write_text(f'[[destination]]\nae_title = "ARCHIVE"\nport = {peer.port}\nstorage_commitment = true\n', encoding="utf-8")
    node = run_node(configure(path=toml))
    peer.report_to = ("CERTDICOM", node.scp.port)
    assert send(node, make_film()) == [0]
    wait_until(lambda: len(peer.answers) == 5)
    assert peer.answers == [EVENT_INVALID, EVENT_INVALID, EVENT_INVALID, 0, 0], "a report that comes again is taken again"
    assert states(node) == ["done"]
    peer.stop()


def test_commitment_that_never_comes_is_given_up_with_the_reason(run_node, configure, make_film, send, tmp_path):
    peer = Archive().start()
    toml = tmp_path / "node.toml"
    toml.write_text(f'[[destination]]\nae_title = "ARCHIVE"\nport = {peer.port}\nstorage_commitment = true\n', encoding="utf-8")
    node = run_node(configure(path=toml, delivery__commitment_wait_s=0.2, delivery__commitment_give_up_s=0.5))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["failed"])
    (job,) = node.ledger.jobs()
    assert job.code == "not-committed"
    assert "no commitment report came within delivery.commitment_give_up_s" in job.reason
    assert len(list(node.spool.film_ids())) == 1, "nothing is removed"
    peer.stop()


# commitment that senders ask us for


class Modality:
    """Sends films, asks for commitment and takes reports, on the association of the request or as a server of its own."""

    def __init__(self, *, listens: bool = False) -> None:
        self.reports, self.status = [], 0x0000
        self._handlers = [(evt.EVT_N_EVENT_REPORT, self._reported)]
        entity = ApplicationEntity("MODALITY")
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
        self._server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=self._handlers) if listens else None
        self.port = self._server.server_address[1] if self._server else 0

    def _reported(self, event):
        information = event.event_information
        kept, lost = ({str(item.ReferencedSOPInstanceUID) for item in information.get(name) or ()} for name in _LISTS)
        reasons = {item.FailureReason for item in information.get("FailedSOPSequence") or ()}
        self.reports.append((event.event_type, str(information.TransactionUID), kept, lost, reasons))
        return self.status, None

    def ask(self, node, *instances, transaction: str = "2.25.9", stay_s: float = 0.0) -> int:
        entity = ApplicationEntity("MODALITY")
        entity.add_requested_context(StorageCommitmentPushModel)
        association = entity.associate("127.0.0.1", node.scp.port, ae_title="CERTDICOM", evt_handlers=self._handlers)
        information = Dataset()
        information.TransactionUID = transaction
        information.ReferencedSOPSequence = sequence_of(instances)
        status, _ = association.send_n_action(information, 1, StorageCommitmentPushModel, WELL_KNOWN_INSTANCE)
        deadline = time.monotonic() + stay_s
        while time.monotonic() < deadline and not self.reports:
            time.sleep(0.02)
        association.release()
        return status.Status

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()


_LISTS = ("ReferencedSOPSequence", "FailedSOPSequence")


def instance_of(film) -> tuple[str, str]:
    dataset = dcmread(film, stop_before_pixels=True)
    return str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)


@pytest.mark.parametrize("way", ["the same association", "one of our own", "one of our own, repeated"])
def test_a_sender_is_told_about_all_that_it_asked_for(run_node, configure, archive, make_film, send, monkeypatch, way):
    modality = Modality(listens=way != "the same association")
    node = run_node(configure(archive, access__commitment_addresses=f"MODALITY=127.0.0.1:{modality.port or 1}"))
    node.ledger.destinations.pause("ARCHIVE")
    certified, ignored, unknown = make_film(1), make_film(2, Modality="MG"), make_film(3)
    assert send(node, certified, ignored) == [0, 0]
    wait_until(lambda: states(node) == ["delivering", "ignored"])
    modality.status = 0x0110 if way.endswith("repeated") else 0
    asked = [instance_of(film) for film in (certified, ignored, unknown)]
    assert modality.ask(node, *asked, stay_s=20 if way == "the same association" else 0) == 0
    wait_until(lambda: modality.reports)
    if modality.status:
        wait_until(lambda: len(modality.reports) > 1, what="another try")
        written = b"".join(path.read_bytes() for path in node.spool.root.glob("node.sqlite*"))
        assert len(written) > 10_000
        assert not any(uid.encode() in written for _, uid in asked), "the database has no UIDs of what is asked about"
        modality.status = 0
    wait_until(lambda: not node.ledger.steps.oldest().get(("report", "", "waiting")), what="the end of the report")
    wait_until(lambda: not list(node.spool.requests.iterdir()))
    assert modality.reports[-1] == (2, "2.25.9", {uid for _, uid in asked[:2]}, {asked[2][1]}, {0x0112})
    node.ledger.destinations.resume("ARCHIVE")
    node.supervisor.nudge()
    wait_until(lambda: states(node) == ["done", "ignored"])
    time.sleep(0.3)
    node.maintenance.sweep()
    assert len(list(node.spool.film_ids())) == 1, "what we are committed to is kept"
    assert len(list(node.spool.ignored.iterdir())) == 1
    modality.reports.clear()
    assert modality.ask(node, *asked[:2], transaction="2.25.10", stay_s=20 if way == "the same association" else 0) == 0
    wait_until(lambda: modality.reports)
    assert modality.reports[0] == (1, "2.25.10", {uid for _, uid in asked[:2]}, set(), set())
    later = node.configuration.spool.model_copy(update={"keep_committed_days": 1e-6})
    monkeypatch.setattr(node.maintenance, "_configuration", node.configuration.model_copy(update={"spool": later}))
    node.maintenance.sweep()
    assert list(node.spool.film_ids()) == [], "for as long as spool.keep_committed_days says"
    modality.stop()


def test_a_film_that_was_removed_is_not_committed_to(run_node, configure, archive, make_film, send):
    modality, film = Modality(), make_film()
    node = run_node(configure(archive))
    assert send(node, film) == [0]
    wait_until(lambda: states(node) == ["done"] and not list(node.spool.film_ids()))
    assert modality.ask(node, instance_of(film), stay_s=20) == 0
    assert modality.reports == [(2, "2.25.9", set(), {instance_of(film)[1]}, {0x0112})]


def test_a_report_that_nobody_takes_is_given_up_and_forgotten(run_node, configure, archive, make_film, send, caplog):
    modality, film = Modality(), make_film()
    node = run_node(configure(archive, delivery__commitment_give_up_s=0.5))
    assert modality.ask(node, instance_of(film)) == 0
    wait_until(lambda: any(record.message == "a message was given up" for record in caplog.records))
    wait_until(lambda: not node.ledger.steps.oldest())
    (reason,) = {record.reason for record in caplog.records if record.message == "a message was given up"}
    assert "access.commitment_addresses does not say where else" in reason


def test_a_request_without_instances_or_of_another_kind_is_refused(run_node, configure):
    node, modality = run_node(configure()), Modality()
    assert modality.ask(node) == 0x0115
    event = SimpleNamespace(action_type=2)
    assert node.commitment_scp.request(event) == (0x0123, None)


# what is not certified


def test_an_ignored_instance_whose_bytes_are_gone_is_kept_again(run_node, configure, archive, make_film, send):
    node, film = run_node(configure(archive)), make_film(Modality="MG")
    assert send(node, film) == [0]
    (job,) = node.ledger.jobs()
    node.spool.remove_film(job.job_id)
    before = job.changed_at
    assert send(node, film) == [0]
    assert node.spool.ignored_instance(job.job_id).exists()
    assert node.ledger.job(job.job_id).changed_at > before, "and its time begins anew"


def test_leftovers_are_removed_by_how_long_they_were_seen_and_by_no_clock_that_can_be_set(run_node, configure, monkeypatch):
    spool, real = run_node(configure()).spool, time.monotonic
    leftover = spool.new_file()
    leftover.touch()
    os.utime(leftover, (0, 0))
    assert spool.sweep() == 0
    monkeypatch.setattr("certdicom.node.store.spool.time.monotonic", lambda: real() + 5 * 3600)
    assert spool.sweep() == 0
    monkeypatch.setattr("certdicom.node.store.spool.time.monotonic", lambda: real() + 7 * 3600)
    assert spool.sweep() == 1
    assert not leftover.exists()


# what people order


@pytest.fixture
def queue(run_node, configure, archive, make_film, send, monkeypatch, capsys):
    """A node with two destinations and three films, all delivered; and `certdicom queue` on it."""
    other = Archive().start()
    configuration = configure(archive, other)
    node = run_node(configuration, CheapCertifier())
    monkeypatch.setattr("certdicom.node.queue.load_configuration", lambda config: configuration)

    def command(*words):
        capsys.readouterr()
        try:
            code = main(["queue", *words])
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    yield SimpleNamespace(node=node, one=archive, two=other, command=command, films=[make_film(number) for number in range(3)], send=send)
    other.stop()


def delivered(queue) -> list[str]:
    assert queue.send(queue.node, *queue.films) == [0, 0, 0]
    wait_until(lambda: states(queue.node) == ["done"] * 3)
    return [job.job_id for job in queue.node.ledger.jobs()]


def test_done_jobs_are_redelivered_to_one_or_all_with_the_same_bytes(queue):
    first, *_ = delivered(queue)
    assert queue.command("redeliver", first, "--destination", "ARCHIVE")[0] == 0
    wait_until(lambda: len(queue.one.received) == 4)
    wait_until(lambda: states(queue.node) == ["done"] * 3)
    assert queue.command("redeliver", "--state", "done")[0] == 0
    wait_until(lambda: (len(queue.one.received), len(queue.two.received)) == (7, 6))
    assert all(len(contents) == 1 for peer in (queue.one, queue.two) for contents in peer.instances.values())
    code, _, errors = queue.command("redeliver", first, "--destination", "NOBODY")
    assert (code, errors.count("\n")) == (2, 1)
    assert "NOBODY is not a destination of the configuration; it has ARCHIVE, ARCHIVE1" in errors


def test_a_bad_id_does_not_end_the_rest(queue):
    first, second, _ = delivered(queue)
    code, output, errors = queue.command("redeliver", first, "ffff-none", "9.9.9", second)
    assert code == 2
    assert output.count("will be sent again") == 2
    assert errors.count("there is no job") == 2
    wait_until(lambda: states(queue.node) == ["done"] * 3)
    queue.node.spool.remove_result(first)
    code, output, errors = queue.command("redeliver", "--state", "done")
    assert (code, output.count("will be sent again")) == (2, 2)
    assert "has no result in the spool; send the film again" in errors


def test_what_waits_is_stopped_retried_redirected_and_dropped_by_state_date_and_destination(queue):
    queue.one.behaviour = lambda number: 0xA700
    assert queue.send(queue.node, *queue.films) == [0, 0, 0]
    wait_until(lambda: len(queue.two.received) == 3)
    wait_until(lambda: queue.node.ledger.destinations.states().get("ARCHIVE"))
    tomorrow = time.strftime("%Y-%m-%d", time.localtime(time.time() + 86400))
    assert queue.command("stop", "--since", tomorrow)[1:] == ("", "no film is meant by that\n")
    code, output, _ = queue.command("stop", "--until", tomorrow, "--destination", "ARCHIVE", "--dry-run")
    assert (code, output.count("would be changed")) == (0, 3)
    assert states(queue.node) == ["delivering"] * 3
    wait_until(lambda: queue.command("stop", "--destination", "ARCHIVE")[0] in (0, 2) and states(queue.node) == ["dropped"] * 3)
    code, _, errors = queue.command("stop", "--destination", "ARCHIVE")
    assert code == 2
    assert errors.count("nothing of it waits for ARCHIVE") == 3
    requests = queue.one.requests
    time.sleep(0.5)
    assert queue.one.requests == requests
    assert queue.command("retry", "--state", "dropped")[0] == 0
    wait_until(lambda: queue.one.requests > requests)
    assert queue.command("redirect", "--destination", "ARCHIVE", "--to", "NOBODY")[0] == 2
    wait_until(lambda: queue.command("redirect", "--destination", "ARCHIVE", "--to", "ARCHIVE1") and states(queue.node) == ["done"] * 3)
    assert len(queue.two.received) == 3, "what it has already is not sent again"
    code, _, errors = queue.command("drop", "--state", "done")
    assert code == 2
    assert errors.count("is done") == 3


def test_a_redirected_result_goes_where_it_was_not(queue):
    queue.one.behaviour = lambda number: 0xC000
    queue.node.ledger.destinations.pause("ARCHIVE1")
    assert queue.send(queue.node, queue.films[0]) == [0]
    wait_until(lambda: states(queue.node) == ["failed"])
    assert queue.command("redirect", "--state", "failed", "--destination", "ARCHIVE", "--to", "ARCHIVE1")[0] == 0
    assert states(queue.node) == ["delivering"]
    assert queue.command("resume", "ARCHIVE1")[0] == 0
    wait_until(lambda: states(queue.node) == ["done"])
    assert len(queue.two.received) == 1


def test_destinations_are_listed_paused_and_resumed(queue):
    assert queue.command("destinations")[1].splitlines() == ["ARCHIVE           nothing owed", "ARCHIVE1          nothing owed"]
    assert queue.command("pause", "ARCHIVE")[0] == 0
    assert queue.send(queue.node, queue.films[0]) == [0]
    wait_until(lambda: len(queue.two.received) == 1)
    assert "1 owed, the oldest for" in queue.command("destinations")[1]
    assert queue.command("destinations")[1].splitlines()[0].endswith("; paused")
    assert queue.node.metrics.registry.get_sample_value("certdicom_destination_paused", {"destination": "ARCHIVE"}) == 1
    (job,) = queue.node.ledger.jobs()
    shown = queue.command("show", job.job_id)[1]
    assert "deliver to ARCHIVE: waiting for its turn (the destination is paused), not tried yet" in shown, shown
    assert queue.command("resume", "ARCHIVE")[0] == 0
    wait_until(lambda: states(queue.node) == ["done"])
    assert queue.node.metrics.registry.get_sample_value("certdicom_destination_paused", {"destination": "ARCHIVE"}) == 0
    code, _, errors = queue.command("pause", "NOBODY")
    assert (code, errors.count("\n")) == (2, 1)


@pytest.mark.parametrize("words", [("retry",), ("drop",), ("stop",), ("redeliver",)])
def test_without_films_a_verb_says_how_to_name_them(queue, words):
    code, _, errors = queue.command(*words)
    assert (code, errors.count("\n")) == (2, 1)
    assert "name the films to" in errors


def test_a_date_that_is_none_is_one_line(queue):
    code, _, errors = queue.command("ls", "--since", "Zwiebelfisch")
    assert code == 2
    assert "is no date such as 2026-11-27" in errors
