"""What a run is asked to do: from the command line, from the run before, from the run to resume."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from harness.cli.errors import UsageProblem
from harness.cli.settings import Settings
from harness.records import Job, Status

if TYPE_CHECKING:
    from harness.store import Store


@dataclass(frozen=True)
class Request:
    """What a run is asked to do; stored with it, so that `--resume` needs no other words.

    Attributes
    ----------
    selection, backends, require, checks : tuple of str
    device : str, optional
    seed : int
    """

    selection: tuple[str, ...]
    backends: tuple[str, ...]
    require: tuple[str, ...]
    checks: tuple[str, ...]
    device: str | None
    seed: int

    def as_data(self) -> dict[str, Any]:
        """In JSON's types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Request:
        """From `as_data`."""
        values: dict[str, Any] = {f.name: data[f.name] for f in fields(cls)}
        fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fixed)


def from_options(settings: Settings, options: Mapping[str, Any]) -> Request:
    """What the command line asks for, completed by the settings."""
    seed = options["seed"] if options["seed"] is not None else settings.seed
    return Request(
        selection=options["selection"] or settings.suite,
        backends=options["backends"] or settings.backends,
        require=options["require"] or settings.require,
        checks=options["checks"],
        device=options["device"],
        seed=secrets.randbits(32) if seed is None else seed,
    )


def resumed(store: Store, options: Mapping[str, Any]) -> tuple[str, Request]:
    """Id and request of the last run, which was cut short."""
    given = [n for n in ("selection", "backends", "require", "checks", "device", "seed") if options[n]]
    if given:
        raise UsageProblem(f"--resume goes on with what the run was asked for: leave out {', '.join(given)}")
    row = store.info("last")
    if row.finished and not row.counts.get(Status.NOT_RUN):
        raise UsageProblem(f"the last run, {row.id}, was finished: there is nothing to resume")
    stored = row.info.environment.get("request")
    if not isinstance(stored, dict):
        raise UsageProblem(f"run {row.id} does not say what it was asked for; start it anew")
    return row.id, Request.from_data(stored)


def last_failed(store: Store, request: Request, options: Mapping[str, Any]) -> tuple[Request, frozenset[Job]]:
    """The request narrowed to what was bad in the last run, and those jobs."""
    last = store.info("last")
    jobs = frozenset(store.failures(last.id))
    if not jobs:
        raise UsageProblem(f"nothing was bad in the last run, {last.id}: leave out --last-failed")
    if not options["selection"]:
        request = replace(request, selection=tuple(dict.fromkeys(sorted(j.case for j in jobs))))
    if not options["backends"]:
        stored = last.info.environment.get("request", {})
        request = replace(request, backends=tuple(stored.get("backends", ())) or request.backends)
    return request, jobs
