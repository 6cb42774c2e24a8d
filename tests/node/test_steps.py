"""Every transition of docs/node-design.md's table, on the tables themselves; and that an attempt which was given up changes nothing."""

from __future__ import annotations

import itertools

import pytest

from certdicom.errors import UsageError
from certdicom.node.store.database import connect
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import Done, Failed, Ignored, Later, Lost, Result

RESULT = Result("ab" * 32, 0.05, {"total": 1.0})
TO_ARCHIVE = (("deliver", "ARCHIVE"),)


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """A ledger in a SQLite file, whose clock stands still until `pass_time` moves it."""
    made = Ledger(connect(f"sqlite:///{tmp_path / 'node.sqlite'}"))
    made.prepare(spool="spool")
    made.present = made.clock.now()
    monkeypatch.setattr(made.clock, "now", lambda: made.present)
    return made


_numbers = itertools.count()


def enter(ledger, **given) -> str:
    job_id = f"job-{next(_numbers):04d}"
    details = {"subject": job_id, "sender": "CR", "size": 1, "work": "work", "asked": {"window": "", "crop": ""}}
    assert ledger.enter(job_id, **{**details, **given})
    return job_id


def step_of(ledger, job_id, kind="certify"):
    return next((step for step in ledger.steps.of([job_id]) if step.kind == kind), None)


def begin(ledger, kind="certify", destination="", *, owner="host-node-1"):
    """Hand over what is due in a queue, and begin the first of it."""
    handed = ledger.steps.hand_over(ledger.steps.due(kind, destination, 32))
    return ledger.steps.begin(handed[0].run_id, owner=owner, certify_s=100)


def certified(ledger, then=TO_ARCHIVE) -> str:
    """A job whose deliveries are owed."""
    job_id = enter(ledger)
    ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT, then=then))
    return job_id


def test_a_film_that_was_received_waits_and_is_due(ledger):
    job_id = enter(ledger)
    assert ledger.job(job_id).state == "queued"
    (due,) = ledger.steps.due("certify", "", 32)
    assert (due.job_id, due.state, due.attempts) == (job_id, "waiting", 0)
    assert not ledger.enter(job_id, subject="", sender="", size=1, work="", asked={"window": "", "crop": ""}), "once is enough"


def test_waiting_to_running(ledger):
    job_id = enter(ledger)
    step = begin(ledger)
    assert (step.state, step.owner, step.attempts) == ("running", "host-node-1", 1)
    assert step.deadline_at == ledger.present + 100
    assert ledger.job(job_id).state == "certifying"
    assert ledger.steps.begin(step.run_id, owner="another", certify_s=1) is None, "a run is begun once"


def test_running_to_done_owes_what_follows_in_the_same_transaction(ledger):
    job_id = enter(ledger)
    assert ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT, then=TO_ARCHIVE)) == "delivering"
    job = ledger.job(job_id)
    assert (job.seg_sha256, job.abstain, job.seconds) == (RESULT.seg_sha256, 0.05, {"total": 1.0})
    assert ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Done(then=(("commit", "ARCHIVE"),))) == "delivering"
    assert ledger.steps.finish(begin(ledger, "commit", "ARCHIVE").run_id, Done()) == "done"
    assert ledger.steps.oldest() == {}


def test_without_a_destination_a_certified_job_is_done(ledger):
    enter(ledger)
    assert ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT)) == "done"


def test_running_to_waiting_for_another_try(ledger):
    job_id = certified(ledger)
    run_id = begin(ledger, "deliver", "ARCHIVE").run_id
    assert ledger.steps.finish(run_id, Later(30, "unreachable", "no association", refused=False)) == "delivering"
    step = step_of(ledger, job_id, "deliver")
    assert (step.state, step.due_at, step.attempts, step.refusals, step.code) == ("waiting", ledger.present + 30, 1, 0, "unreachable")
    assert ledger.steps.due("deliver", "ARCHIVE", 32) == [], "a wait is a due time"
    ledger.present += 30
    assert len(ledger.steps.due("deliver", "ARCHIVE", 32)) == 1


def test_what_is_not_counted_costs_no_attempt_and_a_refusal_is_counted(ledger):
    job_id = certified(ledger)
    ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Later(0, "disk", "No space left on device", counted=False))
    assert step_of(ledger, job_id, "deliver").attempts == 0
    ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Later(0, "refused", "status 0xC000", refused=True))
    step = step_of(ledger, job_id, "deliver")
    assert (step.attempts, step.refusals) == (1, 1)


def test_running_to_failed(ledger):
    job_id = certified(ledger)
    assert ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Failed("refused", "refused 3 times")) == "failed"
    job = ledger.job(job_id)
    assert (job.code, job.reason) == ("refused", "not delivered to ARCHIVE: refused 3 times")


def test_a_film_that_cannot_be_certified_is_ignored_at_once(ledger):
    job_id = enter(ledger)
    assert ledger.steps.finish(begin(ledger).run_id, Ignored("image-refused", "no chest")) == "ignored"
    assert ledger.steps.oldest() == {}
    assert (ledger.job(job_id).code, ledger.job(job_id).reason) == ("image-refused", "no chest")


@pytest.mark.parametrize("most", [1, 3])
def test_running_lost_waits_again_and_fails_at_the_last_loss(ledger, most):
    job_id = enter(ledger)
    for number in range(1, most + 1):
        state = ledger.steps.finish(begin(ledger).run_id, Lost(0, "lost", "silent", most))
        assert state == ("failed" if number == most else "queued")
        assert step_of(ledger, job_id).losses == number


def test_a_graceful_stop_takes_the_attempt_back(ledger):
    job_id = enter(ledger)
    assert ledger.steps.take_back(begin(ledger).run_id)
    step = step_of(ledger, job_id)
    assert (step.state, step.attempts, step.losses, step.due_at) == ("waiting", 0, 0, ledger.present)
    assert ledger.job(job_id).state == "queued"


def test_stop_asked_ends_what_waits_at_once_and_what_runs_at_its_border(ledger):
    waiting, running = enter(ledger), enter(ledger)
    first = begin(ledger)
    waiting, running = (running, waiting) if first.job_id == waiting else (waiting, running)
    assert ledger.drop(waiting).state == "dropped"
    assert ledger.drop(running).state == "certifying"
    assert ledger.steps.finish(first.run_id, Later(0, "unreachable", "later")) == "dropped"
    assert {step_of(ledger, job_id).state for job_id in (waiting, running)} == {"stopped"}


def test_what_is_done_when_a_stop_was_asked_is_kept_and_goes_nowhere(ledger):
    job_id = enter(ledger)
    step = begin(ledger)
    ledger.drop(job_id)
    ledger.steps.finish(step.run_id, Done(result=RESULT, then=TO_ARCHIVE))
    assert step_of(ledger, job_id, "deliver") is None
    assert ledger.job(job_id).seg_sha256 == RESULT.seg_sha256


def test_retry_lets_what_waits_failed_or_was_stopped_be_due_now(ledger):
    job_id = certified(ledger)
    ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Later(900, "unreachable", "no association"))
    assert ledger.retry(job_id).state == "delivering"
    assert len(ledger.steps.due("deliver", "ARCHIVE", 32)) == 1
    ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Failed("gave-up", "for too long"))
    ledger.present += 1000
    ledger.retry(job_id)
    step = step_of(ledger, job_id, "deliver")
    assert (step.state, step.attempts, step.since) == ("waiting", 0, ledger.present)
    ledger.drop(job_id)
    assert ledger.retry(job_id).state == "delivering"


def test_an_ignored_film_can_be_retried_and_a_done_one_not(ledger):
    refused = enter(ledger)
    ledger.steps.finish(begin(ledger).run_id, Ignored("image-refused", "no chest"))
    by_rule = enter(ledger, ignored=("rules", "rules.modalities does not list MG"))
    for job_id in (refused, by_rule):
        assert ledger.retry(job_id).state == "queued"
        ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT))
        with pytest.raises(UsageError, match="is done"):
            ledger.retry(job_id)
        with pytest.raises(UsageError, match="is done"):
            ledger.drop(job_id)


def test_a_retry_of_what_runs_starts_nothing_a_second_time(ledger):
    job_id = certified(ledger)
    begin(ledger, "deliver", "ARCHIVE")
    assert ledger.retry(job_id).state == "delivering"
    assert step_of(ledger, job_id).state == "done"


def test_a_job_that_another_replaced_replaces_that_when_the_bundle_of_before_is_back(ledger):
    first = ledger.job(enter(ledger))
    asked = {"window": "", "crop": ""}
    ledger.renew(first, "other", work="other", asked=asked)
    assert (ledger.job(first.job_id).code, ledger.job("other").state) == ("renewed", "queued")
    assert [job.job_id for job in ledger.to_certify_with_other_than("work")] == ["other"]
    ledger.renew(ledger.job("other"), first.job_id, work="work", asked=asked)
    assert (ledger.job(first.job_id).state, ledger.job("other").code) == ("queued", "renewed")
    assert [step.job_id for step in ledger.steps.due("certify", "", 32)] == [first.job_id]


@pytest.mark.parametrize("committed", [True, False])
def test_a_commitment_report_ends_the_step_or_owes_the_delivery_again(ledger, committed):
    job_id = certified(ledger)
    ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Done(then=(("commit", "ARCHIVE"),)))
    run_id = begin(ledger, "commit", "ARCHIVE").run_id
    ledger.commitments.ask("1.2.3", job_id, "ARCHIVE", [("1.2", "2.25.1")])
    # The report is quicker than the end of the attempt that asked for it.
    state = ledger.commitments.answer("1.2.3", committed=committed, most_refusals=2)
    assert state == (job_id, "ARCHIVE", "done" if committed else "delivering")
    assert ledger.steps.finish(run_id, Later(300, "awaiting-report", "asked")) is None, "it changes nothing any more"
    assert ledger.commitments.answer("1.2.3", committed=committed, most_refusals=2) is None, "a report counts once"
    if not committed:
        assert step_of(ledger, job_id, "commit") is None
        ledger.steps.finish(begin(ledger, "deliver", "ARCHIVE").run_id, Done(then=(("commit", "ARCHIVE"),)))
        ledger.commitments.ask("1.2.4", job_id, "ARCHIVE", [("1.2", "2.25.1")])
        assert ledger.commitments.answer("1.2.4", committed=False, most_refusals=2)[2] == "failed"


def test_an_attempt_that_was_given_up_for_lost_writes_nothing(ledger):
    job_id = enter(ledger)
    old = begin(ledger)
    ledger.steps.finish(old.run_id, Lost(0, "lost", "silent", 5))
    new = begin(ledger, owner="host-worker-1")
    assert new.run_id != old.run_id
    before = step_of(ledger, job_id)
    assert ledger.steps.finish(old.run_id, Done(result=RESULT, then=TO_ARCHIVE)) is None
    assert not ledger.steps.take_back(old.run_id)
    assert step_of(ledger, job_id) == before
    assert ledger.job(job_id).seg_sha256 == ""


def test_a_step_is_handed_over_once_whoever_else_tries(ledger):
    enter(ledger)
    due = ledger.steps.due("certify", "", 32)
    assert len(ledger.steps.hand_over(due)) == 1
    assert ledger.steps.hand_over(due) == []
    (handed,) = ledger.steps.in_hand()
    ledger.steps.release(handed.run_id)
    assert ledger.steps.begin(handed.run_id, owner="late", certify_s=1) is None
    assert len(ledger.steps.due("certify", "", 32)) == 1


def test_the_most_urgent_are_handed_over_first_and_only_so_many(ledger):
    low, routine, stat = (enter(ledger, priority=priority) for priority in (2, 1, 0))
    assert [step.job_id for step in ledger.steps.due("certify", "", 32)] == [stat, routine, low]
    assert [step.job_id for step in ledger.steps.due("certify", "", 2)] == [stat, routine]
    ledger.steps.hand_over(ledger.steps.due("certify", "", 2))
    assert ledger.steps.due("certify", "", 2) == []


def test_a_film_that_comes_again_as_stat_overtakes(ledger):
    first, second = enter(ledger), enter(ledger)
    ledger.steps.hand_over(ledger.steps.due("certify", "", 1))
    ledger.steps.hasten(second, 0)
    ledger.steps.hasten(first, 2)
    assert [step.job_id for step in ledger.steps.due("certify", "", 32)] == [second]
    assert (ledger.job(second).priority, ledger.job(first).priority) == (0, 1)


def test_deliveries_have_the_priority_of_their_job(ledger):
    enter(ledger, priority=0)
    ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT, then=TO_ARCHIVE))
    assert ledger.steps.due("deliver", "ARCHIVE", 1)[0].priority == 0


def test_numbers_of_jobs_follow_every_change_also_when_they_were_summed_up(ledger, monkeypatch):
    monkeypatch.setattr("certdicom.node.store.ledger._TALLIES_KEPT", 0)
    jobs = [enter(ledger) for _ in range(3)]
    ledger.steps.finish(begin(ledger).run_id, Done(result=RESULT))
    for _ in range(2):
        counts = {state: number for state, number in ledger.counts().items() if number}
        assert counts == {"queued": 2, "done": 1}
        ledger.sum_up()
    ledger.purge(jobs)
    assert sum(ledger.counts().values()) == 0


def test_oldest_ages_are_told_by_kind_and_destination(ledger):
    certified(ledger)
    ledger.present += 50
    enter(ledger)
    ledger.present += 7
    assert ledger.steps.oldest() == {("certify", "", "waiting"): (1, 7.0), ("deliver", "ARCHIVE", "waiting"): (1, 57.0)}
    assert ledger.awaited() == {"ARCHIVE"}
