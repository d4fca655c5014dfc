"""Backends that behave in one stated way when they are timed; tests reach them by `FILE.py:NAME` (`reference`)."""

import os
import threading
import time
from pathlib import Path

import numpy as np
from runner_backends import LIMITS, compute

from harness.backend import Device, Limits, Probe, from_function

#: Calls after which `later` errs, `dies` ends, `raises` raises and `sleeps` hangs: more than the verification makes.
PATIENCE = 12
_calls = 0
_kept = {}


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


def _counted(after):
    """`compute`, and `after` once it has been called so often."""

    def fn(spec, x, w, b):
        global _calls
        _calls += 1
        y = compute(spec, x, w, b)
        return y if _calls <= PATIENCE else after(y)

    return fn


def _off(y):
    y.flat[0] += 1
    return y


def _raise(y):
    raise RuntimeError("tired")


def _hang(y):
    time.sleep(60)
    return y


def _keep(spec, x, w, b):
    """Looks its result up by content: the second call on the same numbers costs nothing."""
    key = x.tobytes()
    if key not in _kept:
        time.sleep(0.002)
        _kept[key] = compute(spec, x, w, b)
    return _kept[key].copy()


def _coarse(spec, x, w, b):
    """Rounds x to 20 of its 24 bits: still in the bound of many terms, and less accurate."""
    return compute(spec, (x.view(np.uint32) & np.uint32(0xFFFFFFF8)).view(np.float32), w, b)


def _twice(spec, x, w, b):
    compute(spec, x, w, b)
    return compute(spec, x, w, b)


right = from_function("right", compute, LIMITS)
twice = from_function("twice", _twice, LIMITS)
coarse = from_function("coarse", _coarse, LIMITS)
later = from_function("later", _counted(_off), LIMITS)
dies = from_function("dies", _counted(lambda y: os._exit(3)), LIMITS)
raises = from_function("raises", _counted(_raise), LIMITS)
sleeps = from_function("sleeps", _counted(_hang), LIMITS)
keeps = from_function("keeps", _keep, LIMITS)
refuses = from_function("refuses", compute, Limits(ops=("max_pool",)))
wrong = from_function("wrong", lambda spec, x, w, b: 2 * compute(spec, x, w, b), LIMITS)


class _Once:
    """Writes its output in its first calls alone."""

    info = from_function("once", compute, LIMITS).info

    def probe(self):
        return Probe((Device("cpu"),))

    def workspace_bytes(self, spec, /):
        return 0

    def prepare(self, spec, device, /):
        return _OncePrepared(spec)


class _OncePrepared:
    def __init__(self, spec):
        self.spec, self.calls = spec, 0

    def run(self, x, w, b, out, /):
        self.calls += 1
        if self.calls <= PATIENCE:
            out[...] = compute(self.spec, x, w, b)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


once = _Once()


class _Phased(_Once):
    """Tells its phases and a device's clock."""

    info = from_function("phased", compute, LIMITS).info

    def prepare(self, spec, device, /):
        return _PhasedPrepared(spec)


class _PhasedPrepared(_OncePrepared):
    device_seconds = 0.25

    def run(self, x, w, b, out, /):
        out[...] = compute(self.spec, x, w, b)
        self.phases = {"pack": 0.001, "kernel": 0.002}


phased = _Phased()


# --- backends of `run(x, w, b, out)` itself ------------------------------------------------------------
class _Own:
    """A backend whose `run` is a function of the prepared object and the arrays."""

    def __init__(self, name, run):
        self.info, self._run = from_function(name, compute, LIMITS).info, run

    def probe(self):
        return Probe((Device("cpu"),))

    def workspace_bytes(self, spec, /):
        return 0

    def prepare(self, spec, device, /):
        return _OwnPrepared(spec, self._run)


class _OwnPrepared(_OncePrepared):
    def __init__(self, spec, run):
        super().__init__(spec)
        self._run = run

    def run(self, x, w, b, out, /):
        self.calls += 1
        self._run(self, x, w, b, out)


def _every_fourth(self, x, w, b, out):
    if self.calls % 4 == 0 or self.calls <= PATIENCE:
        out[...] = compute(self.spec, x, w, b)


def _afterwards(self, x, w, b, out):
    def work():
        time.sleep(0.0005)
        out[...] = compute(self.spec, x, w, b)

    if self.calls <= 2:
        out[...] = compute(self.spec, x, w, b)
    else:
        threading.Thread(target=work).start()


def _packs(self, x, w, b, out):
    """Looks at the weights, and spends 5 ms where they are new."""
    if getattr(self, "packed", None) != w.tobytes():
        time.sleep(0.005)
        self.packed = w.tobytes()
    out[...] = compute(self.spec, x, w, b)


def _garbage(self, x, w, b, out):
    for fd in range(3, 64):
        try:
            os.write(fd, b"noise\n")
        except OSError:
            continue
    out[...] = compute(self.spec, x, w, b)


def _endless(self, x, w, b, out):
    out[...] = compute(self.spec, x, w, b)
    self.phases = {"copy": float("inf")}


def _waits(seconds):
    def run(self, x, w, b, out):
        time.sleep(seconds)
        out[...] = compute(self.spec, x, w, b)

    return run


def _elsewhere(self, x, w, b, out):
    os.sched_setaffinity(0, range(os.cpu_count()))
    out[...] = compute(self.spec, x, w, b)


fourth = _Own("fourth", _every_fourth)
afterwards = _Own("afterwards", _afterwards)
packs = _Own("packs", _packs)
garbage = _Own("garbage", _garbage)
endless = _Own("endless", _endless)
waits1 = _Own("waits1", _waits(0.001))
waits3 = _Own("waits3", _waits(0.003))
elsewhere = _Own("elsewhere", _elsewhere)
