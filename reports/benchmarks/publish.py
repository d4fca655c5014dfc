"""`python -m reports.benchmarks.publish`: `asv publish` as a gate.

asv publishes what it finds and succeeds. This refuses first what would make it find nothing (a shallow clone, no
branch, results of no commit of a branch) or never end (an infinity), and then fails if a regression is named, or if a
benchmark has failed at the newest commit, for where all have failed nothing rises: exit code 0 where there is neither, 1
where there is, 2 where it could not be told.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Regression:
    """A rise that asv found.

    Attributes
    ----------
    name : str
        Benchmark and parameters.
    commits : tuple of (str, str)
        Between which it rose; the first is empty where the second alone did it.
    before, after : float
        Over all of them.
    """

    name: str
    commits: tuple[tuple[str, str], ...]
    before: float
    after: float

    def __str__(self) -> str:
        """A line."""
        places = ", ".join(f"{b[:8]}" if not a else f"{a[:8]}..{b[:8]}" for a, b in self.commits)
        change = f", {100 * (self.after / self.before - 1):+.1f} %" if self.before > 0 else ""
        return f"{self.name}: {self.before:.4g} to {self.after:.4g}{change} at {places}"


def config(path: Path) -> dict[str, Any]:
    """Read asv's settings: JSON in which a line may be a comment."""
    text = re.sub(r"(?m)^\s*//.*$", "", path.read_text(encoding="utf-8"))
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds no object")
    return found


@dataclass(frozen=True)
class State:
    """What there is to publish: in words, and what has failed at the newest commit that was measured."""

    text: str
    failed: tuple[str, ...]


def checked(settings: Mapping[str, Any], folder: Path) -> State:
    """Refuse what asv would publish nothing of; else what there is.

    Raises
    ------
    AsvError
        With the way out.
    """
    from reports.asv import git, refuse_shallow
    from reports.asv_files import AsvError, list_benchmarks, result_files

    repo, results = folder / str(settings.get("repo", ".")), folder / str(settings.get("results_dir", "results"))
    refuse_shallow(repo)
    branches = [str(b) for b in settings.get("branches") or [] if b]
    if not branches:
        raise AsvError('asv.conf.json names no branch, and a result on no branch is in no graph: "branches": ["main"]')
    files = [data for _, data in result_files(results)]
    commits = {data["commit_hash"] for data in files}
    if not commits:
        raise AsvError(f"{results} holds no results: asv run, or convproof asv-export RUN")
    histories = [git(repo, "rev-list", "--first-parent", b, "--").split() for b in branches]
    on = commits & {commit for history in histories for commit in history}
    if not on:
        raise AsvError(f"none of the {len(commits)} commits with results is on {', '.join(branches)}")
    list_benchmarks(results)
    known = json.loads((results / "benchmarks.json").read_text(encoding="utf-8"))
    if not any(name in known for data in files for name in data["results"]):
        raise AsvError(f"{results / 'benchmarks.json'} names none of the benchmarks that have results: repeat asv run")
    newest = {next(c for c in history if c in on) for history in histories if on.intersection(history)}
    failed = [f"{n} at {c[:8]}" for c in newest for d in files if d["commit_hash"] == c for n in failures(d, known)]
    more = f", {len(commits - on)} more on no branch" if commits - on else ""
    return State(f"{len(on)} commits{more}", tuple(failed))


def failures(data: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    """The benchmarks of a file of results that have failed, with their parameters.

    Parameters
    ----------
    data : mapping
        As asv or `asv-export` wrote it.
    known : mapping
        `benchmarks.json`: what is of another version, or no more, does not count.

    Examples
    --------
    >>> data = {"result_columns": ["result", "params", "version"], "results": {"b": [[1.0, None], [["'x'", "'y'"]], "1"]}}
    >>> failures(data, {"b": {"version": "1"}}), failures(data, {})
    (["b('y')"], [])
    """
    found = []
    for name, row in data["results"].items():
        held = dict(zip(data["result_columns"], row, strict=False))
        if name not in known or held.get("version") != known[name]["version"]:
            continue
        each = list(product(*held.get("params") or []))
        values = held.get("result") or [None] * len(each)  # asv writes a null where all have failed
        found += [f"{name}({', '.join(p)})" for p, value in zip(each, values, strict=True) if value is None]
    return found


def regressions(html: Path) -> list[Regression]:
    """What `asv publish` found."""
    index = json.loads((html / "index.json").read_text(encoding="utf-8"))["revision_to_hash"]
    found = json.loads((html / "regressions.json").read_text(encoding="utf-8"))["regressions"]
    return [
        Regression(
            name,
            tuple(("" if a is None else index[str(a)], index[str(b)]) for a, b, *_ in jumps),
            jumps[0][2],
            last,
        )
        for name, _, _, _, last, _, jumps in found
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Check, publish, and tell what rose; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reports.benchmarks.publish", description="asv publish, as a gate.")
    parser.add_argument("--config", type=Path, default=Path("asv.conf.json"))
    options = parser.parse_args(arguments)
    from reports.asv_files import AsvError

    folder = options.config.resolve().parent
    try:
        settings = config(options.config)
        state = checked(settings, folder)
    except (AsvError, OSError, ValueError) as error:
        sys.stderr.write(f"publish: {error}\n")
        return 2
    html = folder / str(settings.get("html_dir", "html"))
    line = [sys.executable, "-m", "asv", "--config", str(options.config.resolve()), "publish", "--no-pull"]
    done = subprocess.run(line, cwd=folder, check=False)  # noqa: S603 - this interpreter
    if done.returncode or not (html / "regressions.json").is_file():
        sys.stderr.write(f"publish: asv publish ended with {done.returncode}; it needs asv: pip install 'asv==0.6.6'\n")
        return 2
    found = regressions(html)
    for failed in state.failed:
        sys.stdout.write(f"FAILED {failed}\n")
    for each in found:
        sys.stdout.write(f"REGRESSION {each}\n")
    count = f"{len(found) or 'no'} regression{'s' * (len(found) != 1)}, {len(state.failed)} failed at the newest commit"
    sys.stdout.write(f"{count}: {state.text}; {html / 'index.html'}\n")
    return int(bool(found or state.failed))


if __name__ == "__main__":
    sys.exit(main())
