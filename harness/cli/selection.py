"""From settings and arguments to cases: the shipped catalogue and the project's own files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli.errors import UsageProblem
from harness.cli.settings import Settings

if TYPE_CHECKING:
    from harness.catalogue import Catalogue


def project_catalogue(settings: Settings) -> Catalogue:
    """The shipped cases, then those of the settings' `cases`.

    Raises
    ------
    CatalogueError
        If a file is wrong.
    UsageProblem
        If a folder holds no YAML file.
    """
    from harness.catalogue import load_catalogue, packaged_files

    return load_catalogue([*packaged_files(), *case_files(settings.cases)])


def case_files(places: Iterable[Path]) -> list[Path]:
    """Files as they are, folders as the YAML files under them, by name."""
    found: list[Path] = []
    for place in places:
        if not place.is_dir():
            found.append(place)
            continue
        held = sorted(p for p in place.rglob("*") if p.suffix in (".yaml", ".yml") and p.is_file())
        if not held:
            raise UsageProblem(f"{place} holds no YAML file: name a file, or a folder of *.yaml")
        found += held
    return found
