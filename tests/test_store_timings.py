"""The store keeps timings and their samples."""

import sqlite3
from dataclasses import replace

import pytest

from harness.samples import Series, Timing
from harness.store import RunInfo, Store

TIMING = Timing("basic-1d", "naive", "cpu", (Series("wall", "warm", 0, (0.1, 0.2)),), flops=7, details={"k": [1]})


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path):
    with Store.open(path) as opened:
        yield opened


def test_a_timing_comes_back_as_it_was_and_a_later_one_replaces_it(store):
    run = store.begin(RunInfo(seed=1))
    store.write_timing(run, replace(TIMING, refused="not yet"))
    store.write_timing(run, TIMING)
    assert store.timings(run) == [TIMING]


def test_prune_removes_timings_and_samples_too(store, path):
    run = store.begin(RunInfo(seed=1))
    store.write_timing(run, TIMING)
    store.finish(run, 0, 1.0)
    assert store.prune(keep=0) == [run]
    with sqlite3.connect(path) as connection:
        assert [connection.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("timings", "samples")] == [0, 0]


def test_a_store_of_schema_1_is_given_the_tables_of_timings(path):
    with Store.open(path) as store:
        run = store.begin(RunInfo(seed=1))
    with sqlite3.connect(path) as connection:
        connection.executescript("DROP TABLE timings; DROP TABLE samples; UPDATE meta SET value = '1' WHERE key = 'schema'")
    with Store.open(path) as store:
        store.write_timing(run, TIMING)
        assert store.timings(run) == [TIMING]
