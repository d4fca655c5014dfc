"""Known failures: XFAIL while they fail, XPASS once they pass, nothing once they are out of date."""

import json
from datetime import date

import pytest
from click.testing import CliRunner

from harness.catalogue import CatalogueError
from harness.catalogue.waivers import load_waivers, waive
from harness.cli import main
from harness.records import Job, Record, Status, Verdict

ENTRY = """waivers:
  - case: {case}
    backend: zeros
    reason: it computes nothing yet
    link: issue 7
    expires: {expires}
"""
BACKEND = """
import numpy as np
from harness.backend import Limits, from_function

def zeros(spec, x, w, b):
    return np.zeros(spec.out_shape, x.dtype)

backend = from_function("zeros", zeros, Limits(dtypes=("f32",), ops=("conv",)))
"""


def record(status, check="integers"):
    return Record(Job("edge-a", "mine", "cpu", check), Verdict(status, "wrong"))


def written(tmp_path, text):
    path = tmp_path / "known.yaml"
    path.write_text(text)
    return path


def test_a_waiver_covers_by_globs_and_says_why(tmp_path):
    path = written(
        tmp_path,
        "waivers:\n  - {case: 'edge-*', backend: mine, check: int*, reason: slow, link: '#1', expires: '2030-01-31'}\n",
    )
    (waiver,) = load_waivers(path)
    assert waiver.covers(Job("edge-a", "mine", "cpu", "integers"))
    assert not waiver.covers(Job("edge-a", "mine", "cpu", "repeat"))
    assert waiver.where == f"{path}:2"
    found = waive([waiver], record(Status.FAIL), date(2030, 1, 31)).verdict
    assert (found.status, found.message) == (Status.XFAIL, "known: slow (#1), until 2030-01-31; FAIL: wrong")


@pytest.mark.parametrize("status", [Status.FAIL, Status.WEAK, Status.ERROR, Status.CRASH, Status.TIMEOUT, Status.OOM])
def test_every_bad_ending_can_be_known(tmp_path, status):
    waivers = load_waivers(written(tmp_path, ENTRY.format(case="edge-a", expires="2030-01-31").replace("zeros", "mine")))
    assert waive(waivers, record(status), date(2026, 1, 1)).verdict.status is Status.XFAIL


def test_what_was_not_run_is_not_waived_and_what_passes_is_stale(tmp_path):
    waivers = load_waivers(written(tmp_path, ENTRY.format(case="edge-a", expires="2030-01-31").replace("zeros", "mine")))
    assert waive(waivers, record(Status.NOT_RUN), date(2026, 1, 1)).verdict.status is Status.NOT_RUN
    stale = waive(waivers, record(Status.PASS), date(2026, 1, 1)).verdict
    assert stale.status is Status.XPASS
    assert "remove the entry" in stale.message


def test_an_expired_waiver_waives_nothing_and_says_so(tmp_path):
    waivers = load_waivers(written(tmp_path, ENTRY.format(case="edge-a", expires="2026-01-31").replace("zeros", "mine")))
    found = waive(waivers, record(Status.FAIL), date(2026, 2, 1)).verdict
    assert found.status is Status.FAIL
    assert "expired on 2026-01-31" in found.message
    assert waive(waivers, record(Status.PASS), date(2026, 2, 1)).verdict.status is Status.PASS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("waivers:\n  - {case: a, backend: b, reason: r, link: l}\n", ":2: the waiver has no expires"),
        ("waivers:\n  - {case: a, backend: b, reason: r, link: l, expires: tomorrow}\n", ":2: expires is 'tomorrow'"),
        ("waivers:\n  - case: a\n    bakend: b\n", ":3: unknown key 'bakend'"),
        ("waivers:\n  - case: 3\n", ":2: case is 3"),
        ("- case: a\n", ":1: a file of waivers is a mapping"),
        ("waivers:\n  - text\n", ":2: a waiver is a mapping"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(CatalogueError) as refused:
        load_waivers(written(tmp_path, text))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("entry", "code", "statuses"),
    [
        (ENTRY.format(case="lecture-conv1d-valid", expires="2999-12-31"), 0, {"XFAIL"}),
        (ENTRY.format(case="lecture-conv1d-valid", expires="2020-01-01"), 1, {"FAIL"}),
        (ENTRY.format(case="lecture-conv1d-full", expires="2999-12-31"), 1, {"FAIL"}),
    ],
)
def test_verify_reads_the_settings_waivers(tmp_path, monkeypatch, entry, code, statuses):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, entry)
    (tmp_path / "convproof.toml").write_text('waivers = "known.yaml"\n')
    (tmp_path / "k.py").write_text(BACKEND)
    arguments = ["verify", "lecture-conv1d-valid", "-b", "k.py:backend", "--check", "integers", "--json", "out.json"]
    assert CliRunner().invoke(main, arguments).exit_code == code
    assert {r["status"] for r in json.loads((tmp_path / "out.json").read_text())["records"]} == statuses


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (ENTRY.format(case="lecture-conv1d-vald", expires="2999-12-31"), "no case matches 'lecture-conv1d-vald'"),
        (ENTRY.format(case="lecture-*", expires="2999-12-31") + "    check: intgers\n", "did you mean 'integers'?"),
        (ENTRY.format(case="lecture-conv1d-valid", expires="2999-12-31") + "    check: saturation\n", "no check matches"),
        (ENTRY.format(case="basic-rank-1d", expires="2999-12-31") + "    check: literal\n", "applies to none of the cases"),
    ],
)
def test_an_entry_that_can_match_nothing_is_refused_with_its_line(tmp_path, monkeypatch, entry, said):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, entry)
    (tmp_path / "convproof.toml").write_text('waivers = "known.yaml"\n')
    (tmp_path / "k.py").write_text(BACKEND)
    refused = CliRunner().invoke(main, ["verify", "lecture-conv1d-valid", "basic-rank-1d", "-b", "k.py:backend"])
    assert refused.exit_code == 2
    assert "known.yaml:2: stale:" in refused.output
    assert said in refused.output


def test_an_entry_about_cases_or_backends_that_do_not_run_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, ENTRY.format(case="lecture-conv1d-full", expires="2999-12-31"))
    (tmp_path / "convproof.toml").write_text('waivers = "known.yaml"\n')
    (tmp_path / "k.py").write_text(BACKEND)
    assert CliRunner().invoke(main, ["verify", "lecture-conv1d-valid", "-b", "k.py:backend", "--list"]).exit_code == 0
