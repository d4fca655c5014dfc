"""Does the clock of `bench` say what a bare loop says? A command, too slow and too exact for CI: `python tests/clock_check.py`.

The same call is timed by turns, by `harness.timing.child.Timed.sample` and by a loop of two readings of `time.perf_counter`
around it, for calls from 20 us to 1 s; both medians must agree within 2 %. Then what a sample costs beside the call itself.
"""

import sys
import time
from statistics import median

import numpy as np

from harness.timing.child import Timed

#: Seconds of the calls, and turns of either loop.
CALLS = {2e-5: 60, 2e-4: 60, 2e-3: 40, 2e-2: 30, 2e-1: 12, 1.0: 6}
#: Seconds of a turn: few enough calls that what the machine does meets both.
TURN = 0.05
AGREE, OVERHEAD = 0.02, 2e-6


class Work:
    """A prepared object whose call multiplies matrices, so many times that it takes about `seconds`."""

    def __init__(self, seconds):
        self.a = np.random.default_rng(0).normal(size=(48, 48))
        self.times = 1
        once = min(self._timed() for _ in range(200))
        self.times = max(1, round(seconds / once))

    def _timed(self):
        start = time.perf_counter()
        self.run()
        return time.perf_counter() - start

    def run(self, *arguments):
        for _ in range(self.times):
            self.a @ self.a


def bare(work, count):
    """The usual loop."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        work.run(None, None, None, None)
        found.append(time.perf_counter() - start)
    return found


def main():
    """Print a row for each duration; 1 if one disagrees."""
    bad = 0
    print("| call | bare loop | bench | ratio of medians | cost of a sample beside the call |\n|---|---|---|---|---|")
    for seconds, turns in CALLS.items():
        timed, work = Timed(-1), Work(seconds)
        timed._prepared, timed._arguments = work, (None,) * 4
        count = max(1, round(TURN / seconds))
        ours, theirs, ratios, costs = [], [], [], []
        for turn in range(turns):
            for mine in (turn % 2, 1 - turn % 2):
                if mine:
                    start = time.perf_counter()
                    told = timed.sample(count, 1e9)["wall"]
                    costs.append((time.perf_counter() - start - sum(told)) / count)
                    ours += told
                    last = median(told)
                else:
                    got = bare(work, count)
                    theirs += got
                    other = median(got)
            ratios.append(last / other)
        ratio = median(ours) / median(theirs)
        cost = median(costs)
        fine = abs(ratio - 1) <= AGREE and (cost <= OVERHEAD or seconds > 1e-3)
        bad += not fine
        print(
            f"| {seconds:g} s | {median(theirs) * 1e6:.1f} us | {median(ours) * 1e6:.1f} us | {ratio:.4f} "
            f"(turn by turn {median(ratios):.4f}) | {cost * 1e6:.2f} us |{'' if fine else ' <- disagrees'}"
        )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
