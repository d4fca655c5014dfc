"""Does the clock of `bench` say what a bare loop says? A command, too slow and too exact for CI: `python tests/clock_check.py`.

The same call is timed by turns, by `harness.timing.child.Timed.sample` and by a loop of two readings of `time.perf_counter`
around it, for calls from 20 us to 1 s; both medians must agree within 2 %, as far as the interval of their ratio tells. On a
machine with neighbours two turns differ by more than that, so each call also times itself: what `bench` says of a call and what
the call says of itself must agree within 2 % whatever the noise. Then what a sample costs beside the call.
"""

import sys
import time
from statistics import median

import numpy as np

from harness.statistics import ratio
from harness.timing.child import Timed, _probes

#: Seconds of the calls, and turns of either loop.
CALLS = {2e-5: 60, 2e-4: 60, 2e-3: 40, 2e-2: 30, 2e-1: 12, 1.0: 6}
#: Seconds of a turn: few enough calls that what the machine does meets both.
TURN = 0.05
AGREE, OVERHEAD = 0.02, 2e-6


class Work:
    """A prepared object whose call multiplies matrices, so many times that it takes about `seconds`."""

    def __init__(self, seconds):
        self.a = np.random.default_rng(0).normal(size=(48, 48))
        self.times, self.own = 1, []
        once = min(self._timed() for _ in range(200))
        self.times = max(1, round(seconds / once))

    def _timed(self):
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start

    def run(self, *arguments):
        start = time.perf_counter()
        for _ in range(self.times):
            self.a @ self.a
        self.own.append(time.perf_counter() - start)


def bare(work, count):
    """The usual loop."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        work.run(None, None, None, None)
        found.append(time.perf_counter() - start)
    return found


def arguments():
    """What `run` is given, and the elements of the output that are poisoned before each call."""
    out = np.zeros(1000, np.float32)
    return (None, None, None, out), _probes(out)


def main():
    """Print a row for each duration; 1 if one disagrees."""
    bad = 0
    print("| call | bare loop | bench | ratio, by turns | ratio, the same calls |\n|---|---|---|---|---|")
    for seconds, turns in CALLS.items():
        timed, work = Timed(-1), Work(seconds)
        timed._prepared = work
        timed._arguments, timed._probes = arguments()
        count = max(1, round(TURN / seconds))
        ours, theirs, pairs, same = [], [], [], []
        for turn in range(turns):
            pair = [[], []]
            for mine in (turn % 2, 1 - turn % 2):
                if mine:
                    work.own.clear()
                    told = timed.sample(count, 1e9)["wall"]
                    same.append(median(told) / median(work.own))
                    pair[1] = told
                else:
                    pair[0] = bare(work, count)
            theirs += pair[0]
            ours += pair[1]
            pairs.append(tuple(pair))
        r, itself = ratio(pairs, 0.95), median(same)
        fine = r.low < 1 + AGREE and r.high > 1 - AGREE and abs(itself - 1) <= AGREE
        bad += not fine
        print(
            f"| {seconds:g} s | {median(theirs) * 1e6:.1f} us | {median(ours) * 1e6:.1f} us | {r.value:.4f} "
            f"[{r.low:.4f}, {r.high:.4f}] | {itself:.5f} |{'' if fine else ' <- disagrees'}"
        )
    cost = overhead()
    print(f"\nA sample costs {cost * 1e6:.2f} us beside the call.{'' if cost <= OVERHEAD else ' <- too much'}")
    return int(bad > 0 or cost > OVERHEAD)


def overhead():
    """Seconds that a sample takes beside the call: of a call that does nothing, tells phases and a device's time."""

    class Nothing:
        phases, device_seconds = {"kernel": 0.0}, 0.0

        def run(self, *arguments):
            pass

    timed = Timed(-1)
    timed._prepared = Nothing()
    timed._arguments, timed._probes = arguments()
    found = []
    for _ in range(30):
        start = time.perf_counter()
        told = timed.sample(5000, 1e9)["wall"]
        found.append((time.perf_counter() - start - sum(told)) / 5000)
    return median(found)


if __name__ == "__main__":
    sys.exit(main())
