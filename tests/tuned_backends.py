"""Backends that can be tuned and behave in one stated way; tests reach them by `FILE.py:NAME` (`reference`)."""

import os
import time
from pathlib import Path

from runner_backends import LIMITS, compute

from harness import tuned
from harness.backend import BackendInfo, Candidate, Device, Probe

#: Outputs and output channels of a toy tile.
PIXELS, FILTERS = 6, 2
#: Seconds that a call spins, by the setting `speed`.
SLOW = 0.002
DEVICES = (Device("toy"),)


def reference(name):
    """The reference of a backend of this file."""
    return f"{Path(__file__).resolve()}:{name}"


def _spin(seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


class _Toy:
    """Spins for `SLOW / speed`; `wrong` says of which specifications a setting's result is wrong."""

    def __init__(self, name, speeds, wrong=lambda spec, settings: False, devices=DEVICES):
        self.info = BackendInfo(name, limits=LIMITS)
        self._speeds, self._wrong, self._devices = speeds, wrong, devices

    def probe(self):
        return Probe(self._devices, "" if self._devices else "no toy is installed", "buy one" if not self._devices else "")

    def workspace_bytes(self, spec, /):
        return 0

    def candidates(self, spec, device, /):
        return [Candidate({"speed": s}, PIXELS, FILTERS) for s in self._speeds] if spec.rank > 1 else ()

    def tuned_key(self, device, /):
        return {
            "device": device,
            "driver_version": os.environ.get("TOY_DRIVER", "1"),
            "kernels": os.environ.get("TOY_KERNELS", "a"),
        }

    def prepare(self, spec, device, /):
        found = tuned.find(self.info.name, self.tuned_key(device), spec) or {"speed": self._speeds[0]}
        return self.prepare_with(spec, device, found)

    def prepare_with(self, spec, device, settings, /):
        return _Prepared(spec, dict(settings), self._wrong(spec, settings))


class _Prepared:
    def __init__(self, spec, settings, wrong):
        self.spec, self.settings, self.wrong = spec, settings, wrong

    def run(self, x, w, b, out, /):
        out[...] = compute(self.spec, x, w, b)
        _spin(SLOW / self.settings["speed"])
        if self.wrong == "dies":
            os._exit(7)
        if self.wrong:
            out.flat[-1] += 1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        return None


def _tail(spec, settings):
    """Wrong in the third candidate alone, where one output is left over beside the tiles."""
    return settings["speed"] == 8 and spec.out_size[-1] % PIXELS == 1 and spec.out_size[-1] > PIXELS


#: The second is faster, by half.
right = _Toy("toy", (1, 2))
#: They are all the same.
even = _Toy("toy-even", (40_000, 40_001, 40_002))
#: The third would be the fastest of all.
planted = _Toy("toy-planted", (1, 2, 8), _tail)
#: The second ends the process.
dies = _Toy("toy-dies", (1, 2), lambda spec, settings: "dies" if settings["speed"] == 2 else False)
#: The default is wrong.
base = _Toy("toy-base", (1, 2), lambda spec, settings: settings["speed"] == 1)
absent = _Toy("toy-absent", (1, 2), devices=())
