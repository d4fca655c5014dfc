"""The page in a real browser: what it shows without a network, with and without its script."""

import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from test_reports import CATALOGUE, CHECKS, hostile, many, record, repeat, run_row

from harness.records import Status
from reports.page import page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium here: apt-get install chromium")


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
