"""The runner ends every job once, with the same verdict however many workers there are."""

import os
import signal
import threading
import time
from dataclasses import asdict, dataclass, replace

import pytest
from runner_backends import reference

from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.records import Record, Status, Verdict
from harness.run.campaign import Campaign
from harness.run.limits import Limits
from harness.run.runner import Options, Runner

CATALOGUE = load_catalogue()
CONTRACT = tuple(c for c in CHECKS if c.name == "contract")


def campaign(names, cases=("lecture-conv1d-*",), checks=CHECKS, seed=1, in_process=False, **options):
    limits = Limits(**{"seconds": 5.0, **options.pop("limits", {})})
    chosen = CATALOGUE.select(list(cases))
    refs = [reference(n) for n in names]
    return Campaign(chosen, refs, checks, Options(limits=limits, **options), seed=seed, in_process=in_process)


def results(names, **options):
    """Every record of a run, after a look at their number: one a planned job."""
    with campaign(names, **options) as c:
        plan = c.plan()
        records = [r for batch in c.records(plan) for r in batch]
        assert len(records) == plan.jobs
        assert len({r.job for r in records}) == plan.jobs
        return records


def judged(records):
    """Job to verdict, without what a clock told."""
    return {r.job: asdict(r.verdict) for r in records}


def counts(records, backend=None):
    found = {}
    for r in records:
        if backend in (None, r.job.backend):
            found[r.verdict.status] = found.get(r.verdict.status, 0) + 1
    return found


def test_verdicts_and_errors_do_not_depend_on_the_number_of_workers():
    runs = [judged(results(["right", "wrong"], cases=["lecture-conv1d-*", "lecture-conv2d-*"], jobs=n)) for n in (1, 2, 4)]
    assert runs[0] == runs[1] == runs[2]
    assert any(v["error_units"] for v in runs[0].values())
    assert {v["status"] for v in runs[0].values()} >= {Status.PASS, Status.FAIL, Status.UNSUPPORTED}


def test_verdicts_do_not_depend_on_the_process():
    checks = [c for c in CHECKS if not c.workers]
    here = judged(results(["right", "wrong"], checks=checks, in_process=True, jobs=1))
    assert judged(results(["right", "wrong"], checks=checks)) == here


def test_another_seed_gives_other_data():
    def errors(seed):
        return {r.job: r.verdict.error_units for r in results(["right"], seed=seed) if r.verdict.error_units}

    assert errors(1) == errors(1) != errors(2)


def test_more_workers_than_backends_and_batches_end_every_job():
    records = results(["right"], cases=["lecture-conv1d-valid", "lecture-conv1d-full"], jobs=8)
    assert set(counts(records)) == {Status.PASS}


def test_every_kind_of_ending_is_a_record():
    records = results(["right", "wrong", "foul", "absent", "hungry", "crashing"], cases=["lecture-conv1d-*", "invalid-op-*"])
    seen = set(counts(records))
    assert seen == {
        Status.PASS, Status.FAIL, Status.ERROR, Status.UNSUPPORTED, Status.UNAVAILABLE, Status.NOT_RUN, Status.CRASH,
    }  # fmt: skip


@pytest.mark.parametrize("in_process", [False, True])
def test_a_budget_of_nothing_runs_nothing_and_says_so(in_process):
    records = results(["right"], budget=0.0, in_process=in_process)
    assert set(counts(records)) == {Status.NOT_RUN, Status.UNSUPPORTED}
    assert {r.verdict.message for r in records if r.verdict.status is Status.NOT_RUN} == {"the budget of 0 s was spent"}


def test_the_first_bad_verdict_ends_a_run_that_fails_fast():
    records = results(["wrong"], fail_fast=True, jobs=1)
    cases = {r.job.case for r in records if r.verdict.status is Status.FAIL}
    assert len(cases) == 1
    assert counts(records)[Status.NOT_RUN] > 0


def test_a_crash_costs_one_verdict_and_one_worker():
    """`aborting` dies on every third call of a process: some checks crash, those after them run."""
    records = results(["aborting"], cases=["lecture-conv1d-valid"], jobs=1)
    statuses = [r.verdict.status for r in records]
    assert set(statuses) == {Status.PASS, Status.CRASH}
    first = statuses.index(Status.CRASH)
    assert Status.PASS in statuses[:first]
    assert Status.PASS in statuses[first:]


def test_a_backend_that_kills_its_workers_is_given_up_and_the_others_are_not():
    records = results(["crashing", "right"], give_up_after=2, jobs=1)
    assert counts(records, "crashing")[Status.CRASH] == 2
    assert counts(records, "right").keys() == {Status.PASS, Status.UNSUPPORTED}
    assert any("given up after 2 cases" in r.verdict.message for r in records)


def test_a_long_tail_of_a_backend_that_was_given_up_holds_up_nobody():
    """However many batches of the dead one stand before the next of a living one."""
    (case,) = CATALOGUE.select(["lecture-conv1d-valid"])
    many = [replace(case, id=f"many-{i}") for i in range(200)]
    refs = [reference("crashing"), reference("right")]
    with Campaign(many, refs, CONTRACT, Options(jobs=1, give_up_after=1)) as c:
        records = [r for batch in c.records(c.plan()) for r in batch]
    assert counts(records, "crashing") == {Status.CRASH: 1, Status.NOT_RUN: 199}
    assert counts(records, "right") == {Status.PASS: 200}


def test_a_call_that_hangs_is_a_timeout():
    records = results(["hanging"], cases=["lecture-conv1d-valid"], limits={"seconds": 0.3})
    assert counts(records)[Status.TIMEOUT] == 1


def test_the_same_seed_gives_the_same_verdicts_bit_for_bit_whatever_the_number_of_workers():
    def told(jobs):
        with campaign(["right", "wrong"], cases=["lecture-conv1d-*", "edge-pad-asymmetric-*"], seed=9, jobs=jobs) as c:
            return {r.job: (r.verdict, r.digest) for batch in c.records(c.plan()) for r in batch}

    one = told(1)
    assert {v.status for v, _ in one.values()} >= {Status.PASS, Status.FAIL}
    assert any(v.error_units for v, _ in one.values())
    assert told(2) == one
    assert told(5) == one


def test_jobs_that_are_done_are_not_run_again():
    with campaign(["right"]) as c:
        plan = c.plan()
        done = frozenset(j for b in plan.batches[1:] for j in b.jobs)
    with campaign(["right"], skip=done) as c:
        again = [r.job for batch in c.records(c.plan()) for r in batch]
    assert set(again) == set(plan.batches[0].jobs) | {r.job for r in plan.known}


@pytest.mark.parametrize("names", [["slow"], ["slow", "hanging"]])
def test_an_interrupt_ends_a_run_soon_with_a_record_a_job(names):
    """Also where a worker hangs: its case is not run, rather than wrong."""
    with campaign(names, cases=["lecture-*"], checks=CHECKS[:8], limits={"seconds": 60.0}) as c:
        plan = c.plan()
        records = []
        threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            records.extend(r for batch in c.records(plan) for r in batch)
        assert time.monotonic() - start < 10
    assert len({r.job for r in records}) == len(records) == plan.jobs
    assert set(counts(records)) == {Status.PASS, Status.UNSUPPORTED, Status.NOT_RUN}
    assert {r.verdict.message for r in records if r.verdict.status is Status.NOT_RUN} == {"interrupted"}


def test_a_caller_who_stops_listening_leaves_no_worker_at_work():
    with campaign(["slow", "hanging"], cases=["lecture-*"], limits={"seconds": 60.0}) as c:
        for batch in c.records(c.plan()):
            if any(r.verdict.status is Status.PASS for r in batch):
                break
        start = time.monotonic()
    assert time.monotonic() - start < 10
    wait = time.monotonic() + 10
    while any(t.name.startswith("convproof-") for t in threading.enumerate()) and time.monotonic() < wait:
        time.sleep(0.02)
    assert not [t for t in threading.enumerate() if t.name.startswith("convproof-")]


def test_an_interrupt_in_this_process_leaves_the_rest_not_run():
    with campaign(["slow"], in_process=True, jobs=1) as c:
        plan = c.plan()
        records = []
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            records.extend(r for batch in c.records(plan) for r in batch)
    assert len({r.job for r in records}) == len(records) == plan.jobs
    assert counts(records)[Status.NOT_RUN] > 0


def test_a_check_that_fails_itself_costs_its_own_verdicts_and_says_whose_defect_it_is():
    def broken(problem, run):
        raise ZeroDivisionError("a defect")

    from harness.checks import Check

    check = Check("broken", "", broken, lambda *a: None)
    records = results(["right"], cases=["lecture-conv1d-valid"], checks=(check, *CONTRACT))
    assert counts(records) == {Status.ERROR: 1, Status.PASS: 1}
    text = next(r.verdict.message for r in records if r.verdict.status is Status.ERROR)
    assert "ZeroDivisionError: a defect; this is a defect of Convproof" in text


@dataclass(eq=False)
class _Seat:
    home: int = 0


def test_a_backend_has_one_worker_until_a_batch_went_well_and_again_once_one_died():
    """So the cases that are reached before it is given up do not depend on how many are at work."""
    with campaign(["right"], cases=["lecture-*"]) as c:
        plan = c.plan()
    runner = Runner(plan, [[]], Options(jobs=4), lambda lane, home: _Seat(home), homes=2)

    def take(home):
        taken = runner._take(home)
        return taken and taken[1:]

    def ended(batch, seat, status):
        runner._return(batch, seat, [Record(j, Verdict(status)) for j in batch.jobs])

    first = take(0)
    assert take(0) is take(1) is None  # nothing is known of it yet
    ended(*first, Status.PASS)
    second, third = take(0), take(1)
    assert (second[1].home, third[1].home) == (0, 1)
    assert second[1] is first[1]
    ended(*third, Status.CRASH)
    assert take(1) is None  # one at a time: the second still runs
    ended(*second, Status.PASS)
    fourth = take(1)
    assert fourth[1] is third[1]
    assert take(0) is None
