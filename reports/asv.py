"""Stored runs as results of airspeed velocity (asv), so that a history of `convproof bench` is a page with regressions.

Three benchmarks over case and backend: `convproof.time`, `convproof.gflops`, `convproof.error`. asv takes a rise for the
regression and never a fall, so times and errors can be gated as they are, and GFLOP/s, which are times once more, are
shown only: `asv.conf.json` switches their detection off. A value that failed is null, one that does not exist is NaN,
and Infinity is never written: `asv publish` goes on allocating memory over it.

asv itself is not imported; `reports.asv_files` writes what it reads.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.statistics import figure
from reports.asv_files import BENCHMARKS, PREFIX, AsvError, Commit, Place, Value, Values

if TYPE_CHECKING:
    from harness.samples import Timing
    from harness.store import Run

#: Distributions whose code is timed: they are told apart as asv tells environments apart.
COMPUTES = ("numpy", "scipy", "numba", "llvmlite", "pyopencl", "pocl-binary-distribution", "ml_dtypes")


def git(repo: Path, *words: str) -> str:
    """What git prints.

    Raises
    ------
    AsvError
        If it fails; the message is git's.
    """
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", "-C", str(repo), *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
    except subprocess.CalledProcessError as error:
        raise AsvError(f"git {words[0]} in {repo}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AsvError(f"git {words[0]} in {repo}: {error}") from error
    return done.stdout.strip()


def refuse_shallow(repo: Path) -> None:
    """Refuse a clone whose history is cut off.

    asv orders results by the history, leaves out those whose commit it does not find, and calls what is left a success:
    a shallow clone publishes no regression.

    Raises
    ------
    AsvError
        If it is shallow, or no repository.
    """
    if git(repo, "rev-parse", "--is-shallow-repository") != "false":
        raise AsvError(f"{repo} is a shallow clone, of which asv publishes no regression: git -C {repo} fetch --unshallow")


def commit_of(environment: Mapping[str, Any], repo: Path, named: str = "", *, dirty_ok: bool = False) -> Commit:
    """The commit that a run measured.

    Parameters
    ----------
    environment : mapping
        The run's; its `git` holds `commit`, `date` (milliseconds) and `dirty`.
    repo : Path
    named : str
        A commit that the user named, for a run that knows none.
    dirty_ok : bool
        Whether a tree with changes counts as its commit.

    Raises
    ------
    AsvError
        If there is none, or another than `named`, or the tree had changes, or the repository lacks it or is shallow.
    """
    refuse_shallow(repo)
    known = environment.get("git") or {}
    found = str(known.get("commit", ""))
    if named:
        try:
            wanted = git(repo, "rev-parse", "--verify", "--end-of-options", f"{named}^{{commit}}")
        except AsvError as error:
            raise AsvError(f"{repo} has no commit {named!r}: name one of its commits, or its repository with --repo") from error
        if found and wanted != found:
            raise AsvError(f"the run measured commit {found[:12]}, not {wanted[:12]}: leave --commit out")
        found = wanted
    if not found:
        raise AsvError("the run does not say which commit it measured: name it with --commit")
    if known.get("dirty") and not dirty_ok:
        raise AsvError(
            f"the run measured {found[:12]} with changes, so its figures are of no commit: commit and repeat, or --dirty-ok"
        )
    try:
        seconds = git(repo, "show", "--no-patch", "--format=%ct", f"{found}^{{commit}}")
    except AsvError as error:
        raise AsvError(f"{repo} has no commit {found[:12]}, which the run measured: name its repository with --repo") from error
    return Commit(found, int(known.get("date") or int(seconds) * 1000), bool(known.get("dirty")))


def values_of(run: Run) -> dict[str, Values]:
    """The numbers of a run, by benchmark.

    A failed verdict, or none that is PASS, makes all three fail, a refused timing its time and GFLOP/s. What was not to
    be run does not exist.

    Raises
    ------
    AsvError
        If the run has no timings.
    """
    from harness.records import BAD, Status

    if not run.raw:
        raise AsvError(f"run {run.info['id']} has no timings, so nothing to export: `convproof bench` makes them")
    key = ["case", "backend", "device"]
    statuses = {k: {Status(s) for s in held} for k, held in run.verdicts.groupby(key)["status"]}
    errors = {tuple(row[n] for n in key): float(row["error_bound"]) for row in run.timings.to_dict("records")}
    found: dict[str, Values] = {name: {} for name in BENCHMARKS}
    for timing in run.raw:
        at = (timing.case, timing.backend, timing.device)
        pair = (repr(case_label(timing.case, timing.digest)), repr(backend_label(timing.backend, timing.device)))
        said = statuses.get(at, set())
        missing = bool(said) and said <= {Status.UNSUPPORTED, Status.UNAVAILABLE, Status.NOT_RUN}
        failed = not missing and (bool(said & BAD) or Status.PASS not in said)
        nothing = Value(nan if missing else None)
        timed = nothing if failed or timing.refused else _time(timing)
        rate = nothing if not timed.result else Value(_finite(timing.flops / timed.result / 1e9))
        found[PREFIX + "time"][pair] = timed
        found[PREFIX + "gflops"][pair] = rate
        found[PREFIX + "error"][pair] = nothing if failed or missing else Value(_finite(errors.get(at, nan)))
    return found


def case_label(case: str, digest: str) -> str:
    """The id with the content's digest, so that an edited case begins a series of its own.

    Examples
    --------
    >>> case_label("perf-vgg16-pool3", "e19367e549c7a7d4")
    'perf-vgg16-pool3@e19367e549c7a7d4'
    """
    return f"{case}@{digest}" if digest else case


def backend_label(backend: str, device: str) -> str:
    """The backend, with its device where that is not the host.

    Examples
    --------
    >>> backend_label("im2col", "cpu"), backend_label("opencl-direct", "pthread-haswell")
    ('im2col', 'opencl-direct on pthread-haswell')
    """
    return backend if device == "cpu" else f"{backend} on {device}"


def _time(timing: Timing) -> Value:
    """The median, asv's interval of 99 % and quartiles."""
    import numpy as np

    series = timing.of("wall")
    f = figure(series, 0.99)
    if not (f.samples and isfinite(f.median)):
        return Value(nan)
    low, high = np.quantile(np.concatenate([np.asarray(s) for s in series]), [0.25, 0.75])
    stats = {"ci_99_a": f.low, "ci_99_b": f.high, "q_25": float(low), "q_75": float(high), "number": 1, "repeat": f.samples}
    return Value(f.median, {name: value for name, value in stats.items() if isfinite(value)})


def _finite(value: float) -> float:
    """The value, or NaN for an infinity."""
    return value if isfinite(value) else nan


def place_of(info: Mapping[str, Any], threads: Iterable[int], machine: str = "") -> Place:
    """Where a run was measured.

    Parameters
    ----------
    info : mapping
        `Run.info`.
    threads : iterable of int
        Of its timings.
    machine : str
        A name for the machine; default is made of the run's `host`.
    """
    environment = info.get("environment") or {}
    facts = environment.get("machine") or {}
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", machine or str(info.get("host", ""))).strip("-.") or "unknown"
    held = {
        "machine": name,
        "os": str(facts.get("platform", "")).partition("-")[0],  # not the kernel's version, which would part the series
        "arch": "",
        "cpu": str(facts.get("processor", "")),
        "num_cpu": str(facts.get("cores", "")).partition(" ")[0],
        "ram": str(facts.get("memory", "")),
    }
    python = re.match(r"\d+\.\d+", str(facts.get("python", "")))
    versions = environment.get("packages") or {}
    packages = {n: str(versions[n]) for n in COMPUTES if n in versions}
    return Place(held, python[0] if python else "", packages, ",".join(str(n) for n in sorted(set(threads))))
