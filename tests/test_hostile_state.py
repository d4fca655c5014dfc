"""What a backend does to its process, or to memory that it was lent, costs its own verdicts and no other's."""

import os
import time
from pathlib import Path

import pytest
from hostile_state import HARMLESS, children_of
from test_hostile_backends import (  # noqa: F401 - fixtures
    CASES,
    CRASH,
    ERROR,
    FAIL,
    HERE,
    NOT_RUN,
    OOM,
    PASS,
    TIMEOUT,
    all_end,
    cases,
    ended_by_contract,
    verdicts,
)


def hostile(name):
    return f"{HERE / 'hostile_state.py'}:{name}"


@pytest.mark.parametrize("name", [*HARMLESS, "main_thread_only"])
def test_what_it_does_to_its_process_changes_no_verdict(verdicts, name):  # noqa: F811
    all_end(verdicts(hostile(name)), PASS, "")


def test_child_processes_do_not_outlive_their_worker(verdicts):  # noqa: F811
    all_end(verdicts(hostile("leaves_a_child")), PASS, "")
    path = children_of(os.getpid())
    children = path.read_text().split()
    path.unlink()
    assert children
    deadline = time.monotonic() + 10
    while (left := [c for c in children if alive(c)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", ["deadlocks", "deaf_and_busy"])
def test_what_cannot_be_asked_to_leave_is_killed(verdicts, name):  # noqa: F811
    ended_by_contract(verdicts(hostile(name)), TIMEOUT, "in run(): did not return within 1.5 s")


def test_a_slow_leak_ends_as_oom_and_the_rest_is_run_in_a_new_worker(verdicts):  # noqa: F811
    found = verdicts(hostile("leaks"))
    assert {v.status for v in found.values()} <= {PASS, OOM, NOT_RUN}
    order = [v.status for v in found.values()]
    assert OOM in order
    assert PASS in order[order.index(OOM) :]  # how many depends on when the poll looks


def test_no_comparison_is_made_in_its_process(verdicts):  # noqa: F811
    found = verdicts(hostile("cheats"))
    assert {found[case, check].status for case in CASES for check in ("integers", "impulses")} == {FAIL}
    assert {v.status for v in found.values()} <= {PASS, FAIL}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("writes_before", "bytes between b and out"),
        ("writes_behind", "bytes after out"),
    ],
)
def test_a_write_beside_the_output_fails_the_contract(verdicts, name, text):  # noqa: F811
    found = verdicts(hostile(name))
    assert text in found["basic-bias", "contract"].message
    assert {v.status for (_, check), v in found.items() if check == "contract"} == {FAIL}


def test_a_read_outside_of_its_operands_is_found(verdicts):  # noqa: F811
    found = verdicts(hostile("reads_outside"))
    assert FAIL in {v.status for (_, check), v in found.items() if check in ("contract", "read_guards", "integers")}
    assert {v.status for v in found.values()} <= {PASS, FAIL, NOT_RUN}


@pytest.mark.parametrize("name", ["remembers", "right_from_the_second_call"])
def test_a_result_kept_from_before_or_not_ready_yet_is_wrong(verdicts, name):  # noqa: F811
    found = verdicts(hostile(name))
    for case in CASES:
        assert FAIL in {v.status for (c, _), v in found.items() if c == case}
    assert not {v.status for v in found.values()} & {ERROR, CRASH}


@pytest.mark.parametrize("name", ["writes_late", "changes_its_result"])
def test_an_output_that_changes_after_run_returned_is_found(verdicts, name):  # noqa: F811
    found = verdicts(hostile(name))
    for case in CASES:
        texts = [v.message for (c, _), v in found.items() if c == case and v.status is FAIL]
        assert any("after run() had returned" in t or "differ" in t for t in texts), found
