"""Failures that were found, kept as case files and replayed first the next time."""

from __future__ import annotations

from pathlib import Path

from harness.catalogue import Case
from harness.catalogue.load import load_file
from harness.fuzzing.cases import FAMILY, case_of
from harness.fuzzing.shrink import Shrunk
from harness.fuzzing.written import described, yaml_text


def replayed(folder: Path) -> tuple[Case, ...]:
    """The cases that a corpus holds, by file and line, each id once; none where there is no folder.

    Raises
    ------
    CatalogueError
        If a file in it is no catalogue file.
    """
    found: dict[str, Case] = {}
    for path in sorted(folder.glob("*.yaml")) if folder.is_dir() else []:
        for case in load_file(path):
            found.setdefault(case.id, case)
    return tuple(found.values())


def keep(folder: Path, origin: Case, shrunk: Shrunk | None, backend: str, seed: int) -> Path:
    """Write a failing case, and what it was shrunk to, into `folder`; the file, named by the failing case.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    if origin.family != FAMILY:  # a user's own file among the corpus: the same specification under a name of the corpus
        assert origin.spec is not None
        origin = case_of(origin.spec)
    cases = [(origin, {"why": origin.why, "source": origin.source})]
    if shrunk is not None and shrunk.found.case.id != origin.id:
        cases.insert(0, (shrunk.found.case, described(shrunk, backend, seed)))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{origin.id}.yaml"
    path.write_text(yaml_text(cases, FAMILY), encoding="utf-8")
    return path
