"""YAML to nodes: our scalar rules, and every refusal with its place."""

import pytest

from harness.catalogue import CatalogueError, nodes
from harness.catalogue.nodes import MAX_BYTES, MAX_DEPTH, parse, read, scalar


def plain(text):
    return parse(text, "t.yaml").plain()


def refusal(text):
    with pytest.raises(CatalogueError) as e:
        parse(text, "t.yaml")
    return str(e.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7), ("-3", -3), ("0", 0), ("-0", 0), ("9223372036854775807", 2**63 - 1),
        ("1.5", 1.5), ("-0.25", -0.25), ("1e3", 1000.0), ("2E-2", 0.02), ("1.0", 1.0),
        ("true", True), ("false", False), ("null", None),
        ("no", "no"), ("yes", "yes"), ("on", "on"), ("True", "True"), ("NULL", "NULL"), ("~", "~"), ("", ""),
        ("010", "010"), ("0x10", "0x10"), ("0o7", "0o7"), ("1_000", "1_000"), ("3:4", "3:4"), ("+5", "+5"),
        (".5", ".5"), ("5.", "5."), (".inf", ".inf"), (".nan", ".nan"), ("nan", "nan"), ("2001-01-01", "2001-01-01"),
        ("\u0663", "\u0663"),
    ],
)  # fmt: skip
def test_a_plain_scalar_is_what_it_looks_like_exactly(text, value):
    got = scalar(text)
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize("text", ["9223372036854775808", "9" * 5000, "1e999", "-1e400"])
def test_a_number_beyond_64_bits_is_refused_with_its_line(text):
    assert refusal(f"a: 1\nb: {text}").startswith("t.yaml:2: ")


def test_quoted_and_block_scalars_are_text():
    assert plain("a: '7'\nb: \"true\"\nc: |\n  12\n") == {"a": "7", "b": "true", "c": "12\n"}


def test_a_key_is_its_text():
    assert plain("no: 1\n010: 2\n1e3: 3\ntrue: 4") == {"no": 1, "010": 2, "1e3": 3, "true": 4}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 3", "t.yaml:3: duplicate key 'a': it is set on line 1 already"),
        ("x: [1, {b: 1,\n b: 2}]", "t.yaml:2: duplicate key 'b': it is set on line 1 already"),
        ("a: &x [1]\nb: *x", "t.yaml:1: anchor &x: anchors are not read"),
        ("a: *x", "t.yaml:1: alias *x: aliases are not read"),
        ("a: 1\nb: !!python/object:os.system x", "t.yaml:2: tag tag:yaml.org,2002:python/object:os.system"),
        ("a: !mine [1]", "t.yaml:1: tag !mine"),
        ("a: !!str 1", "t.yaml:1: tag tag:yaml.org,2002:str"),
        ("a: 1\n---\nb: 2", "t.yaml:2: a second document"),
        ("", "t.yaml:1: the file is empty"),
        ("# only a comment\n", "t.yaml:1: the file is empty"),
        ("a: 1\n? [b]\n: 2", "t.yaml:2: a mapping's key is a list or a mapping"),
        ("a: 1\nb: [1, 2\nc: 3", "not YAML"),
        ("a: 'x", "not YAML"),
        ("a: 1\n\tb: 2", "not YAML"),
        ("a: \x01", "not YAML"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_refused_with_its_place(text, said):
    got = refusal(text)
    assert said in got
    assert got.startswith("t.yaml:")
    assert got.split(":")[1].isdigit()


def test_nesting_is_bounded_without_recursion():
    deepest = "[" * MAX_DEPTH + "]" * MAX_DEPTH
    assert parse(deepest, "t.yaml")
    for depth in (MAX_DEPTH + 1, 100_000):
        assert "levels deep" in refusal("[" * depth)


def test_the_pure_python_parser_gives_the_same_nodes_and_refusals(monkeypatch):
    """Where libyaml is absent PyYAML's own parser is used; the result does not depend on it."""
    import yaml

    good, bad = "a: [1, {b: 'x'}]\nc: no\n", "a: 1\nb: *x"
    with_c, refused = plain(good), refusal(bad)
    monkeypatch.setattr(nodes, "_LOADER", yaml.SafeLoader)
    assert plain(good) == with_c
    assert refusal(bad) == refused
    assert "levels deep" in refusal("[" * 5000)


def test_a_file_is_refused_by_its_size_before_it_is_read(tmp_path):
    path = tmp_path / "big.yaml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(CatalogueError, match=f"big.yaml: the file has {MAX_BYTES + 1} bytes"):
        read(path)


def test_a_file_that_cannot_be_read_is_a_catalogue_error(tmp_path):
    with pytest.raises(CatalogueError, match="no such file"):
        read(tmp_path / "absent.yaml")
    with pytest.raises(CatalogueError, match="not a file"):
        read(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xff\n")
    with pytest.raises(CatalogueError, match=r"latin.yaml:2: not UTF-8"):
        read(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_ignored(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).plain() == {"a": 1}


def test_an_error_knows_path_line_and_message(tmp_path):
    with pytest.raises(CatalogueError) as e:
        parse("a: *x", tmp_path / "t.yaml")
    assert isinstance(e.value, ValueError)
    assert (e.value.path, e.value.line) == (tmp_path / "t.yaml", 1)
    assert str(e.value) == f"{e.value.path}:{e.value.line}: {e.value.message}"
