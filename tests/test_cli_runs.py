"""`convproof runs` lists, shows, exports and prunes what the store holds."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from harness import load
from harness.cli import main
from harness.records import Job, Record, Status, Verdict
from harness.store import RunInfo, Store


@pytest.fixture
def ids(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CI", "1")
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    with Store.open(tmp_path / "runs.sqlite") as store:
        found = []
        for k in range(3):
            run = store.begin(RunInfo(k, ("convproof", "verify", "a b"), selection=("smoke",), jobs_planned=40))
            rows = [Record(Job(f"edge-{i:02}", "naive", "cpu", "exact"), Verdict(Status.FAIL, "3 of 4")) for i in range(30)]
            store.write(run, [*rows, Record(Job("basic-a", "naive", "cpu", "exact"), Verdict(Status.PASS))])
            if k:
                store.finish(run, k, 1.5)
            found.append(run)
    return found


def runs(*arguments, code=0):
    result = CliRunner().invoke(main, ["runs", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def test_list_shows_the_newest_first_with_how_each_ended(ids):
    lines = runs("list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["run", *ids[::-1]]
    assert [line.split()[3] for line in lines[1:]] == ["2", "1", "unfinished"]
    assert "31/40  30 FAIL, 1 PASS  convproof verify 'a b'" in lines[1]


def test_list_as_json_is_an_array_of_objects(ids):
    found = json.loads(runs("list", "--json", "-n", 2).stdout)
    assert [r["run"] for r in found] == [ids[2], ids[1]]
    assert found[0]["counts"] == {"PASS": 1, "FAIL": 30}
    assert (found[0]["seed"], found[0]["command"], found[0]["exit_code"]) == (2, ["convproof", "verify", "a b"], 2)


def test_show_prints_facts_and_the_first_failures(ids):
    said = runs("show", "last~1").stdout
    assert ids[1] in said
    assert "failures, 20 of 30" in said
    assert "edge-19  naive    cpu     exact  FAIL    3 of 4" in said
    assert "edge-20" not in said
    assert len(json.loads(runs("show", "--json", "-n", 30).stdout)["failures"]) == 30


def test_export_writes_what_load_reads(ids, tmp_path):
    runs("export", "last~1", "a.csv")
    runs("export", "a.csv", "b.parquet")
    assert len(load("b.parquet").verdicts) == 31
    assert load("b.parquet").info["id"] == ids[1]


def test_prune_prints_what_it_removed(ids):
    assert runs("prune", "--keep", 1, "--dry-run").stdout.split() == [ids[1]]
    assert json.loads(runs("prune", "--keep", 0, "--json").stdout) == [ids[2], ids[1]]
    assert "0 removed, 1 left" in runs("prune", "--older-than", 3).stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show", "nosuch"), "no run 'nosuch'"),
        (("prune",), "say what stays"),
        (("prune", "--keep", "-1"), "--keep"),
        (("export", "last", "x.txt"), "write .parquet or .csv"),
        (("export", "last~9", "x.csv"), "the oldest is last~2"),
    ],
)
def test_what_cannot_be_done_exits_with_2(ids, arguments, said):
    result = runs(*arguments, code=2)
    assert said in result.stderr
    assert result.stdout == ""


def test_without_a_store_every_command_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "none.sqlite"))
    for arguments in (("list",), ("show",), ("prune", "--keep", "1"), ("export", "last", tmp_path / "x.csv")):
        assert "there is no store" in runs(*arguments, code=2).stderr
    assert list(tmp_path.iterdir()) == []


def test_the_setting_names_the_store_where_the_environment_does_not(ids, tmp_path, monkeypatch):
    monkeypatch.delenv("CONVPROOF_STORE")
    (tmp_path / "convproof.toml").write_text('store = "runs.sqlite"\n')
    assert ids[2] in runs("list").stdout


def test_listing_runs_imports_no_pandas(ids):
    code = "import sys, harness.cli as c; c.main(['runs', 'list'], standalone_mode=False); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
