"""Instructions of a call, counted by valgrind: the same every time, twice for twice the work; a refusal says why."""

import os
import shutil
from functools import cache

import pytest

from harness.backend import Device
from harness.catalogue import Case
from harness.run.limits import Limits
from harness.spec import ConvSpec
from harness.timing import instructions
from harness.timing.instructions import Count, NotCounted, count, estimate, ratio_verdict
from harness.timing.process import Side
from harness.timing.rule import Finding

VALGRIND = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed: apt-get install valgrind")
CASE = Case("counted", "counted", ConvSpec("conv", (9,), (3,)), why="small", source="hand: small")
CPU, ONE = Device("cpu"), Limits(threads=1)


#: Work in Python and in NumPy, in proportion to the rounds. In a file of its own: what this one imports takes long there.
BACKENDS = """
import numpy as np
from harness.backend import Limits, from_function

def worked(rounds):
    def function(spec, x, w, b):
        y = np.zeros(spec.out_shape, x.dtype)
        for _ in range(rounds):
            total = 0
            for i in range(100):
                total += i * i
            y += np.sort(np.arange(1000) % 7).sum() + total
        return y

    return from_function(f"worked-{rounds}", function, Limits(dtypes=("f32",)))

once, twice = worked(40), worked(80)
"""


@pytest.fixture(scope="module")
def side(tmp_path_factory):
    """The side of a backend above, by its name."""
    file = tmp_path_factory.mktemp("counted") / "worked.py"
    file.write_text(BACKENDS)
    return lambda name: Side(name, f"{file}:{name}")


@pytest.fixture(scope="module")
def counted(side):
    """The count of a backend above; a number tells counts of the same one apart."""
    return cache(lambda name, number: count(side(name), CASE, CPU, ONE, 1))


def fake(folder, monkeypatch, script):
    """A valgrind that is a script; `$folder` is where it is to write."""
    program = folder / "valgrind"
    places = 'for w in "$@"; do case $w in --log-file=*) log=${w#*=};; --callgrind-out-file=*) out=${w#*=};; esac; done\n'
    program.write_text(f"#!/bin/sh\n{places}{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def reason(device=CPU, limits=ONE, case=CASE):
    """Why there is no count of a backend that is not loaded."""
    with pytest.raises(NotCounted) as told:
        count(Side("none", "none.py:none"), case, device, limits, 1)
    return str(told.value)


@VALGRIND
def test_a_count_repeats_within_a_process(counted):
    found = counted("once", 1)
    assert found.calls == instructions.MOST_CALLS
    assert found.instructions > 40 * 1000
    assert found.spread < 0.01


@VALGRIND
def test_a_count_repeats_in_another_process(counted):
    a, b = counted("once", 1), counted("once", 2)
    assert b.instructions == pytest.approx(a.instructions, rel=0.01)
    assert ratio_verdict(a, b) is Finding.SAME


@VALGRIND
def test_twice_the_work_is_twice_the_count(counted):
    a, b = counted("once", 1), counted("twice", 1)
    assert b.instructions / a.instructions == pytest.approx(2, rel=0.05)
    assert ratio_verdict(a, b) is Finding.SLOWER
    assert ratio_verdict(b, a) is Finding.FASTER


def test_a_backend_that_cannot_be_loaded_is_said(side, tmp_path, monkeypatch):
    """This valgrind runs the program as it is."""
    fake(tmp_path, monkeypatch, 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    with pytest.raises(NotCounted, match=r"ends under valgrind with: .*BadBackend: .* has no 'onces'; did you mean 'once'"):
        count(side("onces"), CASE, CPU, ONE, 1)


def test_the_program_ends_well_where_nothing_is_counted(side, tmp_path, monkeypatch):
    """So every request is answered; but this valgrind writes no parts."""
    fake(tmp_path, monkeypatch, 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"')
    with pytest.raises(NotCounted, match="valgrind saw 0 of 7 marks"):
        count(side("once"), CASE, CPU, ONE, 1)


def test_the_calls_of_the_longer_windows_are_counted():
    """The overhead of a window, here 5, drops out; the middle estimate stands."""
    assert estimate([15, 115, 15, 117, 15, 121], 10) == Count(10.2, pytest.approx(0.6 / 10.2), 10)
    with pytest.raises(NotCounted, match="no more instructions"):
        estimate([15, 15, 15, 14, 15, 15], 10)


def test_windows_hold_exactly_so_many_calls_and_no_time_cuts_them():
    asked = instructions._requests(7)
    marks = [i for i, r in enumerate(asked) if r["op"] == "mark"]
    assert [r["loops"] for r in asked[marks[0] :] if r["op"] == "sample"] == [1, 8] * instructions.PAIRS
    assert len(marks) == 2 * instructions.PAIRS + 1
    assert all(r["count"] == 1 and r["seconds"] == instructions.FOREVER for r in asked if r["op"] == "sample")


@pytest.mark.parametrize(("after", "finding"), [(1004.0, "SAME"), (1008.0, "SLOWER"), (996.0, "SAME"), (992.0, "FASTER")])
def test_a_change_is_told_beyond_the_threshold_and_both_spreads(after, finding):
    assert ratio_verdict(Count(1000.0, 0.001, 10), Count(after, 0.001, 10)) == finding
    assert ratio_verdict(Count(1000.0, 0.004, 10), Count(after, 0.0, 10)) is Finding.SAME


def test_a_gpu_is_refused():
    assert reason(Device("H100", "gpu")) == ("device 'H100' is of kind gpu: valgrind counts a processor's instructions alone")


def test_a_simulator_is_refused():
    assert "is a simulator" in reason(Device("Oclgrind Simulator"))


def test_more_threads_than_one_are_refused():
    assert reason(limits=Limits(threads=2)).startswith("2 threads: ")


def test_a_case_without_a_specification_is_refused(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "exit 0")
    assert "no specification" in reason(case=Case("bad", "bad", None, why="refused", source="hand: refused"))


def test_that_valgrind_is_missing_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert reason().startswith("valgrind is not installed: install it")


def test_an_instruction_that_valgrind_lacks_is_said(tmp_path, monkeypatch):
    """It is named by its bytes, as valgrind's log has them (here vxorps of AVX-512)."""
    bytes_ = "==7== valgrind: Unrecognised instruction\nvex amd64->IR: unhandled instruction bytes: 0x62 0xF1 0x7C 0x48"
    fake(tmp_path, monkeypatch, f"printf '%b\\n' '{bytes_}' > $log; kill -ILL $$")
    assert reason() == (
        "it executes an instruction that valgrind lacks (0x62 0xF1 0x7C 0x48), such as those of AVX-512: killed by SIGILL"
    )


def test_another_death_names_its_signal_and_the_last_that_was_said(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "echo first; echo cannot go on >&2; kill -ABRT $$")
    assert reason() == "it ends under valgrind, killed by SIGABRT: cannot go on"


def test_a_code_other_than_0_is_told_with_the_log_where_the_program_is_silent(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "echo refused > $log; exit 3")
    assert reason() == "it ends under valgrind with: refused"


def test_too_long_a_count_is_ended(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "sleep 60")
    assert reason(limits=Limits(threads=1, seconds=0.02)).startswith("not done under valgrind within 0.4 s, 20 times the limit")


def test_an_interpreter_that_is_a_script_shows_no_marks(tmp_path, monkeypatch):
    """Valgrind follows no other program; what there is no count of is not guessed."""
    fake(tmp_path, monkeypatch, "exit 0")
    assert reason().startswith("valgrind saw 0 of 7 marks (calls of ctermid): is ")


def test_the_parts_between_the_marks_are_read_in_order(tmp_path, monkeypatch):
    """The first part, what came before, is left out."""
    totals = "n=1; for t in 999 15 115 15 115 15 115; do echo totals: $t > $(echo $out | sed s/%p/$$/).$n; n=$((n+1)); done"
    fake(tmp_path, monkeypatch, totals)
    assert count(Side("none", "none.py:none"), CASE, CPU, ONE, 1) == Count(10.0, 0.0, 10)


def test_output_of_another_form_is_no_count(tmp_path, monkeypatch):
    fake(tmp_path, monkeypatch, "for n in 1 2 3 4 5 6 7; do echo nothing > $(echo $out | sed s/%p/$$/).$n; done")
    assert "wrote no total" in reason()
