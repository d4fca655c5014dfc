"""`python tests/scale_run.py [--cases 100000]`: a run of that many cases from grids, planned, judged, stored and reported.

Printed: the largest resident memory of the main process, of a judge and of the command that reports; and the throughput in
tenths of the run, to be compared between the start and the end. The backend is a few lines of NumPy, two checks are asked for.
"""

import argparse
import itertools
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).parent
#: Cases of one grid: 10 input sizes, 5 kernels, 4 strides, 5 paddings, 2 dilations, 2 batches.
A_GRID = 4000
ENTRY = """  - id: scale-{i}
    op: conv
    why: a hundred thousand problems
    source: "hand: scale"
    grid:
      in_size: [[{first}], [9], [10], [11], [12], [13], [14], [15], [16], [17]]
      kernel_size: [[1], [2], [3], [4], [5]]
      stride: [[1], [2], [3], [4]]
      padding: {{p00: [[0, 0]], p10: [[1, 0]], p01: [[0, 1]], p11: [[1, 1]], p21: [[2, 1]]}}
      dilation: [[1], [2]]
      batch: [1, 2]
      in_channels: [{channels}]
"""
BACKEND = """import numpy as np
from harness.backend import Limits, from_function


def run(spec, x, w, b):
    a = spec.axes[0]
    xp = np.pad(x, ((0, 0), (0, 0), (a.lo, a.hi)))
    y = np.zeros(spec.out_shape, np.float32)
    for k in range(a.m):
        y += np.einsum("oc,ncx->nox", w[:, :, k], xp[:, :, k * a.d : k * a.d + (spec.out_size[0] - 1) * a.s + 1 : a.s])
    return y


backend = from_function("trivial", run, Limits(ops=("conv",), ranks=(1,), dtypes=("f32",), groups=False, flip=False))
"""


def _status(pid, key):
    """Megabytes of one field of a process's status; 0 when it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def _judges(pid):
    """Processes that judge for `pid`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            if parent == pid and b"harness.run.judging" in (stat.parent / "cmdline").read_bytes():
                found.append(int(stat.parent.name))
        except OSError:
            continue
    return found


def run(words, folder):
    """(exit code, seconds, {what: peak MB}, [(seconds, jobs done)], last line) of one command."""
    env = os.environ | {"CONVPROOF_STORE": str(folder / "runs.sqlite")}
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *words], cwd=folder, env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    peak, done, last = {"main": 0.0, "judge": 0.0}, [], ""

    def watch():
        while process.poll() is None:
            peak["main"] = max(peak["main"], _status(process.pid, "VmHWM"))
            peak["judge"] = max([peak["judge"], *(_status(p, "VmHWM") for p in _judges(process.pid))])
            time.sleep(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for line in process.stdout:
        last = line.strip() or last
        if found := re.match(r"(\d+) of \d+ jobs", line):
            done.append((time.monotonic() - start, int(found[1])))
    code = process.wait()
    watcher.join()
    return code, time.monotonic() - start, peak, done, last


def rates(done):
    """Jobs a second in each tenth of the run."""
    first, last = done[0], done[-1]
    edges = [first[0] + i * (last[0] - first[0]) / 10 for i in range(11)]

    def at(t):
        (t0, n0), (t1, n1) = (
            max((p for p in done if p[0] <= t), default=first),
            min((p for p in done if p[0] >= t), default=last),
        )
        return n0 if t1 == t0 else n0 + (n1 - n0) * (t - t0) / (t1 - t0)

    return [(at(b) - at(a)) / (b - a) for a, b in itertools.pairwise(edges)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        grids = -(-given.cases // A_GRID)
        body = "".join(ENTRY.format(i=i, first=18 + i, channels=1 + i % 3) for i in range(grids))
        (folder / "scale.yaml").write_text(f"family: scale\ncases:\n{body}")
        (folder / "trivial.py").write_text(BACKEND)
        words = [
            "verify",
            "scale.yaml",
            "-b",
            "trivial.py:backend",
            "--check",
            "contract",
            "--check",
            "integers",
            "--seed",
            "1",
        ]
        code, seconds, peak, done, last = run(words, folder)
        print(f"verify: exit {code}, {seconds:.0f} s, main {peak['main']:.0f} MB, judge {peak['judge']:.0f} MB")
        print(f"  {last}")
        if len(done) > 10:
            tenths = rates(done)
            print(
                f"  jobs a second, by tenths: {' '.join(f'{r:.0f}' for r in tenths)}; end / start {tenths[-1] / tenths[0]:.2f}"
            )
        for option, file in (("--junit", "j.xml"), ("--markdown", "m.md"), ("--html", "page")):
            code, seconds, peak, _, last = run(["report", "last", option, file], folder)
            size = sum(f.stat().st_size for f in [*folder.glob(file), *folder.glob(f"{file}/**/*")] if f.is_file())
            told = f"exit {code}, {seconds:.0f} s, {peak['main']:.0f} MB, wrote {size / 1e6:.1f} MB"
            print(f"report {option}: {told} {last if code else ''}")


if __name__ == "__main__":
    main()
