"""What a person names as a side of a comparison: a commit, an interpreter, a backend."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from harness.timing.process import Side, SideProblem

#: Of a checkout's folder; the process that made it follows.
PREFIX = "convproof-side-"
#: Prefixes that say what a name is, for names that could be several things.
KINDS = ("run", "backend", "commit", "python")


def git(folder: Path, *words: str) -> str:
    """What git prints; `SideProblem` with its complaint if it fails."""
    try:
        found = subprocess.run(  # noqa: S603 - fixed words and a revision
            ["git", "-C", str(folder), *words],  # noqa: S607 - whichever git the user has
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise SideProblem(f"git {words[0]}: {e}") from e
    if found.returncode:
        complaint = found.stderr.strip().rpartition("\n")[2]
        raise SideProblem(f"git {' '.join(words)}: {complaint}")
    return found.stdout.strip()


def commit_of(revision: str, folder: Path) -> str | None:
    """The hash of a commit, or None where the name is none or there is no repository."""
    try:
        return git(folder, "rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
    except SideProblem:
        return None


@contextlib.contextmanager
def worktree(commit: str, folder: Path) -> Iterator[Path]:
    """A checkout of a commit in a temporary folder, removed at the end; the working tree isn't touched."""
    _bury(folder)
    place = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-"))
    try:
        git(folder, "worktree", "add", "--detach", "--quiet", "--force", str(place), commit)
        yield place
    finally:
        with contextlib.suppress(SideProblem):
            git(folder, "worktree", "remove", "--force", str(place))
        shutil.rmtree(place, ignore_errors=True)
        with contextlib.suppress(SideProblem):
            git(folder, "worktree", "prune")


def _bury(folder: Path) -> None:
    """Remove the checkouts of processes that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        pid = left.name.removeprefix(PREFIX).partition("-")[0]
        if pid.isdecimal() and not Path("/proc", pid).exists() and Path("/proc/self").exists():
            with contextlib.suppress(SideProblem):
                git(folder, "worktree", "remove", "--force", str(left))
            shutil.rmtree(left, ignore_errors=True)


def side_of_commit(commit: str, label: str, reference: str, place: Path, top: Path) -> Side:
    """A side whose modules are those of a checkout: its root, and its `src` if it has one.

    A backend that is a file of the repository is the checkout's.

    Raises
    ------
    SideProblem
        If the file is not in that commit.
    """
    head, sep, name = reference.rpartition(":")
    path = Path(head.partition("=")[2] or head)
    if sep and head.endswith(".py") and path.is_absolute() and path.is_relative_to(top):
        inside = place / path.relative_to(top)
        if not inside.is_file():
            raise SideProblem(f"{label}: {path.relative_to(top)} is not in that commit")
        reference = f"{inside}:{name}"
    roots = [p for p in (place / "src", place) if p.is_dir()]
    rest = [_inside(Path(p).resolve(), place, top) for p in sys.path if p]
    modules = dict.fromkeys(map(str, (*roots, *rest)))
    return Side(label, reference, sys.executable, tuple(modules), commit, str(place))


def _inside(path: Path, place: Path, top: Path) -> Path:
    """A folder of the repository as the checkout has it; environments in the repository, and other folders, as they are."""
    if not path.is_relative_to(top) or "site-packages" in path.parts:
        return path
    return place / path.relative_to(top)


def interpreter(name: str) -> str | None:
    """The Python of a name: a program's path, or that of an environment's folder; None if it is neither."""
    path = Path(name).expanduser()
    for candidate in (path, path / "bin" / "python"):
        if candidate.is_file() and candidate.name.startswith("python"):
            return str(candidate.absolute())
    return None


def distinct(labels: Sequence[str]) -> tuple[str, ...]:
    """Labels that differ: where they are equal they are numbered.

    Examples
    --------
    >>> distinct(["fft", "fft"]), distinct(["a", "b"])
    (('fft#1', 'fft#2'), ('a', 'b'))
    """
    if len(set(labels)) == len(labels):
        return tuple(labels)
    return tuple(f"{label}#{i}" for i, label in enumerate(labels, 1))
