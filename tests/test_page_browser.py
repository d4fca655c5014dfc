"""The page in a real browser: what it shows without a network, with and without its script."""

import re
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest
import timing_store
from chromium import BROWSER, chromium, needs_browser
from test_reports import CATALOGUE, CHECKS, HOSTILE, hostile, many, record, repeat, run_row

import reports.svg
from harness.records import Job, Record, Status
from reports.benchmark import benchmark
from reports.page import page

pytestmark = needs_browser


class Dom(HTMLParser):
    """Elements by class, and the text of the verdict line."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.verdict, self.inside = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.elements.append((tag, found))
        self.inside = "verdict" if found.get("id") == "verdict" else self.inside

    def handle_endtag(self, tag):
        self.inside = None if tag == "p" else self.inside

    def handle_data(self, data):
        self.verdict += data if self.inside else ""

    def classed(self, tag, name):
        return [a for t, a in self.elements if t == tag and name in (a.get("class") or "").split()]


def browse(tmp_path, text, fragment=""):
    file = tmp_path / "page.html"
    file.write_text(text, encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=2000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", f"{file.as_uri()}{fragment}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return Dom(done.stdout)


def test_a_browser_shows_the_verdict_line_and_a_line_a_case(tmp_path):
    records = many(500)
    dom = browse(tmp_path, page(run_row(), records, CATALOGUE, repeat))
    assert re.match(r"\d+ FAIL, \d+ ERROR, \d+ UNSUPPORTED, \d+ PASS in 1.5 s", dom.verdict)
    assert len(dom.classed("details", "case")) == len({r.job.case for r in records})


def test_the_script_unhides_the_filter_and_opens_the_case_of_an_address(tmp_path):
    records = [record(case=name, check=check) for name in list(CATALOGUE)[:40] for check in CHECKS]
    wanted = records[-1].job.case
    dom = browse(tmp_path, page(run_row(0), records, CATALOGUE), f"#case-{wanted}")
    (tools,) = dom.classed("p", "tools")
    assert "hidden" not in tools
    assert [a["id"] for a in dom.classed("details", "case") if "open" in a] == [f"case-{wanted}"]


def test_without_the_script_every_line_is_there(tmp_path):
    records = [record(Status.FAIL, "wrong", case=name) for name in list(CATALOGUE)[:40]]
    text = page(run_row(), records, CATALOGUE, repeat)
    dom = browse(tmp_path, re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    (tools,) = dom.classed("p", "tools")
    assert "hidden" in tools
    assert len(dom.classed("details", "case")) == 40


def test_hostile_text_runs_nothing_and_makes_no_element(tmp_path):
    marked = [record(Status.FAIL, "<img src=x onerror=\"document.title='owned'\"><h1>owned</h1>")]
    dom = browse(tmp_path, page(run_row(), [*hostile(), *marked], {}, lambda job: job.case))
    assert len(dom.classed("p", "tools")) == 1
    assert not [t for t, _ in dom.elements if t == "img"]
    assert [t for t, _ in dom.elements].count("h1") == 1
    assert [t for t, _ in dom.elements].count("script") == 1


# --- a benchmark's page, by the browser's debugging protocol ------------------------------------------------------


def benchmark_page(hostile_names=False):
    timings, records = timing_store.benchmark_run(80, samples=60)
    if hostile_names:
        names = {t.backend: text[:400] for t, text in zip({t.backend: t for t in timings}.values(), HOSTILE[:3], strict=False)}
        names |= {timings[-1].backend: "n" * 300}
        devices = {t.device: ("<b>" + t.device) * 20 for t in timings}
        timings = [replace(t, backend=names.get(t.backend, t.backend), device=devices[t.device][:300]) for t in timings]
        jobs = [(r.job, names.get(r.job.backend, r.job.backend)) for r in records]
        kept = [Job(j.case, name, devices.get(j.device, j.device)[:300], j.check) for j, name in jobs]
        records = [Record(j, r.verdict, digest=r.digest) for j, r in zip(kept, records, strict=True)]
    row = timing_store.run_row()
    made = benchmark(row, records, timings, timing_store.changes(timings))
    return page(row, records, CATALOGUE, repeat, None, made)


@pytest.fixture(scope="module", params=[False, True], ids=["plain names", "hostile names"])
def tab(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("browser")
    file = folder / "page.html"
    file.write_text(benchmark_page(request.param), encoding="utf-8")
    with chromium(folder) as opened:
        yield opened.open(file)


def test_a_benchmark_s_page_asks_for_nothing_and_complains_of_nothing(tab):
    tab.show(1280)
    assert [url for url in tab.requests if not url.startswith("file:")] == []
    assert len(tab.requests) == 1
    assert tab.complaints == []


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_a_benchmark_s_page_is_no_wider_than_the_screen(tab, width):
    tab.show(width)
    tab.value("for (const d of document.querySelectorAll('details')) d.open = true")
    assert tab.value("document.documentElement.scrollWidth") == width
    tab.value("for (const d of document.querySelectorAll('details')) d.open = false")


def test_a_benchmark_s_page_follows_light_and_dark(tab):
    seen = {}
    for dark in (False, True):
        tab.show(1280, dark=dark)
        ground = "getComputedStyle(document.body).backgroundColor"
        words = "getComputedStyle(document.querySelector('svg.drawn text') || document.body)"
        seen[dark] = tab.value(ground), tab.value(f"{words}.{'fill' if not reports.svg.missing() else 'color'}")
    assert seen[False] == ("rgb(255, 255, 255)", "rgb(27, 31, 36)")
    assert seen[True] == ("rgb(20, 24, 29)", "rgb(226, 231, 236)")


@pytest.mark.skipif(bool(reports.svg.missing()), reason="plots need the extra `reports`")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_text_of_a_plot_is_legible_inside_it_and_overlaps_no_other(tab, width):
    tab.show(width)
    found = tab.value("""
        [...document.querySelectorAll('svg.drawn')].map(svg => {
            const outer = svg.getBoundingClientRect();
            const texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
            const over = [];
            for (const [i, [a, p]] of texts.entries()) {
                const across = p.left < outer.left - 1 || p.right > outer.right + 1;
                if (across || p.top < outer.top - 1 || p.bottom > outer.bottom + 1)
                    over.push(a + ' sticks out');
                for (const [b, q] of texts.slice(i + 1))
                    if (p.left < q.right - 1 && q.left < p.right - 1 && p.top < q.bottom - 2 && q.top < p.bottom - 2)
                        over.push(a + ' over ' + b);
            }
            const least = Math.min(...texts.map(([, r]) => Math.min(r.width, r.height)));
            return [svg.querySelector('title').textContent, least, over];
        })
    """)
    assert len(found) >= 6
    assert {title: over for title, _, over in found if over} == {}
    assert min(least for _, least, _ in found) > 4


def test_a_benchmark_s_page_prints_dark_on_light(tab):
    tab.show(1280, dark=True, media="print")
    assert tab.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.pdf().startswith(b"%PDF-")


def test_hostile_names_make_no_element_in_a_benchmark_s_page(tab):
    assert tab.value("document.querySelectorAll('h1').length") == 1
    assert tab.value("document.querySelectorAll('script').length") == 1
    assert tab.value("document.querySelectorAll('main img, main b').length") == 0
