"""A run split into shards and joined again is the run."""

import json

import pytest
from click.testing import CliRunner

from harness.cli import main
from harness.store import Store

BACKEND = """
import numpy as np
from harness.backend import Limits, from_function

def crop(spec, x, w, b):
    return np.zeros(spec.out_shape, x.dtype)

backend = from_function("zeros", crop, Limits(dtypes=("f32",), ops=("conv",)))
"""
WHAT = ["lecture-conv1d-*", "invalid-op-*", "-b", "k.py:backend", "--check", "integers", "--check", "impulses"]


def run(*arguments):
    result = CliRunner().invoke(main, [*arguments])
    return result.exit_code, result.output


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """Verify in three parts; the stores."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "k.py").write_text(BACKEND)
    paths = []
    for k in (1, 2, 3):
        monkeypatch.setenv("CONVPROOF_STORE", f"part{k}.sqlite")
        assert run("verify", *WHAT, "--seed", "5", "--shard", f"{k}/3")[0] == 1
        paths.append(f"part{k}.sqlite")
    monkeypatch.setenv("CONVPROOF_STORE", "whole.sqlite")
    return paths


def stored(path):
    with Store.open(path) as store:
        row = store.info("last")
        return row, {r.job: r.verdict for r in store.records(row.id)}


def test_merged_shards_hold_what_the_whole_run_holds(shards, tmp_path):
    assert run("verify", *WHAT, "--seed", "5")[0] == 1
    whole, expected = stored(tmp_path / "whole.sqlite")
    code, said = run("runs", "merge", *shards)
    assert (code, "of 3 shards" in said) == (0, True)
    merged, found = stored(tmp_path / "whole.sqlite")
    assert found == expected
    assert (merged.counts, merged.exit_code, merged.info.jobs_planned) == (whole.counts, 1, len(expected))
    assert run("report", "last", "--markdown", "a.md")[0] == 0
    assert json.loads(run("runs", "show", "last", "--json")[1])["environment"]["request"]["shard"] is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s[:2], "shard 3/3 is missing"),
        (lambda s: [*s, s[0]], "shard 1/3 is there twice"),
    ],
)
def test_what_is_not_every_shard_once_is_refused(shards, change, said):
    code, output = run("runs", "merge", *change(shards))
    assert code == 2
    assert said in output


def test_a_whole_run_and_shards_of_other_data_are_refused(shards, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", shards[1])
    run("verify", *WHAT, "--seed", "6", "--shard", "2/3")
    assert "was asked for another seed" in run("runs", "merge", *shards)[1]
    run("verify", *WHAT, "--seed", "5")
    assert "is no shard" in run("runs", "merge", *shards)[1]


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "a/b", "-1/2"])
def test_what_is_no_shard_is_refused(shard):
    assert run("verify", "lecture-conv1d-valid", "--seed", "1", "--shard", shard)[0] == 2


def test_a_shard_needs_a_seed_that_others_can_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = run("verify", "lecture-conv1d-valid", "--shard", "1/2")
    assert code == 2
    assert "pin them with --seed" in output
