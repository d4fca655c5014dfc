"""Bringing an older store up to the current schema. Imported only when one is opened.

A step takes a store from one version to the next; all run in one transaction, so that a store is
never between two versions, whatever kills the process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, Engine, select, update

from harness import __version__
from harness.store.schema import SCHEMA_VERSION, meta, metadata, samples, timings


def migrate(engine: Engine) -> None:
    """Run the steps that the store lacks; another process may have run them meanwhile."""
    with engine.execution_options(immediate=True).begin() as connection:
        found = int(connection.execute(select(meta.c.value).where(meta.c.key == "schema")).scalar_one())
        for version in range(found, SCHEMA_VERSION):
            STEPS[version](connection)
        for key, value in {"schema": str(SCHEMA_VERSION), "written_by": __version__}.items():
            connection.execute(update(meta).where(meta.c.key == key).values(value=value))


def _to_1(connection: Connection) -> None:
    """Version 0, before the first release, kept no run time, no digest and no NaN."""
    for column in (
        "nan_fields TEXT NOT NULL DEFAULT ''",
        "run_seconds DOUBLE NOT NULL DEFAULT 0",
        "digest TEXT NOT NULL DEFAULT ''",
    ):
        connection.exec_driver_sql(f"ALTER TABLE verdicts ADD COLUMN {column}")


def _to_2(connection: Connection) -> None:
    """Version 1 held verdicts alone."""
    metadata.create_all(connection, tables=[timings, samples])


#: From a version to the next.
STEPS: Mapping[int, Callable[[Connection], None]] = {0: _to_1, 1: _to_2}
