"""Backends over outside libraries: what they hand over, that they run when named alone, and that the real ones are right."""

import json
import sys
import warnings
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner
from runner_backends import reference as of_runner
from timed_backends import reference

from backends.libraries import onnxruntime, scipy_signal, thread_count, version_of
from backends.libraries import torch as library
from harness.backend import ContractError, Unsupported
from harness.cli import main
from harness.cli.probing import references
from harness.cli.settings import Settings
from harness.registry import Registry, UnknownBackend
from harness.spec import ConvSpec
from harness.store import load
from harness.timing.ratios import legend, means

MODULES = {"torch": ("torch",), "scipy-signal": ("scipy",), "onnxruntime": ("onnxruntime", "onnx")}
BACKENDS = {"torch": library.backend, "scipy-signal": scipy_signal.backend, "onnxruntime": onnxruntime.backend}


def missing(name):
    """The modules of a library that are not installed here."""
    return [m for m in MODULES[name] if find_spec(m) is None]


each_library = pytest.mark.parametrize("name", MODULES)
each_installed = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.skipif(bool(missing(n)), reason=f"{n} needs {missing(n)}")) for n in MODULES],
)
needs_torch = pytest.mark.skipif(bool(missing("torch")), reason="torch is not installed")


# --- a stand-in for PyTorch -------------------------------------------------------------------------------------


class FakeTensor:
    """An array that knows `copy_`, in place as PyTorch has it."""

    def __init__(self, array):
        self.array, self.shape = array, array.shape

    def copy_(self, other):
        self.array[...] = other.array


class FakeTorch:
    """Enough of the module to see what it is given."""

    __name__, __version__ = "torch", "9.9"

    def __init__(self, result=None):
        self.calls, self.threads, self.result = [], 7, result
        names = [f"{op}{rank}d" for op in ("conv", "conv_transpose", "max_pool", "avg_pool") for rank in (1, 2, 3)]
        self.nn = SimpleNamespace(functional=SimpleNamespace(pad=self._pad, **{n: self._named(n) for n in names}))
        self.backends = SimpleNamespace(
            nnpack=SimpleNamespace(set_flags=lambda on: self.calls.append(("nnpack", on))),
            mkldnn=SimpleNamespace(is_available=lambda: False),
        )
        text = "ATen/Parallel:\n\tat::get_num_threads() : 7\nATen parallel backend: OpenMP\n"
        self.__config__ = SimpleNamespace(parallel_info=lambda: text)
        self.inside = False

    def _named(self, name):
        def call(*operands, **how):
            assert self.inside, "not in inference mode"
            self.calls.append((name, [t.shape for t in operands], how))
            return FakeTensor(self.result)

        return call

    def _pad(self, t, pad, mode):
        self.calls.append(("pad", pad, mode))
        return t

    def from_numpy(self, a):
        assert a.flags.writeable, "PyTorch warns of read-only arrays"
        return FakeTensor(a)

    def inference_mode(self):
        outer = self

        class Mode:
            def __enter__(self):
                outer.inside = True

            def __exit__(self, *exc):
                outer.inside = False

        return Mode()

    def set_num_threads(self, count):
        self.threads = count

    def get_num_threads(self):
        return self.threads


@pytest.fixture
def fake(monkeypatch):
    """The stand-in, imported in PyTorch's place."""
    made = FakeTorch()
    monkeypatch.setitem(sys.modules, "torch", made)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    return made


def operands(spec, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (spec.x_shape, spec.w_shape, spec.b_shape)
    return [None if s is None else rng.integers(-4, 5, s).astype(np.float32) for s in shapes]


def ran(fake, spec):
    """The calls of one run, and the prepared object; the output is all 5."""
    fake.result = np.full(spec.out_shape, 5, np.float32)
    out = np.zeros(spec.out_shape, np.float32)
    with library.backend.prepare(spec, "cpu") as prepared:
        fake.calls.clear()
        prepared.run(*operands(spec), out)
    assert (out == 5).all()
    return fake.calls, prepared


def test_equal_zeros_on_both_sides_are_left_to_the_convolution(fake):
    spec = ConvSpec("conv", (5, 6), (3, 3), in_channels=4, out_channels=2, stride=(2, 1), padding=((1, 1), (2, 2)), groups=2)
    calls, prepared = ran(fake, spec)
    how = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 1), "groups": 2}
    assert calls == [("conv2d", [spec.x_shape, spec.w_shape], how)]
    assert set(prepared.phases) == {"kernel", "copy"}
    assert all(v >= 0 for v in prepared.phases.values())


@pytest.mark.parametrize(
    ("mode", "padding", "expected"),
    [
        ("zeros", ((1, 0), (0, 2)), ((0, 2, 1, 0), "constant")),
        ("zeros", ((-1, -1), (0, 0)), ((0, 0, -1, -1), "constant")),
        ("circular", ((1, 1), (2, 2)), ((2, 2, 1, 1), "circular")),
        ("reflect", ((1, 1), (0, 1)), ((0, 1, 1, 1), "reflect")),
        ("replicate", ((9, 1), (0, 1)), ((0, 1, 9, 1), "replicate")),
    ],
)
def test_other_padding_is_put_there_before_the_last_axis_first(fake, mode, padding, expected):
    calls, prepared = ran(fake, ConvSpec("conv", (5, 6), (3, 3), padding=padding, padding_mode=mode, bias=True))
    (first, (name, shapes, how)) = calls
    assert first == ("pad", *expected)
    assert (name, how["padding"], len(shapes)) == ("conv2d", (0, 0), 3)
    assert set(prepared.phases) == {"pack", "kernel", "copy"}


def test_without_padding_no_mode_costs_a_copy(fake):
    calls, _ = ran(fake, ConvSpec("conv", (5,), (3,), padding_mode="circular"))
    assert [c[0] for c in calls] == ["conv1d"]


@pytest.mark.parametrize(
    ("spec", "name", "how"),
    [
        (
            ConvSpec("conv_transpose", (5,), (3,), stride=(2,), padding=((1, 1),), output_padding=(1,)),
            "conv_transpose1d",
            {"output_padding": (1,), "padding": (1,), "stride": (2,)},
        ),
        (
            ConvSpec("max_pool", (5, 5), (3, 2), dilation=(1, 2), padding=((1, 1), (0, 0)), ceil_mode=True),
            "max_pool2d",
            {"kernel_size": (3, 2), "dilation": (1, 2), "padding": (1, 0), "ceil_mode": True},
        ),
        (ConvSpec("avg_pool", (5,), (3,), count_include_pad=True), "avg_pool1d", {"count_include_pad": True}),
    ],
)
def test_transposes_and_pools_are_given_their_options_by_name(fake, spec, name, how):
    ((called, _, given),) = ran(fake, spec)[0]
    assert called == name
    assert how.items() <= given.items()


def test_a_result_of_another_shape_is_a_breach_and_not_broadcast(fake):
    spec = ConvSpec("conv", (5,), (3,))
    fake.result = np.zeros((1, 1, 1), np.float32)
    with library.backend.prepare(spec, "cpu") as prepared, pytest.raises(ContractError, match=r"\[1, 1, 1\]"):
        prepared.run(*operands(spec), np.zeros(spec.out_shape, np.float32))


def test_threads_are_those_that_the_harness_has_set_and_the_probe_tells_them(fake):
    (device,) = library.backend.probe().devices
    assert ("nnpack", False) in fake.calls
    told = {"torch": "9.9", "threads": "3", "parallel": "OpenMP", "oneDNN": "not available"}
    assert told.items() <= device.properties.items()
    fake.threads = 7
    library.backend.prepare(ConvSpec("conv", (5,), (3,)), "cpu")
    assert fake.threads == 3


@pytest.mark.parametrize(("text", "count"), [("2", 2), ("", None), ("0", None), ("2,1", None), ("-1", None)])
def test_a_number_of_threads_is_read_or_is_none(monkeypatch, text, count):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert thread_count() == count


def test_read_only_operands_are_handed_over_in_place(fake):
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    a.flags.writeable = False
    seen = library.tensor(fake, a).array
    assert np.shares_memory(seen, a)
    assert seen.tolist() == a.tolist()


@each_library
def test_one_that_is_not_installed_says_how_to_install_it(monkeypatch, name):
    monkeypatch.setitem(sys.modules, MODULES[name][0], None)
    found = BACKENDS[name].probe()
    assert found.devices == ()
    assert found.reason.startswith(f"backend {name!r} needs {MODULES[name][0]}")
    assert found.hint.startswith("pip install ")
    spec = ConvSpec("conv", (5,), (3,))
    monkeypatch.setitem(sys.modules, f"{MODULES[name][0]}.signal", None)
    with pytest.raises(Unsupported, match="pip install"):
        BACKENDS[name].prepare(spec, "cpu")
    with pytest.raises(Unsupported, match="no device 'gpu'"):
        BACKENDS[name].prepare(spec, "gpu")


def test_a_library_whose_import_fails_in_another_way_is_a_reason_too(fake):
    fake.__config__ = None
    assert "NoneType" in library.backend.probe().reason


def test_a_distribution_that_is_not_installed_has_no_version():
    assert version_of("no-such-distribution-anywhere") == ""
    assert version_of("numpy") == np.__version__


# --- the real ones ----------------------------------------------------------------------------------------------


@each_installed
def test_an_installed_one_passes_smoke_s_ranks(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "r.sqlite"))
    monkeypatch.chdir(tmp_path)
    cases = ("basic-rank-*", "basic-padding-*", "basic-transpose-*", "edge-depthwise-2d", "basic-bias")
    known = [c for c in cases if CliRunner().invoke(main, ["list", "cases", c]).exit_code == 0]
    result = CliRunner().invoke(main, ["verify", *known, "--backend", name, "--seed", "5"])
    assert result.exit_code == 0, result.output
    (device,) = load("last").info["environment"]["backends"][name]["devices"]
    assert device["threads"] == ("1" if name == "scipy-signal" else "2")
    assert load("last").info["environment"]["backends"][name]["version"]


@needs_torch
def test_torch_takes_read_only_operands_without_a_warning():
    spec = ConvSpec("conv", (5, 6), (3, 2), in_channels=2, out_channels=3, bias=True)
    given, out, again = operands(spec), np.zeros(spec.out_shape, np.float32), np.zeros(spec.out_shape, np.float32)
    with library.backend.prepare(spec, "cpu") as prepared, warnings.catch_warnings():
        warnings.simplefilter("error")
        prepared.run(*given, out)
        before = [a.copy() for a in given]
        for a in given:
            a.flags.writeable = False
        prepared.run(*given, again)
    assert (out == again).all()
    assert all((a == b).all() for a, b in zip(given, before, strict=True))


@needs_torch
@pytest.mark.parametrize("op", ["conv", "conv_transpose", "max_pool"])
def test_torch_takes_a_batch_of_none(op):
    spec = ConvSpec(op, (5,), (3,), batch=0)
    with library.backend.prepare(spec, "cpu") as prepared:
        prepared.run(*operands(spec), np.zeros(spec.out_shape, np.float32))


# --- by name ----------------------------------------------------------------------------------------------------


def test_libraries_run_when_they_are_named_and_not_by_default():
    registry = Registry.installed()
    assert set(MODULES) <= set(registry.libraries)
    assert not set(registry.libraries) & set(registry.entries)
    default = {r.partition("=")[0] for r in references(Settings())}
    assert default == set(registry.entries)
    assert references(Settings(), ["torch"]) == ["torch=backends.libraries.torch:backend"]
    assert references(Settings(backends=("torch",))) == ["torch=backends.libraries.torch:backend"]


def test_a_misspelt_library_is_suggested_and_a_backend_goes_before_a_library():
    registry = Registry({"mine": "a:b"}, {"torch": "c:d", "mine": "e:f"})
    with pytest.raises(UnknownBackend, match="did you mean 'torch'"):
        registry.reference("torhc")
    assert registry.reference("mine") == "mine=a:b"


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "runs.sqlite"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def registered(store, monkeypatch):
    """A registry of tests' own: `twice` runs by default, `right` and `absent` when named."""
    libraries = {"right": reference("right"), "absent": of_runner("absent")}
    made = Registry({"twice": reference("twice")}, libraries)
    monkeypatch.setattr(Registry, "installed", classmethod(lambda cls: made))


def bench(*words):
    few = (
        "--processes",
        "1",
        "--time",
        "0.05s",
        "--precision",
        "20%",
        "--no-roof",
        "--no-cold",
        "--seed",
        "3",
        "--threads",
        "1",
    )
    return CliRunner().invoke(main, ["bench", "basic-rank-2d", *words, *few])


@pytest.mark.parametrize("words", [(), ("-b", "twice"), ("-b", "twice", "-b", "right")])
def test_a_baseline_is_timed_whether_it_is_named_twice_or_once(registered, words):
    result = bench(*words, "--baseline", "right", "--json", "f.json")
    assert result.exit_code == 0, result.output
    assert "x right: a time as a multiple of right's on the same case; 2.00 takes twice as long as right" in result.output
    assert "twice: geometric mean " in result.output
    run = load("last")
    assert sorted(run.timings.backend) == ["right", "twice"]
    assert run.info["environment"]["baseline"] == "right"
    with open("f.json", encoding="utf-8") as f:
        told = json.load(f)
    assert told["baseline"] == "right"
    assert [m["name"] for m in told["means"]] == ["twice"]
    report = CliRunner().invoke(main, ["report", "last", "--markdown", "-"])
    assert "geometric mean, x right" in report.output


def test_without_a_library_as_baseline_none_is_timed(registered):
    result = bench()
    assert result.exit_code == 0, result.output
    assert list(load("last").timings.backend) == ["twice"]
    assert "twice: geometric mean 1.000 x best over 1 case, fastest on 1" in result.output


def test_the_best_can_be_asked_for_by_name(registered):
    result = bench("-b", "twice", "-b", "right", "--baseline", "best")
    assert result.exit_code == 0, result.output
    assert "right: geometric mean 1.000 x best" in result.output


def test_a_baseline_that_is_not_installed_is_exit_code_3_and_the_rest_is_timed(registered):
    result = bench("--baseline", "absent")
    assert result.exit_code == 3, result.output
    assert "is unavailable: it needs a quantum computer: buy one" in result.output
    assert "has no figure: ratios are to the fastest instead" in result.output
    assert "twice: geometric mean 1.000 x best" in result.output


def test_a_misspelt_baseline_is_suggested(registered):
    result = bench("--baseline", "rihgt")
    assert result.exit_code == 2
    assert "did you mean 'right'?" in result.output


def test_a_file_s_backend_can_be_the_baseline(registered):
    result = bench("-b", "twice", "--baseline", reference("right"))
    assert result.exit_code == 0, result.output
    assert "twice: geometric mean " in result.output
    assert " x right over 1 case" in result.output


def test_comparing_what_is_not_installed_says_so_and_is_exit_code_3(registered):
    result = CliRunner().invoke(main, ["compare", "absent", "right", "basic-rank-2d"])
    assert result.exit_code == 3, result.output
    assert "absent: " in result.output
    assert "has no device: it needs a quantum computer: buy one" in result.output


def test_list_and_doctor_show_libraries_apart(registered):
    told = json.loads(CliRunner().invoke(main, ["list", "backends", "--json"]).stdout)
    assert (told[0]["name"], told[0]["run"]) == ("twice", "by default")
    assert {b["run"] for b in told[1:]} == {"when named"}
    (one,) = json.loads(CliRunner().invoke(main, ["list", "backends", "right", "--json"]).stdout)
    assert one["run"] == "when named"
    found = json.loads(CliRunner().invoke(main, ["doctor", "--json"]).stdout)
    assert [b["name"] for b in found["backends"]] == ["twice"]
    assert [b["status"] for b in found["libraries"] if not b["devices"]] == ["UNAVAILABLE"]
    assert not any("library" in p["what"] for p in found["problems"])
    shown = CliRunner().invoke(main, ["doctor"]).stdout
    assert "no: buy one" in shown
    assert "1 of 1 backends can run" in shown


# --- ratios -----------------------------------------------------------------------------------------------------


def row(case, backend, seconds, device="cpu"):
    return {"case": case, "backend": backend, "device": device, "seconds": seconds}


def test_means_are_over_the_cases_that_both_have():
    nan = float("nan")
    rows = [row("a", "base", 1.0), row("b", "base", 2.0), row("c", "base", nan)]
    rows += [row("a", "x", 2.0), row("b", "x", 1.0), row("c", "x", 9.0), row("b", "y", 4.0), row("a", "y", nan)]
    found = {m.name: (m.ratio, m.cases, m.faster) for m in means(rows, "base")}
    assert found == {"x": (1.0, 2, 1), "y": (2.0, 1, 0), "best of x, y": (1.0, 2, 1)}


def test_a_backend_on_two_devices_has_two_means_and_a_baseline_its_faster_one():
    rows = [row("a", "base", 4.0), row("a", "base", 1.0, "gpu"), row("a", "x", 2.0), row("a", "x", 3.0, "gpu")]
    assert [(m.name, round(m.ratio, 9)) for m in means(rows, "base")] == [
        ("x on cpu", 2.0),
        ("x on gpu", 3.0),
        ("best of x on cpu, x on gpu", 2.0),
    ]


def test_without_a_baseline_ratios_are_to_the_fastest():
    rows = [row("a", "x", 2.0), row("a", "y", 1.0), row("b", "x", 1.0), row("b", "y", 8.0)]
    assert {m.name: pytest.approx(m.ratio) for m in means(rows)} == {"x": 2**0.5, "y": 8**0.5}
    assert [m.faster for m in means(rows)] == [1, 1]


@pytest.mark.parametrize("baseline", ["torch", None])
def test_the_direction_of_a_ratio_is_said(baseline):
    assert "2.00 takes twice as long" in legend(baseline)
