"""Runs come out as data frames and as files, bit for bit."""

import math
import subprocess
import sys

import pandas as pd
import pytest

import harness
from harness.records import Job, Record, Status, Verdict
from harness.store import RunInfo, Store, StoreError, export, load
from harness.store.frames import COLUMNS, Run

ODD = 'a\r\nb,"c"\rd é'
VERDICTS = [
    Verdict(Status.FAIL, ODD, 4, 2, (0, 1), math.nan, math.inf, -math.inf, 0.1 + 0.2, {"x": [1]}),
    Verdict(Status.PASS, "NA", 2**53 + 1, got=5e-324, expected=1.7976931348623157e308),
    Verdict(Status.UNSUPPORTED, "null"),
]


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "runs.sqlite"
    with Store.open(path) as store:
        run = store.begin(RunInfo(2**70, ("convproof", "verify"), environment={"packages": {"numpy": "2"}}))
        store.write(run, [Record(Job(f"edge-{i}", "b", "cpu", "c"), v, i / 3, 0.1, "d") for i, v in enumerate(VERDICTS)])
        store.finish(run, 1, 2.0)
    return path


def test_a_frame_has_the_documented_columns_and_a_row_a_job(path):
    run = load("last", path)
    v = run.verdicts
    assert list(v.columns) == list(COLUMNS)
    assert all(name in Run.__doc__ for name in COLUMNS)
    assert v.case.tolist() == ["edge-0", "edge-1", "edge-2"]
    assert set(v.family) == {"edge"}
    assert set(v.run) == {run.info["id"]}
    assert v.status.tolist() == ["FAIL", "PASS", "UNSUPPORTED"]
    assert v.worst_index.isna().tolist() == [False, True, True]
    assert v.worst_index[0] == "0,1"
    assert (v.expected[0], v.compared[1], v.seconds[1]) == (math.inf, 2**53 + 1, 1 / 3)


def test_a_nan_is_told_from_a_missing_value(path):
    v = load("last", path).verdicts
    assert v.got.isna().tolist() == [True, False, True]
    assert v.nan_fields.tolist() == ["got", "", ""]


def test_the_facts_of_a_run_come_along(path):
    info = load("last", path).info
    assert (info["seed"], info["exit_code"], info["seconds"]) == (2**70, 1, 2.0)
    assert info["counts"] == {"PASS": 1, "FAIL": 1, "UNSUPPORTED": 1}
    assert info["environment"] == {"packages": {"numpy": "2"}}


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_an_exported_run_loads_equal(path, tmp_path, suffix):
    run = load("last", path)
    again = load(export(run, tmp_path / f"run{suffix}"))
    pd.testing.assert_frame_equal(again.verdicts, run.verdicts, check_exact=True)
    assert again.info["id"] == run.info["id"]
    if suffix == ".parquet":
        assert again.info == {**run.info, "command": ["convproof", "verify"], "selection": []}
    assert sorted(f.name for f in tmp_path.iterdir()) == [f"run{suffix}", "runs.sqlite"]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_run_without_rows_is_an_empty_frame_of_the_same_types(path, tmp_path, suffix):
    with Store.open(path) as store:
        store.begin(RunInfo(1))
        run = load("last", store)
        full = load("last~1", store)
    assert len(run.verdicts) == 0
    assert (run.verdicts.dtypes == full.verdicts.dtypes).all()
    assert (load(export(run, tmp_path / f"run{suffix}")).verdicts.dtypes == full.verdicts.dtypes).all()


def test_a_store_may_be_named_in_every_way(path, monkeypatch):
    with Store.open(path) as store:
        ids = {load("last", store).info["id"]}
        store.runs()  # a store that was handed over stays open
    ids |= {load(path).info["id"], load("last", str(path)).info["id"]}
    monkeypatch.setenv("CONVPROOF_STORE", str(path))
    assert len(ids | {harness.load().info["id"]}) == 1


def test_a_damaged_foreign_or_missing_file_is_an_error(path, tmp_path):
    for name, content in {"a.parquet": b"PAR1 no", "b.csv": b"case,x\n1,2\n", "c.csv": b"\xff\xfe", "d.csv": b""}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(StoreError, match="is not an exported run"):
            load(tmp_path / name)
    cut = export(load(path), tmp_path / "cut.csv")
    cut.write_text(cut.read_text().replace(",4,2,", ",four,2,"))
    with pytest.raises(StoreError, match="is not an exported run"):
        load(cut)
    for missing in ("nosuch.csv", "nosuch.sqlite"):
        with pytest.raises(StoreError, match="there is no"):
            load(tmp_path / missing)


def test_an_export_that_cannot_be_written_is_an_error_and_leaves_nothing(path, tmp_path):
    run = load(path)
    for bad, said in (("x.txt", r"write \.parquet or \.csv"), ("x", "suffix is 'missing'"), ("no/x.csv", "directory")):
        with pytest.raises(StoreError, match=said):
            export(run, tmp_path / bad)
    assert [f.name for f in tmp_path.iterdir()] == ["runs.sqlite"]


def in_subprocess(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("module", ["pandas", "pyarrow"])
def test_a_missing_package_is_said_with_what_to_install(path, module):
    code = f"""
import sys, harness
sys.modules[{module!r}] = None
try:
    harness.load("last", sys.argv[1])
except ImportError as e:
    print(e)
"""
    assert in_subprocess(code, path) == f"data frames and Parquet need {module}: pip install 'convproof[reports]'\n"


def test_reading_and_writing_records_needs_no_pandas(path):
    code = """
import sys
from harness.store import Store
with Store.open(sys.argv[1]) as s:
    s.records(s.resolve("last"))
print("pandas" in sys.modules)
"""
    assert in_subprocess(code, path) == "False\n"
