"""The lecture's matrices as they stand in YAML: right by independent routes, and right on the slide's terms."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from harness.catalogue import Catalogue, CatalogueError, load_catalogue, load_file
from harness.catalogue.lint import lint
from harness.catalogue.photos import MAX_BYTES

CATALOGUE = load_catalogue()
WRITTEN = [c for c in CATALOGUE.cases if c.matrix]
PHOTOS = [c for c in CATALOGUE.cases if c.photo]


def rows(name):
    """A literal matrix, exact integers."""
    return np.array(CATALOGUE.by_id[name].matrix.rows, dtype=object)


def convolved(spec, x, w):
    """One image through object arrays: padding by np.pad, then a dot product at every place; conv only."""
    mode = {"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}[spec.padding_mode]
    x = np.pad(x, [(0, 0), *spec.padding], mode=mode)
    w = np.flip(w, tuple(range(2, w.ndim))) if spec.flip else w
    each = spec.in_channels // spec.groups
    y = np.empty((spec.out_channels, *spec.out_size), dtype=object)
    for at in np.ndindex(*y.shape):
        first = at[0] * spec.groups // spec.out_channels * each
        window = tuple(
            slice(o * s, o * s + (m - 1) * d + 1, d)
            for o, s, m, d in zip(at[1:], spec.stride, spec.kernel_size, spec.dilation, strict=True)
        )
        y[at] = (x[(slice(first, first + each), *window)] * w[at[0]]).sum()
    return y


def independent(case):
    """The matrix by impulses through `convolved`; of a transposed convolution the transpose of the conv's."""
    spec, lit = case.spec, case.literal
    x, w = np.array(lit.x, dtype=object)[0], np.array(lit.w, dtype=object)
    if spec.op == "conv_transpose":
        forward = replace(spec, op="conv", in_size=spec.out_size, in_channels=spec.out_channels, out_channels=spec.in_channels)
        assert forward.out_size == spec.in_size
        return impulses(forward, np.zeros((forward.in_channels, *forward.in_size), dtype=object), w).T
    if case.matrix.view == "filter":
        return impulses(spec, np.zeros_like(x), w)
    taps = np.ndindex(*w.shape[1:])
    lines = []
    for tap in taps:
        one = np.zeros_like(w)
        one[(0, *tap)] = 1
        lines.append(convolved(spec, x, one).reshape(-1))
    return np.array(lines if spec.flip else lines[::-1], dtype=object)


def impulses(spec, x, w):
    columns = []
    for at in np.ndindex(*x.shape):
        one = x.copy()
        one[at] = 1
        columns.append(convolved(spec, one, w).reshape(-1))
    return np.array(columns, dtype=object).T


@pytest.mark.parametrize("case", WRITTEN, ids=lambda c: c.id)
def test_a_written_matrix_is_what_impulses_make_of_the_definition(case):
    assert (rows(case.id) == independent(case)).all()


@pytest.mark.parametrize("case", WRITTEN, ids=lambda c: c.id)
def test_a_written_matrix_times_its_operand_is_the_literal_output(case):
    lit, matrix = case.literal, rows(case.id)
    y = np.array(lit.y, dtype=object).reshape(-1)
    if case.matrix.view == "filter":
        assert (matrix @ np.array(lit.x, dtype=object).reshape(-1) == y).all()
    else:
        h = np.array(lit.w, dtype=object).reshape(-1)
        assert ((h if case.spec.flip else h[::-1]) @ matrix == y).all()


def test_there_is_a_matrix_for_every_form_that_the_lecture_shows():
    specs = [(c.matrix.view, c.spec) for c in WRITTEN]
    assert {v for v, _ in specs} == {"filter", "data"}
    assert {s.kernel_size[0] % 2 for v, s in specs if v == "filter" and s.padding[0][0] == s.kernel_size[0] // 2} == {0, 1}
    assert {s.kernel_size[0] % 2 for v, s in specs if v == "data"} == {0, 1}
    assert any(s.flip for _, s in specs)
    assert any(s.stride[0] > 1 for v, s in specs if v == "filter")
    assert any(s.op == "conv_transpose" for _, s in specs)
    assert len({s.in_size for _, s in specs if s.padding_mode == "circular" and s.rank == 1}) >= 4
    assert {s.padding_mode for _, s in specs if s.rank == 2} == {"zeros", "circular"}


# --- on the slide's terms ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lecture-conv1d-same-odd", "lecture-toeplitz-even-front", "lecture-toeplitz-odd-wide"])
def test_the_filter_matrix_has_the_entries_of_the_slide(name):
    """Row i, column l: h_{l - i + floor(m/2) + 1}; the corners are those that are printed."""
    h, t = CATALOGUE.by_id[name].literal.w[0][0], rows(name)
    m, n = len(h), len(t)
    assert t.shape == (n, n)
    for i, k in np.ndindex(n, n):
        tap = k - i + m // 2 + 1
        assert t[i, k] == (h[tap - 1] if 1 <= tap <= m else 0)
    assert (t[0, 0], t[1, 0], t[-1, -1], t[0, -1]) == (h[m // 2], h[m // 2 - 1], h[m // 2], 0)


@pytest.mark.parametrize("name", ["lecture-data-toeplitz-odd", "lecture-data-toeplitz-even", "lecture-data-toeplitz-wide"])
def test_the_data_matrix_has_the_entries_of_the_slide_but_for_its_misprint(name):
    """x_i = i, so that an entry is a subscript: x_{m - floor(m/2)} begins, x_{n - floor(m/2)} ends."""
    x = rows(name)
    m, n = x.shape
    half = m // 2
    assert x[0, 0] == m - half
    assert (x[m - 1 - half, 0], x[m - 1, half]) == (1, 1)
    assert (x[1:, 1:] == x[:-1, :-1]).all(), "diagonal-constant"
    assert list(x[-1, -2:]) == [n - half - 1, n - half]
    assert x[-1, -2] != n - half + 1, "what the slide prints: no diagonal could be constant"


def test_a_stride_keeps_every_second_row_and_a_flip_reverses_the_taps():
    whole = rows("lecture-conv1d-valid")
    assert (rows("lecture-conv1d-stride2") == whole[::2]).all()
    flipped = rows("lecture-conv1d-valid-flipped")
    assert list(flipped[0][:3]) == list(whole[0][:3])[::-1]


def test_the_shift_operator_is_undone_by_its_transpose():
    """S S^T = S^T S = I, on the literal matrices."""
    s, back = rows("lecture-shift-forward"), rows("lecture-shift-transposed")
    identity = np.eye(len(s), dtype=int)
    assert (back == s.T).all()
    assert (s @ back == identity).all()
    assert (back @ s == identity).all()
    six = rows("lecture-shift-backward")
    assert (six @ six.T == np.eye(6, dtype=int)).all()
    assert list(s @ np.arange(7)) == [6, 0, 1, 2, 3, 4, 5]


def test_a_circulant_commutes_with_the_shift_operator_and_a_padded_matrix_does_not():
    """C(w) S^T = S^T C(w), on the literal matrices of n = 7."""
    s, back = rows("lecture-shift-forward"), rows("lecture-shift-transposed")
    for name in ("lecture-circulant-flipped", "lecture-circulant-even-front"):
        c = rows(name)
        assert (c @ back == back @ c).all()
        assert (c @ s == s @ c).all()
    padded = rows("lecture-conv1d-same-odd")
    assert not (padded @ back == back @ padded).all()


@pytest.mark.parametrize(
    "name", ["lecture-circulant-n3", "lecture-circulant-n4", "lecture-circulant-n5", "lecture-circulant-flipped"]
)
def test_c_of_w_has_the_filter_in_its_first_column_and_turns_it(name):
    c, w = rows(name), CATALOGUE.by_id[name].literal.w[0][0]
    n = len(c)
    assert list(c[:, 0]) == [*w, *[0] * (n - len(w))]
    for k in range(n):
        assert list(c[:, k]) == list(np.roll(c[:, 0], k))
    two = rows("lecture-circulant-n5")
    assert (two @ two.T == two.T @ two).all(), "circulants commute with each other"


def test_a_transposed_convolution_s_matrix_is_the_transpose_of_the_convolution_s():
    assert (rows("lecture-transposed-1d") == rows("lecture-toeplitz-stride2-nine").T).all()


def test_in_two_dimensions_the_blocks_are_toeplitz_and_stand_toeplitz():
    """3 x 4 inputs and 2 x 3 outputs: blocks of 3 x 4, equal along the diagonals of blocks."""
    blocks = rows("lecture-toeplitz-2d-valid").reshape(2, 3, 3, 4).swapaxes(1, 2)
    assert (blocks[0, 0] == blocks[1, 1]).all()
    assert (blocks[0, 1] == blocks[1, 2]).all()
    assert not blocks[0, 2].any()
    for block in blocks.reshape(-1, 3, 4):
        assert (block[1:, 1:] == block[:-1, :-1]).all()
    c = rows("lecture-circulant-2d-blocks").reshape(3, 4, 3, 4).swapaxes(1, 2)
    for i, j in np.ndindex(3, 3):
        assert (c[i, j] == c[0, (j - i) % 3]).all()
        assert all((np.roll(row, 1) == below).all() for row, below in zip(c[i, j][:-1], c[i, j][1:], strict=True))


# --- what is refused --------------------------------------------------------------------------------------------

GOOD = """family: mine
cases:
  - id: mine-a
    op: conv
    in_size: [4]
    kernel_size: 2
    why: a reason that is long enough
    source: "hand: a reason"
    literal: {x: [3, 1, 4, 1], w: [1, 2], y: [5, 9, 6]}
    matrix:
      view: filter
      rows: [[1, 2, 0, 0], [0, 1, 2, 0], [0, 0, 1, 2]]
"""


def changed(tmp_path, *changes):
    text = GOOD
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return path


def test_the_linter_holds_a_written_matrix_against_the_definition(tmp_path):
    assert lint(Catalogue(load_file(changed(tmp_path)))) == []
    (found,) = lint(Catalogue(load_file(changed(tmp_path, ("[0, 1, 2, 0]", "[0, 1, 3, 0]")))))
    assert found.rule == "written_matrix"
    assert "row 1, column 2" in found.message
    assert "holds 3" in found.message


@pytest.mark.parametrize(
    ("changes", "line", "told"),
    [
        ([("view: filter", "view: fliter")], 11, "did you mean 'filter'?"),
        ([("view: filter", "veiw: filter")], 10, "no matrix.view"),
        ([("rows: [[1, 2, 0, 0], ", "rows: [")], 12, "the matrix is 2 x 4, the filter matrix of the case 3 x 4"),
        ([("[0, 1, 2, 0]", "[0, 1, 2]")], 12, "ragged"),
        ([("[0, 1, 2, 0]", "[0, 1, 0.1, 0]")], 12, "no integer or dyadic fraction"),
        ([("view: filter", "view: data")], 12, "the matrix is 3 x 4, the data matrix of the case 2 x 3"),
        ([("    literal: {x: [3, 1, 4, 1], w: [1, 2], y: [5, 9, 6]}\n", "")], 10, "needs literal numbers"),
        ([("w: [1, 2], y", "w: [1, 2], b: [1], y"), ("kernel_size: 2", "kernel_size: 2\n    bias: true")], 12, "affine"),
    ],
)
def test_a_matrix_that_cannot_be_is_refused_with_its_place(tmp_path, changes, line, told):
    with pytest.raises(CatalogueError) as e:
        load_file(changed(tmp_path, *changes))
    assert told in str(e.value)
    assert e.value.line == line


# --- the photograph ---------------------------------------------------------------------------------------------


def test_the_photograph_is_small_and_its_source_and_licence_lie_beside_it():
    folder = Path(PHOTOS[0].file).parent
    assert (folder / "photo.pgm").stat().st_size < 20_000
    assert "public domain" in (folder / "photo.md").read_text()
    assert {c.photo.file for c in PHOTOS} == {"photo.pgm"}
    assert {c.spec.in_size for c in PHOTOS} == {(96, 80)}
    assert {s for c in PHOTOS for s in c.suites} == {"smoke", "gate", "full"}


@pytest.mark.parametrize("case", PHOTOS, ids=lambda c: c.id)
def test_every_sum_over_the_photograph_is_exact_in_f32(case):
    """Products and partial sums are multiples of one power of two, and below 2^24 of it."""
    taps = [Fraction(v) for row in case.photo.w[0][0] for v in row]
    unit = min(Fraction(1, t.denominator) for t in taps)
    assert all((t / unit).denominator == 1 for t in taps)
    assert sum(abs(t) for t in taps) * 255 / unit < 2**24
    assert all(type(v) is int and 0 <= v <= 255 for row in case.photo.x[0][0] for v in row)


PHOTO = """family: mine
cases:
  - id: mine-photo
    op: conv
    kernel_size: 3
    why: a reason that is long enough
    source: "hand: a reason"
    photo: {file: mine.pgm, w: [[0, 1, 0], [0, 2, 1], [0, 0, 0]], scale: 0.25}
"""


def photo_file(tmp_path, text=PHOTO, picture=b"P5\n# a comment\n4 3\n255\n" + bytes(range(12))):
    if picture is not None:
        (tmp_path / "mine.pgm").write_bytes(picture)
    (tmp_path / "mine.yaml").write_text(text)
    return tmp_path / "mine.yaml"


def test_a_photo_gives_the_size_and_the_scaled_weights(tmp_path):
    (case,) = load_file(photo_file(tmp_path))
    assert case.spec.in_size == (3, 4)
    assert case.photo.x == ((((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)),),)
    assert case.photo.w == ((((0, 0.25, 0), (0, 0.5, 0.25), (0, 0, 0)),),)
    (same,) = load_file(photo_file(tmp_path, PHOTO.replace("op: conv", "op: conv\n    in_size: [3, 4]")))
    assert same.spec == case.spec


@pytest.mark.parametrize(
    ("text", "picture", "told"),
    [
        (PHOTO, None, "mine.pgm"),
        (PHOTO, b"P2\n4 3\n255\n", "no binary PGM"),
        (PHOTO, b"P5\n4 3\n255\nshort", "5 bytes of pixels"),
        (PHOTO, b"P5\n4 3\n65535\n" + bytes(24), "65535 as its maximum"),
        (PHOTO, b"P5 4 3 255 " + bytes(MAX_BYTES), "at most"),
        (PHOTO.replace("mine.pgm", "../mine.pgm"), b"", "file"),
        (PHOTO.replace("op: conv", "op: conv\n    in_size: [4, 3]"), b"P5 4 3 255 " + bytes(12), "in_size is [4, 3]"),
        (PHOTO.replace("0.25", "0.1"), b"P5 4 3 255 " + bytes(12), "no dyadic fraction"),
        (PHOTO.replace("[0, 0, 0]]", "[0, 0]]"), b"P5 4 3 255 " + bytes(12), "photo w"),
        (PHOTO.replace("op: conv", "op: conv\n    bias: true"), b"P5 4 3 255 " + bytes(12), "no bias"),
        (PHOTO + "    literal: {x: [1], w: [1], y: [1]}\n", b"P5 4 3 255 " + bytes(12), "takes one of them"),
        (PHOTO + "    grid: {stride: [1, 2]}\n", b"P5 4 3 255 " + bytes(12), "and a grid"),
    ],
)
def test_a_photo_that_cannot_be_is_refused_with_its_place(tmp_path, text, picture, told):
    with pytest.raises(CatalogueError) as e:
        load_file(photo_file(tmp_path, text, picture))
    assert told in str(e.value)
    assert e.value.line >= 3
