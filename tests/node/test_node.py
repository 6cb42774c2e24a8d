"""One film's way through a node: received, certified, delivered, cleaned up."""

from __future__ import annotations

import json
import threading

import pytest
from fakes import Archive, CheapCertifier, wait_until
from pydicom import dcmread
from pydicom.filebase import DicomBytesIO

from certdicom.errors import OutputError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.reading import read_image
from certdicom.node.store.records import Lost
from certdicom.node.work.certify import outputs_of


def states(service) -> list[str]:
    return [job.state for job in service.ledger.jobs()]


def test_a_film_comes_back_as_one_segmentation_and_is_then_removed(run_node, configure, archive, make_film, send):
    film = make_film()
    node = run_node(configure(archive))
    assert send(node, film) == [0x0000]
    wait_until(lambda: states(node) == ["done"])
    assert len(archive.received) == 1
    uid, content = archive.received[0]
    segmentation = dcmread(DicomBytesIO(content), force=True)
    assert segmentation.SOPInstanceUID == uid
    assert segmentation.StudyInstanceUID == dcmread(film).StudyInstanceUID
    wait_until(lambda: not list(node.spool.film_ids()), what="the film's removal")
    (job,) = node.ledger.jobs()
    assert (node.spool.result(job.job_id) / "seg.dcm").exists()
    assert job.abstain == pytest.approx(4 / 256, abs=0.01)


def test_the_same_film_again_is_acknowledged_and_not_certified_again(run_node, configure, archive, make_film, send):
    certifier = CheapCertifier()
    node = run_node(configure(archive), certifier)
    film = make_film()
    assert send(node, film, film) == [0x0000, 0x0000]
    wait_until(lambda: states(node) == ["done"])
    assert send(node, film) == [0x0000]
    assert states(node) == ["done"]
    assert certifier.calls == 1
    assert len(archive.received) == 1


def test_the_same_uid_with_other_contents_is_another_film(run_node, configure, archive, make_film, send):
    node = run_node(configure(archive))
    first = make_film(1)
    second = make_film(2, SOPInstanceUID=dcmread(first).SOPInstanceUID)
    assert send(node, first, second) == [0x0000, 0x0000]
    wait_until(lambda: states(node) == ["done", "done"])
    assert len(archive.instances) == 2
    assert len({job.subject for job in node.ledger.jobs()}) == 1


def test_every_destination_gets_the_same_bytes_and_a_dead_one_holds_up_nobody(run_node, configure, archive, make_film, send):
    other = Archive().start()
    other.stop()  # its port is known, and nobody listens there
    node = run_node(configure(archive, other))
    assert send(node, make_film(1), make_film(2), make_film(3)) == [0, 0, 0]
    wait_until(lambda: len(archive.received) == 3)
    assert states(node) == ["delivering"] * 3
    assert list(node.spool.film_ids()), "a film was removed before every destination had confirmed"
    other.start()
    wait_until(lambda: states(node) == ["done"] * 3)
    assert archive.instances == other.instances
    other.stop()


@pytest.mark.parametrize(
    ("trouble", "answers"),
    [
        ("out of resources", [0xA700, 0xA700, 0x0000]),
        ("breaks the association off", [None, 0x0000]),
        ("a warning", [0xB000]),
        ("has it from an attempt whose answer was lost", [None, 0x0111]),
        ("refuses once", [0xC000, 0x0000]),
    ],
)
def test_delivery_survives_an_archive_that(run_node, configure, archive, make_film, send, trouble, answers):
    archive.behaviour = lambda number: answers[min(number, len(answers)) - 1]
    node = run_node(configure(archive))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"], what=trouble)
    assert archive.requests == len(answers)


def test_an_archive_that_is_too_slow_is_given_up_and_sent_to_again(run_node, configure, archive, make_film, send):
    go_on = threading.Event()
    archive.behaviour = lambda number: 0x0000 if go_on.wait(30 * (number == 1)) or number > 1 else 0xA700
    node = run_node(configure(archive, delivery__timeout_s=1))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    (job,) = node.ledger.jobs()
    (delivery,) = (step for step in node.ledger.steps.of([job.job_id]) if step.kind == "deliver")
    assert delivery.attempts == 2
    go_on.set()


def test_a_delivery_that_is_always_refused_fails_says_why_and_can_be_started_again(run_node, configure, archive, make_film, send):
    archive.behaviour = lambda number: 0xA900
    node = run_node(configure(archive))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["failed"])
    (job,) = node.ledger.jobs()
    assert "0xA900" in job.reason
    assert "refused 3 times" in job.reason
    assert node.spool.film(job.job_id).exists()
    archive.behaviour = lambda number: 0x0000
    node.retry(job.job_id)
    wait_until(lambda: states(node) == ["done"])
    assert len(archive.received) == 1


def test_a_duplicate_at_the_first_attempt_is_not_ours_and_no_delivery(run_node, configure, archive, make_film, send):
    archive.behaviour = lambda number: 0x0111
    node = run_node(configure(archive, delivery__refusals=2))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["failed"])
    assert archive.requests == 2
    (job,) = node.ledger.jobs()
    assert "other contents under the UID of this result" in job.reason
    assert node.spool.film(job.job_id).exists()


def test_a_duplicate_of_what_was_taken_before_is_ours(run_node, configure, archive, make_film, send, monkeypatch):
    archive.behaviour = lambda number: 0x0000 if number == 1 else 0x0111
    node = run_node(configure(archive))
    finish, lost = node.ledger.steps.finish, iter([True, False])

    def forget_once(run_id, end):
        """As if the process had ended between the archive's answer and our row."""
        if archive.received and next(lost, False):
            end = Lost(0.0, "lost", "the process ended while it was at it", 5)
        return finish(run_id, end)

    monkeypatch.setattr(node.ledger.steps, "finish", forget_once)
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert archive.requests == 2


def test_all_results_that_are_asked_for_are_delivered_committed_and_then_cleaned_up(run_node, configure, make_film, send, tmp_path):
    peer = Archive(commitment=lambda number: True).start()
    toml = tmp_path / "node.toml"
    toml.write_text(
        f"[results]\nsr = true\nsc = true\nradius_map = true\ngsps = true\n"
        f'[[destination]]\nae_title = "ARCHIVE"\nport = {peer.port}\nstorage_commitment = true\n',
        encoding="utf-8",
    )
    configuration = configure(path=toml)
    certifier = CheapCertifier()
    certifier.outputs = outputs_of(configuration)
    # Breaks off at the third of five: all are sent again, the same bytes under the same UIDs.
    peer.behaviour = lambda number: None if number == 3 else 0x0000
    node = run_node(configuration, certifier)
    peer.report_to = ("CERTDICOM", node.scp.port)
    film = make_film()
    assert send(node, film) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert peer.requests == 8
    assert all(len(contents) == 1 for contents in peer.instances.values())
    found = [dcmread(DicomBytesIO(next(iter(contents))), force=True) for contents in peer.instances.values()]
    assert {"SEG", "SR", "PR"} < {dataset.Modality for dataset in found}
    assert {dataset.StudyInstanceUID for dataset in found} == {dcmread(film).StudyInstanceUID}
    assert len(peer.committed) == 5
    wait_until(lambda: not list(node.spool.film_ids()), what="the film's removal")
    peer.stop()


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_no_result_can_refer_to_is_stored_with_the_reason_and_never_certified(run_node, configure, make_film, send, archive):
    certifier = CheapCertifier()
    node = run_node(configure(archive), certifier)
    assert send(node, make_film(1, StudyInstanceUID="")) == [0]
    assert send(node, make_film(2, SeriesInstanceUID="1.2.letters")) == [0]
    jobs = node.ledger.jobs()
    assert [job.state for job in jobs] == ["ignored", "ignored"]
    assert {job.reason.partition(",")[0] for job in jobs} == {"StudyInstanceUID is missing", "SeriesInstanceUID is no valid UID"}
    assert certifier.calls == 0


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_a_modality_is_read_on_arrival_as_it_is_when_the_pixels_are(run_node, configure, make_film, send, archive):
    node = run_node(configure(archive))
    assert send(node, make_film(Modality=" dx ")) == [0]
    wait_until(lambda: states(node) == ["done"])


def test_an_extra_that_cannot_be_made_never_costs_the_segmentation(run_node, configure, make_film, send, archive, monkeypatch, caplog):
    def fail(*_):
        raise ValueError("Zwiebelfisch")

    monkeypatch.setattr("certdicom.outputs.sr.build_measurement_report", fail)
    configuration = configure(archive, results__sr="true")
    certifier = CheapCertifier()
    certifier.outputs = outputs_of(configuration)
    node = run_node(configuration, certifier)
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert archive.requests == 1
    (job,) = node.ledger.jobs()
    report = json.loads((node.spool.result(job.job_id) / "report.json").read_bytes())
    assert report["omissions"] == {"sr": "ValueError"}
    (record,) = [record for record in caplog.records if "an extra could not be made" in record.message]
    assert (record.output, record.error) == ("sr", "ValueError")


def test_rows_of_finished_films_are_forgotten_after_their_time_and_a_film_that_comes_again_is_a_new_one(
    run_node, configure, archive, make_film, send
):
    certifier = CheapCertifier()
    node = run_node(configure(archive, jobs__keep_days=1, spool__keep_results_days=0), certifier)
    film, other = make_film(1), make_film(2)
    archive.behaviour = lambda number: 0x0000 if number == 1 else 0xA900
    assert send(node, film) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert send(node, other) == [0]
    wait_until(lambda: sorted(states(node)) == ["done", "failed"])
    wait_until(lambda: len(list(node.spool.film_ids())) == 1, what="the film's removal")
    node.maintenance.sweep()
    assert sorted(states(node)) == ["done", "failed"], "forgotten before its time"
    with pytest.MonkeyPatch.context() as later:
        now = node.ledger.clock.now() + 2 * 86400
        later.setattr(node.ledger.clock, "now", lambda: now)
        node.maintenance.sweep()
    assert states(node) == ["failed"], "what is not delivered must be kept"
    archive.behaviour = lambda number: 0x0000
    assert send(node, film) == [0]
    wait_until(lambda: sorted(states(node)) == ["done", "failed"])
    assert certifier.calls == 3


def test_an_archive_that_knows_implicit_vr_only_is_served(run_node, configure, make_film, send):
    peer = Archive()
    peer.syntaxes = peer.syntaxes[1:]
    peer.start()
    node = run_node(configure(peer))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert len(peer.received) == 1
    peer.stop()


def test_commitment_is_waited_for_and_a_refused_one_makes_it_send_again(run_node, configure, make_film, send, tmp_path):
    peer = Archive(commitment=lambda number: number > 1).start()
    toml = tmp_path / "node.toml"
    toml.write_text(f'[[destination]]\nae_title = "ARCHIVE"\nport = {peer.port}\nstorage_commitment = true\n', encoding="utf-8")
    node = run_node(configure(path=toml))
    peer.report_to = ("CERTDICOM", node.scp.port)
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert peer.requests == 2
    assert len(peer.instances) == 1
    assert len(set(peer.transactions)) == 2
    peer.stop()


def test_without_an_answer_commitment_is_asked_for_again_and_nothing_is_removed(run_node, configure, make_film, send, tmp_path):
    peer = Archive().start()
    toml = tmp_path / "node.toml"
    toml.write_text(f'[[destination]]\nae_title = "ARCHIVE"\nport = {peer.port}\nstorage_commitment = true\n', encoding="utf-8")
    node = run_node(configure(path=toml, delivery__commitment_wait_s=0.3))
    assert send(node, make_film()) == [0]
    wait_until(lambda: len(peer.transactions) >= 2)
    assert states(node) == ["delivering"]
    assert len(list(node.spool.film_ids())) == 1
    peer.commitment = lambda number: True
    peer.report_to = ("CERTDICOM", node.scp.port)
    wait_until(lambda: states(node) == ["done"])
    peer.stop()


def test_instances_that_the_rules_leave_alone_are_stored_with_the_reason(run_node, configure, archive, make_film, send):
    node = run_node(configure(archive))
    computed_tomography = make_film(1, Modality="CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.2")
    mammogram = make_film(2, Modality="MG")
    assert send(node, computed_tomography, mammogram) == [0, 0]
    jobs = node.ledger.jobs()
    assert [job.state for job in jobs] == ["ignored", "ignored"]
    assert {job.reason for job in jobs} == {"rules.sop_classes does not list CT Image Storage", "rules.modalities does not list MG"}
    assert all(node.spool.ignored_instance(job.job_id).exists() for job in jobs)
    assert archive.requests == 0


def test_a_film_that_cannot_be_certified_is_put_aside_with_the_reason(run_node, configure, archive, make_film, send):
    node = run_node(configure(archive))
    assert send(node, make_film(BodyPartExamined="KNEE")) == [0]
    wait_until(lambda: states(node) == ["ignored"])
    (job,) = node.ledger.jobs()
    assert "KNEE" in job.reason
    wait_until(lambda: node.spool.ignored_instance(job.job_id).exists())


def test_a_defect_sets_the_film_aside_after_the_last_attempt_and_a_retry_helps(run_node, configure, archive, make_film, send):
    broken = threading.Event()
    broken.set()

    def fail(film):
        if broken.is_set():
            raise ValueError("Zwiebelfisch^Querulant")

    certifier = CheapCertifier(fail)
    node = run_node(configure(archive, jobs__max_attempts=3), certifier)
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["failed"])
    assert certifier.calls == 3
    (job,) = node.ledger.jobs()
    assert "Zwiebelfisch" not in job.reason
    assert job.reason.startswith("ValueError, test_node.py:")
    assert job.reason.endswith("(3 times)")
    assert job.code == "defect"
    broken.clear()
    node.retry(job.job_id)
    wait_until(lambda: states(node) == ["done"])


def test_a_full_disk_while_certifying_is_waited_for_however_long_it_takes(run_node, configure, archive, make_film, send):
    full = iter([True] * 6 + [False])

    def fail(film):
        if next(full):
            raise OutputError("seg.dcm cannot be written: the disk is full")

    node = run_node(configure(archive, jobs__max_attempts=2), CheapCertifier(fail))
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    assert len(archive.received) == 1


def test_without_a_destination_the_result_stays_in_the_spool(run_node, configure, make_film, send):
    node = run_node(configure())
    assert send(node, make_film()) == [0]
    wait_until(lambda: states(node) == ["done"])
    (job,) = node.ledger.jobs()
    assert "no destination" in job.reason
    assert (node.spool.result(job.job_id) / "seg.dcm").exists()


def test_a_film_on_disk_without_a_job_is_entered_at_the_start(run_node, configure, archive, make_film, send):
    first = run_node(configure(archive))
    assert send(first, make_film()) == [0]
    wait_until(lambda: states(first) == ["done"])
    first.stop()
    film = make_film(9)
    first.spool.film("0f0e0d0c-aaaa-5bbb-8ccc-0123456789ab").write_bytes(film.read_bytes())
    second = run_node(configure(archive))
    wait_until(lambda: states(second) == ["done", "done"])
    assert len(archive.instances) == 2


def test_stopping_lets_running_work_end_and_leaves_the_rest_for_the_next_start(run_node, configure, archive, make_film, send):
    inside, go_on = threading.Event(), threading.Event()

    def wait(film):
        inside.set()
        assert go_on.wait(10)

    node = run_node(configure(archive, node__grace_s=60), CheapCertifier(wait))
    assert send(node, make_film(1), make_film(2)) == [0, 0]
    assert inside.wait(10)
    threading.Timer(0.2, go_on.set).start()
    assert node.stop() is True
    (result,) = node.spool.results.iterdir()
    assert (result / "seg.dcm").exists()
    assert sorted(states(node)) == ["delivering", "queued"]


def test_a_useless_header_window_refuses_the_film_and_names_the_settings(run_node, configure, archive, make_film, send):
    def certify(film):
        to_grid(read_image(film), 32)

    node = run_node(configure(archive), CheapCertifier(certify))
    assert send(node, make_film(WindowCenter=60000, WindowWidth=10)) == [0]
    wait_until(lambda: [job.state for job in node.ledger.jobs()] == ["ignored"])
    (job,) = node.ledger.jobs()
    assert job.reason == (
        "the WindowCenter/WindowWidth (LINEAR) in the header shows next to nothing of this film: give a window "
        '(certificate.sender_windows), or have one found (certificate.window = "displayed")'
    )
