"""Where verdicts are kept: an SQLite file, durable a case at a time, and its readers.

`Store` writes and reads; `load` and `export` make data frames and files. Each name is found on
first use, so that importing this package costs neither SQLAlchemy nor pandas.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.store.model import RunInfo, RunRow, StoreError, default_path

if TYPE_CHECKING:
    from harness.store.database import Store
    from harness.store.frames import Run, export, load

__all__ = ["Run", "RunInfo", "RunRow", "Store", "StoreError", "default_path", "export", "load"]

_HOMES = {
    "Store": "harness.store.database",
    "Run": "harness.store.frames",
    "export": "harness.store.frames",
    "load": "harness.store.frames",
}


def __getattr__(name: str) -> Any:
    """Find what needs SQLAlchemy or pandas on first use."""
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'harness.store' has no attribute {name!r}")
