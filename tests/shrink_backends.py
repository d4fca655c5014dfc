"""Backends that crash or hang on some specifications, for the tests of shrinking."""

import os
import signal
import time

from runner_backends import LIMITS, compute

from harness.backend import from_function


def _dies(spec, x, w, b):
    if spec.in_size[-1] % 2 == 0:
        os.kill(os.getpid(), signal.SIGSEGV)
    return compute(spec, x, w, b)


def _hangs(spec, x, w, b):
    if spec.in_channels == 2:
        time.sleep(60)
    return compute(spec, x, w, b)


dies_on_even_widths = from_function("dies-on-even-widths", _dies, LIMITS)
hangs_on_two_channels = from_function("hangs-on-two-channels", _hangs, LIMITS)
