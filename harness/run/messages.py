"""What parent and worker say to each other: requests, and the one reply to each."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.backend import BackendInfo, Probe
from harness.run.arena import Layout
from harness.run.fences import Fence
from harness.spec import ConvSpec


@dataclass(frozen=True)
class Load:
    """Import the backend and probe it. Reply: Loaded or Trouble."""

    reference: str


@dataclass(frozen=True)
class Loaded:
    """Facts of a backend that a worker holds; `why_not` stays in the worker, so `info` travels without its rule."""

    info: BackendInfo
    probe: Probe
    seconds: float
    fp_mode: str


@dataclass(frozen=True)
class Ask:
    """Which of these can it do? Reply: Answers."""

    specs: tuple[ConvSpec, ...]


@dataclass(frozen=True)
class Answers:
    """For each specification a reason why not (or None), and the workspace in bytes."""

    why_not: tuple[str | None, ...]
    workspace: tuple[int, ...]


@dataclass(frozen=True)
class Prepare:
    """Compile a specification for a device; arrays will lie as `layout` says. Reply: Done or Trouble."""

    spec: ConvSpec
    device: str
    layout: Layout


@dataclass(frozen=True)
class Call:
    """Run what was prepared on what lies in the arena. Reply: Done or Trouble.

    `layout` is C, or a declared memory layout into which the worker copies the operands first. With a `fence` the
    arrays lie between closed pages meanwhile.
    """

    layout: str = "C"
    fence: Fence | None = None


@dataclass(frozen=True)
class Together:
    """Run what was prepared in as many threads at once, each on one of the layouts. Reply: Done or Trouble."""

    layouts: tuple[Layout, ...]


@dataclass(frozen=True)
class Release:
    """Leave what was prepared. Reply: Done or Trouble."""


@dataclass(frozen=True)
class Done:
    """It returned. Seconds are of the call alone; `phases` and `device_seconds` as the backend tells them."""

    seconds: float
    phases: Mapping[str, float] = field(default_factory=dict)
    device_seconds: float | None = None
    fp_mode: str = ""


@dataclass(frozen=True)
class Trouble:
    """It raised. `kind` is unsupported, contract, memory, sanitizer or error."""

    kind: str
    message: str
    traceback: str = ""


#: The first byte of a `Done` in JSON, which no pickle begins with.
_JSON = b"D"


def packed(reply: Reply) -> bytes:
    """A reply as bytes: `Done`, the answer to every call, in JSON, a fifth of the time of a pickle; others pickled."""
    if type(reply) is Done:
        return _JSON + json.dumps([reply.seconds, dict(reply.phases), reply.device_seconds, reply.fp_mode]).encode()
    return pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> Done | None:
    """The `Done` that `packed` made; None for another reply, which is a pickle."""
    return Done(*json.loads(data[1:])) if data[:1] == _JSON else None


Request = Load | Ask | Prepare | Call | Together | Release
Reply = Loaded | Answers | Done | Trouble
