"""The gate is measured by wrong backends: each is failed by the check that is meant for it."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from wrong_backends import WRONG

from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.oracle.cache import OracleCache
from harness.records import Status
from harness.run.campaign import Campaign
from harness.run.runner import Options

HERE = Path(__file__).parent
NAMES = [c.name for c in CHECKS]


@pytest.fixture(scope="module")
def catalogue():
    return load_catalogue()


@pytest.fixture(scope="module")
def oracle():
    """Data and references, shared by every test of this module."""
    return OracleCache(20261122)


@pytest.fixture
def verify(catalogue, oracle):
    """Verify a backend in this process; the records."""

    def run(reference, selection, checks=CHECKS):
        with Campaign(catalogue.select(selection), [reference], checks, Options(jobs=1), in_process=True) as campaign:
            campaign._oracle = oracle
            plan = campaign.plan(refusals=False)
            records = [r for batch in campaign.records(plan) for r in batch]
        assert len(records) == plan.jobs > 0
        return records

    return run


def judged(records, status):
    return [r for r in records if r.verdict.status is status]


def test_what_the_wrong_backends_differ_from_passes_smoke(verify):
    assert Counter(r.verdict.status for r in verify("right_numpy:planned", ["smoke"])).keys() == {Status.PASS}


@pytest.mark.parametrize("part", range(4))
def test_the_right_backend_passes_the_gate(verify, catalogue, part):
    """In four parts, for as many processes."""
    ids = [c.id for c in catalogue.select(["gate"])][part::4]
    records = verify("right_numpy:backend", ids)
    assert [(r.job, r.verdict.message) for r in records if r.verdict.status is not Status.PASS] == []
    elsewhere = {"adjoint_conv"}  # for backends that declare no transposed convolution
    assert {r.job.check for r in records} == {c.name for c in CHECKS if not c.workers} - elsewhere


@pytest.mark.parametrize("wrong", WRONG, ids=lambda w: w.name)
def test_a_wrong_backend_is_failed_by_the_check_meant_for_it(verify, wrong):
    """And where it stands alone, by no check before it: so that none of the checks is dispensable."""
    before = CHECKS[: NAMES.index(wrong.caught_by) + 1]
    checks = before if wrong.alone else [c for c in before if c.name in ("contract", wrong.caught_by)]
    records = verify(f"wrong_backends:backends.{wrong.attribute}", ["smoke", *wrong.also], checks)
    failed = {r.job.check for r in judged(records, Status.FAIL)}
    assert wrong.caught_by in failed, wrong.fault
    assert failed == {wrong.caught_by} or not wrong.alone, wrong.fault
    assert {r.verdict.status for r in records} <= {Status.PASS, Status.FAIL, Status.NOT_RUN}, "a fault is a FAIL"


def test_every_check_before_the_algebra_has_a_wrong_backend_that_no_check_before_it_catches():
    """The algebra repeats without an oracle what the checks before it see with one; `threads` is for test_checks_state."""
    needed = {c.name for c in CHECKS[: NAMES.index("reversal")] if not c.workers}
    assert {w.caught_by for w in WRONG if w.alone} == needed


@pytest.mark.parametrize(
    ("attribute", "case", "check"),
    [
        ("flipped_kernel", "basic-rank-2d", "integers"),
        ("tf32", "basic-type-f32", "zero_mean"),
        ("skips_zero_channels", "basic-mode-1d-reflect", "impulses"),
        ("flipped_kernel", "lecture-conv1d-valid", "literal"),
        ("results_kept_by_checksum", "basic-type-f32", "equivariance"),
    ],
)
def test_a_fail_carries_the_worst_index_and_the_error_in_units_of_the_bound(verify, catalogue, attribute, case, check):
    records = verify(f"wrong_backends:backends.{attribute}", [case])
    (v,) = (r.verdict for r in judged(records, Status.FAIL) if r.job.check == check)
    shape = catalogue.select([case])[0].spec.out_shape
    assert len(v.worst_index) == len(shape)
    assert all(0 <= i < n for i, n in zip(v.worst_index, shape, strict=True))
    assert 0 < v.mismatches <= v.compared
    assert v.error_bound > 1
    assert abs(v.got - v.expected) > 0
    assert "worst" in v.message


def test_an_error_of_tf32_is_told_in_units_of_u_a(verify):
    """About 2**-11 / 2**-24 units, whatever the case's size; a right sum stays below 8."""
    records = verify("wrong_backends:backends.tf32", ["basic-type-f32"])
    (v,) = (r.verdict for r in judged(records, Status.FAIL) if r.job.check == "zero_mean")
    assert 100 < v.error_units < 20_000
    assert v.error_bound == pytest.approx(v.error_units / 8, rel=0.01)


def test_a_fail_of_the_contract_says_what_was_not_written_or_written_beside(verify):
    def message(attribute):
        verdicts = [r.verdict for r in verify(f"wrong_backends:backends.{attribute}", ["basic-rank-1d"])]
        assert verdicts[0].status is Status.FAIL
        assert {v.status for v in verdicts[1:]} == {Status.NOT_RUN}
        return verdicts[0].message

    assert message("last_column_not_written") == "3 of 27 outputs were never written, the first at [0, 0, 8]"
    assert message("input_modified_in_place").startswith("changed its input x in place, first at [0, 0, 0]")
    assert re.match(r"wrote \d bytes after out, the first at byte 0 of the guard band", message("writes_past_out"))


def test_a_stored_fail_is_repeated_by_one_line(tmp_path, monkeypatch):
    """`verify` exits with 1; `repro --print` gives a line; that line exits with 1 for the same element."""
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def convproof(*words):
        line = [sys.executable, "-m", "harness.cli", *words]
        return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)

    backend = f"{HERE / 'wrong_backends.py'}:backends.flipped_kernel"
    first = convproof("verify", "lecture-conv1d-valid", "--backend", backend, "--check", "literal")
    assert first.returncode == 1, first.stderr
    (line,) = convproof("repro", "last").stdout.splitlines()
    words = shlex.split(line)
    assert words[:3] == ["convproof", "verify", "lecture-conv1d-valid"]
    assert "--seed" in words
    again = convproof(*words[1:])
    assert again.returncode == 1
    worst = re.search(r"worst at \[[\d, ]+\]", first.stdout + first.stderr)
    assert worst
    assert worst[0] in again.stdout + again.stderr
