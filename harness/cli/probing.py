"""Which backends a command is about, and what their probes found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.cli.settings import Settings

if TYPE_CHECKING:
    from harness.run.limits import Limits
    from harness.run.probe import ProbeReport


def references(settings: Settings, names: Sequence[str] = ()) -> list[str]:
    """References of the backends that are named, else of the settings', else of every installed one but the libraries.

    Raises
    ------
    UnknownBackend
        If a name means none.
    """
    from harness.registry import Registry

    registry = Registry.installed()
    wanted = names or settings.backends or tuple(registry.entries)
    return list(dict.fromkeys(registry.reference(name) for name in wanted))


def worker_limits(settings: Settings, guard: str = "bands", threads: int | None = None) -> Limits:
    """What a worker may use under these settings, what lies around its arrays, and another thread count if one is given."""
    from harness.run.limits import Limits

    return Limits(seconds=settings.timeout, memory=settings.memory, threads=threads or settings.threads, guard=guard)


def probe_backends(settings: Settings, names: Sequence[str] = ()) -> list[ProbeReport]:
    """Probe each of `references` in a worker of its own."""
    from harness.run.probe import probe_all

    return probe_all(references(settings, names), worker_limits(settings))


def probe_libraries(settings: Settings) -> list[ProbeReport]:
    """The same for the outside libraries, which run when named alone; but for those that the settings name."""
    from harness.registry import Registry
    from harness.run.probe import probe_all

    registry, usual = Registry.installed(), references(settings)
    found = [registry.reference(name) for name in registry.libraries]
    return probe_all([r for r in found if r not in usual], worker_limits(settings))
