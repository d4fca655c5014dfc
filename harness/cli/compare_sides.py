"""What the words of `compare` stand for, and the sides that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.errors import UsageProblem
from harness.cli.settings import Settings

if TYPE_CHECKING:
    from harness.store import Store
    from harness.timing.process import Side


@dataclass(frozen=True)
class Named:
    """What a word on the command line stands for: `kind` is run, backend, commit or python."""

    word: str
    kind: str
    value: str


@contextmanager
def store_of(settings: Settings, *, create: bool = False) -> Iterator[Store]:
    """The project's store."""
    from harness.store import Store, default_path

    with Store.open(default_path(settings.store), create=create) as store:
        yield store


def named(words: Sequence[str], settings: Settings) -> tuple[Named, Named | None, tuple[str, ...]]:
    """The two sides, and the selection behind them."""
    if not words:
        raise UsageProblem("say what is compared: two commits, interpreters, backends or runs: convproof compare HEAD~1 HEAD")
    first = _kind(words[0], settings)
    if len(words) == 1:
        if first.kind != "run":
            raise UsageProblem(f"{words[0]} is a {first.kind}: name the other side, too")
        return first, None, ()
    second = _kind(words[1], settings)
    if first.kind != second.kind:
        raise UsageProblem(
            f"{words[0]} is a {first.kind} and {words[1]} a {second.kind}: both sides have to be of one kind"
            " (run:, backend:, commit: or python: before a word says what it is)"
        )
    return first, second, tuple(words[2:])


def _kind(word: str, settings: Settings) -> Named:
    from harness.registry import Registry, UnknownBackend
    from harness.store import StoreError
    from harness.timing.sides import KINDS, commit_of, interpreter

    kind, _, rest = word.partition(":")
    if kind in KINDS and rest:
        return Named(rest, kind, rest)
    found: dict[str, str] = {}
    try:
        with store_of(settings) as store:
            found["run"] = store.resolve(word)
    except StoreError:
        if word == "last" or word.startswith("last~"):
            raise
    with suppress(UnknownBackend):
        found["backend"] = Registry.installed().reference(word)
    if commit := commit_of(word, Path.cwd()):
        found["commit"] = commit
    if python := interpreter(word):
        found["python"] = python
    if not found:
        raise UsageProblem(f"{word!r} is no stored run, no backend, no commit of this repository and no interpreter")
    if len(found) > 1:
        raise UsageProblem(f"{word!r} could be a {' or a '.join(found)}: write {next(iter(found))}:{word}, say")
    return Named(word, *next(iter(found.items())))


@contextmanager
def sides_of(first: Named, second: Named, settings: Settings, backends: Sequence[str]) -> Iterator[list[tuple[Side, Side]]]:
    """The pairs of sides to compare: one a backend; checkouts last as long as the context."""
    from harness.cli.probing import references
    from harness.registry import Registry, label, split
    from harness.timing.process import Side, SideProblem
    from harness.timing.sides import commit_of, distinct, git, interpreter, side_of_commit, worktree

    both = (first, second)
    if first.kind == "backend":
        refs = [Registry.installed().reference(split(n.value)[0] or n.value) for n in both]
        names = distinct([label(r) for r in refs])
        yield [(Side(names[0], refs[0]), Side(names[1], refs[1]))]
        return
    refs = references(settings, backends)
    with ExitStack() as stack:
        made: list[tuple[Side, Side]] = []
        if first.kind == "commit":
            top = Path(git(Path.cwd(), "rev-parse", "--show-toplevel"))
            commits = []
            for n in both:
                if (commit := commit_of(n.value, top)) is None:
                    raise SideProblem(f"{n.word!r} is no commit of {top}")
                commits.append(commit)
            places = [stack.enter_context(worktree(c, top)) for c in commits]
            for ref in refs:
                names = distinct([f"{label(ref)}@{c[:10]}" for c in commits])
                sides = [side_of_commit(c, n, ref, p, top) for c, n, p in zip(commits, names, places, strict=True)]
                made.append((sides[0], sides[1]))
        else:
            pythons = []
            for n in both:
                if (python := interpreter(n.value)) is None:
                    raise SideProblem(f"{n.word!r} is no interpreter, nor a folder with bin/python")
                pythons.append(python)
            for ref in refs:
                names = distinct([f"{label(ref)}@{n.word}" for n in both])
                made.append((Side(names[0], ref, pythons[0], ()), Side(names[1], ref, pythons[1], ())))
        yield made
