"""A worker serves one backend apart from everything, within its limits, and dies with the main process."""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver

import pytest
from runner_backends import reference

from harness.backend import Unsupported
from harness.records import Status
from harness.run.arena import layout
from harness.run.limits import THREAD_VARIABLES, Limits
from harness.run.link import LocalLink, WorkerLink
from harness.run.messages import Call, Done, Load, Loaded, Prepare, Trouble
from harness.run.process import WorkerGone
from harness.run.worker import HEADROOM
from harness.spec import ConvSpec

SPEC = ConvSpec("conv", (9,), (3,))


@pytest.fixture
def link():
    """Makes links: `link(name, seconds=...)`. None outlives the test."""
    made = []

    def make(name, **limits):
        made.append(WorkerLink(reference(name), Limits(**limits)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def called(link, seconds=20.0):
    """The reply to one call on whatever lies in the arena."""
    assert isinstance(link.load(), Loaded)
    lay = layout(SPEC)
    link.arena.arrays(lay)
    assert isinstance(link.ask(Prepare(SPEC, "cpu", lay), 20), Done)
    return link.ask(Call(), seconds)


def seen(link):
    """What the backend `telling` finds in its process."""
    return called(link).message


def test_a_worker_answers_and_its_generation_counts_its_deaths(link):
    one = link("right")
    assert isinstance(called(one), Done)
    assert one.generation == 1
    one.close()
    assert isinstance(called(one), Done)
    assert one.generation == 2


def test_threads_are_fixed_in_a_worker_s_environment_and_their_waiting_is_passive():
    """In a process of its own, because a fork server is started once."""
    code = f"""
import os, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_worker import *
os.environ |= {{"OMP_NUM_THREADS": "5", "OMP_WAIT_POLICY": "active"}}
for _ in range(2):
    one = WorkerLink(reference("telling"), Limits(threads=3))
    print(seen(one))
    one.close()
assert os.environ["OMP_NUM_THREADS"] == "5"
assert "PYTHONSAFEPATH" not in os.environ
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.count("threads ['3'] ") == 2
    assert done.stdout.count("waits ['4', 'active', '0']") == 2  # what waits sleeps, unless the caller says otherwise
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"} <= set(THREAD_VARIABLES)


def test_a_worker_has_its_memory_limit_no_input_and_none_of_the_caller_s_main(link):
    text = seen(link("telling", memory=1 << 30))
    assert f"data {(1 << 30) + HEADROOM} " in text
    assert "main None stdin /dev/null safe None" in text


def test_a_fork_server_that_is_killed_is_replaced(link):
    first = link("right")
    assert isinstance(called(first), Done)
    server = forkserver._forkserver._forkserver_pid
    os.kill(server, signal.SIGKILL)
    second = link("right")
    assert isinstance(called(second), Done)
    assert forkserver._forkserver._forkserver_pid != server


def test_the_caller_s_main_is_not_imported_again(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\n"
        "open('imported', 'a').write('x')\n"
        "from test_worker import *\n"
        "one = WorkerLink(reference('right'), Limits())\n"
        "assert isinstance(called(one), Done)\n"
        "one.close()\n"
    )
    subprocess.run([sys.executable, script], cwd=tmp_path, check=True, timeout=60)
    assert (tmp_path / "imported").read_text() == "x"


def test_a_folder_in_the_working_directory_shadows_no_import(tmp_path):
    for name in ("harness", "numpy", "backends", "socket"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('shadowed')\n")
    command = os.path.join(os.path.dirname(sys.executable), "convproof")
    if not os.path.exists(command):
        pytest.skip("the command is not installed")
    words = [command, "verify", "lecture-conv1d-valid", "--backend", reference("right"), "--seed", "1"]
    env = os.environ | {"PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60, env=env)
    assert done.returncode == 0, done.stderr


def test_a_crash_names_the_signal_and_the_line(link):
    with pytest.raises(WorkerGone) as caught:
        called(link("crashing"))
    assert caught.value.status is Status.CRASH
    assert re.search(r"killed by SIGSEGV at .*runner_backends.py:\d+ in read_address_zero", caught.value.message)


def test_a_hang_in_native_code_ends_with_its_time(link):
    start = time.monotonic()
    with pytest.raises(WorkerGone) as caught:
        called(link("hanging"), seconds=0.3)
    assert caught.value.status is Status.TIMEOUT
    assert time.monotonic() - start < 10


def test_printing_without_end_fills_no_memory(link):
    one = link("flooding")
    with pytest.raises(WorkerGone) as caught:
        called(one, seconds=0.6)
    assert caught.value.status is Status.TIMEOUT


def test_the_log_of_a_worker_that_prints_much_is_cut(link):
    from harness.run.process import _LOG_LIMIT

    one = link("loud")
    called(one)
    log = one._worker._log
    os.write(log, b"x" * (2 * _LOG_LIMIT))
    assert isinstance(one.ask(Call(), 20), Done)
    assert os.fstat(log).st_size <= _LOG_LIMIT
    assert os.fstat(log).st_blocks * 512 <= _LOG_LIMIT


def test_any_exception_is_told_and_the_worker_lives_on(link):
    one = link("odd")
    reply = called(one)
    assert (reply.kind, reply.message) == ("error", "NoOrdinaryError: odd")
    assert isinstance(one.ask(Call(), 20), Trouble)
    assert one.generation == 1


def test_a_reply_of_the_backend_s_own_types_is_refused_and_imports_nothing_here(link):
    before = set(sys.modules)
    reply = link("foreign").load()
    assert isinstance(reply, Trouble)
    assert "_Foreign: only the contract's types" in reply.message
    assert not [m for m in set(sys.modules) - before if m.startswith("convproof_file_")]


def test_an_abandoned_link_is_dead_at_once_and_starts_nothing(link):
    from threading import Timer

    one = link("hanging")
    one.load()
    Timer(0.2, one.abandon).start()
    start = time.monotonic()
    with pytest.raises(WorkerGone):
        called(one, seconds=30)
    assert time.monotonic() - start < 10
    with pytest.raises(WorkerGone) as caught:
        one.load()
    assert caught.value.status is Status.NOT_RUN


def test_a_link_in_this_process_lets_an_interrupt_pass():
    link = LocalLink(reference("right"))
    assert isinstance(link.load(), Loaded)
    lay = layout(SPEC)
    link.ask(Prepare(SPEC, "cpu", lay), 1)

    def interrupted(*arrays):
        raise KeyboardInterrupt

    link._server.prepared.run = interrupted
    with pytest.raises(KeyboardInterrupt):
        link.ask(Call(), 1)

    def unsupported(*arrays):
        raise Unsupported("no")

    link._server.prepared.run = unsupported
    assert link.ask(Call(), 1) == Trouble("unsupported", "no")
    link.close()


def test_leaving_the_debugger_is_an_interrupt():
    from bdb import BdbQuit

    link = LocalLink(reference("right"))
    link._server._load = None

    def quit_debugger(request):
        raise BdbQuit

    link._server._load = quit_debugger
    with pytest.raises(KeyboardInterrupt):
        link.ask(Load("x"), 1)


@pytest.mark.parametrize("name", ["slow", "hanging", "breeding"])
def test_a_killed_main_process_leaves_no_process_behind(name, tmp_path):
    """Not even where a worker hangs in native code and never looks at its connection."""
    mark = f"x{os.getpid()}{name}"
    words = [sys.executable, "-m", "harness.cli", "verify", "lecture-*", "--backend", reference(name), "--seed", "1"]
    env = os.environ | {"CONVPROOF_TEST_MARK": mark, "PYTHONPATH": os.path.dirname(os.path.dirname(__file__))}
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: len(processes(mark)) >= 4, 30)  # main, tracker, fork server, worker
            time.sleep(0.2)
        finally:
            process.send_signal(signal.SIGKILL)
    wait_until(lambda: not processes(mark), 10)


def processes(mark):
    """Ids of the processes that inherited `mark`."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                if mark.encode() in f.read():
                    found.append(int(pid))
        except OSError:
            continue
    return found


def wait_until(condition, seconds):
    """Wait for `condition`, at most so long; it holds afterwards."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def test_a_fork_server_that_has_ended_is_started_again(link):
    """By the end of one, no folder is removed that the next will listen in."""
    from multiprocessing import forkserver

    before = link("right")
    assert isinstance(before.load(), Loaded)
    before.close()
    forkserver._forkserver._stop()
    assert isinstance(link("right").load(), Loaded)


def load_in_a_child(reference):
    """In a child of this process: a worker there has a fork server of its own, which ends with the child."""
    one = WorkerLink(reference, Limits())
    loaded = isinstance(one.load(), Loaded)
    one.close()
    return loaded


def test_the_end_of_a_child_process_takes_nothing_from_its_parent(link):
    assert isinstance(link("right").load(), Loaded)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(load_in_a_child, reference("right")).result(60)
    time.sleep(1.0)
    assert isinstance(link("right").load(), Loaded)
