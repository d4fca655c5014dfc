"""Convproof's engine: specification, catalogue, oracle, checks, runner, store.

Importing `harness` imports none of its rooms; `harness.load` is found on first use.
"""

from __future__ import annotations

from typing import Any

__all__ = ["__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Find `load` on first use (it needs pandas)."""
    if name == "load":
        from harness.store.frames import load

        return load
    raise AttributeError(f"module 'harness' has no attribute {name!r}")
