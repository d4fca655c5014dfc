"""Reports of a benchmark: what is a figure, what is not, and that no page, table or summary loses or believes too much."""

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace

import pandas as pd
import pytest
from test_reports import HOSTILE, Reader
from timing_store import CASES, ENVIRONMENT, REFUSED, benchmark_run, changes, run_row, stored

import harness
import reports.svg
from harness.catalogue import load_catalogue
from harness.records import Job, Record, Status, Verdict
from harness.samples import Series, Timing
from harness.store import Store, export, load
from reports import tables
from reports.benchmark import benchmark
from reports.changes import Change, ranked, tally
from reports.junit import junit
from reports.markdown import markdown
from reports.page import page
from reports.quantities import TIMES
from reports.timing_page import FIGURES, PLOTS, bench_view

CATALOGUE = load_catalogue().by_id
needs_matplotlib = pytest.mark.skipif(bool(reports.svg.missing()), reason="plots need the extra `reports`")
TIMINGS, RECORDS = benchmark_run(80, samples=40)


def bench(timings=TIMINGS, records=RECORDS, found=(), row=None):
    return benchmark(row or run_row(), records, timings, found)


def one(case, backend, seconds=None, refused="", device="cpu", processes=2, **more):
    """A timing whose every warm call takes `seconds`."""
    series = () if seconds is None else tuple(Series("wall", "warm", n, (seconds,) * 5) for n in range(processes))
    return Timing(case, backend, device, series, refused, flops=1000, bytes=100, **more)


def judged(case, backend, status=Status.PASS, device="cpu", check="integers", **more):
    return Record(Job(case, backend, device, check), Verdict(status, "" if status is Status.PASS else "because", **more))


def frames(timings, records=()):
    made = bench(timings, records)
    return made.frame, made.verdicts


def against_a(environment=ENVIRONMENT):
    """A benchmark whose ratios are to `a`: `b` takes half and twice as long, `c` four times."""
    timings = [one("c-1", "a", 2.0), one("c-1", "b", 1.0), one("c-1", "c", 8.0), one("c-2", "a", 1.0), one("c-2", "b", 2.0)]
    row = run_row()
    return bench(timings, (), row=replace(row, info=replace(row.info, environment={**environment, "baseline": "a"})))


def test_ratios_to_a_baseline_are_in_markdown_and_on_the_page():
    made = against_a()
    assert made.baseline == "a"
    text = markdown(made.run, (), bench=made)
    assert " a time as a multiple of a's on the same case; 2.00 takes twice as long as a, 0.50 half as long" in text
    for line in ("b | 2 | 1 | 1.00", "c | 1 |  | 4.00", "best of b, c | 2 | 1 | 1.00"):
        assert f"| {line}{TIMES} |" in text
    view = bench_view(made, CATALOGUE)
    assert view.means == (("b", "2", "1", "1.00"), ("c", "1", "0", "4.00"), ("best of b, c", "2", "1", "1.00"))
    drawn = page(made.run, (), CATALOGUE, bench=made)
    assert "<h2>Ratio to a</h2>" in drawn
    assert 'href="#baseline"' in drawn


@pytest.mark.parametrize("baseline", [None, "elsewhere", 3])
def test_without_a_figure_of_the_baseline_there_is_no_table_of_it(baseline):
    row = run_row()
    row = replace(row, info=replace(row.info, environment={**ENVIRONMENT, "baseline": baseline}))
    made = bench([one("c-1", "a", 2.0), one("c-1", "b", 1.0)], (), row=row)
    assert made.baseline is None
    assert "geometric mean" not in markdown(row, (), bench=made)
    assert bench_view(made, CATALOGUE).means == ()


def test_the_page_names_each_backend_with_its_version_and_what_its_device_tells():
    held = {"torch": {"version": "9.9", "devices": [{"name": "cpu", "machine": "x", "threads": "1"}]}, "mine": {}}
    made = against_a({**ENVIRONMENT, "backends": held})
    assert dict(bench_view(made, CATALOGUE).machine)["backends"] == "torch 9.9 (threads 1); mine"


# --- tables -----------------------------------------------------------------------------------------------------


def test_the_frame_of_a_benchmark_is_that_of_the_loaded_run(tmp_path):
    run = stored(tmp_path / "r.sqlite", TIMINGS, RECORDS)
    loaded = load("last", tmp_path / "r.sqlite")
    made = bench(loaded.raw, row=replace(run_row(), id=run))
    pd.testing.assert_frame_equal(made.frame, loaded.timings)
    assert made.stand + made.refused == len(loaded.timings)


def test_the_fastest_has_ratio_1_and_a_refusal_none():
    frame, _ = frames([one("c-1", "a", 1.0), one("c-1", "b", 3.0), one("c-2", "a", 2.0), one("c-2", "b", 2.0, "no")])
    ratios = tables.ratio_to_best(frame)
    assert ratios.loc["c-1"].to_dict() == {"a": 1.0, "b": 3.0}
    assert ratios.loc["c-2", "a"] == 1.0
    assert math.isnan(ratios.loc["c-2", "b"])


def test_a_backend_on_two_devices_is_two_contenders():
    frame, _ = frames([one("c-1", "a", 1.0), one("c-1", "a", 4.0, device="gpu"), one("c-1", "b", 2.0)])
    assert tables.ratio_to_best(frame).loc["c-1"].to_dict() == {"a on cpu": 1.0, "a on gpu": 4.0, "b": 2.0}


def test_intervals_that_reach_the_fastest_are_ties():
    slow = Timing("c-1", "b", "cpu", (Series("wall", "warm", 0, (1.0, 1.2, 1.2)), Series("wall", "warm", 1, (1.3,) * 3)))
    frame, _ = frames([one("c-1", "a", 1.0), slow, one("c-1", "z", 9.0)])
    assert tables.best_ties(frame).loc["c-1"].to_dict() == {"a": True, "b": True, "z": False}


def test_every_pair_has_one_outcome():
    timings = [
        one("c-1", "figure", 1.0),
        one("c-1", "refused", 1.0, "the spread is too large"),
        one("c-1", "failed", 1.0, "FAIL: the output timed last is wrong"),
        one("c-1", "budget", None, "NOT_RUN: the budget was spent"),
        one("c-1", "declared", None, "UNSUPPORTED: groups"),
        one("c-0", "elsewhere", 1.0),
    ]
    records = [
        judged("c-1", "elsewhere", Status.UNSUPPORTED, device="-"),
        judged("c-1", "crashed", Status.CRASH),
        judged("c-1", "verified"),
        judged("c-9", "figure", Status.FAIL),
    ]
    found = tables.outcomes(*frames(timings, records))
    assert dict(zip(found["contender"][found["case"] == "c-1"], found["outcome"][found["case"] == "c-1"], strict=True)) == {
        "figure": "figure",
        "refused": "refused",
        "failed": "failed",
        "budget": "untried",
        "declared": "unsupported",
        "elsewhere": "unsupported",
        "crashed": "failed",
        "verified": "untried",
    }
    assert "c-9" not in set(found["case"])


def test_in_a_profile_a_failure_is_infinite_and_what_is_not_claimed_does_not_count():
    timings = [
        *(one("c-1", "a", 1.0), one("c-1", "b", 2.0), one("c-1", "c", 1.0)),
        *(one("c-2", "a", 3.0), one("c-2", "b", 1.0, "beyond the roof")),
        *(one("c-3", "a", 4.0), one("c-3", "b", 1.0)),
        one("c-4", "b", None, "ERROR: it raised"),
    ]
    records = [judged("c-2", "c", Status.UNSUPPORTED, device="-"), judged("c-3", "c", Status.NOT_RUN)]
    profile = tables.performance_profile(*frames(timings, records))
    held = {name: list(zip(p["tau"], p["fraction"], strict=True)) for name, p in profile.groupby("contender")}
    assert held == {
        "a": [(1.0, pytest.approx(2 / 3)), (4.0, 1.0)],
        "b": [(1.0, pytest.approx(1 / 3)), (2.0, pytest.approx(2 / 3))],
        "c": [(1.0, 1.0)],
    }
    cases = profile.groupby("contender")[["cases", "solved"]].first()
    assert cases.loc["a"].tolist() == [3, 3]
    assert cases.loc["b"].tolist() == [3, 2]
    assert cases.loc["c"].tolist() == [1, 1]


def test_a_contender_without_any_figure_is_in_the_profile_at_zero():
    profile = tables.performance_profile(*frames([one("c-1", "a", 1.0), one("c-1", "b", 1.0, "no")]))
    (row,) = profile[profile["contender"] == "b"].to_dict("records")
    assert (row["fraction"], row["cases"], row["solved"]) == (0.0, 1, 0)
    assert math.isnan(row["tau"])


def test_a_roofline_s_point_is_operations_a_byte_and_a_second():
    timings = [
        one("c-1", "a", 1e-6, details={"dtype": "f64"}),
        one("c-2", "a", 1e-6),
        one("c-3", "a", 1.0, "refused"),
        replace(one("c-4", "a", 1.0), flops=0),
    ]
    points = tables.roofline(frames(timings)[0], {"c-2": "f32"})
    assert points["case"].tolist() == ["c-1", "c-2"]
    assert points["dtype"].tolist() == ["f64", "f32"]
    assert points["intensity"].tolist() == [10.0, 10.0]
    assert points["gflops"].tolist() == pytest.approx([1.0, 1.0])


def test_the_front_is_what_nothing_beats_in_both():
    timings = [one("c-1", name, s) for name, s in (("fast", 1.0), ("exact", 2.0), ("neither", 3.0), ("twin", 1.0))]
    errors = {"fast": 5.0, "exact": 0.5, "neither": 0.5, "twin": 5.0}
    records = [judged("c-1", name, error_units=e) for name, e in errors.items()]
    points = tables.pareto(frames(timings, records)[0])
    assert dict(zip(points["contender"], points["front"], strict=True)) == {
        "fast": True, "exact": True, "neither": False, "twin": True
    }  # fmt: skip
    middle = tables.pareto_summary(points).set_index("contender")
    assert middle.loc["exact", ["ratio", "error", "on_front"]].tolist() == [2.0, 0.5, 1.0]


def test_phases_are_shares_of_the_median_that_includes_them():
    series = (Series("wall", "warm", 0, (2.0,) * 3), Series("phase:pack", "warm", 0, (0.5,)), Series("wall", "cold", 0, (3.0,)))
    timings = [Timing("c-1", "a", "cpu", (*series, Series("setup", "cold", 0, (8.0,)))), one("c-1", "b", 1.0)]
    found = tables.phases(frames(timings)[0]).set_index("contender")
    assert found.loc["a", ["pack", "other", "cold", "setup"]].tolist() == [0.25, 0.75, 1.5, 4.0]
    assert found.loc["b", ["pack", "other", "cold", "setup"]].isna().all()


def test_noise_is_relative_to_the_median():
    drifting = Series("wall", "warm", 0, (1.0, 1.0, 1.0, 1.2, 1.2, 1.2))
    timings = [Timing("c-1", "a", "cpu", (drifting, Series("wall", "warm", 1, (1.1,) * 6))), one("c-2", "a", 1.0, "no")]
    (row,) = tables.noise_of(frames(timings)[0], timings).to_dict("records")
    assert row["drift"] == pytest.approx(0.1 / 1.1)
    assert row["spread"] == pytest.approx(0.0)
    assert row["tail"] == pytest.approx(0.1 / 1.1)
    assert row["half_width"] == pytest.approx(0.1 / 1.1, rel=0.2)


def test_tables_of_nothing_are_empty():
    frame, verdicts = frames([one("c-1", "a", None, "NOT_RUN: the budget was spent")])
    assert tables.ratio_to_best(frame).empty
    assert tables.performance_profile(frame, verdicts).empty
    assert tables.pareto(frame).empty
    assert tables.pareto_summary(tables.pareto(frame)).empty
    assert tables.phases(frame).empty
    assert tables.noise_of(frame, ()).empty
    assert tables.roofline(frame).empty


@pytest.mark.parametrize(
    "function",
    ["ratio_to_best", "best_ties", "performance_profile", "roofline", "pareto", "pareto_summary", "phases", "noise_of"],
)
def test_every_table_documents_its_columns(function):
    arguments = {
        "performance_profile": frames(TIMINGS, RECORDS),
        "noise_of": (bench().frame, TIMINGS),
        "pareto_summary": (tables.pareto(bench().frame),),
    }.get(function, (bench().frame,))
    found = getattr(tables, function)(*arguments)
    if function in ("ratio_to_best", "best_ties"):
        assert found.columns.name == "contender"
    else:
        assert [c for c in found.columns if f"`{c}`" not in getattr(tables, function).__doc__] == []


# --- loading and exporting --------------------------------------------------------------------------------------


def test_load_is_found_on_first_use_and_documented(tmp_path, monkeypatch):
    code = "import sys, harness; print('pandas' in sys.modules); harness.load; print('harness.store.frames' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
    assert "load" in harness.__all__
    assert "Examples" in harness.load.__doc__
    stored(tmp_path / "r.sqlite", TIMINGS[:5], RECORDS)
    monkeypatch.setenv("CONVPROOF_STORE", str(tmp_path / "r.sqlite"))
    run = harness.load()
    assert (len(run.timings), len(run.samples) > 5) == (5, True)
    documented = type(run).timings.func.__doc__
    assert [c for c in run.timings.columns if not re.search(rf"\b{c}\b", documented)] == []


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
@pytest.mark.parametrize("table", ["verdicts", "timings", "samples"])
def test_every_table_of_a_run_is_exported(tmp_path, table, suffix):
    stored(tmp_path / "r.sqlite", TIMINGS[:6], RECORDS)
    run = load("last", tmp_path / "r.sqlite")
    file = export(run, tmp_path / f"t.{suffix}", table)
    again = pd.read_parquet(file) if suffix == "parquet" else pd.read_csv(file, keep_default_na=False, na_values=[""])
    held = getattr(run, table)
    assert list(again.columns) == list(held.columns)
    assert len(again) == len(held) > 0
    numbers = [c for c in held.columns if held[c].dtype == "float64"]
    pd.testing.assert_frame_equal(again[numbers].astype("float64"), held[numbers])


# --- the page ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def text():
    return page(run_row(), RECORDS, CATALOGUE, None, None, bench(found=changes(TIMINGS)))


def words_of(text):
    return " ".join("".join(Reader(text).words).replace("\N{NO-BREAK SPACE}", " ").split())


def test_the_verdict_line_says_how_many_figures_stand_and_what_changed(text):
    refused = sum(bool(t.refused) for t in TIMINGS)
    line = words_of(re.search(r'<p id="verdict">.*?</p>', text)[0])
    assert f"{len(TIMINGS) - refused} figures stand, {refused} were refused" in line
    assert "2 SLOWER, 1 LESS ACCURATE, 1 FASTER, 1 INCONCLUSIVE, 2 SAME" in line


def test_the_page_of_a_benchmark_has_every_part(text):
    ids = Reader(text).ids
    parts = ["machine", "cases", "changes", "ratios", "plots", "samples", "noise", "phases", "figures", "refused"]
    if reports.svg.missing():
        parts.remove("samples")
    assert [i for i in ids if i in parts] == parts
    assert len(ids) == len(set(ids))
    shown = words_of(text)
    for warning in ENVIRONMENT["warnings"]:
        assert f"Caution: {warning}" in shown
    assert "L1 32 KiB, L2 1 MiB, L3 33 MiB" in shown
    assert "540c306aaaaa on main, with uncommitted changes" in shown
    assert "f32 141, f64 70.0" in shown
    assert "3.4 % of processor time taken by the hypervisor" in shown


def test_warnings_come_before_the_first_figure(text):
    body = text.partition("<body>")[2]
    assert body.index("Caution:") < body.index("GFLOP/s")


def test_every_figure_is_in_the_table_with_its_units(text):
    (table,) = re.findall(r'<table class="numbers wide">.*?</table>', text, re.DOTALL)
    rows = [re.findall(r"<td>(.*?)</td>", row) for row in re.findall(r"<tr.*?</tr>", table)[1:]]
    rows = [row for row in rows if row]
    assert len(rows) == sum(not t.refused for t in TIMINGS)
    assert {len(row) for row in rows} == {13}
    assert all(re.fullmatch(r"[\d.]+\N{NO-BREAK SPACE}(ns|µs|ms|s)", row[2]) for row in rows)
    assert all(row[5] == "40/5" for row in rows)
    assert any("pack" in row[12] and "kernel" in row[12] for row in rows)


def test_what_has_no_figure_has_its_reason_and_its_backends(text):
    shown = words_of(text)
    assert REFUSED in shown
    assert "NOT_RUN: the budget was spent before it was reached" in shown
    assert "its kernels have 3 taps an axis" in shown


def test_the_page_of_a_benchmark_is_well_formed_and_loads_nothing(text):
    read = Reader(text)
    for _, attributes in read.elements:
        for name in ("src", "href", "action", "srcset", "data", "xlink:href"):
            assert not re.match(r"\s*(https?:|//|data:)", attributes.get(name) or "")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest|https?://", text)


@needs_matplotlib
def test_every_plot_is_labelled_has_units_and_follows_the_page_s_colours(text):
    drawn = re.findall(r"<svg [^>]*class=\"drawn\".*?</svg>", text, re.DOTALL)
    assert len(drawn) >= 6
    for svg in drawn:
        named = re.search(r'aria-labelledby="(\S+) (\S+)"', svg)
        assert f'<title id="{named[1]}">' in svg
        assert f'<desc id="{named[2]}">' in svg
        assert len(re.findall(r"<text", svg)) >= 4
        assert not re.search(r"#[0-9a-f]{6}", svg), "a colour that does not follow the page"
        assert "font-family" not in svg
        sizes = [float(s) for s in re.findall(r"font-size:([\d.]+)px", svg)]
        assert min(sizes, default=0) >= 9
    assert all(unit in text for unit in ("FLOP/byte", "GFLOP/s", "units of u·A", "time of a call, µs", "% of those claimed"))


@needs_matplotlib
def test_the_same_run_gives_the_same_page(text):
    assert page(run_row(), RECORDS, CATALOGUE, None, None, bench(found=changes(TIMINGS))) == text


@needs_matplotlib
def test_the_case_whose_samples_are_drawn_is_the_noisiest_or_the_named_one(text):
    noise = tables.noise_of(bench().frame, TIMINGS)
    worst = noise.sort_values("half_width")["case"].iloc[-1]
    assert f'<strong class="name">{worst}</strong>' in text
    other = next(t.case for t in TIMINGS if t.case != worst and not t.refused)
    assert bench_view(bench(), CATALOGUE, other).sampled == other


def test_without_matplotlib_the_page_says_what_is_left_out_and_how_to_get_it(monkeypatch):
    monkeypatch.setattr(reports.svg, "find_spec", lambda name: None)
    text = page(run_row(), RECORDS, CATALOGUE, None, None, bench())
    assert all(name in text for name in PLOTS)
    assert "pip install &#39;convproof[reports]&#39;" in text
    assert "<table class=" in text
    assert 'class="drawn"' not in text


def test_a_page_without_timings_is_what_it_was():
    text = page(run_row(), RECORDS, CATALOGUE)
    for word in ("Ratio to the fastest", "Machine</h2>", "figures stand", "table.heat"):
        assert word not in text
    assert benchmark(run_row(), RECORDS, ()) is None


def test_a_run_in_which_nothing_was_timed_has_a_page():
    timings = [one("c-1", "a", None, "NOT_RUN: the budget was spent"), one("c-2", "a", None, "NOT_RUN: the budget was spent")]
    row = replace(run_row(), info=replace(run_row().info, environment={}))
    shown = words_of(page(row, [], {}, None, None, bench(timings, [], row=row)))
    assert "no figures stand, 2 were refused" in shown
    assert "No figure stands." in shown


def test_one_figure_of_one_call_has_a_page():
    timings = [Timing("c-1", "a", "cpu", (Series("wall", "warm", 0, (1e-9,)),))]
    assert "1 figure stands" in page(run_row(), [], {}, None, None, bench(timings, []))


def test_hostile_names_are_text_everywhere(tmp_path):
    timings, records = [], []
    for i, name in enumerate(HOSTILE[:9]):
        device = (name * 20)[:300]
        for case in (f"{name}-{i}", "plain-1"):
            timings.append(replace(TIMINGS[i], case=case, backend=name, device=device, refused=name if i == 3 else ""))
            records.append(judged(case, name, device=device, error_units=1.0 + i))
    environment = {
        **ENVIRONMENT,
        "warnings": list(HOSTILE[:9]),
        "roofs": {(HOSTILE[0] * 20)[:300]: ENVIRONMENT["roofs"]["cpu"]},
    }
    row = replace(run_row(), info=replace(run_row().info, environment=environment))
    with Store.open(tmp_path / "r.sqlite") as store:  # which escapes what UTF-8 cannot hold
        run = stored(tmp_path / "r.sqlite", timings, records, row)
        timings, records = store.timings(run), store.records(run)
    found = [Change(t.case, t.backend, t.device, "time", "SLOWER", 2.0, 1.5, 2.5, 1.0, 2.0) for t in timings]
    made = bench(timings, records, found, row)
    text = page(row, records, {}, None, None, made)
    read = Reader(text)
    tags = [t for t, _ in read.elements]
    assert tags.count("script") == 1
    assert tags.count("h1") == 1
    assert not any(name.startswith("on") for _, a in read.elements for name in a)
    assert "{{ 7 * 7 }}" in "".join(read.words)
    assert len(read.ids) == len(set(read.ids))
    ET.fromstring(junit(row, records, bench=made).encode())
    outside = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", markdown(row, records, bench=made), flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"<(script|b|img)\b", outside)
    for block in re.findall(r"(?:^\|.*\|$\n)+", outside, re.MULTILINE):
        assert len({line.count("|") for line in block.splitlines()}) == 1


@pytest.mark.parametrize("checks", [{"contract", "integers", "zero_mean", "timed"}, {"integers", "zero_mean", "timed"}])
def test_a_page_of_five_thousand_figures_keeps_three_megabytes_and_counts_what_it_leaves_out(checks):
    timings, records = benchmark_run(5_000, samples=200)
    records = [r for r in records if r.job.check in checks]
    assert len({(t.case, t.backend) for t in timings}) == 5_000
    made = bench(timings, records, changes(timings))
    text = page(run_row(), records, CATALOGUE, None, None, made)
    assert len(text.encode()) < 3_000_000
    assert f"{made.stand - FIGURES} more are not listed" in text
    assert f"{made.stand} figures stand" in text


# --- Markdown and JUnit -----------------------------------------------------------------------------------------


def test_markdown_has_changes_backends_longest_figures_and_refusals():
    text = markdown(run_row(), RECORDS, bench=bench(found=changes(TIMINGS)))
    assert "### Timings" in text
    assert text.index("Caution") < text.index("| SLOWER |")
    assert "| SLOWER |" in text
    assert "| SAME |" not in text
    assert re.search(r"\| opencl-direct \| \d+ \| \d* \| \d* \| [\d.]+\u00d7 \|", text)
    assert "The longest 20 of" in text
    assert "budget was spent" in text
    assert markdown(run_row(), RECORDS) == markdown(run_row(), RECORDS, bench=None)
    assert "### Timings" not in markdown(run_row(), RECORDS)


@pytest.mark.parametrize("limit", [900_000, 20_000])
def test_markdown_of_many_figures_keeps_its_limit_and_counts_the_rest(limit):
    timings = [one(f"edge-{'|' * 90}-{i}", f"b{i % 3}", 1e-3 * i + 1e-6, f"reason {i}" * (i % 2)) for i in range(3000)]
    found = [Change(t.case, t.backend, t.device, "time", "SLOWER", 2.0, 1.9, 2.1, 1.0, 2.0) for t in timings]
    text = markdown(run_row(), [], bench=bench(timings, [], found), limit=limit)
    assert len(text.encode()) <= limit
    shown = text.count("| SLOWER |")
    assert 1 <= shown <= 100
    assert f"| {3000 - shown} more |" in text
    assert text.count("<details>") == text.count("</details>")


def test_junit_has_a_test_a_figure_with_its_median_as_time():
    made = bench(found=changes(TIMINGS))
    root = ET.fromstring(junit(run_row(), RECORDS, bench=made).encode())
    tests = {(t.get("classname").partition(".")[0], t.get("name")): t for t in root.iter("testcase")}
    figures = {key: t for key, t in tests.items() if key[1].endswith("[figure]")}
    assert len(figures) == len(TIMINGS)
    row = next(r for r in made.rows if r["seconds"] > 0)
    test = figures[row["backend"], f"{row['case']} [figure]"]
    assert float(test.get("time")) == pytest.approx(row["seconds"], abs=1e-9)
    assert {p.get("name"): p.get("value") for p in test.iter("property")}["low"] == repr(row["low"])
    assert sum(t.find("skipped") is not None for t in figures.values()) == made.refused
    assert {t.find("failure").get("type") for t in figures.values() if t.find("failure") is not None} == {
        "SLOWER",
        "LESS ACCURATE",
    }
    for node in (root, *root.iter("testsuite")):
        assert int(node.get("tests")) == len(list(node.iter("testcase")))
        for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(node.get(name)) == len(list(node.iter(tag)))
        assert float(node.get("time")) == pytest.approx(sum(float(t.get("time")) for t in node.iter("testcase")), abs=1e-5)


def test_markdown_and_junit_of_a_benchmark_need_no_pandas(tmp_path):
    stored(tmp_path / "r.sqlite", TIMINGS[:6], RECORDS)
    code = """
import sys
sys.modules["pandas"] = None
from harness.store import Store
from reports.benchmark import benchmark
from reports.junit import junit
from reports.markdown import markdown
with Store.open(sys.argv[1]) as s:
    row, records = s.info("last"), s.records(s.resolve("last"))
    made = benchmark(row, records, s.timings(row.id))
print(len(markdown(row, records, bench=made)) > 500, len(junit(row, records, bench=made)) > 500)
try:
    made.frame
except ImportError as e:
    print(e)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "r.sqlite"], capture_output=True, text=True, check=True)
    assert done.stdout == "True True\ntables of timings need pandas: pip install 'convproof[reports]'\n"


# --- changes ----------------------------------------------------------------------------------------------------


def test_changes_are_ranked_and_counted_worst_first():
    found = changes(TIMINGS)
    assert [c.ratio for c in ranked(found)][:3] == [3.9, 1.31, 4.0]
    assert tally(found).startswith("2 SLOWER, 1 LESS ACCURATE")
    with pytest.raises(ValueError, match="a change is one of WRONG, SLOWER"):
        replace(found[0], verdict="WORSE")
    with pytest.raises(ValueError, match="of time, error, instructions"):
        replace(found[0], quantity="speed")


def test_changes_alone_make_a_page_and_unknown_ratios_are_empty():
    wrong = Change("c-1", "a", "cpu", "time", "WRONG", *[math.nan] * 5, note="the output of the second side is wrong")
    counted = Change("c-2", "a", "cpu", "instructions", "SLOWER", 1.5, 1.5, 1.5, 2e6, 3e6)
    made = bench((), [], [counted, wrong])
    shown = words_of(page(run_row(), [], {}, None, None, made))
    assert "1 WRONG, 1 SLOWER" in shown
    assert shown.index("the output of the second side is wrong") < shown.index("2.00e+06")
    assert "nan" not in shown.lower()
    text = markdown(run_row(), [], bench=made)
    assert "| WRONG | c-1 | a |  |  |  |  |" in text
    assert ET.fromstring(junit(run_row(), [], bench=made).encode()) is not None


# --- the command ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "runs.sqlite"
    stored(path, TIMINGS, RECORDS)
    return path


def report(store, *arguments):
    command = [sys.executable, "-m", "harness.cli", "report", str(store), *arguments]
    return subprocess.run(command, cwd=store.parent, capture_output=True, text=True, timeout=300, check=False)


def test_report_writes_the_timings_of_a_stored_run(store):
    case = next(t.case for t in TIMINGS if not t.refused)
    done = report(store, "--html", "site", "--markdown", "m.md", "--junit", "j.xml", "--samples", case)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    text = (store.parent / "site/index.html").read_text()
    assert "Ratio to the fastest" in text
    assert reports.svg.missing() or f'<strong class="name">{case}</strong>' in text
    assert "### Timings" in (store.parent / "m.md").read_text()
    assert "[figure]" in (store.parent / "j.xml").read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--samples", "x"), "--samples is drawn on the page: name its folder with --html"),
        (("--html", "site", "--samples", "perf-nosuch"), "holds no samples of that case; it has perf-"),
    ],
)
def test_a_case_whose_samples_cannot_be_drawn_is_said(store, arguments, words):
    done = report(store, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("table", ["timings", "samples"])
def test_the_command_exports_figures_and_samples(store, table):
    with Store.open(store) as opened:
        held = opened.timings(opened.resolve("last"))
    command = [sys.executable, "-m", "harness.cli", "runs", "export", str(store), f"{table}.csv", "--table", table]
    done = subprocess.run(command, cwd=store.parent, capture_output=True, text=True, timeout=300, check=True)
    rows = len(pd.read_csv(store.parent / f"{table}.csv"))
    assert rows == (len(held) if table == "timings" else sum(len(s.seconds) for t in held for s in t.series))
    assert done.stderr.startswith(f"{rows} rows of ")


def test_the_fabricated_run_holds_what_reports_are_to_show():
    assert {c.spec.in_dtype for c in CASES if c.id in {t.case for t in TIMINGS}} >= {"f32", "f64"}
    assert any(t.of("device") for t in TIMINGS)
    assert {t.refused.partition(":")[0] for t in TIMINGS} >= {"", "FAIL", "NOT_RUN"}
    assert any(r.verdict.status is Status.UNSUPPORTED for r in RECORDS)
