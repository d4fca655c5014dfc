"""Check 8: what a backend keeps between calls, calls at once, thread counts. The planted faults in one process are in
`wrong_backends`; here are those that need workers, and that no right backend is accused."""

import os
import time

import numpy as np
import pytest
import state_backends
from hypothesis import given
from state_backends import reference
from strategies import examples, specs
from test_checks import problem
from test_checks import right as right_calls

from harness.backend import ContractError
from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.checks.state import CONCURRENCY, STALE_BIAS, STALE_FLIP, STALE_WEIGHTS, THREADS
from harness.data import Operands, draw
from harness.oracle import reference as exact
from harness.records import Status
from harness.run.arena import Arena, Desk, layout, side_by_side
from harness.run.campaign import Campaign
from harness.run.limits import Limits
from harness.run.link import LocalLink, WorkerLink
from harness.run.messages import Call, Done, Loaded, Prepare, Together
from harness.run.process import WorkerGone
from harness.run.runner import Options
from harness.run.threads import other_threads
from harness.run.together import call_together
from harness.spec import ConvSpec

STATE = (STALE_WEIGHTS, STALE_BIAS, STALE_FLIP, CONCURRENCY, THREADS)
SPEC = ConvSpec("conv", (9,), (3,), out_channels=4)
CATALOGUE = load_catalogue()


class Right:
    """The runs of a right backend, in any number of threads."""

    last = None

    def __init__(self, spec):
        self.call = right_calls(spec)

    def __call__(self, ops, **how):
        return self.call(ops, **how)

    def together(self, sets):
        return [self.call(ops) for ops in sets]

    def elsewhere(self, ops):
        return self.call(ops)


def verdicts(name, case, checks=(THREADS,), **limits):
    """Check to verdict, in workers."""
    options = Options(jobs=1, limits=Limits(**limits))
    with Campaign(CATALOGUE.select([case]), [reference(name)], checks, options, seed=3) as campaign:
        return {r.job.check: r.verdict for batch in campaign.records(campaign.plan(refusals=False)) for r in batch}


@examples(60)
@given(specs())
def test_a_right_backend_passes_every_state_check_that_applies(spec):
    p, run = problem(spec, thread_safe=True), Right(spec)
    for check in STATE:
        if check.applies(p.case, spec, p.info) is None:
            verdict = check.judge(p, run)
            assert verdict.status is Status.PASS, (check.name, verdict.message)
            assert verdict.compared >= np.prod(spec.out_shape)


@examples(60)
@given(specs(ops=("conv", "conv_transpose")))
def test_the_moved_references_of_stale_weights_are_those_of_the_oracle(spec):
    from harness.checks.state import _successors

    p = problem(spec)
    calls = _successors(spec, *p.data(*p.exact))
    assert len(calls) == (7 if spec.bias else 5)
    for text, ops, ref, _ in calls:
        want = exact(spec, ops)
        np.testing.assert_array_equal(ref.hi, want.hi if want.lo is None else want.hi + want.lo, text)
        np.testing.assert_array_equal(ref.scale, want.scale, text)


def test_a_stale_output_is_named():
    spec, kept = SPEC, {}

    class Keeps(Right):
        def __call__(self, ops, **how):
            return kept.setdefault(ops.x.tobytes(), super().__call__(ops, **how))

    verdict = STALE_WEIGHTS.judge(problem(spec), Keeps(spec))
    assert verdict.status is Status.FAIL
    assert verdict.message.startswith("other weights, the rest as before: 28 of 28 outputs differ")
    assert verdict.message.endswith("; the call before gave the same")


def test_the_state_checks_say_where_they_do_not_apply():
    def reason(check, spec, **info):
        p = problem(spec, **info)
        return check.applies(p.case, spec, p.info)

    pool, point = ConvSpec("max_pool", (9,), (3,)), ConvSpec("conv", (9,), (1,))
    assert reason(STALE_WEIGHTS, pool) == reason(STALE_BIAS, pool) == "a pool has no weights"
    assert reason(STALE_FLIP, point) == "a kernel of one tap reads the same in both directions"
    assert reason(CONCURRENCY, SPEC) == "the backend does not declare that it is thread-safe"
    assert [reason(c, SPEC, thread_safe=True) for c in STATE] == [None] * 5
    assert STALE_BIAS.related(pool) == STALE_FLIP.related(pool) == ()


# --- several threads in one object --------------------------------------------------------------
def test_calls_together_overlap_and_each_has_its_own_arguments():
    inside, most, outs = [], [], [np.zeros(1) for _ in range(3)]

    def run(x, out):
        inside.append(1)
        time.sleep(0.05)
        most.append(len(inside))
        inside.pop()
        out[...] = x

    call_together(run, [(i + 1, out) for i, out in enumerate(outs)])
    assert max(most) == 3
    assert [o[0] for o in outs] == [1, 2, 3]


@pytest.mark.parametrize("fault", [lambda x: 1 / 0, lambda x: x], ids=["raises", "returns"])
def test_what_one_of_several_threads_does_wrong_is_raised(fault):
    with pytest.raises((ZeroDivisionError, ContractError)):
        call_together(lambda x: fault(x) if x == 2 else None, [(1,), (2,), (3,)])


def test_layouts_side_by_side_share_nothing_and_each_has_its_guard_bands():
    lay = layout(SPEC)
    parts = side_by_side(lay, 3)
    assert parts[0] == lay
    arena = Arena()
    desks = [Desk(arena, part, SPEC.out_dtype) for part in parts]
    ops = [Operands(*(None if a is None else a + i for a in draw("integers", SPEC, "a", 0).arrays)) for i in range(3)]
    for desk, o in zip(desks, ops, strict=True):
        desk.place(o, np.uint32(0xFFFFFFFF))
    assert [d.damage(o) for d, o in zip(desks, ops, strict=True)] == [None] * 3
    assert all(s.offset % 64 == 0 for part in parts for s in part.slots)
    end = parts[1].slots[-1]
    arena.view(parts[2].size)[end.offset + end.nbytes] = 7
    assert [d.damage(o) is None for d, o in zip(desks, ops, strict=True)] == [True, False, True]
    del desks
    arena.close()


def test_a_worker_runs_one_object_in_several_threads():
    link = WorkerLink("backends.im2col:backend", Limits())
    try:
        assert isinstance(link.load(), Loaded)
        lay = layout(SPEC)
        link.arena.arrays(lay)
        assert isinstance(link.ask(Prepare(SPEC, "cpu", lay), 20), Done)
        parts = side_by_side(lay, 3)
        desks = [Desk(link.arena, part, SPEC.out_dtype) for part in parts]
        sets = [draw("zero_mean", SPEC, f"case {i}", 0) for i in range(3)]
        for desk, ops in zip(desks, sets, strict=True):
            desk.place(ops, np.uint32(0xFFFFFFFF))
        assert isinstance(link.ask(Together(parts), 20), Done)
        for desk, ops in zip(desks, sets, strict=True):
            np.testing.assert_allclose(desk.arrays["out"], exact(SPEC, ops).hi, rtol=1e-4, atol=1e-5)
        del desks, desk
    finally:
        link.close()


# --- another number of threads ------------------------------------------------------------------
def told(link):
    assert isinstance(link.load(), Loaded)
    lay = layout(SPEC)
    link.arena.arrays(lay)
    assert isinstance(link.ask(Prepare(SPEC, "cpu", lay), 60), Done)
    return link.ask(Call(), 60).message.removeprefix("RuntimeError: ")


def test_the_libraries_of_each_worker_have_the_count_of_its_limits():
    """One fork server for all of them, and NumPy's BLAS loaded before the count is known."""
    for threads in (2, 1, 3):
        link = WorkerLink(reference("telling"), Limits(threads=threads))
        try:
            seen = told(link)
            assert seen.startswith(f"env {threads} numba {threads} ")
            assert seen.endswith((f"blas {threads}", "blas None")), seen
            other = other_threads(threads)
            assert told(link.sibling()).startswith(f"env {other} numba {other} ")
        finally:
            link.close()


def test_a_tail_that_depends_on_the_threads_fails_the_thread_check_alone():
    found = verdicts("tail_by_threads", "lecture-conv1d-valid", [c for c in CHECKS if not c.related(SPEC)])
    bad = {name: v for name, v in found.items() if v.status is not Status.PASS}
    assert list(bad) == ["threads"]
    assert bad["threads"].status is Status.FAIL
    assert bad["threads"].message.startswith("another number of threads changes the output: ")


def test_a_death_in_the_other_worker_is_a_crash_of_this_check():
    found = verdicts("dying_elsewhere", "basic-rank-1d", (*(c for c in CHECKS if c.name == "contract"), THREADS))
    assert found["contract"].status is Status.PASS
    assert found["threads"].status is Status.CRASH
    assert "SIGABRT" in found["threads"].message


def test_the_other_worker_has_the_same_memory_limit():
    found = verdicts("hoarding_elsewhere", "basic-rank-1d", memory=1 << 30)
    assert found["threads"].status is Status.OOM


def test_the_other_worker_starts_when_asked_and_ends_with_its_link():
    link = WorkerLink(reference("tail_by_threads"), Limits())
    link.load()
    other = link.sibling()
    assert other is link.sibling()
    assert not other.alive
    other.load()
    pid = other.pid
    link.discard()
    assert other.alive
    link.close()
    assert not other.alive
    assert not os.path.exists(f"/proc/{pid}")


def test_an_abandoned_link_ends_the_other_worker_too():
    link = WorkerLink(reference("telling"), Limits())
    other = link.sibling()
    other.load()
    link.abandon()
    with pytest.raises(WorkerGone):
        told(other)
    with pytest.raises(WorkerGone) as caught:
        link.sibling().load()
    assert caught.value.status is Status.NOT_RUN
    link.close()


def test_in_this_process_the_thread_check_is_left_out_with_its_reason():
    cases = CATALOGUE.select(["basic-rank-1d"])
    with Campaign(cases, [reference("tail_by_threads")], (THREADS,), Options(jobs=1), in_process=True) as campaign:
        plan = campaign.plan()
    assert plan.jobs == 0
    assert list(plan.inapplicable) == [("threads", "it needs a worker with another thread count: not --in-process")]
    with pytest.raises(RuntimeError, match="no other worker"):
        LocalLink(state_backends.reference("telling")).sibling()
