"""What a run is asked to do: from the command line, from the run before, from the run to resume."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
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
        Files by their whole path, so that the request means the same in another folder.
    device : str, optional
    seed : int
    failures_of : str, optional
        The run whose bad jobs alone are repeated.
    shard : str, optional
        `K/N`: only every N-th of the cases, the K-th first.
    guard : {'bands', 'pages'}
        What lies around the arrays, see `harness.run.limits`.
    """

    selection: tuple[str, ...]
    backends: tuple[str, ...]
    require: tuple[str, ...]
    checks: tuple[str, ...]
    device: str | None
    seed: int
    failures_of: str | None = None
    shard: str | None = None
    guard: str = "bands"

    def as_data(self) -> dict[str, Any]:
        """In JSON's types."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Request:
        """From `as_data`."""
        values: dict[str, Any] = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        fixed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**fixed)


def from_options(settings: Settings, options: Mapping[str, Any]) -> Request:
    """What the command line asks for, completed by the settings."""
    seed = options["seed"] if options["seed"] is not None else settings.seed
    if options["shard"] and seed is None:
        raise UsageProblem("the shards of a run share their data: pin them with --seed N, the same N for all of them")
    return Request(
        selection=tuple(_lasting(s) for s in options["selection"] or settings.suite),
        backends=tuple(_lasting(b) for b in options["backends"] or settings.backends),
        require=tuple(_lasting(b) for b in options["require"] or settings.require),
        checks=options["checks"],
        device=options["device"],
        seed=secrets.randbits(32) if seed is None else seed,
        shard=options["shard"],
        guard=options.get("guard") or "bands",
    )


def _lasting(text: str) -> str:
    """`FILE.yaml`, `FILE.yaml:ID` or `FILE.py:NAME` with the file's whole path; anything else as it is."""
    if text.endswith((".yaml", ".yml")):
        return str(Path(text).absolute())
    file, _, name = text.rpartition(":")
    return f"{Path(file).expanduser().absolute()}:{name}" if name and file.endswith((".yaml", ".yml", ".py")) else text


def resumed(store: Store, options: Mapping[str, Any]) -> tuple[str, Request]:
    """Id and request of the last run, which was cut short."""
    named = ("selection", "backends", "require", "checks", "device", "seed", "shard", "guard")
    given = [n for n in named if options[n] not in (None, ())]
    if given:
        raise UsageProblem(f"--resume goes on with what the run was asked for: leave out {', '.join(given)}")
    row = store.info("last")
    if kind := row.info.environment.get("kind"):
        raise UsageProblem(f"the last run, {row.id}, is one of {kind}, which does not resume: what it measured is stored")
    if row.finished and not row.counts.get(Status.NOT_RUN):
        raise UsageProblem(f"the last run, {row.id}, was finished: there is nothing to resume")
    stored = row.info.environment.get("request")
    if not isinstance(stored, dict):
        raise UsageProblem(f"run {row.id} does not say what it was asked for; start it anew")
    return row.id, Request.from_data(stored)


def last_failed(store: Store, request: Request, options: Mapping[str, Any]) -> tuple[Request, frozenset[Job]]:
    """The request narrowed to what was bad in the last run, and those jobs.

    The cases and backends are those of that run, unless the command line names others.
    """
    last = store.info("last")
    jobs = frozenset(store.failures(last.id))
    if not jobs:
        raise UsageProblem(f"nothing was bad in the last run, {last.id}: leave out --last-failed")
    stored = last.info.environment.get("request", {})
    if not options["selection"]:
        files = last.info.environment.get("files", {})
        names = dict.fromkeys(sorted(j.case for j in jobs))
        request = replace(request, selection=tuple(f"{files[n]}:{n}" if n in files else n for n in names))
    if not options["backends"]:
        request = replace(request, backends=tuple(stored.get("backends", ())) or request.backends)
    guard = options["guard"] or stored.get("guard", "bands")
    return replace(request, failures_of=last.id, guard=guard), jobs


def case_files(environment: Mapping[str, Any]) -> dict[str, str]:
    """Case to the file that holds it, of a stored run: for cases of the user's, those that fuzzing kept among them."""
    files: dict[str, str] = environment.get("files", {})
    if folder := environment.get("corpus"):  # a fuzz run's cases are in no catalogue
        files = files | {p.stem: str(p) for p in Path(folder).glob("*.yaml")}
    return files
