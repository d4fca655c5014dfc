"""Oracle results kept: in memory within a run, on disk across runs for data that no seed changes.

The disk's key is the content: specification, operands' bytes and the source of the oracle itself, so
that an entry can be stale by no edit. Files are written aside and renamed; a broken one is recomputed.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections import OrderedDict
from functools import cache
from math import prod
from pathlib import Path

import numpy as np

from harness.data import SEEDED, Operands, draw
from harness.oracle.wide import Reference, reference, work
from harness.spec import ConvSpec

#: Multiply-adds below which recomputing is cheaper than a file.
WORTH_A_FILE = 20_000_000
#: Bytes of the digest before a file's planes.
DIGEST = 16
#: Bytes of a result in memory beside its numbers: objects, keys, locks (measured 1.9 kB for outputs of 10 elements).
ENTRY = 2048
#: Bytes that the disk cache is trimmed to at the end of a run.
DISK_LIMIT = 256 << 20


@cache
def source_digest() -> str:
    """A digest of this room's and the specification's source."""
    here = Path(__file__).parent
    h = hashlib.blake2b(digest_size=8)
    for path in sorted([*here.glob("*.py"), *(here.parent / "spec").glob("*.py")]):
        h.update(path.read_bytes())
    return h.hexdigest()


class OracleCache:
    """Data and references of the cases at hand, shared by all backends of a run; safe to use from threads.

    Parameters
    ----------
    seed : int
        The run's.
    directory : Path, optional
        Where results of unseeded recipes are kept; None for nowhere.
    limit : int
        Bytes held in memory.
    """

    def __init__(self, seed: int, directory: Path | None = None, limit: int = 96 << 20) -> None:
        self.seed, self.directory, self.limit = seed, directory, limit
        self._held: OrderedDict[tuple[object, ...], tuple[Operands, Reference]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._busy: dict[tuple[object, ...], threading.Lock] = {}

    def get(self, recipe: str, spec: ConvSpec, case: str, *more: object) -> tuple[Operands, Reference]:
        """Operands of a recipe for a case, and their reference; computed once, however many ask."""
        key = (spec, case, recipe, *more)
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key]
            turn = self._busy.setdefault(key, threading.Lock())
        with turn:
            with self._lock:
                if key in self._held:
                    return self._held[key]
            ops = draw(recipe, spec, case, self.seed, *more)
            ref = self._disk(spec, ops) if recipe not in SEEDED and work(spec) >= WORTH_A_FILE else reference(spec, ops)
            self._keep(key, (ops, ref))
        return ops, ref

    def _keep(self, key: tuple[object, ...], value: tuple[Operands, Reference]) -> None:
        with self._lock:
            if (old := self._held.pop(key, None)) is not None:  # evicted while another waited, and computed twice
                self._bytes -= _size(old)
            self._held[key] = value
            self._busy.pop(key, None)
            self._bytes += _size(value)
            while self._bytes > self.limit and len(self._held) > 1:
                self._bytes -= _size(self._held.popitem(last=False)[1])

    def _disk(self, spec: ConvSpec, ops: Operands) -> Reference:
        if self.directory is None:
            return reference(spec, ops)
        path = self.directory / f"{source_digest()}-{spec.digest}-{ops.digest}.f64"
        try:
            planes = _loaded(path, spec)
            if planes is not None:
                os.utime(path)
                return Reference(planes[0], planes[2] if len(planes) == 3 else None, planes[1])
        except OSError:
            pass
        ref = reference(spec, ops)
        planes = np.stack([p for p in (ref.hi, ref.scale, ref.lo) if p is not None])
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            aside = path.with_suffix(f".{os.getpid()}.{threading.get_ident()}.tmp")
            with aside.open("wb") as f:
                f.write(hashlib.blake2b(planes.data, digest_size=DIGEST).digest())
                f.write(planes.data)
            aside.replace(path)
        except OSError:
            pass  # a full or read-only cache costs time, never a result
        return ref

    def trim(self) -> None:
        """Remove the files that were used longest ago, down to `DISK_LIMIT` bytes."""
        if self.directory is None or not self.directory.is_dir():
            return
        found = []
        for path in self.directory.iterdir():
            try:
                found.append((path.stat().st_mtime, path.stat().st_size, path))
            except OSError:
                continue
        total = sum(size for _, size, _ in found)
        for _, size, path in sorted(found):
            if total <= DISK_LIMIT:
                break
            path.unlink(missing_ok=True)
            total -= size


def _loaded(path: Path, spec: ConvSpec) -> np.ndarray | None:
    """The planes kept in `path`, or None if they are not what was written: a power cut leaves zeros."""
    raw = path.read_bytes()
    plane = 8 * prod(spec.out_shape)
    if len(raw) - DIGEST not in (2 * plane, 3 * plane):
        return None
    if hashlib.blake2b(memoryview(raw)[DIGEST:], digest_size=DIGEST).digest() != raw[:DIGEST]:
        return None
    return np.frombuffer(raw, np.float64, offset=DIGEST).reshape(-1, *spec.out_shape)


def _size(value: tuple[Operands, Reference]) -> int:
    ops, ref = value
    return ENTRY + ref.nbytes + sum(a.nbytes for a in ops.arrays if a is not None)
