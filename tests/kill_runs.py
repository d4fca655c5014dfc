"""`python tests/kill_runs.py [--times 50] [--judges 2]`: kill -9 of a run at random moments, and what is lost: nothing.

A run of two backends is killed, over and over, and resumed after each kill. What the store held before a kill it holds
after it; the end is the uninterrupted run's, every field but the clocks'. The same for its workers, whose death may cost
the verdict at hand and no other, and for its judges, whose death costs none. Nothing stays behind: no process, no file.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from harness.records import Status
from harness.store import Store

HERE = Path(__file__).parent
WHAT = ["lecture-conv1d-*", "edge-pad-*", "-b", f"{HERE / 'right_numpy.py'}:backend", "-b", "im2col", "--seed", "11", "-j", "2"]
#: Names that shared memory and semaphores of Python's multiprocessing have.
SHARED = ("psm_", "sem.mp-", "pym-", "convproof")


class Run:
    """`convproof verify` in a process of its own, in a folder with a store and a folder for temporary files."""

    def __init__(self, folder, words, judges=0):
        (folder / "convproof.toml").write_text(f"judges = {judges}\n")
        self.folder, self.mark = folder, f"kill-runs-{random.getrandbits(64):x}"
        (folder / "tmp").mkdir(exist_ok=True)
        env = os.environ | {"CONVPROOF_TEST_MARK": self.mark, "PYTHONPATH": str(HERE.parent), "TMPDIR": str(folder / "tmp")}
        env.pop("CONVPROOF_STORE", None)
        line = [sys.executable, "-m", "harness.cli", "verify", *words]
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen(line, cwd=folder, env=env, **silent)

    def held(self):
        """Job to verdict, as the store holds them now; nothing where there is no run yet."""
        path = self.folder / ".convproof" / "runs.sqlite"
        if not path.exists():
            return {}
        with Store.open(path, create=False) as store:
            rows = store.runs()
            return {r.job: r.verdict for r in store.records(rows[0].id)} if rows else {}

    def processes(self):
        """(id, parent's id) of every living process of this run."""
        found = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as f:
                    ours = self.mark.encode() in f.read()
                if ours:
                    with open(f"/proc/{pid}/stat") as f:
                        found[int(pid)] = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                continue
        return found

    def workers(self):
        """Ids of its workers: the processes that a fork server started."""
        return [p for p, parent in self.processes().items() if "forkserver" in _line(parent)]

    def judges(self):
        """Ids of its judges."""
        return [p for p, parent in self.processes().items() if parent == self.process.pid and "harness.run.judging" in _line(p)]

    def kill(self):
        """Kill the main process; what it left behind, in words."""
        self.process.kill()
        self.process.wait()
        deadline = time.monotonic() + 10
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        files = [str(p) for p in (self.folder / "tmp").rglob("*")]
        return [f"process {p}" for p in left] + files


def _line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return f.read().decode()
    except OSError:
        return ""


def shared():
    """Names in shared memory that multiprocessing may have made."""
    return {n for n in os.listdir("/dev/shm") if n.startswith(SHARED)}


def abandoned(names):
    """Those that no living process maps: the run's are all dead, so that the others belong to someone else's."""
    mapped = set()
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            mapped |= {n for n in names if f"/dev/shm/{n}" in maps.read_text()}
        except OSError:  # it ended meanwhile
            continue
    return names - mapped


def whole_run(folder):
    """(verdicts, seconds) of the run that nobody kills."""
    start = time.monotonic()
    run = Run(folder, WHAT)
    assert run.process.wait() == 0
    return run.held(), time.monotonic() - start


def kill_main(times, seconds, expected, rng, judges=0):
    """Kill and resume until it has been killed so often; (kills, runs, what went wrong)."""
    kills, runs, wrong = 0, 0, []
    while kills < times:
        with tempfile.TemporaryDirectory() as name:
            folder, before_shared = Path(name), shared()
            words, runs = WHAT, runs + 1
            while True:
                run = Run(folder, words, judges)
                time.sleep(rng.uniform(0.05, seconds))
                if kills >= times or run.process.poll() is not None:
                    run.process.wait()
                    break
                before = run.held()
                wrong += [f"left behind: {what}" for what in run.kill()]
                kills += 1
                after = run.held()
                wrong += [f"lost: {j}" for j in before if after.get(j) != before[j]]
                wrong += [f"differs: {j}" for j, v in after.items() if v != expected[j] and v.status is not Status.NOT_RUN]
                words = ["--resume"] if after or _begun(folder) else WHAT
            end = run.held()
            if end != expected:
                wrong.append(
                    f"the end differs in {sum(end.get(j) != v for j, v in expected.items())} of {len(expected)} verdicts"
                )
            wrong += [f"left in shared memory: {n}" for n in abandoned(shared() - before_shared) & shared()]
    return kills, runs, wrong


def _begun(folder):
    path = folder / ".convproof" / "runs.sqlite"
    if not path.exists():
        return False
    with Store.open(path, create=False) as store:
        return bool(store.runs())


def kill_judges(times, seconds, expected, rng):
    """Kill one of two judges in each of so many runs; (kills, what went wrong)."""
    kills, wrong = 0, []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            run = Run(Path(name), WHAT, judges=2)
            time.sleep(rng.uniform(0.3 * seconds, 0.9 * seconds))
            if judges := run.judges():
                kills += 1
                os.kill(rng.choice(judges), signal.SIGKILL)
            run.process.wait()
            end = run.held()
            wrong += [f"differs: {j}: {end.get(j)}" for j, v in expected.items() if end.get(j) != v]
            wrong += [f"left behind: {what}" for what in run.kill()]
    return kills, wrong


def kill_workers(times, seconds, expected, rng, judges=0):
    """Kill one worker in each of so many runs; (kills, verdicts that this cost, what went wrong)."""
    kills, cost, wrong = 0, 0, []
    for _ in range(times):
        with tempfile.TemporaryDirectory() as name:
            run = Run(Path(name), WHAT, judges)
            time.sleep(rng.uniform(0.3 * seconds, 0.9 * seconds))
            workers = run.workers()
            if workers:
                kills += 1
                try:
                    os.kill(rng.choice(workers), signal.SIGKILL)
                except ProcessLookupError:
                    kills -= 1
            run.process.wait()
            end = run.held()
            differs = {j: v for j, v in end.items() if v != expected[j]}
            crashed = {j for j, v in differs.items() if v.status is Status.CRASH}
            follow = {j for j, v in differs.items() if v.status is Status.NOT_RUN and "contract" in v.message}
            wrong += [f"differs: {j}: {v}" for j, v in differs.items() if j not in crashed | follow]
            if len(crashed) > 1 or end.keys() != expected.keys():
                wrong.append(f"{len(crashed)} crashes, {len(end)} of {len(expected)} records")
            cost += len(differs)
            wrong += [f"left behind: {what}" for what in run.kill()]
    return kills, cost, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--judges", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as name:
        expected, seconds = whole_run(Path(name))
    print(f"a run has {len(expected)} verdicts and takes {seconds:.1f} s")
    kills, runs, lost = kill_main(given.times, seconds, expected, rng, given.judges)
    print(f"main process: {kills} kills in {runs} runs; lost, doubled, changed or left behind: {len(lost)}")
    struck, cost, spoilt = kill_workers(given.times, seconds, expected, rng, given.judges)
    print(f"workers: {struck} kills; verdicts that say so: {cost}; others lost or changed: {len(spoilt)}")
    felled, missed = kill_judges(given.times, seconds, expected, rng)
    print(f"judges: {felled} kills; verdicts lost or changed: {len(missed)}")
    for text in [*lost, *spoilt, *missed][:10]:
        print(" ", text)
    sys.exit(bool(lost or spoilt or missed))


if __name__ == "__main__":
    main()
