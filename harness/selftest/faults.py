"""Finding planted faults: by entry point, since the harness imports no backend."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from importlib.metadata import entry_points
from typing import Protocol

GROUP = "convproof.faults"


class NoFaults(LookupError):
    """There are none that were asked for; the message says what there is."""


class PlantedFault(Protocol):
    """What is asked of a fault; `backends.planted.Fault` is one."""

    @property
    def name(self) -> str:
        """Unique."""
        ...

    @property
    def cls(self) -> str:
        """Its class."""
        ...

    @property
    def what(self) -> str:
        """The fault in a sentence."""
        ...

    @property
    def kind(self) -> str:
        """What may count as a kill; see `harness.selftest.kills`."""
        ...

    @property
    def real(self) -> str:
        """A bug of the same kind, or empty."""
        ...

    @property
    def mutation(self) -> str:
        """What it is an instance of."""
        ...

    @property
    def named(self) -> tuple[str, ...]:
        """Diagnoses that tell it rightly."""
        ...

    @property
    def reference(self) -> str:
        """Its backend, as `--backend` takes it."""
        ...

    @property
    def worker(self) -> bool:
        """Whether it needs a process of its own."""
        ...

    @property
    def ci(self) -> bool:
        """Whether it is of the fixed subset that every commit is held to."""
        ...


def load_faults() -> tuple[PlantedFault, ...]:
    """Every fault of the installed distributions, in their order.

    Raises
    ------
    NoFaults
        If no distribution holds any.
    """
    found = tuple(f for e in sorted(entry_points(group=GROUP)) for f in e.load())
    if not found:
        raise NoFaults(f"no installed distribution has an entry point {GROUP}")
    return found


def selected(
    faults: Iterable[PlantedFault], *, classes: Iterable[str] = (), globs: Iterable[str] = (), ci: bool = False
) -> tuple[PlantedFault, ...]:
    """Those of the classes and names that were asked for; all where nothing was.

    Raises
    ------
    NoFaults
        If there are none, or if a class or a pattern fits none.
    """
    faults, wanted, patterns = tuple(faults), {c.upper() for c in classes}, tuple(globs)
    known = sorted({f.cls for f in faults})
    if unknown := sorted(wanted - set(known)):
        raise NoFaults(f"there is no class {unknown[0]!r}: the classes are {', '.join(known)}")
    for pattern in patterns:
        if not any(fnmatchcase(f.name, pattern) for f in faults):
            raise NoFaults(f"no fault is called {pattern!r}: `convproof selftest --list` names them")
    found = tuple(
        f
        for f in faults
        if (not wanted or f.cls in wanted)
        and (not patterns or any(fnmatchcase(f.name, p) for p in patterns))
        and (f.ci or not ci)
    )
    if not found:
        raise NoFaults("no fault is left by what was asked for together")
    return found
