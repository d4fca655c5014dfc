"""One backend as the parent reaches it: in a worker that is restarted when it dies, or in this process."""

from __future__ import annotations

from typing import Protocol

from harness.records import Status
from harness.run.arena import Arena
from harness.run.limits import Limits
from harness.run.messages import Load, Loaded, Reply, Request, Trouble
from harness.run.process import WorkerGone, WorkerProcess
from harness.run.serve import Server


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
            self.close()
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
        self.close()

    def abandon(self) -> None:
        """Kill the worker, from any thread: who waits for it gets `WorkerGone`, and no other is started."""
        self._abandoned = True
        if (worker := self._worker) is not None:
            worker.abandon()

    def _refuse_if_abandoned(self) -> None:
        if self._abandoned:
            self.close()
            raise WorkerGone(Status.NOT_RUN, "the run was cut short")

    def close(self) -> None:
        """End the worker."""
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
        "memory": Status.OOM,
    }.get(trouble.kind, Status.ERROR)
