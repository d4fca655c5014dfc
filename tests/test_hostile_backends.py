"""Nothing that a backend does costs more than its own verdicts: real workers, hostile backends.

Each runs together with a right one. Its verdicts are what it deserves, the right one's are all PASS, and
there are as many records as jobs.
"""

import platform
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from harness.catalogue import load_catalogue
from harness.records import Status
from harness.run.campaign import Campaign
from harness.run.limits import Limits
from harness.run.runner import Options

HERE = Path(__file__).parent
#: One whose output has its input's shape and that prints numbers of its own, one that differs in every size.
CASES = ("lecture-conv1d-same-odd", "basic-bias")
LIMITS = Limits(seconds=1.5, load_seconds=20, memory=400 << 20, threads=1)
IMPATIENT = Limits(seconds=1.5, load_seconds=3, memory=400 << 20, threads=1)
PASS, FAIL, ERROR, CRASH, TIMEOUT, OOM = (Status[s] for s in ("PASS", "FAIL", "ERROR", "CRASH", "TIMEOUT", "OOM"))
UNSUPPORTED, NOT_RUN = Status.UNSUPPORTED, Status.NOT_RUN
X86 = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or not sys.platform.startswith("linux"),
    reason="sets the mode in glibc's fenv_t of x86-64",
)


@pytest.fixture(scope="module")
def cases():
    return load_catalogue().select(list(CASES))


@pytest.fixture
def verdicts(cases):
    """Run a hostile backend beside a right one; the verdicts of the hostile one by (case, check)."""

    def run(reference, limits=LIMITS, options=None):
        threads = threading.active_count()
        references = [reference, f"{HERE / 'right_numpy.py'}:backend"]
        with Campaign(cases, references, options=options or Options(jobs=1, limits=limits)) as campaign:
            plan = campaign.plan(refusals=False)
            records = [r for batch in campaign.records(plan) for r in batch]
        assert len(records) == len({r.job for r in records}) == plan.jobs
        right = [r for r in records if r.job.backend == "right-numpy"]
        assert Counter(r.verdict.status for r in right) == {PASS: len(right)}
        assert threading.active_count() == threads
        hostile = {(r.job.case, r.job.check): r.verdict for r in records if r.job.backend != "right-numpy"}
        assert {case for case, _ in hostile} == {r.job.case for r in right} == set(CASES)
        return hostile

    return run


def hostile(name):
    return f"{HERE / 'hostile_backends.py'}:{name}"


def ended_by_contract(found, status, text):
    """The contract check of each case ended so and says `text`; the checks that follow it were not run."""
    for (case, check), v in found.items():
        if check == "contract":
            assert v.status is status, (case, v)
            assert text in v.message, (case, v)
        else:
            assert v.status is NOT_RUN, (case, check, v)
            assert v.message == f"the contract check ended with {status}"


def all_end(found, status, text):
    """Every check of every case ended so and says `text`."""
    for key, v in found.items():
        assert v.status is status, (key, v)
        assert text in v.message, (key, v)


# --- lies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["all_zeros", "all_nan"])
def test_every_data_check_fails_a_constant(verdicts, name):
    found = verdicts(hostile(name))
    for check in ("integers", "impulses", "zero_mean", "literal"):
        assert {v.status for (_, c), v in found.items() if c == check} == {FAIL}, check
    assert {v.status for v in found.values()} <= {PASS, FAIL}


def test_nan_equals_nothing_even_where_no_oracle_takes_part(verdicts):
    found = [v for (_, c), v in verdicts(hostile("all_nan")).items() if c in ("equivariance", "integers", "zero_mean")]
    assert {v.status for v in found} == {FAIL}
    assert all(v.mismatches == v.compared > 0 for v in found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("returns_its_input", "returned "),
        ("wrong_shape", "returned shape ["),
        ("extra_axis", "returned shape [1, 1, "),
        ("wrong_dtype", "returned dtype float64, the specification's output is float32"),
        ("big_endian", "returned dtype >f4"),
        ("a_list", "returned builtins.list: return a plain numpy.ndarray"),
        ("nothing", "returned builtins.NoneType"),
        ("a_scalar", "returned builtins.float"),
        ("subclass", "Subclass: return a plain numpy.ndarray"),
        ("masked", "MaskedArray: return a plain numpy.ndarray"),
        ("run_returns", "run() returned ndarray: it writes into `out` and returns None"),
        ("raises_contract_error", "so be it"),
    ],
)
def test_what_is_no_fresh_array_of_the_right_kind_fails_the_contract(verdicts, name, text):
    ended_by_contract(verdicts(hostile(name)), FAIL, text)


def test_a_view_of_the_input_is_no_fresh_array(verdicts):
    v = verdicts(hostile("returns_a_view"))["lecture-conv1d-same-odd", "contract"]
    assert (v.status, v.message) == (FAIL, "in run(): returned memory of one of its inputs: return a fresh array")


@X86
@pytest.mark.parametrize(
    ("name", "mode"), [("rounds_upward", "upward"), ("flushes_to_zero", "flush to zero, subnormal inputs read as zero")]
)
def test_a_floating_point_mode_that_is_left_changed_fails_the_contract(verdicts, name, mode):
    ended_by_contract(verdicts(hostile(name)), FAIL, "left the floating-point mode changed")
    assert mode in verdicts(hostile(name))[CASES[0], "contract"].message


# --- exceptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("raises", "in run(): ValueError: the kernel is on fire"),
        ("raises_system_exit", "SystemExit: 0"),
        ("raises_keyboard_interrupt", "KeyboardInterrupt"),
        ("raises_base_exception", "Bare: bare"),
        ("raises_generator_exit", "GeneratorExit"),
        ("raises_stop_iteration", "StopIteration"),
        ("raises_assertion", "AssertionError"),
        ("raises_unpicklable", "Unpicklable: ('no pickle takes me'"),
        ("raises_unprintable", "Unprintable: (its message cannot be shown: RuntimeError)"),
        ("raises_unbounded", "Unbounded: long long"),
        ("raises_escapes", "ValueError: "),
        ("raises_surrogates", "ValueError: "),
        ("raises_another", "MemoryError"),
        ("raises_eof", "EOFError"),
        ("recurses", "RecursionError"),
        ("bad_phases", "could not convert string to float: 'fast'"),
        ("prepare_raises", "in prepare(): OSError: no compiler"),
        ("prepare_gives_none", "in prepare(): "),
        ("enter_raises", "in prepare(): RuntimeError: the door is shut"),
    ],
)
def test_whatever_is_raised_is_an_error_of_bounded_length(verdicts, name, text):
    found = verdicts(hostile(name))
    ended_by_contract(found, ERROR, text)
    assert all(len(v.message) < 2100 for v in found.values())


def test_an_exit_that_raises_costs_its_own_case_the_contract_and_nothing_else(verdicts):
    """A case is left before the next begins, so that it is charged itself."""
    found = verdicts(hostile("exit_raises"))
    assert {key[-1] if isinstance(key, tuple) else key.check for key, v in found.items() if v.status is ERROR} == {"contract"}
    assert {v.status for key, v in found.items()} == {PASS, ERROR}
    assert all("in __exit__(): " in v.message for v in found.values() if v.status is ERROR)


# --- deaths -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("segfaults", "in run(): killed by SIGSEGV at "),
        ("aborts", "in run(): killed by SIGABRT"),
        ("exits", "in run(): its process exited with code 0"),
        ("kills_itself", "in run(): killed by SIGKILL"),
        ("forks_and_dies", "in run(): its process exited with code 1"),
        ("closes_every_file", "in run(): "),
        ("prepare_exits", "in prepare(): its process exited with code 3"),
    ],
)
def test_a_death_is_a_crash(verdicts, name, text):
    ended_by_contract(verdicts(hostile(name)), CRASH, text)


def test_a_crash_names_the_line_that_it_died_at(verdicts):
    assert "hostile_backends.py:" in verdicts(hostile("segfaults"))[CASES[0], "contract"].message


def test_a_stack_that_overflows_is_a_crash_or_an_error(verdicts):
    """Newer interpreters raise RecursionError where older ones die."""
    statuses = {v.status for (_, c), v in verdicts(hostile("overflows_the_stack")).items() if c == "contract"}
    assert statuses <= {CRASH, ERROR}


def test_a_backend_that_kills_every_worker_is_given_up(verdicts):
    options = Options(jobs=1, limits=LIMITS, give_up_after=1)
    found = verdicts(hostile("segfaults"), options=options)
    assert Counter(v.status for v in found.values()) == {CRASH: 1, NOT_RUN: len(found) - 1}
    assert any("give_up_after" in v.message for v in found.values())


# --- time and memory --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["hangs", "sleeps", "holds_the_gil"])
def test_what_does_not_return_is_a_timeout(verdicts, name):
    ended_by_contract(verdicts(hostile(name)), TIMEOUT, "in run(): did not return within 1.5 s")


def test_a_prepare_that_does_not_return_is_a_timeout(verdicts):
    ended_by_contract(verdicts(hostile("prepare_hangs"), IMPATIENT), TIMEOUT, "in prepare(): did not return within 3 s")


@pytest.mark.parametrize("name", ["allocates_100_gb", "mallocs", "hoards_a_list"])
def test_more_memory_than_the_limit_is_oom(verdicts, name):
    """By RLIMIT_DATA, which makes the allocation fail."""
    ended_by_contract(verdicts(hostile(name)), OOM, "in run(): ")


def test_shared_memory_counts_too(verdicts):
    """No limit of the system's holds it: the parent polls what is resident."""
    ended_by_contract(verdicts(hostile("hoards_shared_memory")), OOM, "GB, the limit is 0.42 GB")


def test_a_workspace_beyond_the_limit_is_never_started(verdicts):
    all_end(verdicts(hostile("workspace_is_huge")), NOT_RUN, "raise `memory`")


# --- harmless, if the harness is well made ----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shouts", "leaves_a_thread", "forks"])
def test_noise_threads_and_children_change_no_verdict(verdicts, name, capfd):
    all_end(verdicts(hostile(name)), PASS, "")
    assert capfd.readouterr() == ("", "")


# --- before any run ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("prepare_unsupported", UNSUPPORTED, "no such kernel here"),
        ("rule_refuses", UNSUPPORTED, "not on Sundays"),
        ("rule_raises", ERROR, "could not tell its limits: AttributeError"),
        ("workspace_raises", ERROR, "could not tell its limits: ZeroDivisionError: no size"),
        ("workspace_is_text", ERROR, "could not tell its limits: ValueError"),
        ("probe_raises", ERROR, "could not be loaded: RuntimeError: driver on strike"),
        ("probe_crashes", CRASH, "while it was loaded: killed by SIGSEGV"),
        ("probe_gives_a_list", FAIL, "probe() returned list, expected a Probe"),
        ("name_with_spaces", ERROR, "its name 'a name with spaces' holds more than letters"),
        ("contract_99", ERROR, "is written for contract 99.0, this harness has"),
        ("no_info", ERROR, "`info` is NoneType, expected a BackendInfo"),
        ("info_is_a_dict", ERROR, "`info` is dict, expected a BackendInfo"),
        ("no_prepare", ERROR, "it has no method prepare()"),
        ("no_such_attribute", ERROR, "has no 'no_such_attribute'"),
    ],
)
def test_what_goes_wrong_before_any_run_is_the_verdict_of_all_its_jobs(verdicts, name, status, text):
    all_end(verdicts(hostile(name)), status, text)


def test_a_probe_that_does_not_return_is_a_timeout(verdicts):
    all_end(verdicts(hostile("probe_hangs"), IMPATIENT), TIMEOUT, "while it was loaded: did not return within 3 s")


@pytest.mark.parametrize(
    ("source", "status", "text"),
    [
        ("import os\nos._exit(0)", CRASH, "while it was loaded: its process exited with code 0"),
        ("import os\nos.abort()", CRASH, "while it was loaded: killed by SIGABRT"),
        ("import ctypes\nctypes.string_at(0)", CRASH, "while it was loaded: killed by SIGSEGV"),
        ("raise SystemExit(0)", ERROR, "could not be loaded: SystemExit: 0"),
        ("raise RuntimeError('no licence')", ERROR, "could not be loaded: RuntimeError: no licence"),
        ("import no_such_package", ERROR, "could not be loaded: ModuleNotFoundError: No module named 'no_such_package'"),
        ("def backend(:", ERROR, "could not be loaded: SyntaxError"),
        ("x = bytes(1 << 40)", OOM, "could not be loaded: "),
        ("\0", ERROR, "could not be loaded: "),
    ],
)
def test_a_module_that_cannot_be_imported_costs_its_own_jobs_alone(verdicts, tmp_path, source, status, text):
    (tmp_path / "mine.py").write_text(source)
    all_end(verdicts(f"{tmp_path / 'mine.py'}:backend"), status, text)


def test_an_import_that_does_not_return_is_a_timeout(verdicts, tmp_path):
    (tmp_path / "mine.py").write_text("while True: pass")
    found = verdicts(f"{tmp_path / 'mine.py'}:backend", IMPATIENT)
    all_end(found, TIMEOUT, "while it was loaded: did not return within 3 s")


@X86
def test_an_import_that_changes_the_floating_point_mode_fails_the_contract(verdicts, tmp_path):
    """As loading a library that was linked with -ffast-math does."""
    lines = [
        f"import sys; sys.path.append({str(HERE)!r})",
        "import hostile_backends, right_numpy",
        "backend = right_numpy.Planned('fast-math', right_numpy.Right)",
        "hostile_backends._flush_to_zero()",
    ]
    (tmp_path / "mine.py").write_text("\n".join(lines))
    found = verdicts(f"{tmp_path / 'mine.py'}:backend")
    ended_by_contract(found, FAIL, "its import left the floating-point mode changed: to nearest, flush to zero")
