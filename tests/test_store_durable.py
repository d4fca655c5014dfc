"""What the store has said it holds, it holds: through kill -9, and beside other writers."""

import random
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from harness.records import Job, Record, Status, Verdict
from harness.store import RunInfo, Store

#: Argument: the store. Begins a run and prints its id, then writes case after case, each named after
#: how many rows it has, and prints each once `write` has returned.
WRITER = """
import os, sys
from pathlib import Path
from harness.records import Job, Record, Status, Verdict
from harness.store import RunInfo, Store

path, cases = Path(sys.argv[1]), int(sys.argv[2])
with Store.open(path) as store:
    run = store.begin(RunInfo(seed=1, jobs_planned=cases))
    os.write(1, f"{run}\\n".encode())
    for i in range(cases):
        rows = 1 + i * 37 % 90
        case = f"case-{i}-{rows}"
        verdict = Verdict(Status.PASS, "m" * (i % 300))
        store.write(run, [Record(Job(case, "b", "cpu", f"check{k}"), verdict) for k in range(rows)])
        os.write(1, f"{case}\\n".encode())
    store.finish(run, 0, 1.0)
"""


@pytest.fixture
def writer():
    """Starts a writer: `writer(path, cases)`. None outlives the test."""
    started = []

    def start(path, cases):
        process = subprocess.Popen([sys.executable, "-c", WRITER, path, str(cases)], stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.stdout.close()
        process.wait()


def held(store, run):
    """Case to how many rows the store holds of it."""
    rows = {}
    for record in store.iter_records(run):
        rows[record.job.case] = rows.get(record.job.case, 0) + 1
    return rows


def test_kill_9_loses_no_case_that_was_reported_and_tears_none(tmp_path, writer):
    """Ten writers of one store, each killed at a moment of chance."""
    path = tmp_path / "runs.sqlite"
    chance = random.Random(5)
    reported = 0
    for _ in range(10):
        process = writer(path, 10**9)
        run = process.stdout.readline().strip()
        time.sleep(chance.uniform(0.0, 0.15))
        process.kill()
        cases = [line.strip() for line in process.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        assert process.wait() == -signal.SIGKILL
        with Store.open(path, create=False) as store:
            rows = held(store, run)
            assert set(cases) <= set(rows)
            assert len(rows) <= len(cases) + 1, "at most the case that was in flight is there unreported"
            assert all(n == int(case.rpartition("-")[2]) for case, n in rows.items()), "each case is whole"
            assert not store.info(run).finished
            assert store.info(run).counts == {Status.PASS: sum(rows.values())} or not rows
        reported += len(cases)
    assert reported > 100, "the writers came to write"
    db = sqlite3.connect(path)
    assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    db.close()


def test_a_full_disk_ends_the_run_and_keeps_what_was_reported(tmp_path):
    """A limit on the size of files stands for the disk: the write that does not fit fails as it would there."""
    path = tmp_path / "runs.sqlite"
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))\n{WRITER}"
    done = subprocess.run([sys.executable, "-c", limited, path, str(10**9)], capture_output=True, text=True, check=False)
    run, *cases = done.stdout.split()
    assert done.returncode == 1
    assert "StoreError" in done.stderr.splitlines()[-1]
    assert "free some space, or name another store" in done.stderr.splitlines()[-1]
    with Store.open(path, create=False) as store:
        rows = held(store, run)
        assert len(cases) > 5
        assert set(cases) <= set(rows)
        assert all(n == int(case.rpartition("-")[2]) for case, n in rows.items())
        store.write(run, [Record(Job("later", "b", "cpu", "c"), Verdict(Status.PASS))])


def test_what_a_killed_process_left_is_readable_beside_a_new_writer(tmp_path, writer):
    path = tmp_path / "runs.sqlite"
    process = writer(path, 10**9)
    first = process.stdout.readline().strip()
    process.stdout.readline()
    with Store.open(path) as reader:
        during = len(reader.records(first))
        process.kill()
        process.wait()
        second = reader.begin(RunInfo(2))
        assert len(reader.records(first)) >= during > 0
        assert reader.resolve("last") == second


def test_writers_that_start_at_once_share_one_new_store(tmp_path, writer):
    """They race to make the file, then interleave; no case is lost and no id is shared."""
    path = tmp_path / "runs.sqlite"
    processes = [writer(path, 60) for _ in range(4)]
    said = [process.communicate()[0].splitlines() for process in processes]
    assert [p.returncode for p in processes] == [0] * 4
    assert len({lines[0] for lines in said}) == 4
    with Store.open(path, create=False) as store:
        assert {row.id for row in store.runs()} == {lines[0] for lines in said}
        for run, *cases in said:
            rows = held(store, run)
            assert list(rows) == sorted(cases)
            assert all(n == int(case.rpartition("-")[2]) for case, n in rows.items())
            assert store.info(run).exit_code == 0


def test_a_reader_sees_a_case_whole_or_not_at_all_while_it_is_written(tmp_path, writer):
    path = tmp_path / "runs.sqlite"
    process = writer(path, 150)
    run = process.stdout.readline().strip()
    partial = 0
    with Store.open(path, create=False) as store:
        while process.poll() is None:
            rows = held(store, run)
            assert all(n == int(case.rpartition("-")[2]) for case, n in rows.items())
            partial += 0 < len(rows) < 150
    assert partial, "some readings fell into the run"


@pytest.mark.parametrize("create", [True, False])
def test_opening_writes_nothing_to_a_store_that_is_current(tmp_path, create):
    path = tmp_path / "runs.sqlite"
    Store.open(path).close()
    before = path.read_bytes()
    Store.open(path, create=create).close()
    assert path.read_bytes() == before
