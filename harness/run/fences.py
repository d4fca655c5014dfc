"""`--guard pages`: every array against an unreadable page, so that an access beyond it kills the process at once.

A guard band shows what was written into it, and the check `read_guards` what was read *and used*. Here the processor
itself watches, reads that change nothing included. An array lies in a mapping of its own between two unreadable pages,
in one of two placements, and every call is made in both:

- `begin`: it begins where the page before it ends;
- `end`: it ends where the page behind it begins, or up to 63 bytes before, because the contract promises that it begins
  at a multiple of 64 bytes. Operands in the declared layout `unaligned` end exactly there.

Unwatched by a page are thus in no placement the bytes before an array, and behind it (-size) mod 64. The bytes between
an array and the page on its other side hold what the guard bands of the arena hold there, and are carried back, so that
writes to them are found as ever; reads of them by `read_guards`. Not between pages: operands in the layouts `F`, `strided`
and `negative`, which are copies, and the calls of the check `concurrency`.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from harness.records import Status, Verdict
from harness.run.arena import ALIGN, GUARD_BYTES, Arena, Layout, Slot
from harness.spec.host import numpy_dtype

PAGE = mmap.PAGESIZE
SIDES = ("begin", "end")
_PROT_NONE, _PROT_READ = 0, 1


@dataclass(frozen=True)
class Fence:
    """How the arrays of a call lie.

    Attributes
    ----------
    side : {'begin', 'end'}
        The page that they touch.
    pages : tuple of str, optional
        The pages that are closed, `before x`, `after out`, ...; all if not given.
    readable : bool
        Whether the closed pages may be read, so that only a write is fatal.
    """

    side: str
    pages: tuple[str, ...] | None = None
    readable: bool = False


def page_names(lay: Layout) -> tuple[str, ...]:
    """Every page that a fence can close."""
    return tuple(f"{where} {s.name}" for s in lay.slots for where in ("before", "after"))


class Pen:
    """The arrays of a layout, each between closed pages; copied from the arena before a call and back after it.

    Parameters
    ----------
    lay : Layout
    fence : Fence
    flush : iterable of str
        Arrays that end exactly at the page behind them, aligned to their elements alone.
    """

    def __init__(self, lay: Layout, fence: Fence, flush: Iterable[str] = ()) -> None:
        names = frozenset(flush)
        self._fields = {
            s.name: _Field(s, fence, ALIGN if s.name not in names else numpy_dtype(s.dtype).itemsize) for s in lay.slots
        }

    @property
    def arrays(self) -> Mapping[str, np.ndarray]:
        """Name to array."""
        return {name: field.array for name, field in self._fields.items()}

    def fetch(self, arena: Arena, lay: Layout) -> None:
        """Copy the arrays and what lies around them from the arena."""
        for s in lay.slots:
            self._fields[s.name].fetch(arena, lay, s)

    def restore(self, arena: Arena, lay: Layout) -> None:
        """Copy them back, with all that was written beside them."""
        for s in lay.slots:
            self._fields[s.name].restore(arena, lay, s)


class _Field:
    """One array in its mapping: a closed page, the pages that hold it, a closed page."""

    def __init__(self, slot: Slot, fence: Fence, align: int) -> None:
        inside = max(1, -(-slot.nbytes // PAGE)) * PAGE
        self._map = mmap.mmap(-1, inside + 2 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        gap = -slot.nbytes % align if fence.side == "end" else inside - slot.nbytes
        self._start = PAGE + inside - gap - slot.nbytes
        self._before, self._after = min(self._start - PAGE, GUARD_BYTES), min(gap, GUARD_BYTES)
        self.array = np.ndarray(slot.shape, numpy_dtype(slot.dtype), self._map, self._start)
        base = self.array.ctypes.data - self._start
        for where, address in (("before", base), ("after", base + PAGE + inside)):
            if fence.pages is None or f"{where} {slot.name}" in fence.pages:
                _protect(address, _PROT_READ if fence.readable else _PROT_NONE)

    def fetch(self, arena: Arena, lay: Layout, slot: Slot) -> None:
        source, start, stop = arena.view(lay.size), slot.offset - self._before, slot.offset + slot.nbytes + self._after
        self._map[self._start - self._before : self._start + slot.nbytes + self._after] = source[start:stop]

    def restore(self, arena: Arena, lay: Layout, slot: Slot) -> None:
        target, start, stop = arena.view(lay.size), slot.offset - self._before, slot.offset + slot.nbytes + self._after
        target[start:stop] = self._map[self._start - self._before : self._start + slot.nbytes + self._after]


def _protect(address: int, access: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(PAGE), access) != 0:
        raise OSError(ctypes.get_errno(), "mprotect refused to close a page")


def blamed(verdict: Verdict, lay: Layout, fence: Fence, dies: Callable[[Fence], bool]) -> Verdict:
    """The verdict on a call that died between closed pages, with the page that was touched, found by trying each.

    Parameters
    ----------
    verdict : Verdict
    lay : Layout
    fence : Fence
        The call's.
    dies : callable
        Whether the same call in a fresh worker dies with another fence.
    """
    if verdict.status is not Status.CRASH or dies(replace(fence, pages=())):
        return verdict
    page = next((p for p in page_names(lay) if dies(replace(fence, pages=(p,)))), None)
    if page is None:
        text = "page guard: it lives without the closed pages around the arrays, and with any one of them alone"
        return replace(verdict, message=f"{verdict.message}; {text}")
    access = "writes" if dies(replace(fence, pages=(page,), readable=True)) else "reads"
    where, name = page.split()
    place = "before the beginning" if where == "before" else "beyond the end"
    text = f"page guard: it {access} {place} of {name}"
    return replace(verdict, message=f"{verdict.message}; {text}", details={**verdict.details, "page": page})
