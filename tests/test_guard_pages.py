"""`--guard pages`: an access beyond an array is a crash that names the array, and a right backend lives."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from native_backends import reference

from harness.catalogue import load_catalogue
from harness.catalogue.case import Case
from harness.checks import CHECKS
from harness.data import draw
from harness.records import Status, Verdict
from harness.run.arena import Arena, Desk, layout
from harness.run.campaign import Campaign
from harness.run.fences import PAGE, SIDES, Fence, Pen, blamed, page_names
from harness.run.limits import Limits
from harness.run.runner import Options
from harness.spec import ConvSpec

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="the planted faults are C, and there is no gcc")
#: x, w and out take 4096, 64 and 3364 bytes: the first two end where a page can begin.
SPEC = ConvSpec("conv", (32, 32), (4, 4))
SMALL = ConvSpec("conv", (5, 5), (2, 2))
NAMED = {c.name: c for c in CHECKS}


def verdicts(ref, spec, checks=("contract",), guard="pages"):
    """Check to verdict of one case on a backend in a worker."""
    case = Case("a-case", "a", spec, "a fact", "hand: a test")
    options = Options(jobs=1, limits=Limits(guard=guard))
    with Campaign([case], [ref], [NAMED[c] for c in checks], options) as campaign:
        return {r.job.check: r.verdict for batch in campaign.records(campaign.plan()) for r in batch}


@pytest.mark.parametrize(
    "spec", [SPEC, SMALL, ConvSpec("conv", (3,), (2,), batch=0, bias=True), ConvSpec("max_pool", (9,), (2,))]
)
@pytest.mark.parametrize("side", SIDES)
def test_arrays_touch_the_closed_page_as_near_as_their_alignment_allows(spec, side):
    lay = layout(spec)
    arrays = Pen(lay, Fence(side)).arrays
    for slot in lay.slots:
        a = arrays[slot.name]
        assert (a.shape, a.dtype.name, a.ctypes.data % 64) == (slot.shape, np.dtype(a.dtype).name, 0)
        if side == "begin":
            assert a.ctypes.data % PAGE == 0
        else:
            assert (a.ctypes.data + a.nbytes + -a.nbytes % 64) % PAGE == 0


def test_operands_may_end_exactly_at_the_page():
    lay = layout(SMALL)
    arrays = Pen(lay, Fence("end"), flush=("x", "w")).arrays
    assert [(arrays[n].ctypes.data + arrays[n].nbytes) % PAGE for n in ("x", "w")] == [0, 0]
    assert arrays["out"].ctypes.data % 64 == 0


@pytest.mark.parametrize("side", SIDES)
def test_what_is_written_beside_an_array_comes_back_into_the_guard_bands(side):
    spec = ConvSpec("conv", (5, 6), (2, 2))  # 80 bytes of output, 48 bytes before the page
    arena, lay = Arena(), layout(spec)
    desk, ops = Desk(arena, lay, spec.out_dtype), draw("integers", spec, "a", 0)
    desk.place(ops, np.uint32(0xFFFFFFFF))
    pen = Pen(lay, Fence(side))
    pen.fetch(arena, lay)
    np.testing.assert_array_equal(pen.arrays["x"], ops.x)
    pen.arrays["out"][...] = 3
    pen.restore(arena, lay)
    assert desk.damage(ops) is None
    assert (desk.arrays["out"] == 3).all()
    out = pen.arrays["out"]
    beyond = np.lib.stride_tricks.as_strided(out, (out.size + 1,), (out.itemsize,))
    beyond[-1] = 0
    pen.restore(arena, lay)
    assert desk.damage(ops) == "wrote 4 bytes after out, the first at byte 0 of the guard band"
    del desk
    arena.close()


@needs_gcc
@pytest.mark.parametrize(
    ("name", "told", "page"),
    [
        ("reads_a_row_too_many", "page guard: it reads beyond the end of x", "after x"),
        ("reads_before_the_weights", "page guard: it reads before the beginning of w", "before w"),
        ("writes_behind_the_output", "page guard: it writes beyond the end of out", "after out"),
    ],
)
def test_a_stray_access_is_a_crash_that_names_the_array(name, told, page):
    (verdict,) = verdicts(reference(name), SPEC).values()
    assert verdict.status is Status.CRASH
    assert "killed by SIGSEGV at " in verdict.message
    assert verdict.message.endswith(f"in run; {told}")
    assert verdict.details["page"] == page


@needs_gcc
def test_guard_bands_cannot_see_what_the_pages_see():
    found = verdicts(reference("reads_a_row_too_many"), SPEC, ("contract", "integers", "read_guards"), guard="bands")
    assert {v.status for v in found.values()} == {Status.PASS}


@needs_gcc
def test_an_access_within_the_alignment_is_seen_where_unaligned_operands_are_taken():
    """x of 100 bytes lies 28 before the page, unless it is taken without alignment."""
    found = verdicts(reference("reads_an_element_too_many"), SMALL, ("contract", "layouts"))
    assert found["contract"].status is Status.PASS
    assert found["layouts"].status is Status.CRASH
    assert found["layouts"].message.endswith("page guard: it reads beyond the end of x")


@needs_gcc
def test_a_right_native_backend_passes_every_check_between_pages():
    found = verdicts(reference("right"), SPEC, NAMED)
    assert {v.status for v in found.values()} == {Status.PASS}
    assert len(found) > 10


def test_a_right_backend_passes_between_pages_on_many_shapes_and_types():
    cases = load_catalogue().select(["smoke"])[::6]
    options = Options(jobs=1, limits=Limits(guard="pages"))
    checks = [NAMED[c] for c in ("contract", "integers", "repeat", "layouts", "concurrency", "threads")]
    with Campaign(cases, [f"{Path(__file__).with_name('right_numpy.py')}:backend"], checks, options) as campaign:
        records = [r for batch in campaign.records(campaign.plan(refusals=False)) for r in batch]
    assert [(r.job, r.verdict.message) for r in records if r.verdict.status is not Status.PASS] == []
    assert len(records) > 100


def test_a_death_that_needs_no_page_is_not_charged_to_one():
    died, lay = Verdict(Status.CRASH, "killed by SIGSEGV"), layout(SPEC)
    assert blamed(died, lay, Fence("end"), lambda fence: True) == died
    late = Verdict(Status.TIMEOUT, "did not return")
    assert blamed(late, lay, Fence("end"), lambda fence: False) == late
    never = blamed(died, lay, Fence("end"), lambda fence: False)
    assert "with any one of them alone" in never.message
    assert page_names(lay) == ("before x", "after x", "before w", "after w", "before out", "after out")


@needs_gcc
def test_the_command_line_closes_the_pages_and_its_repeating_line_too(tmp_path):
    """A crash is not repeatable without them."""
    cases = tmp_path / "own.yaml"
    cases.write_text(
        "family: own\ncases:\n- {id: own-a, op: conv, in_size: [32, 32], kernel_size: 4, why: a test, source: 'hand: a test'}\n"
    )
    env = {"CONVPROOF_STORE": str(tmp_path / "runs.sqlite"), "XDG_CACHE_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}

    def convproof(*words):
        line = [sys.executable, "-m", "harness.cli", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, env=env, cwd=tmp_path)

    words = ("verify", str(cases), "--backend", reference("reads_a_row_too_many"), "--check", "contract")
    assert convproof(*words).returncode == 0
    done = convproof(*words, "--guard", "pages")
    assert done.returncode == 1
    assert "it reads beyond the end of x" in done.stdout
    (line,) = convproof("repro", "last").stdout.splitlines()
    assert " --guard pages " in line
