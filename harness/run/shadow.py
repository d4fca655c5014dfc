"""Keeps Oclgrind's record of what is initialised right, where Oclgrind 21.10 itself does not.

It keeps a copy of every buffer that says which bytes were written, by the buffer's slot. The copy outlives the buffer, with
its size: what takes the slot next is judged by the old one. A host write replaces the whole copy by one of the length of
that write, a fill by one of its pattern; memory of the host (USE_HOST_PTR), and what is mapped for reading and writing, is
never known to be initialised. Each would be a finding in a right kernel. So on that platform, and no other, pyopencl's
buffers are held when they are released, and what the host wrote in part is written once more in full.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import deque
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np

PLATFORM, MODULE = "Oclgrind", "pyopencl"
#: What is held, in buffers and bytes: the simulator has 65,535 slots, and a worker some memory. Beyond, the oldest go, and
#: every buffer is initialised to zeros: what it should have been given goes unnoticed, but nothing is noticed wrongly.
MOST_HELD, MOST_BYTES = 40_000, 128 << 20


def watch_import() -> None:
    """Mend pyopencl when it is imported, and only then: most backends never do."""
    if MODULE not in sys.modules:
        sys.meta_path.insert(0, _Finder())


class _Finder:
    """Finds pyopencl, once, with a loader that mends it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                mend(module)

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def mend(cl: Any) -> None:
    """Replace what creates and fills the buffers of a freshly imported pyopencl."""
    copy, fill, map_buffer, of_library = cl.enqueue_copy, cl.enqueue_fill_buffer, cl.enqueue_map_buffer, cl.Buffer
    flags = cl.mem_flags
    held: deque[Any] = deque()
    state = {"bytes": 0, "reused": 0}

    def simulated(owner: Any) -> bool:
        return bool(owner.context.devices[0].platform.name == PLATFORM)

    def written_whole(queue: Any, buffer: Any) -> None:
        host = np.empty(buffer.size, np.uint8)
        copy(queue, host, buffer)
        copy(queue, buffer, host)

    class Buffer(of_library):  # type: ignore[misc, valid-type]
        """Keeps its slot for good in the simulator."""

        def __init__(self, context: Any, flags_: int, size: int = 0, hostbuf: Any = None) -> None:
            super().__init__(context, flags_, size, hostbuf)
            if not simulated(self):
                return
            held.append(of_library.from_int_ptr(self.int_ptr, True))
            state["bytes"] += self.size
            while len(held) > MOST_HELD or state["bytes"] > MOST_BYTES:
                state["bytes"] -= held.popleft().size
                state["reused"] = 1
            if flags_ & flags.USE_HOST_PTR or (state["reused"] and not flags_ & flags.COPY_HOST_PTR):
                written_whole(cl.CommandQueue(context), self)

    def enqueue_copy(queue: Any, dest: Any, src: Any, **kwargs: Any) -> Any:
        event = copy(queue, dest, src, **kwargs)
        if isinstance(dest, of_library) and simulated(queue) and getattr(src, "nbytes", 0) != dest.size:
            written_whole(queue, dest)
        return event

    def enqueue_fill_buffer(queue: Any, mem: Any, *args: Any, **kwargs: Any) -> Any:
        event = fill(queue, mem, *args, **kwargs)
        if simulated(queue):
            written_whole(queue, mem)
        return event

    def enqueue_map_buffer(queue: Any, buf: Any, flags: int, *args: Any, **kwargs: Any) -> Any:
        found = map_buffer(queue, buf, flags, *args, **kwargs)
        if flags & ~cl.map_flags.READ and simulated(queue):
            written_whole(queue, buf)
        return found

    cl.Buffer, cl.enqueue_copy, cl.enqueue_fill_buffer, cl.enqueue_map_buffer = (
        Buffer, enqueue_copy, enqueue_fill_buffer, enqueue_map_buffer,
    )  # fmt: skip
