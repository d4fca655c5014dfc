"""One backend as the parent reaches it: in a worker that is restarted when it dies, or in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from harness.records import Status
from harness.run.arena import Arena
from harness.run.limits import Limits
from harness.run.messages import Load, Loaded, Reply, Request, Trouble
from harness.run.process import WorkerGone, WorkerProcess
from harness.run.serve import Server
from harness.run.threads import other_threads


class Link(Protocol):
    """Requests go in, replies come out; `WorkerGone` if the process did not survive."""

    reference: str
    generation: int

    @property
    def arena(self) -> Arena:
        """The memory shared with the server."""
        ...

    @property
    def alive(self) -> bool:
        """Whether there is a server to ask."""
        ...

    def ask(self, request: Request, seconds: float) -> Reply:
        """Send a request; see `WorkerProcess.ask`."""
        ...

    def load(self) -> Loaded | Trouble:
        """Load the backend, or tell what it told before."""
        ...

    def sibling(self) -> Link:
        """A link to the same backend in one more worker, whose libraries have another thread count; ends with this one."""
        ...

    def abandon(self) -> None:
        """End at once, though another thread waits for a reply; nothing is started again."""
        ...

    def discard(self) -> None:
        """Start afresh after damage that would be charged to the next case."""
        ...

    def close(self) -> None:
        """End."""
        ...


class WorkerLink:
    """A backend in a worker process, started when first asked and again after each death.

    `generation` counts the processes, so that a caller knows when what it prepared is gone.
    """

    def __init__(self, reference: str, limits: Limits) -> None:
        self.reference, self.limits = reference, limits
        self.generation = 0
        self._worker: WorkerProcess | None = None
        self._loaded: Loaded | Trouble | None = None
        self._abandoned = False
        self._sibling: WorkerLink | None = None

    @property
    def pid(self) -> int:
        """The living worker's process id; 0 if there is none."""
        return self._worker.pid if self._worker is not None else 0

    @property
    def alive(self) -> bool:
        """Whether a worker lives."""
        return self._worker is not None

    @property
    def arena(self) -> Arena:
        """The living worker's arena."""
        assert self._worker is not None
        return self._worker.arena

    def load(self) -> Loaded | Trouble:
        """Start and load if there is no living worker.

        Raises
        ------
        WorkerGone
            If loading kills it or takes too long.
        """
        if self._worker is None or self._loaded is None:
            self._end()
            self._refuse_if_abandoned()
            self._worker = WorkerProcess(self.limits)
            self.generation += 1
            self._refuse_if_abandoned()
            reply = self.ask(Load(self.reference), self.limits.load_seconds)
            assert isinstance(reply, Loaded | Trouble)
            self._loaded = reply
        return self._loaded

    def ask(self, request: Request, seconds: float) -> Reply:
        """Send a request to the living worker."""
        assert self._worker is not None
        try:
            return self._worker.ask(request, seconds)
        except WorkerGone:
            self._worker = self._loaded = None
            raise

    def discard(self) -> None:
        """End a worker that is damaged (memory exhausted, floating-point mode changed); the next call starts another."""
        self._end()

    def sibling(self) -> WorkerLink:
        """The link with another thread count, made when first asked for; its worker starts when it is loaded."""
        if self._sibling is None:
            self._sibling = WorkerLink(self.reference, replace(self.limits, threads=other_threads(self.limits.threads)))
        if self._abandoned:
            self._sibling.abandon()
        return self._sibling

    def abandon(self) -> None:
        """Kill the worker, from any thread: who waits for it gets `WorkerGone`, and no other is started."""
        self._abandoned = True
        if (worker := self._worker) is not None:
            worker.abandon()
        if self._sibling is not None:
            self._sibling.abandon()

    def _refuse_if_abandoned(self) -> None:
        if self._abandoned:
            self._end()
            raise WorkerGone(Status.NOT_RUN, "the run was cut short")

    def close(self) -> None:
        """End the worker, and the sibling's."""
        self._end()
        if self._sibling is not None:
            self._sibling.close()

    def _end(self) -> None:
        worker, self._worker, self._loaded = self._worker, None, None
        if worker is not None:
            worker.close()


class LocalLink:
    """A backend in this process, for a debugger: no isolation, no limits."""

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self.generation = 1
        self.arena = Arena()
        self.alive = True
        self._server = Server(self.arena, interruptible=True)
        self._loaded: Loaded | Trouble | None = None

    def load(self) -> Loaded | Trouble:
        """Load the backend here."""
        if self._loaded is None:
            reply = self._server.answer(Load(self.reference))
            assert isinstance(reply, Loaded | Trouble)
            self._loaded = reply
        return self._loaded

    def ask(self, request: Request, seconds: float) -> Reply:
        """Answer at once; `seconds` cannot be enforced here."""
        return self._server.answer(request)

    def discard(self) -> None:
        """Do nothing: there is no other process."""

    def sibling(self) -> Link:
        """Refuse: this process's libraries have their thread count for life."""
        raise RuntimeError("a backend in this process has no other worker: the check is left out of such plans")

    def abandon(self) -> None:
        """Do nothing: this thread runs the backend."""

    def close(self) -> None:
        """Release what was prepared."""
        self._server.close()


def trouble_status(trouble: Trouble) -> Status:
    """The status of what a backend raised."""
    return {
        "unsupported": Status.UNSUPPORTED,
        "contract": Status.FAIL,
        "sanitizer": Status.FAIL,
        "memory": Status.OOM,
    }.get(trouble.kind, Status.ERROR)
