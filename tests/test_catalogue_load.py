"""Files to cases: the vocabulary, grids, and the message for every way to be wrong."""

import random

import pytest

from harness.catalogue import CatalogueError, load_catalogue, load_file
from harness.spec import ConvSpec

HEAD = "family: mine\ncases:\n"
ENTRY = "  - id: mine-a\n    op: conv\n    in_size: [5, 7]\n    kernel_size: 3\n    why: w\n    source: s\n"


@pytest.fixture
def load(tmp_path):
    def load(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load_file(path)

    return load


@pytest.fixture
def refusal(load, tmp_path):
    """The message for a file, its path shortened to its name."""

    def refusal(text):
        with pytest.raises(CatalogueError) as e:
            load(text)
        return str(e.value).replace(f"{tmp_path}/", "")

    return refusal


def entry(extra="", name="mine-a"):
    return ENTRY.replace("mine-a", name) + "".join(f"    {line}\n" for line in extra.splitlines())


def test_an_entry_becomes_a_case_that_knows_its_place(load):
    (case,) = load(HEAD + entry("tags: [x]\nsuite: smoke"))
    assert (case.id, case.family, case.why, case.source, case.tags) == ("mine-a", "mine", "w", "s", ("x",))
    assert case.suites == ("smoke", "gate", "full")
    assert case.where.endswith("mine.yaml:3")
    assert case.spec == ConvSpec("conv", (5, 7), (3, 3))
    assert case.version == case.spec.digest
    assert ConvSpec(**case.fields) == case.spec


@pytest.mark.parametrize(
    ("written", "means"),
    [
        ("stride: 2", {"stride": (2, 2)}),
        ("stride: [2, 1]\ndilation: 2", {"stride": (2, 1), "dilation": (2, 2)}),
        ("padding: 1", {"padding": ((1, 1), (1, 1))}),
        ("padding: [1, [0, 2]]", {"padding": ((1, 1), (0, 2))}),
        ("padding: same_lower", {"padding": ((1, 1), (1, 1))}),
        ("padding: full\ndilation: 2", {"padding": ((4, 4), (4, 4)), "dilation": (2, 2)}),
        ("padding: valid", {}),
        ("dtype: f16\nacc_dtype: f16\nout_dtype: f16", {"in_dtype": "f16", "acc_dtype": "f16", "out_dtype": "f16"}),
        ("batch: 0\nbias: true\nflip: true", {"batch": 0, "bias": True, "flip": True}),
    ],
)
def test_the_vocabulary_spreads_scalars_and_works_out_words(load, written, means):
    (case,) = load(HEAD + entry(written))
    assert case.spec == ConvSpec("conv", (5, 7), (3, 3), **means)


def test_both_readings_of_same_differ_for_an_even_kernel(load):
    text = HEAD + entry("padding: {}").replace("kernel_size: 3", "kernel_size: 4")
    assert load(text.replace("{}", "same_lower"))[0].spec.padding == ((2, 1), (2, 1))
    assert load(text.replace("{}", "same_upper"))[0].spec.padding == ((1, 2), (1, 2))


def test_an_entry_overrides_the_files_defaults(load):
    head = "family: mine\ndefaults:\n  stride: 2\n  bias: true\n  tags: [d]\ncases:\n"
    a, b = load(head + entry() + entry("stride: 1\ntags: []", "mine-b"))
    assert (a.spec.stride, a.spec.bias, a.tags) == ((2, 2), True, ("d",))
    assert (b.spec.stride, b.spec.bias, b.tags) == ((1, 1), True, ())


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ("strde: 2", "mine.yaml:9: case 'mine-a': unknown key 'strde': did you mean 'stride'?"),
        ("stride: '2'", "mine.yaml:9: case 'mine-a': stride: it takes an integer (every axis) or a list of one an axis: got"),
        ("stride: no", "got 'no' (text)"),
        ("stride: [1, 1.5]", "mine.yaml:9: case 'mine-a': stride: it takes an integer (every axis)"),
        ("batch: 1e3", "mine.yaml:9: case 'mine-a': batch takes an integer: got 1000.0"),
        ("batch: 010", "mine.yaml:9: case 'mine-a': batch takes an integer: got '010' (text)"),
        ("batch: true", "mine.yaml:9: case 'mine-a': batch takes an integer: got true"),
        ("bias: yes", "mine.yaml:9: case 'mine-a': bias takes true or false: got 'yes' (text)"),
        ("bias: 1", "bias takes true or false: got 1"),
        ("bias:", "bias takes true or false: got ''"),
        ("padding: same", "unknown padding 'same': say same_lower or same_upper"),
        ("padding: same_uper", "did you mean 'same_upper'?"),
        ("padding: [[1, 2, 3], 0]", "an axis takes an integer or [low, high]: got [1, 2, 3]"),
        ("padding: 0.5", "padding: it takes an integer, a word, or a list"),
        ("padding_mode: circlar", "unknown value 'circlar': did you mean 'circular'?"),
        ("dtype: fp16", "did you mean 'f16'?"),
        ("suite: gates", "mine.yaml:9: case 'mine-a': suite: unknown value 'gates' (text): did you mean 'gate'?"),
        ("tags: x", "tags takes a list: got 'x' (text)"),
        ("tags:\n  - a\n  - 3", "mine.yaml:11: case 'mine-a': tags.1 takes text: got 3"),
        ("dilation: 4", "mine.yaml:9: case 'mine-a': axis 0 has no output: the kernel spans 9"),
        ("stride: [1, 2, 3]", "mine.yaml:9: case 'mine-a': stride has 3 entries, in_size has 2 axes"),
        ("groups: 2", "mine.yaml:9: case 'mine-a': groups 2 does not divide in_channels 1"),
        ("literal: {x: [1], w: [1], why: 3, y: [1]}", "unknown key 'why'"),
        ("literal:\n  x: [1]\n  w: [1]\n  y: [1]", "mine.yaml:10: case 'mine-a': literal x has shape [1], the case [1, 1, 5"),
        ("grid: 3", "mine.yaml:9: case 'mine-a': grid"),
        ("grid: {strides: [1]}", "grid has no field 'strides': did you mean 'stride'?"),
        ("grid: {stride: []}", "grid.stride"),
        ("grid: {stride: [2, 2]}", "grid field stride holds a value twice"),
        ("grid: {padding: [[[1, 2], [0, 1]]]}", "cannot be part of an id: write the values as {label: value}"),
        ("grid: {padding: {A B: 1}}", "grid label 'A B' of padding"),
        ("grid: {kernel_size: [2]}", "mine.yaml:6: case 'mine-a' sets kernel_size and varies it in its grid"),
        ("grid:\n  stride: [1, x]", "mine.yaml:10: case 'mine-a-s-x': stride: it takes an integer"),
        ("grid: {variant: {a: {bits: 3}}}", "variant 'a' has no field 'bits': did you mean 'bias'?"),
        ("grid: {variant: {a: {stride: 2}}, stride: [1]}", "stride is set by the variant 'a' and varied by the grid too"),
        ("grid: {stride: [1, 2]}\nexcept: [{stride: 3}]", "matches no combination of the grid"),
        ("grid: {stride: [1, 2]}\nexcept: [{padding: 3}]", "except names 'padding', which the grid does not vary"),
        ("except: [{stride: 3}]", "mine.yaml:9: case 'mine-a' has except: without a grid"),
        ("grid: {batch: [" + ", ".join(map(str, range(100))) + "], in_channels: [" + ", ".join(map(str, range(1, 101))) + "]}",
         "the grid has 10000 combinations"),
        ("op: conv", "mine.yaml:9: duplicate key 'op': it is set on line 4 already"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_line_and_the_nearest_right_thing(refusal, extra, said):
    assert said in refusal(HEAD + entry(extra))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- 1", "mine.yaml:1: a catalogue file is a mapping with family: and cases:, got [1]"),
        ("famly: x\ncases: []", "mine.yaml:1: unknown key 'famly': did you mean 'family'?"),
        ("cases: []", "mine.yaml:1: no family"),
        ("family: x", "mine.yaml:1: no cases"),
        ("family: x\ncases: []", "mine.yaml:2: cases takes a list of cases: got []"),
        ("family: x\ncases: 3", "mine.yaml:2: cases takes a list of cases: got 3"),
        ("family: Big-One\ncases: [1]", "mine.yaml:1: family 'Big-One': one lower-case word"),
        ("family: x\ncases: [1]", "mine.yaml:2: a case takes a mapping: got 1"),
        ("family: x\ndefaults: 3\ncases: [{id: x-a}]", "mine.yaml:2: defaults"),
        ("family: x\ndefaults:\n  stide: 2\ncases: [{id: x-a}]", "mine.yaml:3: defaults: unknown key 'stide'"),
        ("family: x\ndefaults:\n  batch: q\ncases: [{id: x-a}]", "mine.yaml:3: defaults: batch takes an integer"),
        ("family: x\ncases:\n  - id: x-a", "mine.yaml:3: case 'x-a': no why"),
        ("family: x\ncases:\n  - why: w", "mine.yaml:3: case '?': no id"),
        ("family: x\ncases:\n  - id: x-a\n    why: w\n    source: s", "mine.yaml:3: case 'x-a' has no op"),
        ("family: x\ncases:\n  - id: x-a\n    why: w\n    op: conv", "mine.yaml:3: case 'x-a' has no source"),
        ("family: x\ncases:\n  - id: y-a\n    why: w\n    op: conv", "mine.yaml:3: id 'y-a' is not of the file's family"),
        ("family: x\ncases:\n  - id: X_a\n    why: w\n    op: conv", "id 'X_a' (text): lower-case words and digits"),
        ("family: x\ncases:\n  - id: x-../../etc\n    why: w\n    op: conv", "lower-case words and digits"),
    ],
)  # fmt: skip
def test_a_wrong_header_or_an_incomplete_entry_is_refused_with_its_line(refusal, text, said):
    assert said in refusal(text)


def test_a_duplicate_id_names_both_places(refusal, load, tmp_path):
    said = refusal(HEAD + entry() + entry("stride: 2"))
    assert said == "mine.yaml:9: duplicate id 'mine-a': it is at mine.yaml:3 already"
    (tmp_path / "a.yaml").write_text(HEAD + entry())
    (tmp_path / "b.yaml").write_text(HEAD + "\n" + entry())
    with pytest.raises(CatalogueError, match=r"b.yaml:4: duplicate id 'mine-a': it is at .*a.yaml:3 already"):
        load_catalogue([tmp_path / "a.yaml", tmp_path / "b.yaml"])


def test_a_refused_entry_keeps_its_fields_as_written(load):
    text = HEAD + entry("refused: kernel spans\npadding: -1\nstride: 0")
    (case,) = load(text)
    assert case.spec is None
    assert case.refused == "kernel spans"
    assert case.version == ""
    assert case.fields["stride"] == (0, 0)
    assert case.fields["padding"] == ((-1, -1), (-1, -1))


# --- grids ------------------------------------------------------------------------------------------
def ids(cases):
    return [c.id for c in cases]


def test_a_grid_expands_in_a_fixed_order_with_readable_ids(load):
    grid = "grid: {flip: [false, true], stride: [1, [2, 3]], padding_mode: [zeros, circular]}\npadding: 1"
    assert ids(load(HEAD + entry(grid))) == [
        f"mine-a-{s}-{mode}-{flip}" for s in ("s1", "s2x3") for mode in ("zeros", "circular") for flip in ("no-flip", "flip")
    ]


def test_a_grids_ids_and_specs_do_not_depend_on_the_order_of_its_keys_or_values(load):
    """Reordering a grid, or adding a value, neither renames a case nor changes its specification."""
    fields = {"stride": ["1", "2"], "dilation": ["1", "[2, 1]"], "bias": ["false", "true"], "padding": ["0", "1", "2"]}
    rng = random.Random(7)
    seen = None
    for extra in (False, False, True, True):
        keys = rng.sample(list(fields), len(fields))
        parts = [
            f"{k}: [{', '.join(rng.sample(fields[k], len(fields[k])) + (['3'] if extra and k == 'stride' else []))}]"
            for k in keys
        ]
        got = {c.id: c.version for c in load(HEAD + entry(f"grid: {{{', '.join(parts)}}}"))}
        if seen is None:
            seen = got
        assert seen.items() <= got.items()
        assert len(got) == (36 if extra else 24)


def test_labels_and_variants_name_structured_points(load):
    grid = "grid:\n  variant: {half: {dtype: f16, padding: 1}, wide: {dtype: f64}}\n  stride: {uneven: [2, 1]}"
    a, b = load(HEAD + entry(grid))
    assert ids((a, b)) == ["mine-a-half-uneven", "mine-a-wide-uneven"]
    assert a.spec.dtypes == ("f16", "f32", "f16")
    assert (b.spec.padding, b.spec.stride) == (((0, 0), (0, 0)), (2, 1))


def test_except_leaves_out_combinations_by_value_or_label(load):
    grid = "grid: {stride: [1, 2], padding: {none: 0, one: 1}}\nexcept: [{stride: 2, padding: one}]"
    assert ids(load(HEAD + entry(grid))) == ["mine-a-s1-none", "mine-a-s1-one", "mine-a-s2-none"]


def test_random_damage_to_a_file_is_a_catalogue_error_or_a_catalogue(load):
    """Hundreds of mutations of a shipped file: no other exception escapes."""
    from harness.catalogue import packaged_files

    rng = random.Random(11)
    text = next(p for p in packaged_files() if p.name == "basic-transpose-pool.yaml").read_text()[:6000]
    for _ in range(300):
        damaged = list(text[: rng.randrange(200, 2000)])
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.randrange(3)] = rng.choice(
                ["[", "}", ": ", "\n", "- ", "9", "x", "*a", "&b ", "!c ", "'", "\t", "#", "null", "-1"]
            )
        try:
            load("".join(damaged))
        except CatalogueError as e:
            assert str(e.path) in str(e)  # noqa: PT017 - either outcome is right
