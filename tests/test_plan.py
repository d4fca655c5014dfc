"""The plan is a pure function of tables, and every job in it ends as a record."""

from dataclasses import replace

import pytest

from harness.backend import BackendInfo, Device, Limits
from harness.catalogue import load_catalogue
from harness.checks import Check
from harness.records import Job, Record, Status, Verdict
from harness.run.plan import REFUSAL, SPECIFICATION, Plan, asked, make_plan, refusal, select_devices
from harness.run.probe import ProbeReport

CASES = load_catalogue().select(["lecture-conv1d-*", "invalid-op-unknown"])
DEVICES = (Device("Big GPU 1"), Device("Big GPU 2"), Device("cpu"))


def no_judge(problem, run):
    raise AssertionError("a plan runs nothing")


CHECKS = (
    Check("contract", "", no_judge, lambda *a: None),
    Check("sums", "", no_judge, lambda case, *a: None if case.spec.bias else "there is no bias"),
)


SPECS = asked(CASES, CHECKS)


def report(name="b", why=None, workspace=0, devices=DEVICES, **more):
    """What the probe of a backend may say of every case."""
    answers = {"why_not": (why,) * len(SPECS), "workspace": (workspace,) * len(SPECS)}
    return ProbeReport(f"{name}=m:{name}", name, BackendInfo(name, limits=Limits()), devices, **(answers | more))


def planned(*reports, **options):
    return make_plan(CASES, reports, CHECKS, **options)


def test_equal_tables_give_equal_plans():
    assert planned(report()) == planned(report())


def test_a_job_is_one_check_of_one_case_on_one_backend_s_device_and_none_is_there_twice():
    plan = planned(report("a"), report("b", why="too hard"), device="all")
    jobs = [j for b in plan.batches for j in b.jobs] + [r.job for r in plan.known]
    assert len(jobs) == len(set(jobs)) == plan.jobs
    biased = sum(s.bias for s in SPECS)
    assert plan.jobs == (len(SPECS) + biased) * (3 + 1) + 1
    assert all(b.jobs == tuple(Job(b.case.id, "a", b.device.name, c.name) for c in b.checks) for b in plan.batches)


def test_a_check_that_does_not_apply_is_no_job_and_is_counted():
    plan = planned(report())
    assert sum(plan.inapplicable.values()) == sum(not s.bias for s in SPECS)
    assert {reason for _, reason in plan.inapplicable} == {"there is no bias"}


def test_what_a_backend_declares_impossible_is_unsupported_with_its_reason():
    plan = planned(report(why="too hard"))
    assert not plan.batches
    assert {(r.verdict.status, r.verdict.message) for r in plan.known if r.job.backend == "b"} == {
        (Status.UNSUPPORTED, "too hard")
    }


def test_a_backend_without_a_device_is_unavailable_with_the_way_out():
    plan = planned(report(devices=(), status=Status.UNAVAILABLE, message="no driver", hint="install one"))
    verdicts = {(r.verdict.status, r.verdict.message) for r in plan.known if r.job.backend == "b"}
    assert verdicts == {(Status.UNAVAILABLE, "no driver: install one")}


@pytest.mark.parametrize("status", [Status.ERROR, Status.CRASH, Status.TIMEOUT, Status.OOM])
def test_a_backend_that_could_not_be_loaded_keeps_its_status_in_every_job(status):
    plan = planned(ProbeReport("r", "b", status=status, message="why"))
    assert not plan.batches
    assert {r.verdict.status for r in plan.known if r.job.backend == "b"} == {status}


def test_what_cannot_fit_is_not_started():
    plan = planned(report(workspace=10**15), memory=10**9)
    assert not plan.batches
    messages = {r.verdict.message for r in plan.known if r.verdict.status is Status.NOT_RUN}
    assert all("needs 1000000.00 GB" in m and "raise `memory`" in m for m in messages)
    assert len([r for r in plan.known if r.verdict.status is Status.NOT_RUN]) == plan.jobs - 1


def test_a_device_is_selected_by_a_part_of_its_name():
    assert select_devices(DEVICES, None) == DEVICES[:1]
    assert select_devices(DEVICES, "all") == DEVICES
    assert select_devices(DEVICES, "gpu") == DEVICES[:2]
    assert select_devices(DEVICES, "CPU") == DEVICES[2:]
    assert select_devices(DEVICES, "tpu") == ()
    assert {b.device.name for b in planned(report(), device="gpu").batches} == {"Big GPU 1", "Big GPU 2"}


def test_a_backend_none_of_whose_devices_matches_is_unavailable():
    plan = planned(report(), device="tpu")
    assert not plan.batches
    texts = {r.verdict.message for r in plan.known if r.verdict.status is Status.UNAVAILABLE}
    assert texts == {"no device matches 'tpu'; it has Big GPU 1, Big GPU 2, cpu"}


def test_a_case_that_must_be_refused_passes_only_for_its_reason():
    case = next(c for c in CASES if c.spec is None)
    record = refusal(case)
    assert record.job == Job(case.id, SPECIFICATION, "-", REFUSAL)
    assert (record.verdict.status, record.verdict.compared) == (Status.PASS, 1)
    other = refusal(replace(case, refused="another reason")).verdict
    assert other.status is Status.FAIL
    assert "refused for another reason: " in other.message
    legal = refusal(replace(case, fields={"op": "conv", "in_size": (5,), "kernel_size": (3,)})).verdict
    assert legal.status is Status.FAIL
    assert legal.message.startswith("accepted: ")


def test_refusals_can_be_left_out():
    assert planned(report()).jobs - planned(report(), refusals=False).jobs == 1


def test_a_plan_narrows_to_jobs_and_their_contract_whatever_the_device():
    plan = planned(report("a"), report("b"))
    case = next(b.case.id for b in plan.batches if len(b.checks) == 2)
    narrow = plan.narrowed(frozenset({Job(case, "a", "another device", "sums")}))
    assert [j.check for b in narrow.batches for j in b.jobs] == ["contract", "sums"]
    assert {(j.case, j.backend) for b in narrow.batches for j in b.jobs} == {(case, "a")}
    assert narrow.jobs == 2


def test_a_plan_narrows_to_a_refusal():
    plan = planned(report())
    case = next(c for c in CASES if c.spec is None)
    narrow = plan.narrowed(frozenset({Job(case.id, SPECIFICATION, "-", REFUSAL)}))
    assert [r.job.check for r in narrow.known] == [REFUSAL]
    assert narrow.jobs == 1


def test_an_empty_plan_has_no_job():
    assert Plan((), ()).jobs == 0
    assert Plan((), (Record(Job("c", "b", "-", "k"), Verdict(Status.PASS)),)).jobs == 1
