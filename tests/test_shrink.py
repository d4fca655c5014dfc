"""A failure ends as the smallest case that shows it, and that case is what it says it is."""

import subprocess
import sys
from math import prod
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from runner_backends import reference as runner_reference

from harness.catalogue import load_catalogue
from harness.catalogue.catalogue import Catalogue
from harness.catalogue.lint import lint
from harness.catalogue.literals import evaluate, pick
from harness.catalogue.load import load_file
from harness.cli import main
from harness.fuzzing.bench import Bench, Clock, diagnoses
from harness.fuzzing.cases import case_of, weak, with_numbers
from harness.fuzzing.draws import Dice, draw_spec
from harness.fuzzing.edits import EDITS, edits
from harness.fuzzing.shrink import shrink, smallest
from harness.fuzzing.written import described, script, yaml_text
from harness.records import Status
from harness.spec import ConvSpec
from harness.spec.convspec import default_types

HERE = Path(__file__).parent
SEED = 20261122
BIG = ConvSpec("conv", (9, 13), (3, 2), batch=2, in_channels=6, out_channels=9, groups=3, bias=True, stride=(1, 2),
               padding=((1, 0), (2, 1)))  # fmt: skip


def wrong(name):
    """A planted fault of that name."""
    return f"backends.planted:{name}"


def shrunk_on(name, case, *checks, seconds=8.0):
    with Bench(wrong(name), seed=SEED) as bench:
        return shrink(case, checks, bench, seconds)


# --- the edits --------------------------------------------------------------------------------------------------


def weight(s):
    """What every edit makes smaller: the sum of all sizes and of all that is not the default."""
    plain = {"zeros": 0}.get(s.padding_mode, 1) + s.bias + s.flip + s.ceil_mode + s.count_include_pad
    types = (s.dtypes != default_types(s.op, "f32")) + (s.dtypes != default_types(s.op, s.in_dtype))
    sizes = sum(map(sum, (s.in_size, s.kernel_size, s.stride, s.dilation, s.output_padding)))
    return (
        s.batch + s.in_channels + s.out_channels + s.groups + sizes + sum(abs(p) for a in s.padding for p in a) + plain + types
    )


def test_every_edit_gives_a_valid_smaller_specification():
    drawn = [s for i in range(300) if (s := draw_spec(Dice("edits", i)))]
    pairs = [(s, t) for s in drawn for t in edits(s)]
    assert len(pairs) > 5000
    assert [(str(s), str(t)) for s, t in pairs if weight(t) >= weight(s)] == []


def test_every_edit_is_of_use():
    drawn = [s for i in range(300) if (s := draw_spec(Dice("edits", i)))]
    assert all(any(list(edit(s)) for s in drawn) for edit in EDITS)


def test_the_search_ends_where_no_edit_holds():
    def fails(s):
        return s.in_channels // s.groups > 1 and s.in_size[-1] >= 7 and s.stride[-1] == 2

    small, complete = smallest(BIG, fails, Clock(9))
    assert complete
    assert fails(small)
    assert not any(fails(s) for s in edits(small))
    assert str(small) == "conv x[1, 2, 7] w[1, 2, 1] s[2] f32"


def test_the_search_ends_with_its_time():
    assert smallest(BIG, lambda s: True, Clock(0)) == (BIG, False)


# --- faults -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "check", "most"),
    [
        ("flipped_kernel", "integers", 8),
        ("last_column_not_written", "contract", 8),
        ("every_group_reads_group0", "integers", 8),
        ("tf32", "zero_mean", 4),
        ("dilation_ignored", "integers", 64),
        ("flushes_subnormals", "denormal", 8),
        ("reads_one_tap_more", "nan_taint", 64),
    ],
)
def test_a_fault_is_shrunk_to_a_few_elements_under_its_own_check(name, check, most):
    case = case_of(ConvSpec("conv", (9, 13), (3, 2), in_channels=4, out_channels=6, padding=((1, 1), (1, 0)), groups=2,
                            dilation=(1, 2)))  # fmt: skip
    shrunk = shrunk_on(name, case, check)
    assert shrunk.check == shrunk.spec.check == check
    assert shrunk.elements <= most
    assert shrunk.complete
    assert shrunk.spec.verdict.status is Status.FAIL
    assert prod(shrunk.found.case.spec.out_shape) > 1, "one output cannot be told from a constant"


def test_numbers_are_exact_few_and_small():
    shrunk = shrunk_on("tf32", case_of(ConvSpec("conv", (7, 9), (3, 3), in_channels=3)), "zero_mean")
    lit, spec = shrunk.found.case.literal, shrunk.found.case.spec
    x, w = np.array(lit.x), np.array(lit.w)
    assert shrunk.found.check == "literal"
    assert np.count_nonzero(x) == 1
    assert np.abs(x).max() == 2**11 + 1, "the smallest integer that the 11 bits of TF32 do not hold"
    assert set(w.reshape(-1).tolist()) <= {0, 1}
    assert all(pick(lit.y, index) == want for index, want in evaluate(lit, spec).items())


def test_a_diagnosis_is_kept():
    """Seen from a case on which two faults would show, the search stays with the one that was diagnosed."""
    case = load_catalogue().by_id["basic-rank-2d"]
    with Bench(wrong("flipped_kernel"), seed=SEED) as bench:
        first = bench.judge(case, "integers", diagnose=True)
        shrunk = shrink(case, ["integers"], bench, 8.0)
        last = bench.judge(shrunk.spec.case, "integers", diagnose=True)
    assert diagnoses(first.verdict)[0] == "flipped_kernel"
    assert "flipped_kernel" in diagnoses(last.verdict)


def test_a_crash_is_shrunk_though_it_costs_a_worker_each_time():
    case = case_of(ConvSpec("conv", (33,), (3,), in_channels=2, out_channels=3, stride=(2,)))
    with Bench(f"{HERE / 'shrink_backends.py'}:dies_on_even_widths", seed=SEED) as bench:
        shrunk = shrink(case_of(ConvSpec("conv", (34,), (3,), in_channels=2, out_channels=3)), ["contract"], bench, 8.0)
        assert shrink(case, ["contract"], bench, 2.0) is None, "it does not fail on odd widths"
    assert shrunk.found.verdict.status is Status.CRASH
    assert "SIGSEGV" in shrunk.found.verdict.message
    assert str(shrunk.found.case.spec) == "conv x[1, 1, 2] w[1, 1, 1] f32"


def test_a_hang_is_shrunk_in_the_time_given():
    case = case_of(ConvSpec("conv", (20,), (3,), in_channels=2))
    from harness.run.limits import Limits

    with Bench(f"{HERE / 'shrink_backends.py'}:hangs_on_two_channels", Limits(seconds=0.3), seed=SEED) as bench:
        shrunk = shrink(case, ["contract"], bench, 4.0)
    assert shrunk.found.verdict.status is Status.TIMEOUT
    assert shrunk.seconds < 8
    assert shrunk.elements < prod(case.spec.x_shape)


def test_a_right_backend_is_not_shrunk():
    with Bench(f"{HERE / 'right_numpy.py'}:backend", seed=SEED) as bench:
        assert shrink(case_of(BIG), ["contract", "integers"], bench, 2.0) is None


def test_shrinking_is_deterministic():
    found = [shrunk_on("group_is_modulo", case_of(BIG), "integers").found for _ in range(2)]
    assert found[0].case == found[1].case
    assert found[0].case.literal == found[1].case.literal


# --- what is written down ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flipped():
    return shrunk_on("flipped_kernel", case_of(BIG), "integers")


def test_the_entry_loads_passes_the_linter_and_fails_again(flipped, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    path = tmp_path / "small.yaml"
    path.write_text(yaml_text([(flipped.found.case, described(flipped, "flipped-kernel", SEED))], "fuzz"))
    (case,) = load_file(path)
    assert (case.spec, case.literal, case.id) == (flipped.found.case.spec, flipped.found.case.literal, flipped.found.case.id)
    assert lint(Catalogue((case,))) == []
    again = CliRunner().invoke(main, ["verify", str(path), "-b", wrong("flipped_kernel"), "--check", "literal"])
    right = CliRunner().invoke(main, ["verify", str(path), "-b", f"{HERE / 'right_numpy.py'}:backend", "--check", "literal"])
    assert (again.exit_code, right.exit_code) == (1, 0), again.output + right.output


@pytest.mark.parametrize("spec", [s for i in range(60) if (s := draw_spec(Dice("written", i)))], ids=lambda s: s.digest)
def test_any_drawn_specification_survives_being_written(spec, tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        yaml_text([(case_of(spec), {"why": "drawn at random, for this test", "source": "hand: drawn at random"})], "fuzz")
    )
    (case,) = load_file(path)
    assert case.spec == spec
    assert case.tags == case_of(spec).tags
    if not weak(spec):
        assert [f for f in lint(Catalogue((case,))) if f.rule not in ("cost", "precision")] == []


def run(path, *words):
    return subprocess.run([sys.executable, str(path), *words], capture_output=True, text=True, timeout=60, check=False, cwd="/")


def test_the_script_shows_the_failure_without_the_harness(flipped, tmp_path):
    path = tmp_path / "small.py"
    path.write_text(script(flipped.found, wrong("flipped_kernel"), "flipped-kernel differs"))
    called, recorded = run(path), run(path, "--recorded")
    assert called.returncode == recorded.returncode == 1
    assert called.stderr.splitlines()[-1] == recorded.stderr.splitlines()[-1]
    assert "the definition gives" in called.stderr
    text = path.read_text()
    marked = text[text.index("# ===") : text.rindex("# ===")]
    assert "harness" not in text.replace(marked, "")
    path.write_text(text.replace("planted:flipped_kernel", "planted:dilation_ignored"))
    assert run(path).returncode == 0, "on a backend that is right here it passes"


SCRIPTED = (
    ConvSpec("conv", (5, 6), (3, 2), in_channels=4, out_channels=6, groups=2, padding=((1, 2), (0, 1)), padding_mode="reflect"),
    ConvSpec("conv", (5,), (3,), padding=((2, 1),), padding_mode="circular", flip=True, bias=True),
    ConvSpec("conv", (4, 3), (2, 2), padding=((1, 1), (1, 2)), padding_mode="replicate", dilation=(1, 2), in_dtype="bf16"),
    ConvSpec("conv_transpose", (3, 4), (3, 2), in_channels=2, out_channels=4, stride=(2, 3), output_padding=(1, 2), groups=2),
    ConvSpec("max_pool", (6, 5), (2, 3), in_channels=2, padding=((1, 0), (1, 1)), stride=(2, 2)),
    ConvSpec("avg_pool", (7,), (4,), padding=((1, 2),), stride=(2,), ceil_mode=True, count_include_pad=True, in_dtype="f64"),
    ConvSpec("conv", (5,), (3,), in_channels=2, in_dtype="i8"),
)


@pytest.mark.parametrize("spec", SCRIPTED, ids=str)
def test_the_script_s_definition_is_the_oracle_s(spec, tmp_path):
    """The recorded output is the oracle's here, so that the script has to pass; with one element changed it has to fail."""
    from harness.checks import Trial
    from harness.data import draw
    from harness.fuzzing.bench import Judged
    from harness.oracle import reference
    from harness.records import Verdict
    from harness.spec.host import numpy_dtype

    ops = draw("integers", spec, "script", 0)
    out = reference(spec, ops).hi.astype(numpy_dtype(spec.out_dtype))
    changed = out.copy()
    changed.flat[1] = 3 * changed.flat[1] + 8  # a difference that bf16 holds
    for y, code in ((out, 0), (changed, 1)):
        path = tmp_path / f"{code}.py"
        judged = Judged(
            case_of(spec), "integers", Verdict(Status.FAIL, "a test", error_bound=float("inf")), Trial(spec, ops, y)
        )
        path.write_text(script(judged, "nobody", "a test"))
        result = run(path, "--recorded")
        assert result.returncode == code, result.stderr


def test_numbers_that_cannot_be_written_are_not():
    spec = ConvSpec("conv", (3,), (1,))
    from harness.data import Operands

    one = np.ones((1, 1, 1), np.float32)
    assert with_numbers(spec, Operands(np.array([[[0.1, 1, 2]]], np.float32), one)) is None, "no short dyadic fraction"
    assert with_numbers(spec, Operands(np.ones((1, 1, 3), np.float32), one)) is None, "a constant passes"
    assert with_numbers(spec, Operands(np.array([[[0.5, 1, 2]]], np.float32), one)).literal.x == (((0.5, 1, 2),),)


# --- the command line -------------------------------------------------------------------------------------------


def test_verify_and_repro_shrink(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    first = CliRunner().invoke(
        main,
        ["verify", "lecture-conv1d-stride2", "-b", runner_reference("wrong"), "--seed", "3", "--check", "integers", "--shrink"],
    )
    assert first.exit_code == 1
    assert "shrunk from x[1, 1, 7] to x[1, 1, 2]" in first.stdout
    assert "family: fuzz" in first.stdout
    again = CliRunner().invoke(
        main, ["repro", "last", "lecture-conv1d-stride2", "--shrink", "--yaml", "small.yaml", "--script", "small.py"]
    )
    assert again.exit_code == 0, again.output
    assert len(load_file(tmp_path / "small.yaml")) == 1
    assert run(tmp_path / "small.py").returncode == 1
    nothing = CliRunner().invoke(main, ["repro", "last", "lecture-conv1d-stride2", "--shrink", "--yaml", "no/such/place.yaml"])
    assert nothing.exit_code == 2
    assert "place.yaml" in nothing.stderr
