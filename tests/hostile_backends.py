"""Backends that break the harness if it lets them: they crash, hang, exhaust memory, lie or shout.

Each is an attribute of this module, loaded by workers as `hostile_backends.py:NAME`. Those whose
import itself is hostile are files that `test_hostile_backends` writes.
"""

import ctypes
import mmap
import os
import sys
import threading
import time
from functools import cache
from types import SimpleNamespace

import numpy as np
from right_numpy import Planned, Right

from harness.backend import BackendInfo, ContractError, Limits, Unsupported, from_function


def misbehaves(name, act):
    """A backend that is right, but for what `act(spec, y, out)` does before the result is written."""

    class Hostile(Right):
        def write(self, spec, y, out):
            act(spec, y, out)
            super().write(spec, y, out)

    return Planned(name, Hostile)


def does(act):
    """`act()` as an `act(spec, y, out)`."""
    return lambda spec, y, out: act()


def throws(make):
    """Raise what `make()` gives."""

    def act(spec, y, out):
        raise make()

    return act


def returns(name, change):
    """A backend that returns `change(spec, x, y)` where y is right."""
    return from_function(name, lambda spec, x, w, b: change(spec, x, Right()(spec, x, w, b)))


# --- lies -------------------------------------------------------------------------------------------------------
all_zeros = returns("all-zeros", lambda spec, x, y: np.zeros_like(y))
all_nan = returns("all-nan", lambda spec, x, y: np.full_like(y, np.nan))
returns_its_input = returns("returns-its-input", lambda spec, x, y: x)
returns_a_view = returns(
    "returns-a-view", lambda spec, x, y: x.reshape(-1)[: y.size].reshape(y.shape) if x.size >= y.size else y
)
wrong_shape = returns("wrong-shape", lambda spec, x, y: y[..., :-1])
extra_axis = returns("extra-axis", lambda spec, x, y: y[None])
wrong_dtype = returns("wrong-dtype", lambda spec, x, y: y.astype(np.float64))
big_endian = returns("big-endian", lambda spec, x, y: y.astype(">f4"))
a_list = returns("a-list", lambda spec, x, y: y.tolist())
nothing = returns("nothing", lambda spec, x, y: None)
a_scalar = returns("a-scalar", lambda spec, x, y: 0.0)


class Subclass(np.ndarray):
    """Whose comparison always succeeds."""

    def __eq__(self, other):
        return np.ones(self.shape, bool)


subclass = returns("subclass", lambda spec, x, y: y.view(Subclass))
masked = returns("masked", lambda spec, x, y: np.ma.masked_array(y, mask=True))


# --- exceptions -------------------------------------------------------------------------------------------------
class Unpicklable(Exception):
    """Holds what pickle refuses."""

    def __init__(self):
        super().__init__("no pickle takes me", lambda: None, threading.Lock())

    def __reduce__(self):
        raise TypeError("not to be pickled")


class Unprintable(Exception):
    """Cannot be shown."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class Unbounded(Exception):
    """Has a message of ten megabytes."""

    def __str__(self):
        return "long " * 2_000_000


class NamedLikeAnother(Exception):
    """Calls itself MemoryError."""


NamedLikeAnother.__qualname__ = "MemoryError"


class Bare(BaseException):
    """Derives from no Exception."""


raises = misbehaves("raises", throws(lambda: ValueError("the kernel is on fire")))
raises_system_exit = misbehaves("raises-system-exit", throws(lambda: SystemExit(0)))
raises_keyboard_interrupt = misbehaves("raises-keyboard-interrupt", throws(KeyboardInterrupt))
raises_base_exception = misbehaves("raises-base-exception", throws(lambda: Bare("bare")))
raises_generator_exit = misbehaves("raises-generator-exit", throws(GeneratorExit))
raises_stop_iteration = misbehaves("raises-stop-iteration", throws(StopIteration))
raises_assertion = misbehaves("raises-assertion", throws(AssertionError))
raises_unpicklable = misbehaves("raises-unpicklable", throws(Unpicklable))
raises_unprintable = misbehaves("raises-unprintable", throws(Unprintable))
raises_unbounded = misbehaves("raises-unbounded", throws(Unbounded))
raises_escapes = misbehaves("raises-escapes", throws(lambda: ValueError("\x1b[2J\x1b]0;owned\x07\x1b[31mred\r\n\x00::error::")))
raises_surrogates = misbehaves("raises-surrogates", throws(lambda: ValueError("\udcff\ud800")))
raises_another = misbehaves("raises-another", throws(NamedLikeAnother))
raises_contract_error = misbehaves("raises-contract-error", throws(lambda: ContractError("so be it")))
raises_eof = misbehaves("raises-eof", throws(EOFError))
recurses = misbehaves("recurses", does(lambda: _recurse(0)))


def _recurse(n):
    return _recurse(n + 1) + 1


def _dive(n):
    return max((n,), key=_dive)  # through C, a frame of its stack each


def _fork(parent_dies):
    if os.fork() == 0:
        time.sleep(8)
        os._exit(0)
    if parent_dies:
        os._exit(1)


# --- deaths -----------------------------------------------------------------------------------------------------
segfaults = misbehaves("segfaults", does(lambda: ctypes.string_at(0)))
aborts = misbehaves("aborts", does(os.abort))
exits = misbehaves("exits", does(lambda: os._exit(0)))
kills_itself = misbehaves("kills-itself", does(lambda: os.kill(os.getpid(), 9)))
overflows_the_stack = misbehaves("overflows-the-stack", does(lambda: (sys.setrecursionlimit(10**9), _dive(0))))
forks = misbehaves("forks", does(lambda: _fork(False)))
forks_and_dies = misbehaves("forks-and-dies", does(lambda: _fork(True)))
closes_every_file = misbehaves("closes-every-file", does(lambda: os.closerange(0, 256)))

# --- time -------------------------------------------------------------------------------------------------------


def _spin():
    while True:
        pass


hangs = misbehaves("hangs", does(_spin))
sleeps = misbehaves("sleeps", does(lambda: time.sleep(600)))
holds_the_gil = misbehaves("holds-the-gil", does(lambda: ctypes.PyDLL(None).sleep(600)))
leaves_a_thread = misbehaves("leaves-a-thread", does(lambda: _leave_a_thread()))


@cache
def _leave_a_thread():
    threading.Thread(target=time.sleep, args=(600,)).start()


# --- memory -----------------------------------------------------------------------------------------------------


def _malloc(size):
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    step = 16 << 20
    held = 0
    while held < size:
        block = libc.malloc(step)
        if not block:
            raise MemoryError(f"malloc gave NULL after {held >> 20} MB")
        ctypes.memset(block, 1, step)
        held += step


def _shared(size):
    held = mmap.mmap(-1, size)
    for at in range(0, size, 4096):
        held[at] = 1
    time.sleep(600)


GREEDY = 2 << 30
allocates_100_gb = misbehaves("allocates-100-gb", does(lambda: np.ones(100 << 30, np.uint8)))
mallocs = misbehaves("mallocs", does(lambda: _malloc(GREEDY)))
hoards_shared_memory = misbehaves("hoards-shared-memory", does(lambda: _shared(GREEDY)))
hoards_a_list = misbehaves("hoards-a-list", does(lambda: [bytes(1 << 20) for _ in range(GREEDY >> 20)]))


# --- noise ------------------------------------------------------------------------------------------------------
def _shout():
    for _ in range(4):
        print("x" * (1 << 20))
        print("\x1b[2J", file=sys.stderr)
        os.write(1, b"\xff" * (1 << 20))


shouts = misbehaves("shouts", does(_shout))


# --- state of the process ---------------------------------------------------------------------------------------
def _round_upward():
    ctypes.CDLL("libm.so.6").fesetround(0x800)  # FE_UPWARD of x86


def _flush_to_zero():
    """Set FTZ and DAZ in the MXCSR, which is at byte 28 of x86-64 glibc's fenv_t."""
    libm = ctypes.CDLL("libm.so.6")
    env = (ctypes.c_uint32 * 8)()
    libm.fegetenv(ctypes.byref(env))
    env[7] |= 0x8040
    libm.fesetenv(ctypes.byref(env))


rounds_upward = misbehaves("rounds-upward", does(_round_upward))
flushes_to_zero = misbehaves("flushes-to-zero", does(_flush_to_zero))


# --- the other methods ------------------------------------------------------------------------------------------
class Over(Planned):
    """A right backend whose attributes can be replaced."""

    def __init__(self, name, **methods):
        limits = methods.pop("limits", Limits())
        super().__init__(name, Right, limits=limits, **methods.pop("info", {}))
        self.__dict__.update(methods)


def _raise(e):
    raise e


prepare_unsupported = Over("prepare-unsupported", prepare=lambda spec, device: _raise(Unsupported("no such kernel here")))
prepare_raises = Over("prepare-raises", prepare=lambda spec, device: _raise(OSError("no compiler")))
prepare_exits = Over("prepare-exits", prepare=lambda spec, device: os._exit(3))
prepare_hangs = Over("prepare-hangs", prepare=lambda spec, device: time.sleep(600))
prepare_gives_none = Over("prepare-gives-none", prepare=lambda spec, device: None)
workspace_raises = Over("workspace-raises", workspace_bytes=lambda spec: _raise(ZeroDivisionError("no size")))
workspace_is_huge = Over("workspace-is-huge", workspace_bytes=lambda spec: 10**15)
workspace_is_text = Over("workspace-is-text", workspace_bytes=lambda spec: "a lot")
rule_raises = Over("rule-raises", limits=Limits(rule=lambda spec: spec.no_such_field))
rule_refuses = Over("rule-refuses", limits=Limits(rule=lambda spec: "not on Sundays"))
probe_raises = Over("probe-raises", probe=lambda: _raise(RuntimeError("driver on strike")))
probe_hangs = Over("probe-hangs", probe=lambda: time.sleep(600))
probe_crashes = Over("probe-crashes", probe=lambda: ctypes.string_at(0))
probe_gives_a_list = Over("probe-gives-a-list", probe=lambda: ["cpu"])
name_with_spaces = Over("a name with spaces")
contract_99 = Over("contract-99", info={"contract": (99, 0)})
no_info = SimpleNamespace(probe=lambda: None, workspace_bytes=lambda s: 0, prepare=lambda s, d: None)
info_is_a_dict = SimpleNamespace(info={"name": "x"}, probe=lambda: None, workspace_bytes=lambda s: 0, prepare=lambda s, d: None)
no_prepare = SimpleNamespace(info=BackendInfo("no-prepare"), probe=lambda: None, workspace_bytes=lambda s: 0)


class RunReturns:
    """A Prepared whose `run` returns its output."""

    def run(self, x, w, b, out):
        out[...] = 0
        return out

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


class EnterRaises(RunReturns):
    """A Prepared that cannot be entered."""

    def __enter__(self):
        raise RuntimeError("the door is shut")


class ExitRaises(RunReturns):
    """A Prepared that is right and cannot be left."""

    def __init__(self, spec):
        self.spec = spec

    def run(self, x, w, b, out):
        out[...] = Right()(self.spec, x, w, b)

    def __exit__(self, *exc):
        raise RuntimeError("the door is stuck")


run_returns = Over("run-returns", prepare=lambda spec, device: RunReturns())
enter_raises = Over("enter-raises", prepare=lambda spec, device: EnterRaises())
exit_raises = Over("exit-raises", prepare=lambda spec, device: ExitRaises(spec))


class BadPhases(ExitRaises):
    """Phases that are no numbers."""

    phases = {"kernel": "fast"}  # noqa: RUF012

    def __exit__(self, *exc):
        return None


bad_phases = Over("bad-phases", prepare=lambda spec, device: BadPhases(spec))
