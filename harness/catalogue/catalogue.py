"""`Catalogue`: the cases in their order, and the selection of some of them by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from harness.catalogue.case import SUITES, Case
from harness.catalogue.errors import CatalogueError, SelectionError, nearest
from harness.catalogue.load import load_file


@dataclass(frozen=True)
class Catalogue:
    """Cases, in the order of their files and in each file's order.

    Examples
    --------
    >>> catalogue = load_catalogue()
    >>> [c.id for c in catalogue.select(["lecture-conv1d-valid"])]
    ['lecture-conv1d-valid']
    """

    cases: tuple[Case, ...]

    @cached_property
    def by_id(self) -> dict[str, Case]:
        """The cases by their ids."""
        return {c.id: c for c in self.cases}

    def select(self, patterns: Sequence[str]) -> tuple[Case, ...]:
        """The cases that any of the patterns names, in the catalogue's order, each once.

        Parameters
        ----------
        patterns : sequence of str
            Each a suite (`smoke`, `gate`, `full`, `perf`), an id, a glob over ids (`edge-pad-*`),
            ``tag:NAME``, or the path of a YAML file, whose cases follow the catalogue's own, or
            ``FILE.yaml:ID`` for one of them.

        Raises
        ------
        SelectionError
            If a pattern names nothing, or none is given.
        CatalogueError
            If a file is wrong, or holds an id that the catalogue has with another meaning.
        """
        if not patterns:
            raise SelectionError(f"nothing selected: name a suite ({', '.join(SUITES)}), an id, a glob or a YAML file")
        chosen: dict[str, Case] = {}
        for pattern in patterns:
            chosen |= {c.id: c for c in self._matches(pattern, chosen)}
        order = {c.id: i for i, c in enumerate(self.cases)}
        return tuple(sorted(chosen.values(), key=lambda c: order.get(c.id, len(order))))

    def _matches(self, pattern: str, chosen: dict[str, Case]) -> tuple[Case, ...]:
        """The cases that one pattern names."""
        if pattern.endswith((".yaml", ".yml")):
            return self._from_file(Path(pattern), chosen)
        file, sep, name = pattern.rpartition(":")
        if sep and file.endswith((".yaml", ".yml")):
            held = self._from_file(Path(file), chosen)
            if one := tuple(c for c in held if c.id == name):
                return one
            raise SelectionError(f"{file} holds no case {name!r}: {nearest(name, [c.id for c in held])}".rstrip(": "))
        if pattern in SUITES:
            found = tuple(c for c in self.cases if pattern in c.suites)
        elif pattern.startswith("tag:"):
            found = tuple(c for c in self.cases if pattern[4:] in c.tags)
        elif any(ch in pattern for ch in "*?["):
            found = tuple(c for c in self.cases if fnmatchcase(c.id, pattern))
        else:
            found = (self.by_id[pattern],) if pattern in self.by_id else ()
        if found:
            return found
        raise SelectionError(self._no_match(pattern))

    def _from_file(self, path: Path, chosen: dict[str, Case]) -> tuple[Case, ...]:
        """The cases of a file on top of the catalogue."""
        cases = load_file(path)
        for case in cases:
            known = self.by_id.get(case.id) or chosen.get(case.id)
            if known is not None and Path(known.file).resolve() != path.resolve():
                raise CatalogueError(path, case.line, f"duplicate id {case.id!r}: it is at {known.where} already")
        return tuple(self.by_id.get(c.id, c) for c in cases)

    def _no_match(self, pattern: str) -> str:
        """Why a pattern names nothing, with what is near."""
        if pattern.startswith("tag:"):
            tags = sorted({t for c in self.cases for t in c.tags})
            return f"no case has the tag {pattern[4:]!r}: {nearest(pattern[4:], tags)}".rstrip(": ")
        families = sorted({c.family for c in self.cases})
        if pattern in families:
            return f"no suite or case {pattern!r}: did you mean '{pattern}-*'?"
        hint = nearest(pattern, [*SUITES, *self.by_id], count=3)
        if not hint:
            hint = f"the suites are {', '.join(SUITES)}, the families {', '.join(f + '-*' for f in families)}"
        return f"no suite, id, glob or file matches {pattern!r}: {hint}"


def load_catalogue(paths: Sequence[Path] | None = None) -> Catalogue:
    """Read catalogue files.

    Parameters
    ----------
    paths : sequence of Path, optional
        Files; by default those shipped in the package `cases`, by name.

    Raises
    ------
    CatalogueError
        At the first thing that is wrong, with file and line.
    """
    if paths is None:
        paths = packaged_files()
    seen: dict[str, Case] = {}
    for path in paths:
        for case in load_file(Path(path)):
            if (first := seen.get(case.id)) is not None:
                raise CatalogueError(path, case.line, f"duplicate id {case.id!r}: it is at {first.where} already")
            seen[case.id] = case
    return Catalogue(tuple(seen.values()))


def packaged_files() -> tuple[Path, ...]:
    """The catalogue files shipped with the distribution, sorted by name."""
    from importlib.resources import files

    return tuple(sorted(Path(str(f)) for f in files("cases").iterdir() if f.name.endswith(".yaml")))
