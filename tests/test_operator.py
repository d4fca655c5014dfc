"""The check `operator`: right backends are the matrix that is written, wrong ones are named by row and column."""

from dataclasses import replace

import numpy as np
import pytest
from right_numpy import Right
from wrong_backends import FlippedKernel

from harness.backend import FFT, BackendInfo, host_device
from harness.catalogue import load_catalogue
from harness.checks import CHECKS
from harness.checks.base import Problem, RunEnded
from harness.checks.exact import LITERAL
from harness.checks.operator import OPERATOR
from harness.oracle.cache import OracleCache
from harness.records import Status, Verdict
from harness.registry import Registry
from harness.run.campaign import Campaign
from harness.run.runner import Options

CATALOGUE = load_catalogue()
WRITTEN = [c for c in CATALOGUE.cases if c.matrix]
INFO = BackendInfo("mine")


def problem(case, info=INFO):
    return Problem(case, case.spec, info, host_device(), OracleCache(0))


def judge(case, backend=None, info=INFO):
    """The verdict of the check on a function of (spec, x, w, b)."""
    backend = backend or Right()
    return OPERATOR.judge(problem(case, info), lambda ops, **_: backend(case.spec, ops.x, ops.w, ops.b))


class PadsOneMore(Right):
    """Reads one place too far to the left, as with one more zero in front."""

    def positions(self, spec, axis):
        return super().positions(spec, axis) - 1


def test_it_runs_after_the_impulses_and_applies_where_a_matrix_is_written():
    names = [c.name for c in CHECKS]
    assert names.index("operator") == names.index("impulses") + 1
    spec = CATALOGUE.by_id["lecture-conv2d-valid"].spec
    assert OPERATOR.applies(CATALOGUE.by_id["lecture-conv2d-valid"], spec, INFO) == "the case writes out no matrix"
    assert all(OPERATOR.applies(c, c.spec, INFO) is None for c in WRITTEN)
    assert "T e_j is column j of T" in OPERATOR.theorem


@pytest.mark.parametrize("case", WRITTEN, ids=lambda c: c.id)
def test_a_right_backend_is_the_written_matrix(case):
    verdict = judge(case)
    assert verdict.status is Status.PASS, verdict.message
    rows, columns = len(case.matrix.rows), len(case.matrix.rows[0])
    assert verdict.compared == rows * columns
    assert verdict.details == {"rows": rows, "columns": columns}


@pytest.mark.parametrize("name", list(Registry.installed().entries))
def test_every_installed_backend_is_every_written_matrix(name):
    with Campaign(WRITTEN, [Registry.installed().reference(name)], [OPERATOR], Options(jobs=1)) as campaign:
        (report,) = campaign.reports
        if report.status is not Status.PASS:
            pytest.skip(f"{name}: {report.message}")
        records = [r for batch in campaign.records(campaign.plan()) for r in batch]
    found = {r.verdict.status for r in records}
    assert found <= {Status.PASS, Status.UNSUPPORTED}, [(r.job.case, r.verdict.message) for r in records]
    assert Status.PASS in found


def test_a_flipped_kernel_is_named_by_row_and_column():
    """Row 0 of [2 7 1] with a zero in front is 7 1; flipped it is 7 2."""
    case = CATALOGUE.by_id["lecture-conv1d-same-odd"]
    verdict = judge(case, FlippedKernel())
    assert verdict.status is Status.FAIL
    assert (verdict.details["row"], verdict.details["column"]) == (0, 1)
    assert (verdict.got, verdict.expected) == (2.0, 1.0)
    assert verdict.worst_index == (0, 0, 0)
    assert (verdict.mismatches, verdict.compared) == (12, 49)
    assert verdict.message == (
        "row 0, column 1 of the filter matrix is 2, expected 1; 12 of 49 entries differ; "
        "row 0 is [7 2 0 0 0 0 0], expected [7 1 0 0 0 0 0]"
    )


def test_one_zero_too_many_in_front_moves_every_diagonal():
    case = CATALOGUE.by_id["lecture-toeplitz-even-front"]
    verdict = judge(case, PadsOneMore())
    assert verdict.status is Status.FAIL
    assert (verdict.details["row"], verdict.details["column"]) == (0, 0)
    assert verdict.message.startswith("row 0, column 0 of the filter matrix is 8, expected 1")
    assert "row 0 is [8 0 0 0 0 0 0], expected [1 8 0 0 0 0 0]" in verdict.message


def test_the_data_matrix_is_read_by_impulses_in_the_weights():
    case = CATALOGUE.by_id["lecture-data-toeplitz-odd"]
    assert judge(case).status is Status.PASS
    verdict = judge(case, FlippedKernel())
    assert verdict.status is Status.FAIL
    assert (verdict.details["row"], verdict.details["column"]) == (0, 6)
    assert (verdict.got, verdict.expected) == (6.0, 0.0)
    assert verdict.message.startswith("row 0, column 6 of the data matrix is 6, expected 0; 14 of 21 entries differ")


def test_a_wrong_page_is_an_error_of_the_case_not_of_the_backend():
    case = CATALOGUE.by_id["lecture-conv1d-valid"]
    damaged = [list(r) for r in case.matrix.rows]
    damaged[2][3] += 1
    verdict = judge(replace(case, matrix=replace(case.matrix, rows=tuple(map(tuple, damaged)))))
    assert verdict.status is Status.ERROR
    assert "column 3 of the catalogue's matrix" in verdict.message
    assert "mend the case" in verdict.message


def test_a_nan_is_a_difference():
    case = CATALOGUE.by_id["lecture-conv1d-valid"]

    class Nan(Right):
        def finish(self, spec, y, b):
            y = super().finish(spec, y, b)
            y[..., -1] = np.nan
            return y

    verdict = judge(case, Nan())
    assert verdict.status is Status.FAIL
    assert verdict.details["row"] == 4


def test_a_class_that_rounds_is_held_to_its_bound():
    """An FFT may err by some u of |x|_2 |w|_2, and by no more."""
    case = CATALOGUE.by_id["lecture-conv1d-same-odd"]
    info = replace(INFO, algorithm=FFT)

    def off_by(size):
        class Off(Right):
            def finish(self, spec, y, b):
                return super().finish(spec, y, b) + np.float32(size)

        return judge(case, Off(), info).status

    assert off_by(2**-22) is Status.PASS
    assert off_by(2**-12) is Status.FAIL


def test_a_backend_that_ends_ends_the_check():
    def gone(ops, **_):
        raise RunEnded(Verdict(Status.CRASH, "gone"))

    with pytest.raises(RunEnded):
        OPERATOR.judge(problem(WRITTEN[0]), gone)


def test_the_literal_check_holds_a_photograph_against_the_exact_result():
    case = CATALOGUE.by_id["lecture-photo-sobel-x"]

    def verdict(backend):
        return LITERAL.judge(problem(case), lambda ops, **_: backend(case.spec, ops.x, ops.w, ops.b))

    right = verdict(Right())
    assert (right.status, right.compared) == (Status.PASS, 96 * 80)
    assert verdict(FlippedKernel()).status is Status.FAIL
