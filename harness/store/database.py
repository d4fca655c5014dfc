"""`Store`: runs and their verdicts in a database, written by one process a run, read by any."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine, Select, bindparam, delete, exc, func, insert, select, update
from sqlalchemy.dialects import sqlite

from harness.records import BAD, Job, Record, Status
from harness.samples import Timing
from harness.store import rows
from harness.store.connect import connect, translated
from harness.store.model import RunInfo, RunRow, StoreError
from harness.store.naming import pick
from harness.store.schema import runs, samples, timings, verdicts

_KEY = ("run", "case", "backend", "device", "check")
_JOB = tuple(verdicts.c[name] for name in _KEY[1:])
#: An unfinished run younger than this may be running still: `prune` lets it be.
OPEN_HOURS = 24


def _upsert() -> Any:
    statement = sqlite.insert(verdicts)
    values = {c.name: statement.excluded[c.name] for c in verdicts.c if c.name not in _KEY}
    return statement.on_conflict_do_update(index_elements=list(_KEY), set_=values)


_UPSERT = _upsert()
_REOPEN = update(runs).where(runs.c.number == bindparam("key")).values(exit_code=None, counts=None)


class Store:
    """The verdicts of many runs in one SQLite file. Make it with `Store.open`.

    A verdict is durable when `write` returns: it survives `kill -9` of this process, though not a
    power cut (see `harness.store.connect`). Several processes may read and write one store.

    Attributes
    ----------
    path : Path
        Of the file.

    Examples
    --------
    >>> import tempfile
    >>> from harness.records import Job, Record, Status, Verdict
    >>> with tempfile.TemporaryDirectory() as d, Store.open(Path(d, "runs.sqlite")) as store:
    ...     run = store.begin(RunInfo(seed=7, command=("convproof", "verify")))
    ...     store.write(run, [Record(Job("basic-1d", "naive", "cpu", "exact"), Verdict(Status.PASS))])
    ...     store.finish(run, exit_code=0, seconds=0.1)
    ...     dict(store.info("last").counts)
    {<Status.PASS: 'PASS'>: 1}
    """

    def __init__(self, path: Path, engine: Engine) -> None:
        self.path = path
        self._engine = engine
        self._writer = engine.execution_options(immediate=True)
        self._numbers: dict[str, int] = {}
        self._open: set[int] = set()

    @classmethod
    def open(cls, path: Path, *, create: bool = True) -> Store:
        """Open the store at `path`.

        Parameters
        ----------
        path : Path
        create : bool
            Whether to make it, and its directory, where it is missing.

        Raises
        ------
        StoreError
            If it is missing and not to be made, cannot be written, is damaged, is not a store, or
            was written by a later Convproof.
        """
        path = Path(path)
        return cls(path, connect(path, create=create))

    def close(self) -> None:
        """Close it; the last process to do so folds the log into the file."""
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    # --- writing --------------------------------------------------------------------------
    def begin(self, info: RunInfo) -> str:
        """Enter a new run.

        Returns
        -------
        str
            Its id, unique in the store: `YYYYMMDD-HHMMSS-xxxx`, UTC.
        """
        started = datetime.fromisoformat(info.started).astimezone(UTC) if info.started else datetime.now(UTC)
        values = {**rows.from_info(info), "started": _iso(started)}
        with translated(self.path):
            while True:
                run_id = f"{started:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
                try:
                    with self._writer.begin() as connection:
                        number = connection.execute(insert(runs).values(id=run_id, **values)).inserted_primary_key
                except exc.IntegrityError:
                    continue  # the id is taken: draw again
                assert number is not None
                self._numbers[run_id] = number[0]
                self._open.add(number[0])
                return run_id

    def write(self, run_id: str, records: Iterable[Record]) -> None:
        """Write the records of a case: one transaction, durable on return.

        A record whose job has a row in this run replaces it, so a repeat or a resumed run doubles
        nothing. Writing to a finished run opens it again.
        """
        number = self._number(run_id)
        values = [rows.from_record(number, record) for record in records]
        if not values:
            return
        with self._writing() as connection:
            if number not in self._open:
                connection.execute(_REOPEN, {"key": number})
            connection.execute(_UPSERT, values)
        self._open.add(number)

    def write_timing(self, run_id: str, timing: Timing) -> None:
        """Write a timing and its samples: one transaction, durable on return; one of the same key is replaced."""
        number = self._number(run_id)
        row, held = rows.from_timing(number, timing)
        with self._writing() as connection:
            for table in (samples, timings):
                key = [table.c[name] == row[name] for name in ("run", "case", "backend", "device")]
                connection.execute(delete(table).where(*key))
            connection.execute(insert(timings), [row])
            if held:
                connection.execute(insert(samples), held)

    def update_planned(self, run_id: str, jobs: int) -> None:
        """Say how many jobs the run has, once the plan is known."""
        self._update(run_id, {"jobs_planned": jobs})

    def amend(self, run_id: str, facts: Mapping[str, Any]) -> None:
        """Add facts to a run's environment that its end alone can tell."""
        environment = {**self.info(run_id).info.environment, **facts}
        self._update(run_id, {"environment": rows.dumps(environment)})

    def finish(self, run_id: str, exit_code: int, seconds: float) -> None:
        """End the run.

        Parameters
        ----------
        run_id : str
        exit_code : int
        seconds : float
            Wall time of this sitting; those of a resumed run add up.
        """
        number = self._number(run_id)
        with translated(self.path), self._engine.connect() as connection:
            counts = {s.value: n for s, n in _count(connection, number).items()}
        values = {"exit_code": exit_code, "seconds": runs.c.seconds + float(seconds), "counts": rows.dumps(counts)}
        self._update(run_id, values)
        self._open.discard(number)

    def prune(self, keep: int | None = None, older_than_days: float | None = None, *, dry_run: bool = False) -> list[str]:
        """Remove old runs, and give their space back.

        Parameters
        ----------
        keep : int, optional
            The newest so many stay.
        older_than_days : float, optional
            What began since stays. A run goes only where every limit that is given lets it.
        dry_run : bool
            Only say what would go.

        Returns
        -------
        list of str
            Ids of the runs that were removed. An unfinished run of the last 24 hours is never
            among them: it may be running.
        """
        if keep is None and older_than_days is None:
            raise StoreError("prune: say how many runs to keep, or how many days")
        if (keep or 0) < 0 or (older_than_days or 0) < 0:
            raise StoreError("prune: the number of runs or days is negative")
        now = datetime.now(UTC)
        before = _iso(now - timedelta(days=older_than_days)) if older_than_days is not None else "9999"
        alive = _iso(now - timedelta(hours=OPEN_HOURS))
        with self._writing() as connection:
            columns = (runs.c.number, runs.c.id, runs.c.started, runs.c.exit_code)
            old = connection.execute(select(*columns).order_by(runs.c.number.desc()).offset(keep or 0)).all()
            gone = [r for r in old if r.started < before and (r.exit_code is not None or r.started < alive)]
            for row in [] if dry_run else gone:
                for table in (verdicts, samples, timings):
                    connection.execute(delete(table).where(table.c.run == row.number))
                connection.execute(delete(runs).where(runs.c.number == row.number))
        if gone and not dry_run:
            for row in gone:
                self._numbers.pop(row.id, None)
            self._shrink()
        return [row.id for row in gone]

    # --- reading --------------------------------------------------------------------------
    def runs(self) -> list[RunRow]:
        """Every run, the newest first."""
        with self._reading() as connection:
            found = connection.execute(select(runs).order_by(runs.c.number.desc())).mappings().all()
            return [rows.to_run(row, _counts(connection, row)) for row in found]

    def info(self, run: str) -> RunRow:
        """The row of one run; `run` as for `resolve`."""
        number = self._number(self.resolve(run))
        with self._reading() as connection:
            row = connection.execute(select(runs).where(runs.c.number == number)).mappings().one()
            return rows.to_run(row, _counts(connection, row))

    def resolve(self, run: str) -> str:
        """The id that `last`, `last~N`, an id or the beginning of one stands for.

        Raises
        ------
        StoreError
            If it stands for none, or for several.
        """
        with self._reading() as connection:
            ids = list(connection.execute(select(runs.c.id).order_by(runs.c.number.desc())).scalars())
        return pick(run, ids, self.path)

    def done(self, run_id: str) -> set[Job]:
        """The jobs that a resumed run needn't repeat: those with a row, NOT_RUN left out."""
        wanted = select(*_JOB).where(verdicts.c.status != Status.NOT_RUN.value)
        return {rows.to_job(row) for row in self._each(run_id, wanted)}

    def failures(self, run_id: str) -> list[Job]:
        """The jobs whose status is bad (`harness.records.BAD`), in the order of their key."""
        wanted = select(*_JOB).where(verdicts.c.status.in_(sorted(s.value for s in BAD)))
        return [rows.to_job(row) for row in self._each(run_id, wanted)]

    def records(self, run_id: str) -> list[Record]:
        """All records of a run, in the order of their key: case, backend, device, check."""
        return list(self.iter_records(run_id))

    def iter_records(self, run_id: str, statuses: Iterable[Status] | None = None) -> Iterator[Record]:
        """The records of a run one at a time, for runs that are too large for a list; all, or of some statuses."""
        wanted = select(verdicts)
        if statuses is not None:
            wanted = wanted.where(verdicts.c.status.in_([s.value for s in statuses]))
        return map(rows.to_record, self._each(run_id, wanted))

    def columns(self, run_id: str) -> dict[str, list[Any]]:
        """The rows of a run by column, as they are stored: what a data frame is made of."""
        names = [c.name for c in verdicts.c if c.name != "run"]
        with self._reading() as connection:
            wanted = select(*(verdicts.c[n] for n in names)).where(verdicts.c.run == self._number(run_id))
            found = connection.execute(wanted.order_by(*_JOB)).all()
        return {name: [row[i] for row in found] for i, name in enumerate(names)}

    def timings(self, run_id: str) -> list[Timing]:
        """The timings of a run with their samples, in the order of case, backend, device."""
        number = self._number(run_id)
        with self._reading() as connection:
            held: dict[tuple[str, str, str], list[Any]] = {}
            found = connection.execute(select(samples).where(samples.c.run == number)).mappings()
            for row in found:
                held.setdefault((row["case"], row["backend"], row["device"]), []).append(row)
            wanted = select(timings).where(timings.c.run == number)
            wanted = wanted.order_by(timings.c.case, timings.c.backend, timings.c.device)
            return [
                rows.to_timing(row, held.get((row["case"], row["backend"], row["device"]), ()))
                for row in connection.execute(wanted).mappings()
            ]

    # --- the database ---------------------------------------------------------------------
    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with translated(self.path), self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with translated(self.path), self._engine.connect() as connection:
            yield connection

    def _each(self, run_id: str, wanted: Select[Any]) -> Iterator[Mapping[Any, Any]]:
        number = self._number(run_id)
        with self._reading() as connection:
            found = connection.execution_options(yield_per=1000).execute(wanted.where(verdicts.c.run == number).order_by(*_JOB))
            yield from found.mappings()

    def _number(self, run_id: str) -> int:
        if run_id not in self._numbers:
            with self._reading() as connection:
                number = connection.execute(select(runs.c.number).where(runs.c.id == run_id)).scalar()
            if number is None:
                raise StoreError(f"no run {run_id!r} in store {self.path}: `convproof runs list` shows what it holds")
            self._numbers[run_id] = number
        return self._numbers[run_id]

    def _update(self, run_id: str, values: Mapping[str, Any]) -> None:
        number = self._number(run_id)
        with self._writing() as connection:
            changed = connection.execute(update(runs).where(runs.c.number == number).values(values)).rowcount
        if not changed:
            raise StoreError(f"no run {run_id!r} in store {self.path}: another process has pruned it")

    def _shrink(self) -> None:
        """Give freed pages back to the file system."""
        with translated(self.path), self._engine.connect() as connection:
            raw: Any = connection.connection.dbapi_connection
            # executescript, because execute takes the first of its rows, which has no column, for the end.
            raw.executescript("PRAGMA incremental_vacuum")
            raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _iso(when: datetime) -> str:
    return f"{when:%Y-%m-%dT%H:%M:%SZ}"


def _counts(connection: Connection, row: Mapping[Any, Any]) -> dict[Status, int]:
    """What `finish` counted, else a count of the rows."""
    if row["counts"] is not None:
        return rows.to_counts(json.loads(row["counts"]).items())
    return _count(connection, row["number"])


def _count(connection: Connection, number: int) -> dict[Status, int]:
    wanted = select(verdicts.c.status, func.count()).where(verdicts.c.run == number).group_by(verdicts.c.status)
    return rows.to_counts((status, n) for status, n in connection.execute(wanted))
