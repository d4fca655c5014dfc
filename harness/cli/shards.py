"""A run split over machines: `verify --shard K/N` on each, `runs merge` afterwards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.errors import UsageProblem

if TYPE_CHECKING:
    from harness.catalogue import Case
    from harness.store import RunRow, Store

_SHARD = re.compile(r"([1-9]\d{0,5})/([1-9]\d{0,5})\Z")
#: Records that are copied in one transaction.
CHUNK = 2000


class Shard(click.ParamType):
    """An option's `K/N`, 1 <= K <= N."""

    name = "shard"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check `value`."""
        match = _SHARD.match(str(value))
        if match is None or int(match[1]) > int(match[2]):
            self.fail(f"{value!r} is no shard: write K/N, as 3/8, K from 1 to N", param, ctx)
        return str(value)


def part(cases: Sequence[Case], shard: str | None) -> tuple[Case, ...]:
    """The cases of a shard: every N-th, from the K-th on, so that neighbours of one cost spread over the shards.

    Examples
    --------
    >>> part("abcdefg", "2/3"), part("ab", None)
    (('b', 'e'), ('a', 'b'))
    """
    if shard is None:
        return tuple(cases)
    k, n = map(int, shard.split("/"))
    return tuple(cases[k - 1 :: n])


def merge(files: Iterable[Path], into: Store) -> str:
    """Join the last run of each store into a new run of `into`.

    Returns
    -------
    str
        The new run's id.

    Raises
    ------
    UsageProblem
        If they are not the shards 1/N to N/N of one request, each finished.
    """
    from harness.records import exit_code
    from harness.store import Store

    with ExitStack() as stack:
        stores = [stack.enter_context(Store.open(f, create=False)) for f in files]
        rows = [s.info("last") for s in stores]
        _refuse_strangers([s.path for s in stores], rows)
        first = rows[0].info
        environment = {**first.environment, "request": {**_request(rows[0]), "shard": None}}
        merged = {"files": {}, "shards": [r.id for r in rows]}
        for row in rows:
            merged["files"] |= row.info.environment.get("files", {})
        info = replace(
            first,
            jobs_planned=sum(r.info.jobs_planned for r in rows),
            environment={**environment, **merged},
            started=min(r.info.started for r in rows),
        )
        run_id = into.begin(info)
        for store, row in zip(stores, rows, strict=True):
            chunk = []
            for record in store.iter_records(row.id):
                chunk.append(record)
                if len(chunk) == CHUNK:
                    into.write(run_id, chunk)
                    chunk = []
            into.write(run_id, chunk)
        counts = into.info(run_id).counts
        bad = any(r.exit_code == 1 for r in rows)  # --strict made NOT_RUN bad on some machine
        into.finish(run_id, 1 if bad else exit_code(counts), max(r.seconds for r in rows))
        return run_id


def _request(row: RunRow) -> dict[str, Any]:
    found = row.info.environment.get("request")
    return dict(found) if isinstance(found, dict) else {}


def _refuse_strangers(paths: Sequence[Path], rows: Sequence[RunRow]) -> None:
    """Refuse what is not one request's shards, each once and finished."""
    named = [f"{row.id} of {path}" for row, path in zip(rows, paths, strict=True)]
    requests = [_request(r) for r in rows]
    for name, row, request in zip(named, rows, requests, strict=True):
        if not request.get("shard"):
            raise UsageProblem(f"run {name} is no shard: it was not made with `verify --shard K/N`")
        if not row.finished:
            raise UsageProblem(f"run {name} was not finished: `convproof verify --resume` finishes it there")
        for key, value in request.items():
            if key != "shard" and _portable(value) != _portable(requests[0].get(key)):
                raise UsageProblem(
                    f"run {name} was asked for another {key} than run {named[0]}: they are shards of different runs"
                )
    shards = [str(r["shard"]) for r in requests]
    count = int(shards[0].partition("/")[2])
    if wrong := [s for s in shards if int(s.partition("/")[2]) != count]:
        raise UsageProblem(f"shards {shards[0]} and {wrong[0]} are of different numbers of parts")
    if twice := [s for s in shards if shards.count(s) > 1]:
        raise UsageProblem(f"shard {twice[0]} is there twice")
    if missing := [f"{k}/{count}" for k in range(1, count + 1) if f"{k}/{count}" not in shards]:
        raise UsageProblem(f"shard {', '.join(missing)} is missing")


def _portable(value: Any) -> Any:
    """A request's value as another machine would have it: files by their names, since checkouts lie elsewhere."""
    if isinstance(value, list):
        return [_portable(v) for v in value]
    return Path(value).name if isinstance(value, str) and value.startswith("/") else value
