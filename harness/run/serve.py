"""The inside of a worker: answers requests with one backend. Foreign code runs here.

The same object serves in a worker process and, on demand, in the caller's process.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np

from harness.backend import Backend, BackendInfo, ContractError, Device, Limits, Prepared, Probe, Unsupported
from harness.registry import load
from harness.run.arena import Arena, Layout
from harness.run.fences import Fence, Pen
from harness.run.fpmode import fp_mode
from harness.run.layouts import LAYOUTS
from harness.run.messages import Answers, Ask, Call, Done, Load, Loaded, Prepare, Release, Reply, Request, Together, Trouble
from harness.run.oclgrind import Findings, NotSimulated
from harness.run.together import call_together

#: The arguments of `Prepared.run`, in order.
ARGUMENTS = ("x", "w", "b", "out")


@dataclass
class Server:
    """State of one worker: its backend, the arena, what is prepared.

    A worker ignores the terminal's interrupt, so a KeyboardInterrupt there is the backend's own doing;
    an `interruptible` server (in the caller's process) lets it pass.
    """

    arena: Arena
    backend: Backend | None = None
    prepared: Prepared | None = None
    arguments: tuple[Any, ...] = ()
    interruptible: bool = False
    findings: Findings | None = None
    lay: Layout | None = None
    pens: dict[tuple[Fence, bool], Pen] = field(default_factory=dict)

    def answer(self, request: Request) -> Reply:
        """Carry out one request; whatever the backend raises becomes `Trouble`."""
        handlers: dict[type, Callable[[Any], Reply]] = {
            Load: self._load,
            Ask: self._ask,
            Prepare: self._prepare,
            Call: self._call,
            Together: self._together,
            Release: self._release,
        }
        try:
            reply = handlers[type(request)](request)
            found = self.findings.new() if self.findings is not None else ""
            return Trouble("sanitizer", f"Oclgrind: {found}") if found else reply
        except (Unsupported, NotSimulated) as e:
            return Trouble("unsupported", str(e) or "no reason given")
        except ContractError as e:
            return Trouble("contract", str(e))
        except MemoryError as e:
            return Trouble("memory", str(e) or "MemoryError")
        except BaseException as e:  # foreign code ran
            if self.interruptible and (isinstance(e, KeyboardInterrupt) or _left_debugger(e)):
                raise KeyboardInterrupt from e
            return Trouble("error", describe(e), traceback.format_exc(limit=-12))

    def _load(self, request: Load) -> Reply:
        start = perf_counter()
        self.backend = load(request.reference)
        found = self.backend.probe()
        if not isinstance(found, Probe):
            raise ContractError(f"probe() returned {type(found).__name__}, expected a Probe")
        if not all(isinstance(d, Device) for d in found.devices):
            raise ContractError("probe() returned devices that are no Device")
        names = [d.name for d in found.devices]
        if not all(isinstance(n, str) and n for n in names) or len(set(names)) < len(names):
            raise ContractError(f"probe() returned devices called {names!r}: each needs a name of its own")
        return Loaded(plain(self.backend.info), found, perf_counter() - start, fp_mode())

    def _ask(self, request: Ask) -> Reply:
        assert self.backend is not None
        limits: Limits = self.backend.info.limits
        reasons = tuple(None if (r := limits.why_not(s)) is None else str(r) for s in request.specs)
        sizes = tuple(
            int(self.backend.workspace_bytes(s)) if r is None else 0 for s, r in zip(request.specs, reasons, strict=True)
        )
        return Answers(reasons, sizes)

    def _prepare(self, request: Prepare) -> Reply:
        assert self.backend is not None
        self.close()
        self.lay, arrays = request.layout, self.arena.arrays(request.layout)
        self.arguments = tuple(arrays.get(name) for name in ARGUMENTS)
        start = perf_counter()
        prepared = self.backend.prepare(request.spec, request.device)
        self.prepared = prepared.__enter__()
        return Done(perf_counter() - start, fp_mode=fp_mode())

    def _call(self, request: Call) -> Reply:
        assert self.prepared is not None
        arguments, pen = self.arguments, None
        flush = request.fence is not None and request.fence.side == "end" and request.layout == "unaligned"
        if request.fence is not None:
            pen = self._pen(request.fence, flush)
            arguments = tuple(pen.arrays.get(name) for name in ARGUMENTS)
        if request.layout != "C" and not flush:
            x, w, b, out = arguments
            arguments = (*(None if a is None else LAYOUTS[request.layout](a) for a in (x, w, b)), out)
        start = perf_counter()
        run: Callable[..., object] = self.prepared.run
        with np.errstate(all="ignore"):  # NaN, Inf and overflow are in the data on purpose
            returned = run(*arguments)
        seconds = perf_counter() - start
        if pen is not None:
            assert self.lay is not None
            pen.restore(self.arena, self.lay)
        if returned is not None:
            raise ContractError(f"run() returned {type(returned).__name__}: it writes into `out` and returns None")
        phases = getattr(self.prepared, "phases", None) or {}
        device = getattr(self.prepared, "device_seconds", None)
        return Done(
            seconds,
            {str(k): float(v) for k, v in dict(phases).items()},
            None if device is None else float(device),
            fp_mode(),
        )

    def _pen(self, fence: Fence, flush: bool) -> Pen:
        """The arena's arrays between closed pages; operands end exactly there if `flush`."""
        assert self.lay is not None
        if (fence, flush) not in self.pens:
            self.pens[fence, flush] = Pen(self.lay, fence, ("x", "w", "b") if flush else ())
        self.pens[fence, flush].fetch(self.arena, self.lay)
        return self.pens[fence, flush]

    def _together(self, request: Together) -> Reply:
        assert self.prepared is not None
        arrays = [self.arena.arrays(lay) for lay in request.layouts]
        start = perf_counter()
        call_together(self.prepared.run, [tuple(a.get(name) for name in ARGUMENTS) for a in arrays])
        return Done(perf_counter() - start, fp_mode=fp_mode())

    def _release(self, request: Release) -> Reply:
        start = perf_counter()
        self.close()
        return Done(perf_counter() - start, fp_mode=fp_mode())

    def close(self) -> None:
        """Release what was prepared."""
        self.arguments, self.pens = (), {}
        prepared, self.prepared = self.prepared, None
        if prepared is not None:
            prepared.__exit__(None, None, None)


def _left_debugger(e: BaseException) -> bool:
    """Whether `q` was typed in pdb: whoever leaves it wants to go on with nothing."""
    import sys

    bdb = sys.modules.get("bdb")
    return bdb is not None and isinstance(e, bdb.BdbQuit)


def plain(info: BackendInfo) -> BackendInfo:
    """`info` without its rule, a function that need not pickle."""
    return replace(info, limits=replace(info.limits, rule=None))


def describe(e: BaseException) -> str:
    """`Type: message`, on one line, of bounded length."""
    try:
        text = " ".join(str(e).split())
    except Exception as failed:  # noqa: BLE001 - a foreign exception's __str__ may raise anything
        text = f"(its message cannot be shown: {type(failed).__name__})"
    name = type(e).__qualname__
    return f"{name}: {text}"[:2000] if text else name
