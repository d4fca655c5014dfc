"""Reports: nothing is lost, nothing is believed, nothing grows without limit."""

import re
import xml.etree.ElementTree as ET
from collections import Counter
from html.parser import HTMLParser
from time import perf_counter

import numpy as np
import pytest

from harness.backend import AlgorithmClass, Device
from harness.catalogue import load_catalogue
from harness.data import draw
from harness.oracle import reference
from harness.records import BAD, Job, Record, Status, Verdict
from harness.spec import ConvSpec
from harness.store import RunInfo, RunRow
from harness.text import writable
from reports.digest import SEVERITY, digest, worst
from reports.junit import junit
from reports.markdown import inline, markdown
from reports.page import LETTER, LISTED, page
from reports.picture import EXACT, NOT_FINITE, PALETTE, picture
from reports.raster import png

CATALOGUE = load_catalogue().by_id
CASES = [c for c in CATALOGUE.values() if c.spec is not None]
CHECKS = ("contract", "integers", "impulses", "zero_mean", "equivariance")
HOSTILE = (
    "<script>alert(1)</script>",
    "]]> & \"quoted\" 'twice'",
    "NUL \0 and BEL \a",
    "\x1b[31mred\x1b[0m \x1b]8;;http://example.org\x07link",
    "surrogate \ud800, noncharacter \uffff, override \u202e",
    "| pipe ` tick ``` fence\n```\n## heading <b>",
    "@everyone $x$ :smile: [a](http://example.org) ![i](x)",
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }} {% raise %}",
    "m" * 1_000_000,
)
CPU = Device("cpu")
VOID = {"meta", "br", "input", "img", "link", "hr"}


def run_row(exit_code=1, **info):
    known = {
        "seed": 7,
        "command": ("convproof", "verify", "smoke"),
        "version": "0.1",
        "selection": ("smoke",),
        "started": "2026-11-22T13:33:01Z",
        "environment": {"machine": {"processor": "a <b> | c"}, "packages": {"numpy": "2"}},
    }
    return RunRow("20261122-133301-5f2a", RunInfo(**known | info), exit_code=exit_code, seconds=1.5)


def record(status=Status.PASS, message="", case="edge-a-1d", backend="naive", device="cpu", check="integers", **more):
    return Record(Job(case, backend, device, check), Verdict(status, message, **more), seconds=0.25)


def one_of_each():
    """A record a status, each with a message of its own but PASS."""
    return [record(s, "" if s is Status.PASS else f"because of {s.value.lower()}", check=s.value.lower()) for s in Status]


def hostile():
    return [record(s, text, case=f"edge-{i}", check=s.value) for i, text in enumerate(HOSTILE) for s in Status] + [
        record(
            Status.FAIL, "m", case=text[:200], backend=text[:200], device=text[:200], check=text[:200], details={"log": text}
        )
        for text in HOSTILE
    ]


def many(rows, backends=4):
    """So many records of the catalogue's cases, some of each kind."""
    kinds = [Status.PASS] * 14 + [Status.UNSUPPORTED] * 4 + [Status.FAIL, Status.ERROR]
    found = []
    for i in range(rows):
        check, rest = CHECKS[i % len(CHECKS)], i // len(CHECKS)
        backend, n = f"backend-{rest % backends}", rest // backends
        case = CASES[n % len(CASES)].id + ("" if n < len(CASES) else f"-{n}")
        status = kinds[(i * 7919 + rest) % len(kinds)]
        bound = 0.37 * (i % 13) if status is Status.PASS else 1e4 + i
        figures = {"error_bound": bound, "error_units": 3.1 * bound} if status in (Status.PASS, Status.FAIL) else {}
        text = {Status.FAIL: f"{i} of {i + 9} outputs are out of bound; worst at [0, 1, {i}]", Status.UNSUPPORTED: "groups"}
        found.append(record(status, text.get(status, ""), case, backend, check=check, **figures))
    return found


def repeat(job):
    return f"convproof verify {job.case} --backend {job.backend} --check {job.check} --seed 7"


# --- what they share --------------------------------------------------------------------------------------------


def test_severity_ranks_every_status_and_the_bad_ones_first():
    assert set(SEVERITY) == set(Status)
    assert set(SEVERITY[: len(BAD)]) == BAD
    assert worst(Status) is Status.FAIL


def test_a_run_without_exit_code_and_command_gets_the_code_of_its_records():
    assert digest(run_row(None, command=()), [record()]).outcome == "PASS"
    assert digest(run_row(None, command=()), [record(Status.CRASH)]).outcome == "FAIL"
    assert digest(run_row(None), [record()]).outcome == "UNFINISHED"


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_writable_text_is_utf8_xml_and_short(text):
    shown = writable(text, 100)
    assert len(shown) < 160
    shown.encode()
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff\uffff]", shown)


# --- JUnit ------------------------------------------------------------------------------------------------------


def parsed(records, **run):
    return ET.fromstring(junit(run_row(**run), records, repeat).encode())


def test_junit_says_failure_error_and_skipped_as_the_statuses_mean():
    tests = {t.get("name"): [c.tag for c in t if c.tag != "properties"] for t in parsed(one_of_each()).iter("testcase")}
    kinds = {s: tests[f"edge-a-1d [{s.value.lower()}]"] for s in Status}
    assert [s for s, k in kinds.items() if not k] == [Status.PASS]
    assert {s for s, k in kinds.items() if k == ["failure"]} == {Status.FAIL, Status.WEAK, Status.XPASS}
    assert {s for s, k in kinds.items() if k == ["error"]} == {Status.ERROR, Status.CRASH, Status.TIMEOUT, Status.OOM}
    skipped = {Status.UNSUPPORTED, Status.UNAVAILABLE, Status.NOT_RUN, Status.XFAIL}
    assert {s for s, k in kinds.items() if k == ["skipped"]} == skipped


def test_junit_gives_a_skipped_test_its_reason():
    (skipped,) = parsed([record(Status.UNSUPPORTED, "groups is not supported")]).iter("skipped")
    assert skipped.get("message") == "UNSUPPORTED: groups is not supported"


def test_junit_counts_agree_with_its_elements():
    root = parsed(many(2_000))
    for node in (root, *root.iter("testsuite")):
        assert int(node.get("tests")) == len(list(node.iter("testcase")))
        for tag, name in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
            assert int(node.get(name)) == len(list(node.iter(tag)))
        assert float(node.get("time")) == pytest.approx(sum(float(t.get("time")) for t in node.iter("testcase")))


def test_junit_has_a_suite_a_backend_and_device_with_seed_run_and_environment():
    records = [record(device="cpu"), record(device="gpu"), record(backend="other"), record(Status.UNAVAILABLE, device="-")]
    suites = {s.get("name"): s for s in parsed(records).iter("testsuite")}
    assert set(suites) == {"naive on cpu", "naive on gpu", "other on cpu", "naive"}
    properties = {p.get("name"): p.get("value") for p in suites["naive on gpu"].find("properties")}
    assert properties["seed"] == "7"
    assert properties["run"] == "20261122-133301-5f2a"
    assert properties["environment.machine.processor"] == "a <b> | c"


def test_junit_tells_the_tests_of_two_devices_apart():
    tests = [(t.get("classname"), t.get("name")) for t in parsed([record(device="cpu"), record(device="gpu")]).iter("testcase")]
    assert tests == [("naive.edge", "edge-a-1d [integers] on cpu"), ("naive.edge", "edge-a-1d [integers] on gpu")]


def test_junit_has_figures_as_properties_and_the_repeat_line_in_the_failure():
    root = parsed([record(Status.FAIL, "wrong", error_units=2.5, error_bound=float("inf"), worst_index=(0, 1))])
    (test,) = root.iter("testcase")
    assert {p.get("name"): p.get("value") for p in test.find("properties")} == {"error_units": "2.5", "error_bound": "inf"}
    assert "repeat: convproof verify edge-a-1d --backend naive --check integers --seed 7" in test.find("failure").text
    assert "worst at [0, 1]" in test.find("failure").text


def test_junit_survives_hostile_text_and_stays_small():
    text = junit(run_row(), hostile(), repeat)
    root = ET.fromstring(text.encode())
    assert len(list(root.iter("testcase"))) == len(hostile())
    assert len(text) < 2_000_000
    assert any("<script>alert(1)</script>" in f.text for f in root.iter("failure"))


# --- Markdown ---------------------------------------------------------------------------------------------------


def test_markdown_has_verdict_table_failures_reasons_and_run():
    text = markdown(run_row(), one_of_each(), repeat)
    assert text.startswith("## Convproof: FAIL\n")
    for status in Status:
        assert status in text
    assert "$ convproof verify edge-a-1d --backend naive --check" in text
    assert "because of unsupported" in text
    assert "seed 7" in text
    assert "- environment" not in text
    assert "machine.processor: a &#60;b&#62; &#124; c" in text


def test_markdown_s_tables_keep_their_columns_whatever_the_text():
    text = markdown(run_row(), hostile(), repeat)
    outside = re.sub(r"^(`{3,})\w+\n.*?\n\1$", "", text, flags=re.MULTILINE | re.DOTALL)
    for block in re.findall(r"(?:^\|.*\|$\n)+", outside, re.MULTILINE):
        lines = block.splitlines()
        assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "<script>" not in outside
    assert "<b>" not in outside
    assert set(re.findall(r"<(\w+)", outside)) == {"details", "summary"}


def test_markdown_s_fences_are_longer_than_any_inside():
    (block,) = re.findall(r"^(`+)text\n", markdown(run_row(), [record(Status.FAIL, "a\n````\nb")]), re.MULTILINE)
    assert len(block) == 5


def test_inline_text_holds_no_markup():
    for text in HOSTILE:
        assert not re.search(r"[\\`*_\[\]<>|@$!\n]", inline(text, 100))


@pytest.mark.parametrize("limit", [900_000, 60_000])
def test_markdown_of_a_hundred_thousand_records_keeps_the_limit_and_says_what_it_left_out(limit):
    records = [record(Status.FAIL, f"message {i} " + "é" * 40, case=f"edge-{i}", backend=f"b{i % 3}") for i in range(100_000)]
    start = perf_counter()
    text = markdown(run_row(), records, repeat, limit=limit)
    assert perf_counter() - start < 20
    assert limit * 0.6 < len(text.encode()) <= limit
    shown = len(re.findall(r"^\*\*FAIL\*\*", text, re.MULTILINE))
    left = sum(map(int, re.findall(r"and (\d+) more bad verdicts", text)))
    assert shown + left == 100_000
    assert text.count("<details>") == text.count("</details>")


def test_markdown_of_many_backends_and_reasons_keeps_the_limit():
    records = [record(Status.UNSUPPORTED, f"{i} " + "|" * 900, backend=f"b{i}" * 30, device="-") for i in range(3000)]
    assert len(markdown(run_row(3), records, limit=300_000).encode()) <= 300_000


# --- the page ---------------------------------------------------------------------------------------------------


class Reader(HTMLParser):
    """Checks that every element is closed in order, and keeps what is asked about."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def ids(self):
        return [a["id"] for _, a in self.elements if "id" in a]


def test_the_page_is_well_formed_and_loads_nothing():
    text = page(run_row(), many(500), CATALOGUE, repeat)
    read = Reader(text)
    for _tag, attributes in read.elements:
        for name in ("src", "href", "action", "srcset", "data"):
            assert not re.match(r"\s*(https?:|//)", attributes.get(name) or "")
    assert not re.search(r"@import|url\(|fetch\(|XMLHttpRequest", text)
    policy = next(a["content"] for t, a in read.elements if t == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_the_page_shows_every_status_with_a_letter_and_its_word():
    read = Reader(page(run_row(), one_of_each(), {}, repeat))
    text = "".join(read.words)
    for status in Status:
        assert status in text
        assert status == Status.PASS or f"because of {status.value.lower()}" in text
    assert len(set(LETTER.values())) == len(Status)
    cells = {a["title"] for t, a in read.elements if t == "span" and "b" in (a.get("class") or "").split() and a.get("title")}
    assert any(title.startswith("naive: 1 FAIL") for title in cells)


def test_the_page_has_a_line_a_case_grouped_by_family_with_its_facts():
    cases = list(CATALOGUE.values())[:30]
    records = [record(case=c.id, check=k) for c in cases for k in CHECKS]
    read = Reader(page(run_row(0), records, CATALOGUE))
    assert [i for i in read.ids if i.startswith("case-")] == [f"case-{c.id}" for c in cases]
    text = "".join(read.words)
    assert all(c.why in text and str(c.spec) in text for c in cases)


def test_the_page_says_when_a_case_has_been_edited_since():
    case = CASES[0]
    records = [record(case=case.id)]
    edited = [Record(records[0].job, records[0].verdict, digest="0000")]
    assert "edited since this run" in page(run_row(0), edited, CATALOGUE)
    same = [Record(records[0].job, records[0].verdict, digest=case.version)]
    assert "edited since this run" not in page(run_row(0), same, CATALOGUE)


def test_the_page_survives_hostile_text():
    text = page(run_row(), hostile(), {}, lambda job: job.case)
    read = Reader(text)
    assert [t for t, _ in read.elements].count("script") == 1
    assert not any(name.startswith("on") for _, a in read.elements for name in a)
    assert "{{ 7 * 7 }}" in "".join(read.words)
    assert len(text.encode()) < 3_000_000


def test_a_run_without_records_or_failures_has_a_page():
    assert "NOTHING VERIFIED" in page(run_row(3), [], {})
    assert "What is wrong" not in page(run_row(0), [record()], {})


@pytest.mark.parametrize("bad", [1, 5_500])
def test_the_page_of_more_cases_lists_some_and_counts_the_rest(bad):
    records = [record(case=f"edge-{i}") for i in range(6_000)]
    records += [record(Status.FAIL, "wrong", case=f"edge-late-{i}") for i in range(bad)]
    text = page(run_row(), records, {})
    good_left, bad_left = 6_000 - LISTED, max(0, bad - LISTED)
    assert text.count('<details class="case"') == LISTED + min(bad, LISTED)
    assert f"{6_000 + bad} cases" in text
    assert f"{good_left + bad_left} more cases are not listed, {bad_left or 'none'} of them bad" in text
    assert 'id="case-edge-late-0"' in text
    assert f"{bad} FAIL" in text


def test_the_page_of_five_thousand_rows_is_made_in_five_seconds_and_three_megabytes():
    records = many(5_000)
    start = perf_counter()
    text = page(run_row(), records, CATALOGUE, repeat)
    assert perf_counter() - start < 5
    assert len(text.encode()) < 3_000_000
    shown = Counter(re.findall(r'<tr[^>]*><td>[^<]*(?:<span[^>]*>[^<]*</span>)?</td><td>([^<]*)</td><td><span class="b', text))
    assert sum(n * len(checks.split(", ")) for checks, n in shown.items()) >= 5_000


# --- pictures ---------------------------------------------------------------------------------------------------


def drawn(spec, change, verdict=None, data="integers"):
    ops = draw(data, spec, "edge-a-2d", 7)
    out = reference(spec, ops).hi.astype(np.float32)
    change(out)
    return picture(spec, AlgorithmClass("direct"), CPU, verdict or Verdict(Status.FAIL), ops, out)


SPEC = ConvSpec(op="conv", in_size=(9, 8), kernel_size=(3, 2), in_channels=2, out_channels=3)


def test_a_picture_counts_what_is_wrong_and_what_is_not_finite():
    def change(out):
        out[0, 1, 2, :] += 1
        out[0, 2, 0, 0] = np.nan

    made = drawn(SPEC, change)
    assert (made.wrong, made.not_finite, made.size) == (8, 1, 3 * 7 * 7)
    assert (made.low, made.high, made.bounded) == (1.0, 1.0, False)
    assert (made.space.rows, made.space.columns, made.channels.columns) == (7, 7, 3)


def test_a_right_output_has_no_picture():
    assert drawn(SPEC, lambda out: None) is None


def test_errors_are_in_units_of_the_bound_that_found_them():
    ops = draw("zero_mean", SPEC, "edge-a-2d", 7)
    from harness.checks.compare import compare
    from harness.oracle import tolerance

    ref = reference(SPEC, ops)
    out = ref.hi.astype(np.float32)
    out[0, 2, 3, 4] *= 1.01
    verdict = compare(SPEC, out, ops, ref, tolerance(SPEC, AlgorithmClass("direct"), CPU, "zero-mean", ops, ref))
    made = picture(SPEC, AlgorithmClass("direct"), CPU, verdict, ops, out)
    assert made.bounded
    assert made.high == pytest.approx(verdict.error_bound)
    assert made.space.mark == (3, 4)
    assert made.channels.mark == (0, 2)


def test_a_mark_of_another_output_is_not_drawn():
    verdict = Verdict(Status.FAIL, worst_index=(0, 1, 2, 0), got=123.5)
    assert drawn(SPEC, lambda out: out.__setitem__((0, 1, 2, 0), 9.0), verdict).space.mark is None


def test_a_large_output_is_drawn_in_blocks():
    spec = ConvSpec(op="conv", in_size=(1, 700), kernel_size=(1, 1))
    made = drawn(spec, lambda out: out.__setitem__((0, 0, 0, 699), np.inf))
    assert (made.space.columns, made.space.block) == (234, "1 x 3")


def test_a_png_is_what_browsers_read():
    image = png(np.array([[EXACT, NOT_FINITE]], np.uint8), PALETTE)
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert image[16:24] == b"\0\0\0\2\0\0\0\1"
    assert len(PALETTE) == 255


def test_a_page_holds_the_picture_of_its_failure():
    made = drawn(SPEC, lambda out: out.__setitem__((0, 1, 2, 0), 9e9))
    failed = record(Status.FAIL, "wrong")
    read = Reader(page(run_row(), [failed], {}, repeat, {failed.job: made}))
    assert sum(t == "image" and a["href"].startswith("data:image/png;base64,") for t, a in read.elements) == 2
