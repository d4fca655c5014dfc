"""The store keeps what it is given, says what it holds, and refuses what is no store."""

import math
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from harness.records import BAD, Job, Record, Status, Verdict
from harness.store import RunInfo, Store, StoreError, connect, database, default_path, migrations
from harness.store.schema import SCHEMA_VERSION

INFO = RunInfo(
    seed=2**70,
    command=("convproof", "verify", "a b"),
    version="0.1.0",
    selection=("gate", "edge-*"),
    jobs_planned=3,
    environment={"python": "3.11", "packages": {"numpy": "2.0"}},
    started="2026-11-22T13:33:01Z",
    host="f00d",
)


def record(case="edge-a", check="exact", status=Status.PASS, backend="naive", **fields):
    return Record(Job(case, backend, "cpu", check), Verdict(status, **fields), 0.5, 0.25, "abcd")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.sqlite"


@pytest.fixture
def store(path):
    with Store.open(path) as opened:
        yield opened


# --- what is written is what is read ------------------------------------------------------
def test_a_record_comes_back_equal(store):
    full = record(message="1 of 4 é\n\"x\"", compared=4, mismatches=1, worst_index=(0, 1, 2), got=0.1, expected=5e-324,
                  error_bound=1.5, error_units=math.inf, details={"taps": [1, 2], "why": None})  # fmt: skip
    plain = record(case="edge-b")
    run = store.begin(INFO)
    store.write(run, [full, plain])
    assert store.records(run) == [full, plain]


@pytest.mark.parametrize("figure", ["got", "expected", "error_bound", "error_units"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_nan_infinities_and_no_value_stay_apart(store, figure, value):
    run = store.begin(INFO)
    store.write(run, [record(**{figure: value})])
    found = getattr(store.records(run)[0].verdict, figure)
    assert repr(found) == repr(value)


def test_several_nans_in_one_record_are_all_kept(store):
    run = store.begin(INFO)
    store.write(run, [record(got=math.nan, expected=1.0, error_bound=math.nan)])
    v = store.records(run)[0].verdict
    assert math.isnan(v.got)
    assert math.isnan(v.error_bound)
    assert (v.expected, v.error_units) == (1.0, None)


def test_numpy_scalars_come_back_as_pythons(store):
    """SQLite would keep a numpy integer as a blob."""
    run = store.begin(INFO)
    store.write(
        run, [record(compared=np.int64(7), worst_index=(np.int32(1),), got=np.float32(0.5), details={"n": np.float16(2)})]
    )
    v = store.records(run)[0].verdict
    assert (v.compared, v.worst_index, v.got, v.details) == (7, (1,), 0.5, {"n": 2.0})
    assert type(v.compared) is int


def test_undecodable_text_is_escaped_not_refused(store):
    run = store.begin(replace(INFO, command=("verify", "caf\udce9")))
    store.write(run, [record(message="bad \udc80 byte\0", details={"raw": "\udc80"})])
    assert store.records(run)[0].verdict.message == "bad \\udc80 byte\\x00"
    assert store.info(run).info.command == ("verify", "caf\udce9")


def test_a_run_comes_back_as_it_began(store):
    run = store.begin(INFO)
    row = store.info(run)
    assert row.info == INFO
    assert (row.id, row.exit_code, row.finished, row.recorded) == (run, None, False, 0)


def test_an_id_begins_with_the_time_in_utc(store):
    assert store.begin(replace(INFO, started="2026-11-22T14:33:01+01:00")).startswith("20261122-133301-")


def test_an_id_that_is_taken_is_drawn_again(store, monkeypatch):
    drawn = iter(["aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(database.secrets, "token_hex", lambda n: next(drawn))
    assert store.begin(INFO)[-4:] + store.begin(INFO)[-4:] == "aaaabbbb"


def test_records_of_two_runs_are_kept_apart(store):
    first, second = store.begin(INFO), store.begin(INFO)
    store.write(first, [record()])
    assert (len(store.records(first)), store.records(second)) == (1, [])


def test_records_come_in_the_order_of_their_key(store):
    run = store.begin(INFO)
    store.write(run, [record("b"), record("a", "z"), record("a", "c")])
    assert [(r.job.case, r.job.check) for r in store.iter_records(run)] == [("a", "c"), ("a", "z"), ("b", "exact")]


# --- resuming -----------------------------------------------------------------------------
def test_writing_a_job_again_replaces_its_row(store):
    run = store.begin(INFO)
    store.write(run, [record(status=Status.NOT_RUN, message="budget"), record(case="edge-b")])
    store.write(run, [record(got=1.0)])
    assert store.records(run) == [record(got=1.0), record(case="edge-b")]


def test_a_job_that_was_not_run_is_not_done(store):
    run = store.begin(INFO)
    store.write(run, [record(), record("edge-b", status=Status.NOT_RUN), record("edge-c", status=Status.CRASH)])
    assert {job.case for job in store.done(run)} == {"edge-a", "edge-c"}


def test_failures_are_the_jobs_with_a_bad_status(store):
    run = store.begin(INFO)
    store.write(run, [record(s.value, status=s) for s in Status])
    assert {job.case for job in store.failures(run)} == {s.value for s in BAD}
    assert {r.verdict.status for r in store.iter_records(run, [Status.FAIL, Status.PASS])} == {Status.FAIL, Status.PASS}


def test_a_failed_write_leaves_nothing(store):
    run = store.begin(INFO)
    with pytest.raises(AttributeError):
        store.write(run, [record(), None])
    assert store.records(run) == []


def test_a_finished_run_counts_its_rows(store):
    run = store.begin(INFO)
    store.update_planned(run, 9)
    store.write(run, [record(), record("edge-b"), record("edge-c", status=Status.FAIL)])
    before = store.info(run)
    store.finish(run, 1, 2.5)
    after = store.info(run)
    assert before.counts == after.counts == {Status.PASS: 2, Status.FAIL: 1}
    assert (after.exit_code, after.seconds, after.info.jobs_planned) == (1, 2.5, 9)


def test_a_resumed_run_is_open_until_it_finishes_again(path):
    with Store.open(path) as store:
        run = store.begin(INFO)
        store.write(run, [record()])
        store.finish(run, 3, 2.0)
    with Store.open(path) as store:
        store.write(run, [record("edge-b")])
        row = store.info(run)
        assert (row.finished, row.recorded) == (False, 2)
        store.finish(run, 0, 0.5)
        assert (store.info(run).exit_code, store.info(run).seconds) == (0, 2.5)


# --- naming runs --------------------------------------------------------------------------
def test_last_counts_in_the_order_in_which_runs_began(store):
    """Also within one second, where ids alone would sort at random."""
    ids = [store.begin(INFO) for _ in range(5)]
    assert [store.resolve("last"), store.resolve("last~1"), store.resolve("last~4")] == [ids[4], ids[3], ids[0]]
    assert [r.id for r in store.runs()] == ids[::-1]


def test_an_id_may_be_cut_short(store):
    run = store.begin(INFO)
    store.begin(replace(INFO, started="2026-11-23T00:00:00Z"))
    assert store.resolve("20261122") == store.resolve(run) == run


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("last~2", "holds 2; the oldest is last~1"),
        ("2026", "stands for 2 runs"),
        ("", "no run ''"),
        ("last~x", "The newest is"),
        ("20261122-133301-zzzz", "did you mean 20261122-133301-"),
    ],
)
def test_a_name_of_no_run_is_refused_with_the_nearest(store, asked, said):
    store.begin(INFO)
    store.begin(INFO)
    with pytest.raises(StoreError, match=said):
        store.resolve(asked)


def test_an_empty_store_says_how_to_fill_it(store):
    with pytest.raises(StoreError, match="holds none yet; `convproof verify`"):
        store.resolve("last")


@pytest.mark.parametrize("use", ["records", "done", "failures", "columns"])
def test_an_unknown_run_is_an_error_never_an_empty_answer(store, use):
    with pytest.raises(StoreError, match="no run 'nosuch'"):
        list(getattr(store, use)("nosuch"))


# --- pruning ------------------------------------------------------------------------------
def ended(store, days=0.0):
    run = store.begin(replace(INFO, started=(datetime.now(UTC) - timedelta(days=days)).isoformat()))
    store.write(run, [record(f"edge-{i}", message="x" * 500) for i in range(300)])
    store.finish(run, 0, 1.0)
    return run


def test_prune_keeps_the_newest(store):
    ids = [ended(store) for _ in range(4)]
    assert store.prune(keep=3, dry_run=True) == [ids[0]]
    assert store.prune(keep=2) == [ids[1], ids[0]]
    assert [r.id for r in store.runs()] == [ids[3], ids[2]]
    assert len(store.records(ids[3])) == 300


def test_prune_by_age_and_number_removes_only_what_both_let_go(store):
    old = [ended(store, days) for days in (40, 30, 20, 1)]
    assert store.prune(keep=1, older_than_days=25) == [old[1], old[0]]
    assert store.prune(keep=2, older_than_days=0) == []
    assert store.prune(older_than_days=10) == [old[2]]


def test_prune_spares_an_unfinished_run_of_today(store):
    started = (datetime.now(UTC) - timedelta(days=2)).isoformat()
    dead, alive = store.begin(replace(INFO, started=started)), store.begin(replace(INFO, started=""))
    assert store.prune(keep=0) == [dead]
    assert store.resolve("last") == alive


def test_prune_gives_the_space_back(path):
    with Store.open(path) as store:
        for _ in range(4):
            ended(store)
        store.prune(keep=4)
        full = sum(f.stat().st_size for f in path.parent.iterdir())
        store.prune(keep=0)
    assert path.stat().st_size < full / 4


def test_prune_without_a_limit_is_refused(store):
    with pytest.raises(StoreError, match="how many runs to keep"):
        store.prune()
    with pytest.raises(StoreError, match="negative"):
        store.prune(keep=-1)


def test_a_run_that_another_process_pruned_takes_no_more_rows(path, store):
    run = ended(store)
    with Store.open(path) as other:
        assert other.prune(keep=0) == [run]
        other.begin(INFO)
    for use in (lambda: store.write(run, [record()]), lambda: store.finish(run, 0, 0.0)):
        with pytest.raises(StoreError, match="pruned"):
            use()
    assert store.info("last").recorded == 0


# --- opening ------------------------------------------------------------------------------
def test_the_default_place_is_the_environments_then_the_settings_then_the_directorys(monkeypatch, tmp_path):
    monkeypatch.delenv("CONVPROOF_STORE", raising=False)
    assert default_path() == Path(".convproof/runs.sqlite")
    assert default_path(tmp_path / "s.sqlite") == tmp_path / "s.sqlite"
    monkeypatch.setenv("CONVPROOF_STORE", "~/e.sqlite")
    assert default_path(tmp_path / "s.sqlite") == Path.home() / "e.sqlite"


def test_the_default_directory_keeps_itself_out_of_git(tmp_path):
    Store.open(tmp_path / ".convproof" / "runs.sqlite").close()
    Store.open(tmp_path / "other" / "runs.sqlite").close()
    assert (tmp_path / ".convproof" / ".gitignore").read_text() == "*\n"
    assert not (tmp_path / "other" / ".gitignore").exists()


def test_a_closed_store_is_one_file(path):
    with Store.open(path) as store:
        store.write(store.begin(INFO), [record()])
        assert path.with_name("runs.sqlite-wal").exists()
    assert [f.name for f in path.parent.iterdir()] == ["runs.sqlite"]


def test_connections_are_as_the_promise_of_durability_needs(store):
    with store._engine.connect() as connection:
        found = [connection.exec_driver_sql(f"PRAGMA {p}").scalar() for p in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 1, 1]


def test_a_missing_store_is_made_only_where_that_is_asked(path):
    with pytest.raises(StoreError, match=r"there is no store .*runs\.sqlite"):
        Store.open(path, create=False)
    assert list(path.parent.iterdir()) == []


def test_an_empty_file_is_a_new_store_only_where_that_is_asked(path):
    path.touch()
    with pytest.raises(StoreError, match="is empty"):
        Store.open(path, create=False)
    with Store.open(path) as store:
        assert store.runs() == []


def test_what_is_no_store_is_refused_and_left_as_it_is(path):
    other = path.with_name("other.sqlite")
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE runs (x)")
    db.close()
    path.write_text("seed: 7\n")
    for file, said in ((other, "not a store of convproof"), (path, "nor any SQLite database")):
        before = file.read_bytes()
        with pytest.raises(StoreError, match=said):
            Store.open(file)
        assert file.read_bytes() == before
    with pytest.raises(StoreError, match="is a directory"):
        Store.open(path.parent)


def test_a_damaged_header_is_refused(path):
    path.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(StoreError, match="damaged"):
        Store.open(path)


def test_damage_that_is_met_later_is_an_error_with_the_way_out(path):
    with Store.open(path) as store:
        run = ended(store)
    content = path.read_bytes()
    path.write_bytes(content[: 8 * 4096] + b"\xff" * (len(content) - 8 * 4096))
    with Store.open(path) as store, pytest.raises(StoreError, match=r"malformed.*\.recover"):
        store.records(run)


def test_a_parent_that_is_a_file_or_takes_no_directory_is_refused(path):
    path.touch()
    for place in (path / "x" / "runs.sqlite", Path("/proc/convproof/runs.sqlite")):
        with pytest.raises(StoreError, match=r"store .*: .*name another store"):
            Store.open(place)


_AS_NOBODY = """
import os, sys
from pathlib import Path
import sqlalchemy.dialects.sqlite.pysqlite, harness.store.database as d
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for name in ("new.sqlite", "sub/runs.sqlite", "old.sqlite"):
    try:
        with d.Store.open(Path(sys.argv[1], name)) as s:
            s.runs()
        print("opened")
    except d.StoreError as e:
        print("refused", e)
"""


def test_an_unwritable_directory_is_refused_with_the_way_out():
    place = Path(tempfile.mkdtemp())
    try:
        Store.open(place / "old.sqlite").close()
        place.chmod(0o555)
        said = subprocess.run([sys.executable, "-c", _AS_NOBODY, place], capture_output=True, text=True, check=True).stdout
    finally:
        place.chmod(0o755)
        shutil.rmtree(place)
    lines = said.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("refused store")
        assert str(place) in line
        assert "name another store" in line


def test_a_store_that_another_process_holds_is_an_error_after_a_while(path, monkeypatch):
    Store.open(path).close()
    monkeypatch.setattr(connect, "BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with Store.open(path) as store:
        assert store.runs() == []
        with pytest.raises(StoreError, match="another process has held it"):
            store.begin(INFO)
        holder.execute("ROLLBACK")
        store.begin(INFO)
    holder.close()


# --- schema versions ----------------------------------------------------------------------
OLD_SCHEMA = """
CREATE TABLE meta ("key" VARCHAR(64) NOT NULL, value TEXT NOT NULL, PRIMARY KEY ("key"));
CREATE TABLE runs (
    number INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, id VARCHAR(32) NOT NULL UNIQUE, started VARCHAR(32) NOT NULL,
    seed TEXT NOT NULL, command TEXT NOT NULL, version VARCHAR(64) NOT NULL, selection TEXT NOT NULL,
    jobs_planned BIGINT NOT NULL, environment TEXT NOT NULL, host TEXT NOT NULL,
    exit_code INTEGER, seconds DOUBLE DEFAULT '0' NOT NULL, counts TEXT);
CREATE TABLE verdicts (
    run INTEGER NOT NULL, "case" TEXT NOT NULL, backend TEXT NOT NULL, device TEXT NOT NULL, "check" TEXT NOT NULL,
    status VARCHAR(16) NOT NULL, message TEXT NOT NULL, compared BIGINT NOT NULL, mismatches BIGINT NOT NULL,
    worst_index TEXT, got DOUBLE, expected DOUBLE, error_bound DOUBLE, error_units DOUBLE, details TEXT NOT NULL,
    seconds DOUBLE NOT NULL,
    PRIMARY KEY (run, "case", backend, device, "check"), FOREIGN KEY(run) REFERENCES runs (number)) WITHOUT ROWID;
INSERT INTO meta VALUES ('schema', '0'), ('written_by', '0.0.9');
INSERT INTO runs VALUES
    (1, '20250101-000000-0000', '2025-01-01T00:00:00Z', '5', '[]', '0.0.9', '[]', 1, '{}', '', 0, 1.0, '{"PASS":1}');
INSERT INTO verdicts VALUES
    (1, 'edge-a', 'naive', 'cpu', 'exact', 'PASS', '', 4, 0, NULL, 1.0, 1.0, 0.0, 0.0, '{}', 0.5);
"""


def sql(path, script):
    db = sqlite3.connect(path)
    db.executescript(script)
    db.close()


def columns(path, table):
    db = sqlite3.connect(path)
    found = {row[1]: (row[2], row[3], row[5]) for row in db.execute(f"PRAGMA table_info({table})")}
    db.close()
    return found


def test_an_old_store_is_brought_up_to_the_current_schema(path, tmp_path):
    sql(path, OLD_SCHEMA)
    with Store.open(path) as store:
        assert store.records(store.resolve("last")) == [
            Record(Job("edge-a", "naive", "cpu", "exact"), Verdict(Status.PASS, "", 4, 0, None, 1.0, 1.0, 0.0, 0.0), 0.5)
        ]
        store.write(store.begin(INFO), [record(got=math.nan)])
    Store.open(tmp_path / "new.sqlite").close()
    for table in ("meta", "runs", "verdicts"):
        assert columns(path, table) == columns(tmp_path / "new.sqlite", table)


def test_a_migration_that_dies_leaves_the_old_store(path, monkeypatch):
    sql(path, OLD_SCHEMA)

    def half(connection):
        migrations._to_1(connection)
        raise KeyboardInterrupt

    before = columns(path, "verdicts")
    monkeypatch.setattr(migrations, "STEPS", {0: half})
    with pytest.raises(KeyboardInterrupt):
        Store.open(path)
    assert columns(path, "verdicts") == before


def test_every_older_version_has_a_step():
    assert set(migrations.STEPS) == set(range(SCHEMA_VERSION))


def test_migrating_a_current_store_changes_nothing(path, store):
    """Two processes may find the same old store; the second has nothing to do."""
    migrations.migrate(store._engine)
    assert store.begin(INFO)


def test_a_newer_schema_is_refused_with_the_version_that_wrote_it(path):
    Store.open(path).close()
    sql(path, "UPDATE meta SET value = '99' WHERE key = 'schema'; UPDATE meta SET value = '7.1' WHERE key = 'written_by'")
    with pytest.raises(StoreError, match=r"schema 99, written by convproof 7\.1.*upgrade"):
        Store.open(path)


def loaded(code, *arguments):
    """Which of the costly modules a fresh interpreter holds after `code`."""
    names = ("sqlalchemy", "pandas", "harness.store.migrations")
    code = f"import sys; {code}; print(*(n for n in {names} if n in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_migrations_are_imported_only_for_an_old_store(path, tmp_path):
    sql(path, OLD_SCHEMA)
    code = "from harness.store import Store; Store.open(sys.argv[1]).close()"
    assert loaded(code, tmp_path / "new.sqlite") == ["sqlalchemy"]
    assert loaded(code, tmp_path / "new.sqlite") == ["sqlalchemy"]
    assert loaded(code, path) == ["sqlalchemy", "harness.store.migrations"]


def test_importing_the_room_imports_no_library():
    assert loaded("import harness.store, os; harness.store.RunInfo(1)") == []
