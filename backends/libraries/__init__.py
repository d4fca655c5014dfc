"""Libraries that others wrote, as backends: to be verified, and to be timed against.

Their entry points are in the group `convproof.libraries`: they run when named, never by default. Each declares what
the library's own documentation promises, no more, and hands it the arrays as they are, so that a figure holds what the
library does and nothing besides.
"""

from __future__ import annotations

import os
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from harness.backend import BackendInfo, Device, Probe, host_device


def version_of(distribution: str) -> str:
    """The installed version of a distribution, without importing it; empty where it is not installed."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


def thread_count() -> int | None:
    """The number of threads that the harness has set; None where nothing says.

    It sets every variable by which libraries are told, before a backend is imported; this one is the most common.
    """
    text = os.environ.get("OMP_NUM_THREADS", "")
    return int(text) if text.isdecimal() and int(text) else None


class Library:
    """What backends over a library share: whether it is there, and how to install it.

    Attributes
    ----------
    info : BackendInfo
    modules : tuple of str
        Imported by `probe`.
    hint : str
        How to install them.
    """

    info: ClassVar[BackendInfo]
    modules: ClassVar[tuple[str, ...]]
    hint: ClassVar[str]

    def probe(self) -> Probe:
        """The host's processor, with what the library says of itself; or which module is missing."""
        try:
            found = [import_module(name) for name in self.modules]
            host = host_device()
            return Probe((Device(host.name, host.kind, {**host.properties, **self.properties(*found)}),))
        except Exception as error:  # noqa: BLE001 - foreign code is imported, and a probe never raises
            return Probe(reason=f"backend {self.info.name!r} needs {' and '.join(self.modules)}: {error}", hint=self.hint)

    def properties(self, *modules: Any) -> dict[str, str]:
        """What is recorded of the imported modules."""
        return {m.__name__.partition(".")[0]: str(getattr(m, "__version__", "")) for m in modules}
