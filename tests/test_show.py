"""`convproof show`: the views say what is so, mark what is not, and end with the right code."""

import base64
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from harness.catalogue import load_catalogue
from harness.cli import main
from harness.cli.subjects import VIEWS, shown
from harness.oracle import reference
from reports import show
from reports.show import terminal
from reports.show.html import render as render_html
from reports.show.structure import circle, diagonals, filter_taps

HERE = Path(__file__).parent
CATALOGUE = load_catalogue()
FLIPPED = f"{HERE / 'wrong_backends.py'}:backends.flipped_kernel"
RIGHT = f"{HERE / 'right_numpy.py'}:backend"


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch, tmp_path):
    """Where no settings of the project hold."""
    monkeypatch.chdir(tmp_path)


def invoke(*arguments):
    return CliRunner().invoke(main, ["show", *arguments], prog_name="convproof")


def drawn(*arguments, code=0):
    done = invoke(*arguments)
    assert done.exit_code == code, done.output
    return done.stdout


def refused(*arguments):
    done = invoke(*arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def section(name, view, *more):
    """The section of a case by the oracle."""
    from harness.cli.materialise import by_oracle

    what = shown(CATALOGUE.by_id[name], view)
    return show.VIEWS[view](what.subject(), [by_oracle(what), *more])


# --- the views --------------------------------------------------------------------------------------------------


def test_the_toeplitz_view_draws_the_matrix_of_the_slide():
    text = drawn("lecture-toeplitz-even-front", "--as", "toeplitz")
    rows = [line.split()[1:] for line in text.splitlines() if re.match(r"y\d ", line)]
    assert rows == [
        ["1", "8", ".", ".", ".", ".", "."],
        ["7", "1", "8", ".", ".", ".", "."],
        ["2", "7", "1", "8", ".", ".", "."],
        [".", "2", "7", "1", "8", ".", "."],
        [".", ".", "2", "7", "1", "8", "."],
        [".", ".", ".", "2", "7", "1", "8"],
        [".", ".", ".", ".", "2", "7", "1"],
    ]
    assert "T is 7 x 7: 24 of its 49 entries are taps (49%), at most 4 a row" in text
    assert "constant along its diagonals" in text


def test_a_tap_of_zero_is_no_structural_zero():
    text = drawn("lecture-shift-forward", "--as", "toeplitz")
    assert "y1   0  0  .  .  .  .  1" in text


def test_the_im2col_view_draws_the_patches_with_the_padding_and_the_product():
    text = drawn("lecture-data-toeplitz-odd")
    assert [line.split() for line in text.splitlines() if re.match(r"h\d ", line)] == [
        ["h3", "2", "3", "4", "5", "6", "7", "."],
        ["h2", "1", "2", "3", "4", "5", "6", "7"],
        ["h1", ".", "1", "2", "3", "4", "5", "6"],
    ]
    assert "2 of its 21 entries are padding" in text
    assert "h^T = [1 7 2]" in text
    assert "= [9 19 29 39 49 59 61]" in text


def test_the_eigenvalues_of_a_circulant_are_those_that_a_solver_finds():
    spec = CATALOGUE.by_id["lecture-circulant-1d"].spec
    w = np.array([[[2.0, 7.0, 1.0]]])
    matrix = np.array(CATALOGUE.by_id["lecture-circulant-1d"].matrix.rows, float)
    assert (circle(spec, w) == matrix[:, 0]).all()
    want = np.sort_complex(np.round(np.linalg.eigvals(matrix), 9))
    np.testing.assert_allclose(np.sort_complex(np.round(np.fft.fft(circle(spec, w)), 9)), want, atol=1e-8)
    text = drawn("lecture-circulant-1d", "--as", "circulant")
    assert "circulant: yes" in text
    deviation = float(re.search(r"max deviation (\S+) ", text)[1])
    assert deviation < 1e-13
    assert "k=4        4       0       4" in text


def test_the_shift_view_shows_that_circulants_commute_and_padded_matrices_do_not():
    text = drawn("lecture-circulant-flipped", "--as", "shift", "--backend", RIGHT)
    assert "S S^T = S^T S = I: max deviation 0" in text
    assert "oracle: T S^T = S^T T: commutes, entry by entry" in text
    assert "right-numpy: T S^T = S^T T: commutes, entry by entry" in text
    text = drawn("lecture-conv1d-same-odd", "--as", "shift")
    assert "4 of 49 entries differ: the padding is not circular" in text
    text = drawn("lecture-circulant-strided", "--as", "shift")
    assert "T (S^T)^2 = S^T T: commutes" in text
    text = drawn("lecture-circulant-2d-blocks", "--as", "shift")
    assert text.count("commutes, entry by entry") == 2


def test_the_output_view_sets_input_kernel_and_output_side_by_side():
    text = drawn("lecture-conv2d-half", "--as", "output", "--backend", RIGHT)
    assert re.search(r"^x +h +y, by oracle +y, by right-numpy$", text, re.M)
    assert re.search(r"3 1 4 1 5 +1 2 3 +111 174 137 160 +88 +111 174 137 160 +88", text)
    assert re.search(r"equal to the oracle\s+exactly \(20\s+elements\)", text)


@pytest.mark.parametrize("name", ["lecture-conv1d-valid", "lecture-toeplitz-2d-half", "lecture-toeplitz-multichannel"])
def test_stride_one_matrices_are_constant_along_their_diagonals_and_one_changed_entry_is_noticed(name):
    case = CATALOGUE.by_id[name]
    matrix = np.array(case.matrix.rows, float)
    assert diagonals(case.spec, matrix)[1] == 0
    matrix[0, 0] += 1
    assert diagonals(case.spec, matrix)[1] == 1
    assert not np.array(case.matrix.rows, float)[filter_taps(case.spec) < 0].any()


@pytest.mark.parametrize("name", ["lecture-grouped-1d", "lecture-conv3d-valid", "lecture-conv1d-bias", "edge-batch-zero-1d"])
@pytest.mark.parametrize("view", VIEWS)
def test_every_view_shows_the_case_or_says_in_a_line_why_not(name, view):
    done = invoke(name, "--as", view)
    if done.exit_code == 0:
        assert done.stdout.startswith(name)
    else:
        assert done.exit_code == 2
        assert done.stderr.startswith(f"convproof: {name} ")


def test_what_is_left_out_of_the_case_is_said():
    assert "shown: without the bias" in drawn("lecture-conv1d-bias", "--as", "toeplitz")
    assert "shown: the first of 2 groups" in drawn("lecture-grouped-1d", "--as", "im2col")
    assert "x and w drawn from the integers -9 to 9" in drawn("basic-rank-1d", "--as", "output")


# --- backends ---------------------------------------------------------------------------------------------------


def test_a_right_backend_is_told_in_a_line_and_a_wrong_one_is_drawn_with_its_entries_marked():
    text = drawn("lecture-conv1d-same-odd", "--backend", RIGHT, "--backend", FLIPPED, code=1)
    assert "right-numpy: equal to the oracle exactly (49 elements)" in text
    assert "T, by right-numpy" not in text
    assert "T, by flipped-kernel" in text
    assert "row 1, column 2: got 2, expected 1" in text
    assert len(re.findall(r"\d!", text)) == 12


def test_what_a_backend_does_not_take_is_told_and_nothing_verified_is_3(tmp_path):
    (tmp_path / "picky.py").write_text(
        "from harness.backend import Limits, from_function\n"
        "backend = from_function('picky', lambda *a: None, Limits(ranks=(2,)))\n"
    )
    text = drawn("lecture-conv1d-valid", "--backend", "picky.py:backend", code=3)
    assert "picky: UNSUPPORTED: 1 spatial axes are not among 2" in text


def test_a_crash_costs_a_line(tmp_path):
    (tmp_path / "falls.py").write_text(
        "import os\nfrom harness.backend import from_function\nbackend = from_function('falls', lambda *a: os.abort())\n"
    )
    text = drawn("lecture-conv1d-valid", "--backend", "falls.py:backend", "--backend", RIGHT, code=1)
    assert "falls: CRASH" in text
    assert "right-numpy: equal to the oracle exactly" in text


def test_a_photograph_is_drawn_by_every_backend_that_the_settings_name(tmp_path):
    (tmp_path / "convproof.toml").write_text(f'backends = ["{RIGHT}"]\n')
    text = drawn("lecture-photo-outline")
    assert "y, by right-numpy" in text
    assert "mid-grey is 0" in text
    assert text.isascii()


# --- what cannot be shown ---------------------------------------------------------------------------------------


def test_a_case_too_large_is_refused_with_the_numbers_and_the_way_out():
    told = refused("lecture-photo-blur", "--as", "toeplitz")
    assert "7680 x 7680" in told
    assert "96 x 96" in told
    size = re.search(r"--size (\S+?);", told)[1]
    assert "T is" in drawn("lecture-photo-blur", "--as", "toeplitz", "--size", size)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("lecture-max-pool-2d", "--as", "toeplitz"), "a maximum is not linear"),
        (("lecture-avg-pool-2d", "--as", "im2col"), "has no weights"),
        (("lecture-conv1d-valid", "--as", "circulant"), "circular padding, stride 1"),
        (("lecture-circulant-strided", "--as", "circulant"), "try --as toeplitz"),
        (("lecture-conv1d-valid", "--size", "4x5"), "names 2 axes"),
        (("lecture-conv1d-valid", "--size", "2"), "no meaning with --size 2"),
        (("lecture-conv1d-valid", "--size", "x7"), "--size takes a length an axis"),
        (("lecture-conv1d-valid", "--html", "nowhere/page.html"), "cannot be written"),
        (("lecture-conv1d-valid", "--backend", "nosuch"), "unknown backend 'nosuch'"),
        (("lecture-conv1d-vaild",), "did you mean 'lecture-conv1d-valid'"),
        (("perf-*", "--as", "toeplitz"), "can be shown so"),
        (("invalid-op-unknown",), "must be refused"),
        (("smoke", "--as", "toeplitz"), "too many for one page"),
    ],
)
def test_a_wrong_question_is_answered_in_a_line_with_exit_code_2(arguments, told):
    assert told in refused(*arguments)


def test_of_several_cases_those_without_the_view_are_left_out_and_counted():
    done = invoke("lecture-circulant-*", "--as", "circulant")
    assert done.exit_code == 0
    assert "lecture-circulant-n3" in done.stdout
    assert "are left out; the first: lecture-circulant-strided has no view circulant" in done.stderr


# --- HTML and pictures ------------------------------------------------------------------------------------------


def pixels(uri):
    """A palette PNG read back: its chunks checked, its palette applied."""
    data = base64.b64decode(uri.partition(",")[2])
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, found = 8, {}
    while at < len(data):
        (size,) = struct.unpack(">I", data[at : at + 4])
        kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + size]
        assert struct.unpack(">I", data[at + 8 + size : at + 12 + size])[0] == zlib.crc32(kind + body)
        found[kind] = body
        at += 12 + size
    width, height = struct.unpack(">II", found[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(found[b"IDAT"]), np.uint8).reshape(height, width + 1)
    assert not lines[:, 0].any()
    return np.frombuffer(found[b"PLTE"], np.uint8).reshape(-1, 3)[lines[:, 1:]]


def test_the_page_holds_the_photograph_as_it_is_and_every_verdict(tmp_path):
    done = invoke("lecture-photo-*", "--as", "output", "--html", "page.html", "--backend", RIGHT, "--backend", FLIPPED)
    assert done.exit_code == 1
    text = (tmp_path / "page.html").read_text()
    names = [c.id for c in CATALOGUE.cases if c.photo]
    assert len(names) == 10
    assert all(f"<h2>{n}</h2>" in text for n in names)
    images = re.findall(r'src="(data:image/png;base64,[^"]+)"', text)
    assert len(images) == 4 * len(names)
    x = np.array(CATALOGUE.by_id["lecture-photo-blur"].photo.x[0][0], float)
    grey = pixels(images[0])
    assert (grey[..., 0] == np.rint(x / 255 * 254)).all()
    assert (grey == grey[..., :1]).all()
    assert text.count("equal to the oracle exactly (7680 elements)") >= 9
    assert "differs from the oracle in" in text
    wrong = [pixels(i) for i in images if (pixels(i)[..., 0] != pixels(i)[..., 1]).any()]
    assert wrong, "what differs is marked in the picture"


def test_the_page_is_self_contained_light_and_dark():
    text = render_html(show.Page("a page", (section("lecture-circulant-1d", "circulant"),)))
    assert "prefers-color-scheme:dark" in text
    assert 'name="viewport"' in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?://|<script|<link|@import|url\(", text)


def test_foreign_text_is_escaped(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "family: mine\ncases:\n  - id: mine-a\n    op: conv\n    in_size: [4]\n    kernel_size: 2\n"
        '    why: "<script>alert(1)</script> & \\e[31mred"\n    source: "hand: a reason"\n'
    )
    (tmp_path / "evil.py").write_text(
        "from harness.backend import from_function\n"
        "def fn(*a):\n    raise RuntimeError('<img src=x onerror=alert(1)>\\x1b[2J')\n"
        "backend = from_function('evil', fn)\n"
    )
    for view in ("toeplitz", "output"):
        done = invoke("mine.yaml", "--as", view, "--backend", "evil.py:backend", "--html", "-")
        assert done.exit_code == 1
        assert not re.search(r"<script|<img|\x1b", done.stdout)
        assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; red" in done.stdout
        assert "&lt;img src=x onerror=alert(1)&gt;" in done.stdout
        plain = invoke("mine.yaml", "--as", view, "--backend", "evil.py:backend").stdout
        assert "\x1b" not in plain


def test_equal_pictures_of_sobel_are_drawn_alike_around_mid_grey():
    made = section("lecture-photo-sobel-x", "output")
    y = made.items[-1]
    what = shown(CATALOGUE.by_id["lecture-photo-sobel-x"], "output")
    exact = reference(what.spec, what.operands).hi[0, 0]
    assert isinstance(y, show.Image)
    assert y.pixels.shape == exact.shape
    assert set(np.unique(y.pixels[exact == 0])) == {127}
    assert (y.pixels[exact > 1000 / 4] > 127).all()
    assert (y.pixels[exact < -1000 / 4] < 127).all()


# --- on a terminal ----------------------------------------------------------------------------------------------


def lines(made, width=100, plain=False):
    return list(terminal.render(show.Page("t", (made,)), width, plain=plain))


def test_on_a_terminal_the_entries_of_a_tap_have_its_colour_and_zeros_are_dotted():
    (row,) = [t for t in lines(section("lecture-conv1d-valid", "toeplitz")) if t.plain.startswith("y2")]
    assert row.plain.split() == ["y2", "·", "2", "7", "1", "·", "·", "·"]
    backgrounds = [s.style.bgcolor.name for s in row.spans if getattr(s.style, "bgcolor", None)]
    assert backgrounds == list(terminal.PALETTE[:3])


def test_a_matrix_wider_than_the_terminal_shrinks_to_its_structure():
    made = section("lecture-conv2d-half", "toeplitz")
    assert max(t.cell_len for t in lines(made, 200)) > 60
    narrow = lines(made, 50)
    assert max(t.cell_len for t in narrow if t.plain.startswith("y")) <= 50


def test_a_picture_is_half_blocks_on_a_terminal_and_fits_it():
    made = section("lecture-photo-identity", "output")
    for width in (40, 80, 200):
        found = lines(made, width)
        blocks = [t for t in found if "▀" in t.plain]
        assert blocks
        assert max(t.cell_len for t in blocks) <= width
    ascii_lines = lines(made, 80, plain=True)
    assert all(t.plain.isascii() for t in ascii_lines)


def test_showing_by_the_oracle_starts_no_worker_and_imports_no_backend():
    code = (
        "import sys\nfrom harness.cli import main\n"
        "try:\n    main(['show', 'lecture-conv1d-valid'])\nexcept SystemExit as e:\n    assert not e.code, e.code\n"
        "assert not [m for m in sys.modules if m.startswith(('backends', 'numba', 'pyopencl'))]\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=HERE.parent)
    assert done.returncode == 0, done.stderr
    assert "T is 5 x 7" in done.stdout
