"""asv's folder of results: a file a commit and environment, the machines, and the list of benchmarks.

Apart from `reports.asv`, which makes the numbers: here is only what asv 0.6 reads (results version 2, benchmarks version 2,
machine version 1). asv itself is not imported.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import isfinite, nan
from pathlib import Path
from typing import Any

#: What the names of the exported benchmarks begin with.
PREFIX = "convproof."
#: Of what the exported numbers mean: raised when that changes, and old numbers leave the graphs.
VERSION = "1"
#: Benchmark to asv's type, unit and what it says.
BENCHMARKS: Mapping[str, tuple[str, str, str]] = {
    PREFIX + "time": ("time", "seconds", "the median of a warm call of run(), by the host's clock"),
    PREFIX + "gflops": ("track", "GFLOP/s", "10^9 operations of the specification a second; shown, not gated"),
    PREFIX + "error": ("track", "of the bound", "the largest |y - y_ref| in units of the bound, of all checks of the run"),
}
COLUMNS = (
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b", "stats_q_25", "stats_q_75",
    "stats_number", "stats_repeat", "samples", "profile",
)  # fmt: skip
_STATS = COLUMNS[5:11]
_ENV_LIMIT = 128  # asv's: a longer name of an environment is replaced by its digest


class AsvError(ValueError):
    """A run or a repository of which no results can be made; the message says the way out."""


@dataclass(frozen=True)
class Commit:
    """What was measured: a commit, its date in milliseconds since 1970, and whether the tree differed from it."""

    hash: str
    date: int
    dirty: bool = False


@dataclass(frozen=True)
class Value:
    """One number: None where it failed, NaN where there is none, and its statistics."""

    result: float | None
    stats: Mapping[str, float] = field(default_factory=dict)


#: (case, backend), as asv writes parameters, to a value.
Values = dict[tuple[str, str], Value]


@dataclass(frozen=True)
class Place:
    """Where a run was measured, as asv describes it: the machine, the Python, the packages that compute."""

    machine: Mapping[str, str]
    python: str
    packages: Mapping[str, str]
    threads: str

    @property
    def environment(self) -> str:
        """The name by which asv tells environments apart.

        Examples
        --------
        >>> Place({}, "3.11", {"numpy": "2.4.6"}, "2").environment
        'convproof-py3.11-threads2-numpy2.4.6'
        """
        parts = [f"py{self.python}", f"threads{self.threads}", *(n + v for n, v in self.packages.items())]
        name = "-".join(["convproof", *(re.sub(r"[^\w.+]+", "_", p) for p in parts)])
        digest = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
        return name if len(name) < _ENV_LIMIT else f"env-{digest}"

    @property
    def params(self) -> dict[str, str]:
        """What asv draws a graph for each of."""
        return {**self.machine, "python": self.python, "threads": self.threads, **self.packages}


def write(results: Path, place: Place, commit: Commit, values: Mapping[str, Values], started: int) -> Path:
    """Write results into asv's folder, joined with what it holds of this commit, machine and environment.

    Parameters
    ----------
    results : Path
        `results_dir` of asv.conf.json.
    place : Place
    commit : Commit
    values : mapping
        As of `values_of`.
    started : int
        When the run began, milliseconds since 1970.

    Returns
    -------
    Path
        The file of the commit's results.
    """
    folder = results / place.machine["machine"]
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / "machine.json"
    machine = _read(about) if about.is_file() else {**place.machine, "version": 1}
    if not about.is_file():
        _write(about, machine)
    path = folder / f"{commit.hash[:8]}-{place.environment}.json"
    old = _read(path) if path.is_file() else {}
    if old and old["commit_hash"] != commit.hash:
        raise AsvError(
            f"{path} holds results of {old['commit_hash']}, which begins like {commit.hash}: asv has one name for both"
        )
    held = dict(old.get("results", {}))
    for name, new in values.items():
        held[name] = _row({**_values(old, name), **new}, started)
    known = {k: v for k, v in machine.items() if k != "version"}
    data = {
        "commit_hash": commit.hash,
        "env_name": place.environment,
        "date": commit.date,
        "params": {**place.params, **known},
        "python": place.python,
        "requirements": dict(place.packages),
        "env_vars": {},
        "result_columns": list(COLUMNS),
        "results": held,
        "durations": old.get("durations", {}),
        "version": 2,
    }
    _write(path, data)
    list_benchmarks(results)
    return path


def list_benchmarks(results: Path) -> None:
    """Make `benchmarks.json` name the exported benchmarks, with the parameters of all their results.

    `asv run` replaces that file by the benchmarks of its own suite, and results of others are then in no graph.
    """
    params: dict[str, list[dict[str, None]]] = {name: [{}, {}] for name in BENCHMARKS}
    for _, data in result_files(results):
        for name, axes in params.items():
            row = data["results"].get(name)
            if row and _column(data, row, "version") == VERSION:
                for axis, held in zip(axes, _column(data, row, "params"), strict=True):
                    axis.update(dict.fromkeys(held))
    path = results / "benchmarks.json"
    listed: dict[str, Any] = _read(path) if path.is_file() else {"version": 2}
    for name, (kind, unit, text) in BENCHMARKS.items():
        if params[name][0]:
            listed[name] = {
                "name": name, "type": kind, "unit": unit, "version": VERSION, "code": text, "timeout": 60.0,
                "param_names": ["case", "backend"], "params": [sorted(axis) for axis in params[name]],
            }  # fmt: skip
    _write(path, listed)


def result_files(results: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The files of results in asv's folder, and what they hold.

    Raises
    ------
    AsvError
        If one holds an infinity, or is no JSON.
    """
    for path in sorted(results.glob("*/*.json")):
        if path.name not in ("machine.json", "benchmarks.json"):
            yield path, _read(path)


def _row(values: Values, started: int) -> list[Any]:
    """A benchmark's row of a file of results: the product of the axes, NaN where there is no value."""
    axes = [sorted({pair[i] for pair in values}) for i in (0, 1)]
    each = [values.get((case, backend), Value(nan)) for case, backend in product(*axes)]
    stats = [[v.stats.get(name.removeprefix("stats_")) for v in each] for name in _STATS]
    whole = [column if any(v is not None for v in column) else None for column in stats]
    return [[v.result for v in each], axes, VERSION, started, None, *whole]


def _values(data: Mapping[str, Any], name: str) -> Values:
    """The values of a benchmark in a file of results; none where it has another version."""
    row = data.get("results", {}).get(name)
    if not row or _column(data, row, "version") != VERSION:
        return {}
    result, axes = _column(data, row, "result"), _column(data, row, "params")
    pairs = list(product(*axes))
    stats = {n.removeprefix("stats_"): _column(data, row, n) or [None] * len(pairs) for n in _STATS}
    return {
        (pair[0], pair[1]): Value(
            None if result is None else result[i], {n: column[i] for n, column in stats.items() if column[i] is not None}
        )
        for i, pair in enumerate(pairs)
    }


def _column(data: Mapping[str, Any], row: list[Any], name: str) -> Any:
    """A column of a row, whose end may be left off."""
    at = data["result_columns"].index(name)
    return row[at] if at < len(row) else None


def _read(path: Path) -> dict[str, Any]:
    def infinite(word: str) -> float:
        if word != "NaN":
            raise AsvError(f"{path} holds {word}, over which asv publish takes all memory: write NaN")
        return nan

    def number(word: str) -> float:
        return float(word) if isfinite(float(word)) else infinite(word)

    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_constant=infinite, parse_float=number)
    except json.JSONDecodeError as error:
        raise AsvError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise AsvError(f"{path} is not asv's: it holds no object")
    return found


def _write(path: Path, data: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(json.dumps(data), encoding="utf-8")
    part.replace(path)
