"""The tables. A change here raises `SCHEMA_VERSION` and adds a step to `harness.store.migrations`."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

SCHEMA_VERSION = 2

metadata = MetaData()

#: `schema`: the version of these tables; `written_by`: the Convproof that made or last migrated them.
meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", Text, nullable=False),
)

#: One row a run. `number` orders runs as they began and is never used again; `id` is what people see.
runs = Table(
    "runs",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("started", String(32), nullable=False),
    Column("seed", Text, nullable=False),  # text: a seed may exceed 64 bits
    Column("command", Text, nullable=False),
    Column("version", String(64), nullable=False),
    Column("selection", Text, nullable=False),
    Column("jobs_planned", BigInteger, nullable=False),
    Column("environment", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("exit_code", Integer),
    Column("seconds", Double, nullable=False, server_default="0"),
    Column("counts", Text),  # what finish() counted; NULL while a run is open
    sqlite_autoincrement=True,
)

#: One row a job. Without a rowid the rows of a run lie together, in the order of their key.
verdicts = Table(
    "verdicts",
    metadata,
    Column("run", Integer, ForeignKey("runs.number"), primary_key=True, autoincrement=False),
    Column("case", Text, primary_key=True),
    Column("backend", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("check", Text, primary_key=True),
    Column("status", String(16), nullable=False),
    Column("message", Text, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("mismatches", BigInteger, nullable=False),
    Column("worst_index", Text),  # "0,3,1"; empty for a scalar, NULL for none
    Column("got", Double),
    Column("expected", Double),
    Column("error_bound", Double),
    Column("error_units", Double),
    Column("nan_fields", Text, nullable=False, server_default=""),  # which of those four are NaN: SQLite has none
    Column("details", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("run_seconds", Double, nullable=False, server_default="0"),
    Column("digest", Text, nullable=False, server_default=""),
    sqlite_with_rowid=False,
)

#: One row a case, backend and device that a run timed, or was to time.
timings = Table(
    "timings",
    metadata,
    Column("run", Integer, ForeignKey("runs.number"), primary_key=True, autoincrement=False),
    Column("case", Text, primary_key=True),
    Column("backend", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("refused", Text, nullable=False),  # why there is no figure; empty where there is one
    Column("threads", Integer, nullable=False),
    Column("flops", BigInteger, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("peak_bytes", BigInteger),
    Column("stopped", Text, nullable=False),
    Column("roof", Double),
    Column("digest", Text, nullable=False),
    Column("details", Text, nullable=False),
    sqlite_with_rowid=False,
)

#: The raw samples of a timing: one row a series, its seconds as little-endian float64.
samples = Table(
    "samples",
    metadata,
    Column("run", Integer, ForeignKey("runs.number"), primary_key=True, autoincrement=False),
    Column("case", Text, primary_key=True),
    Column("backend", Text, primary_key=True),
    Column("device", Text, primary_key=True),
    Column("metric", String(64), primary_key=True),
    Column("state", String(8), primary_key=True),
    Column("process", Integer, primary_key=True, autoincrement=False),
    Column("seconds", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)
