"""For which device, driver and kernels a result of tuning holds; what is kept is `harness.tuned`'s."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from backends.opencl import runtime
from harness.tuned import find

__all__ = ["find", "key"]


@cache
def key(device: str, handle: Any, sources: tuple[str, ...]) -> dict[str, str]:
    """The facts: a device of which fewer units are used, by a limit on threads, is another."""
    names = ("platform", "platform_version", "driver_version", "device_version", "compute_units")
    told = runtime.describe(device, handle).properties
    return {"device": device, **{name: told[name] for name in names}, "kernels": digest(sources)}


@cache
def digest(sources: tuple[str, ...]) -> str:
    """Of files of this package."""
    h = hashlib.blake2b(digest_size=8)
    for name in sources:
        h.update((Path(__file__).parent / name).read_bytes())
    return h.hexdigest()
