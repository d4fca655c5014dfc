"""Judging in processes of its own: the same records, and a judge that dies costs nothing."""

import contextlib
import os
import signal
import threading
import time
from dataclasses import replace
from math import inf

import pytest
from runner_backends import reference
from test_runner import campaign, judged, results

from harness.checks import CHECKS
from harness.fuzzing.fuzzer import Fuzzer
from harness.records import Status
from harness.run.judges import TRIES, WORTH_JUDGES, how_many
from harness.run.runner import Options

CASES = ["lecture-conv1d-*", "lecture-conv2d-*"]


def without_logs(verdicts):
    """The verdicts, without what a dying process printed: it holds addresses."""
    return {job: v | {"details": {k: d for k, d in v["details"].items() if k != "log"}} for job, v in verdicts.items()}


def gone(pid, seconds=10.0):
    """Whether a process is no more, after a while at most."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_verdicts_and_errors_do_not_depend_on_who_judges():
    here = judged(results(["right", "wrong", "crashing"], cases=CASES, jobs=2, judges=0))
    there = judged(results(["right", "wrong", "crashing"], cases=CASES, jobs=4, judges=2))
    assert without_logs(here) == without_logs(there)
    assert {v["status"] for v in there.values()} >= {Status.PASS, Status.FAIL, Status.CRASH, Status.NOT_RUN}


def test_what_a_failure_ran_on_comes_back():
    kept = {}
    results(["wrong"], cases=["lecture-conv1d-valid"], judges=1, keep=lambda r, t: kept.update({r.job.check: (r, t)}))
    assert kept
    for record, trial in kept.values():
        assert record.verdict.status is Status.FAIL
        assert trial.out is not None
        assert trial.out.shape == trial.spec.out_shape


def test_a_check_that_no_judge_knows_is_judged_here():
    own = [replace(c, title="mine") for c in CHECKS if c.name == "contract"]
    assert how_many(Options(judges=2), own, inf) == 0
    with campaign(["right"], checks=own, judges=2) as c:
        assert {r.verdict.status for rs in c.records(c.plan()) for r in rs} <= {Status.PASS, Status.UNSUPPORTED}


@pytest.mark.parametrize(
    ("cores", "jobs", "batches", "judges"),
    [(2, 4, WORTH_JUDGES, 2), (2, 4, WORTH_JUDGES - 1, 0), (1, 2, inf, 0), (2, 2, inf, 0), (64, 4, inf, 2), (64, 16, inf, 8)],
)
def test_there_is_a_judge_for_two_workers_where_it_repays(monkeypatch, cores, jobs, batches, judges):
    monkeypatch.setattr("harness.run.judges.usable_cores", lambda: cores)
    assert how_many(Options(jobs=jobs), CHECKS, batches) == judges


def test_judges_that_are_asked_for_are_no_more_than_workers():
    assert [how_many(Options(jobs=2, judges=n), CHECKS, 1) for n in (0, 1, 2, 3)] == [0, 1, 2, 2]


def test_a_judge_that_is_killed_is_replaced_and_nothing_is_lost():
    expected = judged(results(["right", "wrong"], cases=CASES, judges=0))
    with campaign(["right", "wrong"], cases=CASES, jobs=4, judges=2) as c:
        records, killed = [], []
        for batch in c.records(c.plan()):
            records += batch
            if len(killed) < 2:
                victim = c._judges[len(killed)].pid
                if victim:
                    os.kill(victim, signal.SIGKILL)
                    killed.append(victim)
        assert len(killed) == 2
        assert len(records) == len({r.job for r in records})
        assert judged(records) == expected


def test_a_batch_that_kills_every_judge_is_an_error_that_says_so():
    with campaign(["right"], cases=["lecture-conv1d-valid"], judges=1, jobs=1) as c:
        stop = threading.Event()

        def murder():
            while not stop.is_set():
                if pid := c._judges[0].pid if c._judges else 0:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.005)

        plan = c.plan()
        thread = threading.Thread(target=murder)
        thread.start()
        try:
            records = [r for batch in c.records(plan) for r in batch]
        finally:
            stop.set()
            thread.join()
    ours = [r for r in records if r.job.backend == "right"]
    assert {r.verdict.status for r in ours} == {Status.ERROR}
    assert f"it had no judge in {TRIES} tries (killed by signal 9)" in ours[0].verdict.message


def test_a_judge_that_cannot_be_started_is_an_error_that_says_so(monkeypatch):
    def refuse(*args, **kwargs):
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with campaign(["right"], cases=["lecture-conv1d-valid"], judges=1, jobs=1) as c:
        plan = c.plan()
        monkeypatch.setattr("harness.run.judges.subprocess.Popen", refuse)
        records = [r for batch in c.records(plan) for r in batch]
    assert {r.verdict.status for r in records if r.job.backend == "right"} == {Status.ERROR}
    assert any("could not be started: [Errno 11] Resource temporarily unavailable" in r.verdict.message for r in records)


def test_closing_ends_the_judges_and_their_workers():
    with campaign(["right"], cases=CASES, judges=2, jobs=2) as c:
        for _ in c.records(c.plan()):
            pids = [j.pid for j in c._judges if j.pid]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_a_defect_of_judging_is_raised_with_its_place(monkeypatch):
    with campaign(["right"], cases=["lecture-conv1d-valid"], judges=1) as c:
        plan = c.plan()
        monkeypatch.setattr("harness.run.judges.stripped", _unknown_check)
        with pytest.raises(RuntimeError, match=r"(?s)a defect of Convproof.*KeyError: 'nonsense'"):
            list(c.records(plan))


def _unknown_check(serial, link, batch, *, diagnose):
    from harness.run.judging import Task

    return Task(serial, link, batch.with_checks(()), ("nonsense",), diagnose)


def test_an_interrupt_twice_ends_judges_that_wait_for_a_hanging_backend():
    with campaign(["hanging"], cases=["lecture-conv1d-valid"], judges=1, jobs=1, limits={"seconds": 60.0}) as c:
        plan, start = c.plan(), time.monotonic()
        timers = [threading.Timer(t, os.kill, (os.getpid(), signal.SIGINT)) for t in (1.0, 1.5)]
        for t in timers:
            t.start()
        records = []
        with pytest.raises(KeyboardInterrupt):
            records.extend(r for batch in c.records(plan) for r in batch)
        assert time.monotonic() - start < 10
        assert {r.verdict.status for r in records if r.job.backend == "hanging"} == {Status.NOT_RUN}
        pid = c._judges[0].pid
    assert gone(pid)


def test_fuzzing_with_judges_gives_the_same_verdicts():
    def judged_by(judges):
        with Fuzzer(
            [reference("right"), reference("wrong")], CHECKS, Options(jobs=2, judges=judges), seed=3, max_cases=12
        ) as f:
            return judged([r for plan in f.batches() for records in f.records(plan) for r in records])

    here = judged_by(0)
    assert {v["status"] for v in here.values()} >= {Status.PASS, Status.FAIL}
    assert judged_by(2) == here
