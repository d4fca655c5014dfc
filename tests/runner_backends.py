"""Backends that behave in one stated way, for the tests of the runner and the command line.

Tests reach them as any user's file is reached, by `FILE.py:NAME` (`reference`); some write what they see
into a file beside, whose folder is the case's only way out of a worker.
"""

import ctypes
import itertools
import os
import sys
import time
from pathlib import Path

import numpy as np

from harness.backend import Limits, Probe, from_function

LIMITS = Limits(ops=("conv",), dtypes=("f32",), padding_modes=("zeros",), groups=False, flip=False, negative_padding=False)
_calls = itertools.count(1)


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


def compute(spec, x, w, b):
    """The sum over the taps of shifted, strided views of the padded input."""
    x = np.pad(x, [(0, 0), (0, 0), *spec.padding])
    y = np.zeros(spec.out_shape, x.dtype)
    for tap in itertools.product(*map(range, spec.kernel_size)):
        axes = zip(tap, spec.dilation, spec.out_size, spec.stride, strict=True)
        view = x[(..., *(slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in axes))]
        y += np.einsum("nc...,oc->no...", view, w[(..., *tap)])
    return y if b is None else y + b.reshape(-1, *(1,) * spec.rank)


def compute_wrong(spec, x, w, b):
    y = compute(spec, x, w, b)
    y.flat[-1:] *= 1.5
    return y


def compute_loudly(spec, x, w, b):
    print('{"not": "yours"}', flush=True)
    os.write(1, b"\x1b[31mraw\n")
    os.write(2, b"\x1b[31mraw\n")
    return compute(spec, x, w, b)


def compute_slowly(spec, x, w, b):
    time.sleep(0.02)
    return compute(spec, x, w, b)


def compute_while_open(spec, x, w, b):
    """Strided cases wait for as long as a file `closed` lies beside this one."""
    while max(spec.stride) > 1 and Path(__file__).with_name("closed").exists():
        time.sleep(0.01)
    return compute(spec, x, w, b)


def abort_on_the_third_call(spec, x, w, b):
    if next(_calls) % 3 == 0:
        os.abort()
    return compute(spec, x, w, b)


def read_address_zero(spec, x, w, b):
    ctypes.string_at(0)


def leave_a_child_and_hang(spec, x, w, b):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
    return hang_in_native_code(spec, x, w, b)


def hang_in_native_code(spec, x, w, b):
    ctypes.CDLL(None).pause()


def print_without_end(spec, x, w, b):
    while True:
        os.write(1, b"x" * (1 << 20))


def raise_foul_text(spec, x, w, b):
    raise ValueError("bad \ud800 \x00 \x1b[2J\x1b]0;title\x07 text")


class NoOrdinaryError(BaseException):
    pass


def raise_a_base_exception(spec, x, w, b):
    raise NoOrdinaryError("odd")


class _Without:
    """Has no device."""

    def __init__(self, inner):
        self.info, self.workspace_bytes, self.prepare = inner.info, inner.workspace_bytes, inner.prepare

    def probe(self):
        return Probe(reason="it needs a quantum computer", hint="buy one")


class _Hungry(_Without):
    """Asks for a petabyte."""

    def __init__(self, inner):
        super().__init__(inner)
        self.probe, self.workspace_bytes = inner.probe, lambda spec: 10**15


class _Foreign(str):
    """Text of a type that only this file holds."""


right = from_function("right", compute, LIMITS)
also_right = from_function("also-right", compute, LIMITS)
wrong = from_function("wrong", compute_wrong, LIMITS)
loud = from_function("loud", compute_loudly, LIMITS)
slow = from_function("slow", compute_slowly, LIMITS)
gated = from_function("gated", compute_while_open, LIMITS)
aborting = from_function("aborting", abort_on_the_third_call, LIMITS)
crashing = from_function("crashing", read_address_zero, LIMITS)
breeding = from_function("breeding", leave_a_child_and_hang, LIMITS)
hanging = from_function("hanging", hang_in_native_code, LIMITS)
flooding = from_function("flooding", print_without_end, LIMITS)
foul = from_function("foul", raise_foul_text, LIMITS)
odd = from_function("odd", raise_a_base_exception, LIMITS)
absent = _Without(from_function("absent", compute, LIMITS))
hungry = _Hungry(from_function("hungry", compute, LIMITS))
foreign = from_function("foreign", compute, LIMITS, summary=_Foreign("x"))
spec = from_function("spec", compute, LIMITS)
naive = from_function("naive", compute, LIMITS)


def environment(spec, x, w, b):
    """Raises what the worker sees of its process, as text."""
    import resource

    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    seen = {n: os.environ.get(n) for n in names}
    main = sys.modules["__main__"]
    raise RuntimeError(
        f"threads {sorted(set(map(str, seen.values())))} data {resource.getrlimit(resource.RLIMIT_DATA)[0]} "
        f"main {getattr(main, '__file__', None)} stdin {os.readlink('/proc/self/fd/0')} safe {os.environ.get('PYTHONSAFEPATH')}"
        f" waits {[os.environ.get(n) for n in ('OPENBLAS_THREAD_TIMEOUT', 'OMP_WAIT_POLICY', 'KMP_BLOCKTIME')]}"
    )


telling = from_function("telling", environment, LIMITS)
