"""`python tests/asv_demo.py [--passes 3] [--unpaced]`: what asv's regressions name, in a history whose faults are known.

A scratch repository of 14 commits holds a module of six backends. Planted are a slowdown of 10 %, one of 2x and a loss of
accuracy that still passes; beside them a backend that gets faster (its GFLOP/s rise, which asv would take for the
regression), one that is wrong at one commit, and one that stays as it is. The history is measured twice: by the asv suite
of reports/benchmarks itself, commit by commit in an existing environment, and as stored runs that `convproof asv-export`
writes. Both are published, and the regressions must be those that were planted, at their commits, and no others.

What is simulated: each backend computes the convolution with NumPy and then spins, until a call has lasted half a
millisecond times its factor. On a machine whose own figures scatter by more than 10 % a real kernel's slowdown of 10 %
cannot be told from them; `--unpaced` computes for as long, spins in proportion to that alone, and shows it.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from click.testing import CliRunner

import reports.benchmarks
from harness.catalogue import load_catalogue, packaged_files
from harness.cli.asv_export import command
from harness.records import Job, Record, Status, Verdict
from harness.samples import Series, Timing
from harness.store import RunInfo, Store
from reports.benchmarks import publish
from reports.benchmarks.parameters import Parameters, labelled, parted
from reports.benchmarks.subject import NotVerified, prepared

CASE = "perf-tcn-residual-1x1"
BACKENDS = ("clean", "tenth", "double", "coarse", "faster", "broken")
COMMITS = 14
#: From which commit on (from 1) a setting holds: backend -> (commit, factor of time, bits of x, right).
START = {"faster": 1.4}
PLANTED = {"tenth": 5, "faster": 6, "double": 8, "coarse": 10}
WRONG = 7
#: What asv has to name: (benchmark, backend) to the commit.
EXPECTED = {("time", "tenth"): 5, ("time", "double"): 8, ("error", "coarse"): 10}

TINY = '''"""Backends of a scratch repository, commit {number}."""

from time import perf_counter

import numpy as np

from harness.backend import Limits, from_function

PACE = {pace}
TURNS = {turns}
FACTOR = {factor}
BITS = {bits}
WRONG = {wrong}


def rounded(x, bits):
    """x with so many bits of its significand."""
    drop = 24 - bits
    if not drop:
        return x
    held = x.view(np.uint32) + np.uint32(1 << (drop - 1))
    return (held & np.uint32(0xFFFFFFFF << drop & 0xFFFFFFFF)).view(np.float32)


def backend(name):
    def run(spec, x, w, b):
        start = perf_counter()
        x = rounded(x, BITS if name == "coarse" else 24)
        for _ in range(TURNS):
            y = np.einsum("ncl,oc->nol", x, w[..., 0])
        if WRONG and name == "broken":
            y[..., -1] = 0
        until = start + FACTOR.get(name, 1.0) * max(PACE, perf_counter() - start)
        while perf_counter() < until:
            pass
        return y

    def rule(spec):
        return None if spec.kernel_size == (1,) else "only one tap"

    return from_function(name, run, Limits(ops=("conv",), dtypes=("f32",), ranks=(1,), rule=rule))


clean, tenth, double, coarse, faster, broken = map(backend, {names})
'''


def say(text):
    print(text, flush=True)


def shell(*line, cwd=None, env=None, ok=(0,), quiet=True):
    done = subprocess.run(list(map(str, line)), cwd=cwd, env=env, check=False, capture_output=quiet, text=True)
    if done.returncode not in ok:
        raise SystemExit(f"{' '.join(map(str, line))} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return done


def history(repo, pace, turns):
    """Make the repository; its commits, the first first."""
    repo.mkdir()
    shell("git", "init", "-q", "-b", "main", ".", cwd=repo)
    shell("git", "config", "user.name", "Scratch", cwd=repo)
    shell("git", "config", "user.email", "scratch@example.org", cwd=repo)
    commits = []
    for number in range(1, COMMITS + 1):
        factor = dict(START)
        factor |= {n: f for n, f in (("tenth", 1.1), ("double", 2.0), ("faster", 1.0)) if number >= PLANTED[n]}
        bits = 23 if number >= PLANTED["coarse"] else 24
        text = TINY.format(
            number=number, pace=pace, turns=turns, factor=factor, bits=bits, wrong=number == WRONG, names=BACKENDS
        )
        (repo / "tiny.py").write_text(text)
        when = f"2026-01-{number:02} 12:00:00 +0000"
        dates = os.environ | {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
        shell("git", "add", "-A", cwd=repo)
        shell("git", "commit", "-q", "-m", f"commit {number}", cwd=repo, env=dates)
        commits.append(shell("git", "rev-parse", "HEAD", cwd=repo).stdout.strip())
    return commits


def suite(folder, label):
    """The suite of this repository, over the scratch repository's backends, and its settings."""
    shutil.copytree(
        Path(reports.benchmarks.__file__).parent, folder / "benchmarks", ignore=shutil.ignore_patterns("__pycache__")
    )
    parameters = Parameters((label,), tuple(f"tiny:{b}" for b in BACKENDS), 20260101, 1)
    (folder / "benchmarks" / "parameters.json").write_text(parameters.text())
    ours = publish.config(Path(__file__).parent.parent / "asv.conf.json")
    kept = ("version", "branches", "dvcs", "launch_method", "regressions_first_commits", "regressions_thresholds")
    for way in ("suite", "stored"):
        settings = {k: ours[k] for k in kept} | {
            "project": "scratch", "repo": "scratch", "environment_type": "virtualenv",
            "benchmark_dir": "benchmarks", "env_dir": "env",
            "results_dir": f"results-{way}", "html_dir": f"html-{way}",
        }  # fmt: skip
        (folder / f"{way}.json").write_text(json.dumps(settings, indent=2))


def run_suite(folder, commits, env, passes):
    """The suite at each commit; forth and back, so that what drifts meets every commit alike."""
    asv = [sys.executable, "-m", "asv", "--config", str(folder / "suite.json")]
    shell(*asv, "machine", "--yes", "--machine", "demo", cwd=folder, env=env)
    for turn in range(passes):
        more = ["--append-samples", "--bench", "time_run"] if turn else ["--record-samples"]
        for commit in commits if turn % 2 == 0 else commits[::-1]:
            shell("git", "checkout", "-q", commit, cwd=folder / "scratch")
            line = ["run", "-E", f"existing:{sys.executable}", "--set-commit-hash", commit, "--machine", "demo", "--no-pull"]
            shell(*asv, *line, *more, cwd=folder, env=env, ok=(0, 2))  # 2: a benchmark failed, as one must
        say(f"  pass {turn + 1} of {passes} over {len(commits)} commits")
    shell("git", "checkout", "-q", "main", cwd=folder / "scratch")


def measure(label):
    """What is importable as `tiny`, verified and timed: backend to samples, error and operations, or why it fails."""
    found = {}
    for name in BACKENDS:
        try:
            subject = prepared(label, f"tiny:{name}", 20260101, 1)
        except NotVerified as error:
            found[name] = {"failed": str(error)}
            continue
        samples = []
        for _ in range(220):
            subject.ready()
            start = time.perf_counter()
            subject.run()
            samples.append(time.perf_counter() - start)
        subject.confirm()
        found[name] = {"samples": samples[20:], "error": subject.error, "flops": subject.flops}
    return found


def stored(path, label, commit, date, processes):
    """A stored run of a commit, as a benchmark would leave it: a verdict and a timing a backend."""
    case, version = parted(label)
    with Store.open(path) as store:
        git = {"commit": commit, "date": int(date), "dirty": False}
        facts = {"git": git, "machine": {"python": sys.version, "processor": "demo", "cores": "2 usable of 2"}}
        run = store.begin(RunInfo(seed=20260101, command=("asv_demo",), environment=facts, host="demo"))
        for name in BACKENDS:
            job, each = Job(case, name, "cpu", "zero_mean"), [p[name] for p in processes]
            if failed := [p["failed"] for p in each if "failed" in p]:
                store.write(run, [Record(job, Verdict(Status.FAIL, failed[0], 1, 1), digest=version)])
                store.write_timing(run, Timing(case, name, "cpu", refused=f"not verified: {failed[0]}", digest=version))
                continue
            store.write(run, [Record(job, Verdict(Status.PASS, compared=1, error_bound=each[0]["error"]), digest=version)])
            series = tuple(Series("wall", "warm", i, tuple(p["samples"])) for i, p in enumerate(each))
            store.write_timing(run, Timing(case, name, "cpu", series, flops=each[0]["flops"], digest=version))
        store.finish(run, 0, 1.0)


def run_stored(folder, commits, env, label, passes):
    """A stored run a commit, exported; its processes take turns with those of the other commits."""
    held = {commit: [] for commit in commits}
    for turn in range(passes):
        for commit in commits if turn % 2 == 0 else commits[::-1]:
            shell("git", "checkout", "-q", commit, cwd=folder / "scratch")
            done = shell(sys.executable, Path(__file__).resolve(), "--measure", label, cwd=folder, env=env)
            held[commit].append(json.loads(done.stdout))
        say(f"  pass {turn + 1} of {passes} over {len(commits)} commits")
    shell("git", "checkout", "-q", "main", cwd=folder / "scratch")
    for number, commit in enumerate(commits, 1):
        date = shell("git", "show", "-s", "--format=%ct000", commit, cwd=folder / "scratch").stdout.strip()
        stored(Path(env["CONVPROOF_STORE"]), label, commit, date, held[commit])
        words = ["last", "--repo", str(folder / "scratch"), "--results", str(folder / "results-stored"), "--machine", "demo"]
        done = CliRunner().invoke(command, words, env={"CONVPROOF_STORE": env["CONVPROOF_STORE"]})
        if done.exit_code:
            raise SystemExit(f"asv-export of commit {number}: {done.output}")


def named(regression):
    """(benchmark, backend) of a regression, the same for both ways."""
    bench, _, rest = regression.name.partition("(")
    kind = bench.rpartition(".")[2].removeprefix("track_").removesuffix("_run")
    return kind, rest.rpartition("'")[0].rpartition("'")[2].removeprefix("tiny:")


def nulls(folder, way, commit):
    """The pairs that failed at a commit: (benchmark, backend)."""
    found = set()
    for path in (folder / f"results-{way}" / "demo").glob(f"{commit[:8]}-*.json"):
        for name, row in json.loads(path.read_text())["results"].items():
            values = row[0] or [None] * len(row[1][1])
            kind = name.rpartition(".")[2].removeprefix("track_").removesuffix("_run")
            found |= {(kind, b.strip("'").removeprefix("tiny:")) for b, v in zip(row[1][1], values, strict=True) if v is None}
    return found


def judged(folder, way, commits, env):
    """Publish, and compare with what was planted; what differs."""
    done = shell(sys.executable, "-m", "reports.benchmarks.publish", "--config", folder / f"{way}.json", env=env, ok=(0, 1, 2))
    say(
        "\n".join(
            "  " + line
            for line in done.stdout.splitlines()
            if line.startswith("REGRESSION") or "regression" in line.split(":")[0]
        )
    )
    say(f"  exit code {done.returncode}")
    if done.returncode != 1:
        return [f"publish ended with {done.returncode}: {done.stdout[-2000:]} {done.stderr[-2000:]}"]
    number = {h: n for n, h in enumerate(commits, 1)}
    found = {}
    for regression in publish.regressions(folder / f"html-{way}"):
        at = [f"{number[a]}-{number[b]}" if a else str(number[b]) for a, b in regression.commits]
        found[named(regression)] = ", ".join(at)
    expected = {key: str(n) for key, n in EXPECTED.items()}
    say(f"  {'benchmark':10} {'backend':8} {'planted at':>10} {'found at':>9}")
    for key in sorted(expected | found):
        say(f"  {key[0]:10} {key[1]:8} {expected.get(key, '-'):>10} {found.get(key, '-'):>9}")
    wrong = [f"{way}: {k} planted at {expected.get(k)}, found at {found.get(k)}" for k in expected | found
             if expected.get(k) != found.get(k)]  # fmt: skip
    for n, commit in enumerate(commits, 1):
        must = {(kind, "broken") for kind in ("time", "gflops", "error")} if n == WRONG else set()
        if (failed := nulls(folder, way, commit)) != must:
            wrong.append(f"{way}: failed at commit {n}: {sorted(failed)}, not {sorted(must)}")
    say(f"  failed at commit {WRONG}: {sorted(nulls(folder, way, commits[WRONG - 1]))}")
    return wrong


def scatter(folder, way, commits):
    """The spread of the unchanged backend's times over the commits, largest over smallest."""
    values = []
    for commit in commits:
        for path in (folder / f"results-{way}" / "demo").glob(f"{commit[:8]}-*.json"):
            for name, row in json.loads(path.read_text())["results"].items():
                if name.endswith(("time_run", ".time")):
                    values += [v for b, v in zip(row[1][1], row[0], strict=True) if b.strip("'").endswith("clean")]
    return max(values) / min(values)


def shallow(folder, way, env):
    """asv and the gate on a clone of depth 1: (asv's exit code, its regressions, the gate's exit code, its words)."""
    shell("git", "clone", "-q", "--depth", "1", f"file://{folder / 'scratch'}", folder / "shallow")
    settings = json.loads((folder / f"{way}.json").read_text()) | {"repo": "shallow", "html_dir": "html-shallow"}
    (folder / "shallow.json").write_text(json.dumps(settings))
    line = [sys.executable, "-m", "asv", "--config", folder / "shallow.json", "publish", "--no-pull"]
    asv = shell(*line, cwd=folder, env=env, ok=range(256))
    count = len(publish.regressions(folder / "html-shallow")) if asv.returncode == 0 else None
    gate = shell(
        sys.executable, "-m", "reports.benchmarks.publish", "--config", folder / "shallow.json", env=env, ok=range(256)
    )
    return asv.returncode, count, gate.returncode, gate.stderr.strip().replace(str(folder), "...")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passes", type=int, default=3, help="over the history, forth and back")
    parser.add_argument("--unpaced", action="store_true", help="compute 40 times, and spin in proportion to what that took")
    parser.add_argument("--keep", type=Path, help="an empty folder to work in, which stays")
    parser.add_argument("--only", choices=("stored", "suite"), help="one of the two ways")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(given.measure)))
        return
    case = next(c for c in load_catalogue(packaged_files()).cases if c.id == CASE)
    label = labelled(CASE, case.version)
    with contextlib.nullcontext(given.keep) if given.keep else tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        folder.mkdir(exist_ok=True)
        root = Path(__file__).parent.parent
        path = os.pathsep.join([str(folder / "scratch"), str(root)])
        env = os.environ | {
            "HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CONVPROOF_STORE": str(folder / "runs.sqlite"),
            "PYTHONPATH": path, "ASV_PYTHONPATH": path,  # asv drops the former
        }  # fmt: skip
        commits = history(folder / "scratch", *((0.0, 40) if given.unpaced else (0.0005, 1)))
        suite(folder, label)
        wrong = []
        say(f"{COMMITS} commits, {len(BACKENDS)} backends, {label}")
        if given.only != "suite":
            say("stored runs, exported:")
            run_stored(folder, commits, env, label, given.passes)
            wrong += judged(folder, "stored", commits, env)
            say(
                f"  times of the backend that does not change: largest {scatter(folder, 'stored', commits):.3f} of the smallest"
            )
        if given.only != "stored":
            say("the asv suite, in an existing environment:")
            run_suite(folder, commits, env, given.passes)
            wrong += judged(folder, "suite", commits, env)
            say(f"  times of the backend that does not change: largest {scatter(folder, 'suite', commits):.3f} of the smallest")
        code, count, refused, words = shallow(folder, given.only or "suite", env)
        say(f"a shallow clone: asv publish ends with {code} and names {count} regressions; the gate ends with {refused}:")
        say(f"  {words}")
        if refused != 2:
            wrong.append("a shallow clone was not refused")
    for text in wrong:
        say(f"WRONG {text}")
    say("regressions name exactly what was planted" if not wrong else f"{len(wrong)} differences")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
