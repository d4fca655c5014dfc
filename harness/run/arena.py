"""The memory that parent and worker share: operands and output between guard bands.

One anonymous file (memfd) a worker: nothing has a name, so nothing is left behind after a kill, and
a round trip costs a fifth of that of named shared memory.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from dataclasses import dataclass, replace
from math import prod

import numpy as np

from harness.data import Operands
from harness.spec import DTYPES, ConvSpec
from harness.spec.host import numpy_dtype

ALIGN = 64
GUARD_BYTES = 4096


@dataclass(frozen=True)
class Slot:
    """Where an array lies."""

    name: str
    offset: int
    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return prod(self.shape) * numpy_dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Layout:
    """The arrays of one specification, each between guard bands.

    Attributes
    ----------
    slots : tuple of Slot
    size : int
        Bytes from the arena's beginning to the end of the last band.
    start : int
        Where the first band begins.
    """

    slots: tuple[Slot, ...]
    size: int
    start: int = 0

    @property
    def guards(self) -> tuple[tuple[str, int, int], ...]:
        """(text, first byte, one past the last) of every band."""
        bands = []
        end = self.start
        for i, s in enumerate(self.slots):
            before = f"before {s.name}" if i == 0 else f"between {self.slots[i - 1].name} and {s.name}"
            bands.append((before, end, s.offset))
            end = s.offset + s.nbytes
        return (*bands, (f"after {self.slots[-1].name}", end, self.size))


def layout(spec: ConvSpec) -> Layout:
    """Place x, w, b and out, 64-byte aligned, at least `GUARD_BYTES` apart."""
    slots = []
    at = GUARD_BYTES
    for name, shape, dtype in (
        ("x", spec.x_shape, spec.in_dtype),
        ("w", spec.w_shape, spec.in_dtype),
        ("b", spec.b_shape, spec.acc_dtype),
        ("out", spec.out_shape, spec.out_dtype),
    ):
        if shape is None:
            continue
        slot = Slot(name, at, shape, dtype)
        slots.append(slot)
        at = -(-(at + slot.nbytes + GUARD_BYTES) // ALIGN) * ALIGN
    return Layout(tuple(slots), at)


def side_by_side(lay: Layout, count: int) -> tuple[Layout, ...]:
    """`lay` so many times, one after the other in one arena, each with its own guard bands."""
    step = -(-lay.size // ALIGN) * ALIGN
    return tuple(
        Layout(tuple(replace(s, offset=s.offset + i * step) for s in lay.slots), lay.size + i * step, i * step)
        for i in range(count)
    )


class Arena:
    """A growing mapping of one anonymous file.

    Parameters
    ----------
    fd : int, optional
        The file; a new anonymous one if not given. The arena owns it.
    """

    def __init__(self, fd: int | None = None) -> None:
        self.fd = _anonymous() if fd is None else fd
        self._map: mmap.mmap | None = None
        self._size = 0

    def view(self, size: int) -> mmap.mmap:
        """A mapping of at least `size` bytes; earlier views end when it grows."""
        if self._map is None or self._size < size:
            self._map = None
            self._size = max(1 << 20, 1 << (size - 1).bit_length())
            if os.fstat(self.fd).st_size < self._size:
                os.ftruncate(self.fd, self._size)
            self._map = mmap.mmap(self.fd, self._size)
        return self._map

    def arrays(self, lay: Layout) -> dict[str, np.ndarray]:
        """Arrays over the slots of `lay`."""
        buffer = self.view(lay.size)
        return {s.name: np.ndarray(s.shape, numpy_dtype(s.dtype), buffer, s.offset) for s in lay.slots}

    def close(self) -> None:
        """Unmap and close."""
        self._map = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


@dataclass
class Desk:
    """The parent's side of a layout: lay operands out, poison the output, look for damage afterwards."""

    arena: Arena
    lay: Layout
    out_dtype: str

    def __post_init__(self) -> None:
        self.arrays = self.arena.arrays(self.lay)
        self._bytes = self.arena.view(self.lay.size)
        self._places = self.lay.guards
        self._guard = ""
        self.guard("ones")

    def guard(self, kind: str) -> None:
        """Fill the bands around the arrays, one of `harness.checks.base.GUARDS`; kept until the next call."""
        if kind == self._guard:
            return
        self._guard = kind
        self._bands = {}
        for _, start, end in self._places:
            self._bands[start] = self._filling(kind, end - start)
            self._bytes[start:end] = self._bands[start]

    def _filling(self, kind: str, size: int) -> bytes:
        if kind in ("largest", "lowest"):
            t = DTYPES[self.lay.slots[0].dtype]
            value = t.max if kind == "largest" else (-t.max if t.is_float else -t.max - 1)
            unit = np.array(value).astype(numpy_dtype(t.name)).tobytes()
        else:
            unit = {"zeros": b"\x00", "ones": b"\xff", "bytes 0x5a": b"\x5a"}[kind]
        return (unit * (size // len(unit) + 1))[:size]

    def place(self, ops: Operands, poison: np.ndarray) -> None:
        """Copy the operands in and fill the output with `poison`, an unsigned integer of its width."""
        for name, a in zip(("x", "w", "b"), ops.arrays, strict=True):
            if a is not None:
                self.arrays[name][...] = a
        self.arrays["out"].view(poison.dtype)[...] = poison

    def damage(self, ops: Operands) -> str | None:
        """What was written that must not be, in a sentence; None if nothing was."""
        for text, start, end in self._places:
            band, right = self._bytes[start:end], self._bands[start]
            if band != right:
                wrong = [i for i, (c, r) in enumerate(zip(band, right, strict=True)) if c != r]
                self._bytes[start:end] = right
                return f"wrote {len(wrong)} bytes {text}, the first at byte {wrong[0]} of the guard band"
        for name, a in zip(("x", "w", "b"), ops.arrays, strict=True):
            if a is None or not a.size:
                continue
            now, was = self.arrays[name].view(np.uint8), np.ascontiguousarray(a).view(np.uint8)
            if now.tobytes() != was.tobytes():  # memcmp: five times as fast as comparing arrays
                at = tuple(int(i) for i in np.argwhere(now != was)[0])
                return f"changed its input {name} in place, first at {[*at[:-1], at[-1] // a.itemsize]}"
        return None


def _anonymous() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("convproof", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as f:  # macOS has no memfd: an unlinked file is as nameless
        return os.dup(f.fileno())
