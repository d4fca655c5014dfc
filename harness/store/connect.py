"""Opening the store's file: where it may be, whose it is, which schema it holds.

A file that isn't a store is refused before a byte of it is written. Each connection is set so
that a commit survives the death of this process (`kill -9`, a crash, an OOM kill): the write-ahead
log is in the kernel's hands when COMMIT returns. `synchronous=NORMAL` leaves out the fsync of
each commit, so a power cut or a kernel panic may lose the last commits, but never tears one.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, exc, insert, select

from harness import __version__
from harness.store.model import DEFAULT_PATH, StoreError
from harness.store.schema import SCHEMA_VERSION, meta, metadata

_MAGIC = b"SQLite format 3\0"
#: How long a writer waits for another process's transaction; those last milliseconds.
BUSY_SECONDS = 30.0


def connect(path: Path, *, create: bool) -> Engine:
    """An engine on a store of the current schema, made or migrated if need be.

    Raises
    ------
    StoreError
    """
    _look(path, create)
    with translated(path):
        engine = create_engine(URL.create("sqlite", database=str(path)), connect_args={"timeout": BUSY_SECONDS})
        event.listen(engine, "connect", _configure)
        event.listen(engine, "begin", _begin)
        try:
            _ready(engine, path)
        except BaseException:
            engine.dispose()
            raise
    return engine


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the database's errors into a `StoreError` that names the file and the way out."""
    try:
        yield
    except (exc.DBAPIError, sqlite3.Error) as e:
        cause = e.orig if isinstance(e, exc.DBAPIError) and e.orig is not None else e
        raise StoreError(f"store {path}: {cause}: {_way_out(str(cause))}") from e


def _way_out(text: str) -> str:
    hints = {
        "locked": f"another process has held it for {BUSY_SECONDS:.0f} s; wait for it to end, or name another store",
        "readonly": "make the file and its directory writable, or name another store",
        "unable to open": "make its directory writable (SQLite writes beside the file), or name another store",
        "full": "free some space, or name another store; what was reported before is safe",
        "disk I/O": "its disk is full or fails: free some space, or name another store; what was reported before is safe",
        "malformed": "it is damaged: move it away, then `sqlite3 FILE .recover` may save its rows",
        "not a database": "it is damaged: move it away, or name another store",
        "FOREIGN KEY": "the run is not in the store: another process has pruned it",
    }
    return next((hint for key, hint in hints.items() if key in text), "move it away, or name another store")


def _look(path: Path, create: bool) -> None:
    """Refuse what is no store before SQLite touches it; make the directory."""
    try:
        if path.is_dir():
            raise StoreError(f"store {path} is a directory: name a file in it, as {path / 'runs.sqlite'}")
        if not path.exists():
            if not create:
                raise StoreError(f"there is no store {path}: `convproof verify` writes one, or name another")
            _make_directory(path.parent)
            return
        with path.open("rb") as file:
            head = file.read(len(_MAGIC))
    except OSError as e:
        raise StoreError(f"store {path}: {e.strerror}: make it possible, or name another store") from e
    if head and head != _MAGIC:
        raise StoreError(f"{path} is not a store, nor any SQLite database: move it away, or name another store")
    if not head and not create:
        raise StoreError(f"{path} is empty, not a store: name another")


def _make_directory(folder: Path) -> None:
    """Make the directory; one that is ours alone keeps itself out of version control."""
    if not folder.exists():
        folder.mkdir(parents=True, exist_ok=True)
        if folder.name == DEFAULT_PATH.parent.name:
            (folder / ".gitignore").write_text("*\n", encoding="ascii")


def _configure(connection: Any, _: object) -> None:
    """Set up a new connection; transactions are begun by `_begin` alone."""
    connection.isolation_level = None
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    """Begin; a writer takes its lock at once, so that waiting for another is all that can happen to it."""
    immediate = connection.get_execution_options().get("immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def _ready(engine: Engine, path: Path) -> None:
    """Make the schema, migrate it, or refuse it."""
    version = _version(engine, path)
    if version is None:
        _make(engine)
        version = _version(engine, path)
    if version is not None and version < SCHEMA_VERSION:
        from harness.store.migrations import migrate

        migrate(engine)


def _version(engine: Engine, path: Path) -> int | None:
    """The schema's version, None for a database without tables.

    Raises
    ------
    StoreError
        If it is not a store, or one of a later Convproof.
    """
    with engine.connect() as connection:
        tables = set(connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars())
        if not tables:
            return None
        found: dict[str, str] = {}
        if {"meta", "runs", "verdicts"} <= tables:
            found = {row.key: row.value for row in connection.execute(select(meta))}
    text = found.get("schema", "")
    if not text.isdecimal():
        raise StoreError(f"{path} is an SQLite database, but not a store of convproof: name another file")
    if int(text) > SCHEMA_VERSION:
        raise StoreError(
            f"store {path} has schema {text}, written by convproof {found.get('written_by', '(unknown)')}; this is "
            f"convproof {__version__}, which knows schema {SCHEMA_VERSION}: upgrade it, or name another store"
        )
    return int(text)


def _make(engine: Engine) -> None:
    """Make the tables, unless another process does so at this moment."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            with engine.connect() as connection:
                raw: Any = connection.connection.dbapi_connection
                raw.execute("PRAGMA auto_vacuum=INCREMENTAL")  # has to come before the first page is written
                raw.execute("PRAGMA journal_mode=WAL")
            break
        except (exc.OperationalError, sqlite3.OperationalError) as e:
            # Changing the journal's mode doesn't wait for others as other statements do.
            if "locked" not in str(e) or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    with engine.execution_options(immediate=True).begin() as connection:
        if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'meta'").scalar():
            return
        metadata.create_all(connection, checkfirst=False)
        values = {"schema": str(SCHEMA_VERSION), "written_by": __version__}
        connection.execute(insert(meta), [{"key": k, "value": v} for k, v in values.items()])
