"""Backends that change what a process shares, or hold on to what they were given: see `hostile_backends`.

Each is an attribute, loaded by workers as `hostile_state.py:NAME`.
"""

import builtins
import ctypes
import gc
import locale
import os
import random
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
from hostile_backends import does, misbehaves
from right_numpy import Planned, Right

# --- right, but for what they do to their process ---------------------------------------------------------------


def _set_a_locale():
    for name in ("de_DE.UTF-8", "tr_TR.UTF-8", "C"):
        try:
            return locale.setlocale(locale.LC_ALL, name)
        except locale.Error:
            continue


def _ignore_signals():
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})


def _replace_comparisons():
    """What a judge in this process would ask."""
    np.allclose = np.array_equal = lambda *a, **k: True
    np.testing.assert_allclose = np.testing.assert_array_equal = lambda *a, **k: None
    builtins.abs = lambda x: 0


def _stop_the_clock():
    time.perf_counter = time.monotonic = time.time = lambda: 0.0
    time.perf_counter_ns = time.monotonic_ns = lambda: 0


def _close_streams():
    sys.stdout = sys.stderr = None
    sys.excepthook = sys.unraisablehook = None


changes_directory = misbehaves("changes-directory", does(lambda: os.chdir("/")))
clears_environment = misbehaves("clears-environment", does(os.environ.clear))
sets_threads = misbehaves("sets-threads", does(lambda: os.environ.update(OMP_NUM_THREADS="77", NUMBA_NUM_THREADS="77")))
changes_locale = misbehaves("changes-locale", does(_set_a_locale))
ignores_signals = misbehaves("ignores-signals", does(_ignore_signals))
makes_numpy_raise = misbehaves("makes-numpy-raise", does(lambda: np.seterr(all="raise")))
seeds_every_generator = misbehaves("seeds-every-generator", does(lambda: (random.seed(0), np.random.seed(0))))
replaces_comparisons = misbehaves("replaces-comparisons", does(_replace_comparisons))
stops_the_clock = misbehaves("stops-the-clock", does(_stop_the_clock))
closes_streams = misbehaves("closes-streams", does(_close_streams))
switches_off_collection = misbehaves("switches-off-collection", does(gc.disable))
empties_the_path = misbehaves("empties-the-path", does(sys.path.clear))
lowers_recursion = misbehaves("lowers-recursion", does(lambda: sys.setrecursionlimit(150)))
HARMLESS = [
    "changes_directory", "clears_environment", "sets_threads", "changes_locale", "ignores_signals", "makes_numpy_raise",
    "seeds_every_generator", "replaces_comparisons", "stops_the_clock", "closes_streams", "switches_off_collection",
    "empties_the_path", "lowers_recursion",
]  # fmt: skip


class MainThreadOnly(Right):
    """Works only on the main thread, as windowing and some driver code does."""

    def write(self, spec, y, out):
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("call me on the main thread")
        super().write(spec, y, out)


main_thread_only = Planned("main-thread-only", MainThreadOnly)


# --- they never come back, and cannot be asked to leave ---------------------------------------------------------


def children_of(main):
    """The file in which the children are written that backends of a main process leave behind."""
    return Path(tempfile.gettempdir(), f"convproof-test-children-{main}")


def _leave_a_child():
    child = os.fork()
    if child == 0:
        time.sleep(600)
        os._exit(0)
    server = Path(f"/proc/{os.getppid()}/stat").read_text()
    with children_of(int(server.rpartition(")")[2].split()[1])).open("a") as file:
        file.write(f"{child}\n")


leaves_a_child = misbehaves("leaves-a-child", does(_leave_a_child))


def _deadlock():
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _deaf_and_busy():
    _ignore_signals()
    ctypes.PyDLL(None).sleep(600)  # native code that holds the interpreter's lock


deadlocks = misbehaves("deadlocks", does(_deadlock))
deaf_and_busy = misbehaves("deaf-and-busy", does(_deaf_and_busy))

_LEAKED = []
leaks = misbehaves("leaks", does(lambda: _LEAKED.append(bytearray(b"x" * (24 << 20)))))


# --- wrong, and hiding it ---------------------------------------------------------------------------------------


class Cheats(Right):
    """Gives zeros, having replaced every function that might compare them."""

    def write(self, spec, y, out):
        _replace_comparisons()
        _stop_the_clock()
        out[...] = 0


class Remembers(Right):
    """Gives the output of the first call again wherever the specification is the same."""

    kept: dict = {}  # noqa: RUF012 - shared on purpose

    def write(self, spec, y, out):
        out[...] = self.kept.setdefault(spec, y.copy())


class RightFromTheSecondCall(Right):
    """Gives zeros the first time: a lazy initialisation that comes too late."""

    calls: dict = {}  # noqa: RUF012

    def write(self, spec, y, out):
        out[...] = y if self.calls.setdefault(spec, 0) else 0
        self.calls[spec] += 1


class WritesLate(Right):
    """Returns before it is done: a thread writes the last element a millisecond later."""

    def write(self, spec, y, out):
        super().write(spec, y, out)
        threading.Timer(0.001, lambda: out.reshape(-1).__setitem__(slice(-1, None), 0)).start()


class ChangesItsResult(Right):
    """Returns what is right and spoils it soon after, long enough for it to have been read."""

    def write(self, spec, y, out):
        super().write(spec, y, out)
        threading.Timer(0.01, lambda: out.__setitem__(..., 0)).start()


class WritesBefore(Right):
    """Clears an element before the output."""

    def write(self, spec, y, out):
        super().write(spec, y, out)
        ctypes.memset(out.ctypes.data - out.itemsize, 0, out.itemsize)


class WritesBehind(Right):
    """Clears an element behind the output."""

    def write(self, spec, y, out):
        super().write(spec, y, out)
        ctypes.memset(out.ctypes.data + out.nbytes, 0, out.itemsize)


class ReadsOutside(Right):
    """Adds what lies behind the input, times zero: harmless until that is NaN."""

    def __call__(self, spec, x, w, b):
        beyond = np.frombuffer(ctypes.string_at(x.ctypes.data + x.nbytes, x.itemsize), x.dtype)
        return super().__call__(spec, x, w, b) + beyond * 0


cheats = Planned("cheats", Cheats)
remembers = Planned("remembers", Remembers)
right_from_the_second_call = Planned("right-from-the-second-call", RightFromTheSecondCall)
writes_late = Planned("writes-late", WritesLate)
changes_its_result = Planned("changes-its-result", ChangesItsResult)
writes_before = Planned("writes-before", WritesBefore)
writes_behind = Planned("writes-behind", WritesBehind)
reads_outside = Planned("reads-outside", ReadsOutside)
