"""YAML text to nodes that know their lines, under scalar rules of our own.

YAML 1.1 reads ``no`` as false, ``3:4`` as 184, ``010`` as 8 and lets the last of two equal keys
win. Here a plain scalar is an integer, a decimal number, ``true``, ``false`` or ``null`` if it
looks exactly like one, and text otherwise; quoted is text; equal keys are an error.

The tree is built from parser events and not by `yaml.compose`: compose resolves aliases and
recurses before anyone could count, so that 2000 brackets overflow the stack and a kilobyte of
aliases fills the memory. Events show each anchor, alias and tag with its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from harness.catalogue.errors import CatalogueError

#: Bytes of the largest file that is read.
MAX_BYTES = 4 * 2**20
#: Levels of nesting; a literal 3-D tensor in a case needs 9.
MAX_DEPTH = 16
_INT = re.compile(r"-?(?:0|[1-9][0-9]*)")
_FLOAT = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(slots=True)
class Node:
    """A YAML value and where it starts.

    Attributes
    ----------
    line : int
        From 1.
    value : dict, list or scalar
        A mapping's values and a sequence's items are nodes again.
    key_lines : dict
        Of a mapping: the line of each key.
    """

    line: int
    value: Any
    key_lines: dict[str, int] | None = None

    def plain(self) -> Any:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {k: v.plain() for k, v in self.value.items()}
        if isinstance(self.value, list):
            return [v.plain() for v in self.value]
        return self.value

    def line_of(self, loc: tuple[Any, ...]) -> int:
        """The line of the deepest node on the path `loc`; a mapping's entry is at its key."""
        node, line = self, self.line
        for step in loc:
            if isinstance(node.value, dict) and step in node.value:
                line = (node.key_lines or {}).get(step, line)
                node = node.value[step]
            elif isinstance(node.value, list) and isinstance(step, int) and step < len(node.value):
                node = node.value[step]
                line = node.line
            else:
                break
        return line


def scalar(text: str) -> str | int | float | bool | None:
    """What a plain scalar means.

    Raises
    ------
    ValueError
        On a number outside int64 or the doubles.

    Examples
    --------
    >>> [scalar(t) for t in ("7", "-3", "1e3", "0.5", "true", "no", "010", "3:4", "1_000", "")]
    [7, -3, 1000.0, 0.5, True, 'no', '010', '3:4', '1_000', '']
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        if len(text) > 19 or abs(int(text)) >= 2**63:
            raise ValueError(f"the integer {text[:24]}... is beyond 64 bits" if len(text) > 24 else f"{text} is beyond 64 bits")
        return int(text)
    if _FLOAT.fullmatch(text):
        if abs(value := float(text)) == float("inf"):
            raise ValueError(f"{text[:24]} is beyond the largest double")
        return value
    return text


def read(path: Path) -> Node:
    """The root node of the file at `path`.

    Raises
    ------
    CatalogueError
        If it cannot be read, is larger than 4 MB, or is not one plain YAML document.
    """
    try:
        if not path.is_file():
            raise CatalogueError(path, 0, "not a file" if path.exists() else "no such file")
        if (size := path.stat().st_size) > MAX_BYTES:
            raise CatalogueError(path, 0, f"the file has {size} bytes: a catalogue file has at most {MAX_BYTES}; split it")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except (OSError, ValueError) as e:
        if isinstance(e, CatalogueError):
            raise
        raise CatalogueError(path, 0, f"cannot be read: {getattr(e, 'strerror', None) or e}") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise CatalogueError(path, data.count(b"\n", 0, e.start) + 1, f"not UTF-8: {e.reason} (byte {e.start})") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Node:
    """The root node of `text`; `path` is for messages."""
    try:
        return _build(yaml.parse(text, Loader=_LOADER), path)
    except yaml.MarkedYAMLError as e:
        mark = e.problem_mark or e.context_mark
        said = ", ".join(p for p in (e.context, e.problem) if p)
        raise CatalogueError(path, mark.line + 1 if mark else 1, f"not YAML: {said}") from None
    except yaml.reader.ReaderError as e:
        # position counts characters for the Python reader and bytes for libyaml's; both err on the safe side of a line
        line = text.count("\n", 0, e.position) + 1 if isinstance(e.position, int) else 1
        raise CatalogueError(path, line, f"not YAML: {e.reason}") from None


def _build(events: Iterator[Any], path: Path) -> Node:
    """Nodes from parser events, without recursion."""
    root: Node | None = None
    open_nodes: list[Node] = []
    keys: list[Node | None] = []  # for each open mapping, the key that waits for its value

    def attach(node: Node) -> None:
        nonlocal root
        if not open_nodes:
            root = node
            return
        parent = open_nodes[-1]
        if isinstance(parent.value, list):
            parent.value.append(node)
        elif (key := keys[-1]) is None:
            keys[-1] = _key(node, parent, path)
        else:
            parent.value[key.value] = node
            keys[-1] = None

    for e in events:
        kind = type(e)  # the parsers make exactly these classes, and a chain of isinstance took half the time
        line = e.start_mark.line + 1
        if kind is ScalarEvent:
            _plain_node(e, path, line)
            waiting = bool(open_nodes) and isinstance(open_nodes[-1].value, dict) and keys[-1] is None
            attach(Node(line, e.value if waiting else _scalar(e, path, line)))
        elif kind is MappingStartEvent or kind is SequenceStartEvent:
            _plain_node(e, path, line)
            if len(open_nodes) == MAX_DEPTH:
                raise CatalogueError(path, line, f"nested more than {MAX_DEPTH} levels deep")
            node = Node(line, {}, {}) if kind is MappingStartEvent else Node(line, [])
            attach(node)
            open_nodes.append(node)
            keys.append(None)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            open_nodes.pop()
            keys.pop()
        elif kind is AliasEvent:
            raise CatalogueError(path, line, f"alias *{e.anchor}: aliases are not read; write the value, or use defaults:")
        elif kind is DocumentStartEvent and root is not None:
            raise CatalogueError(path, line, "a second document: a catalogue file holds one")
    if root is None:
        raise CatalogueError(path, 1, "the file is empty: it is a mapping with family: and cases:")
    return root


def _plain_node(event: Any, path: Path, line: int) -> None:
    """Refuse what YAML can do to a node beyond its text."""
    if event.anchor is not None:
        raise CatalogueError(path, line, f"anchor &{event.anchor}: anchors are not read; use defaults:")
    if event.tag is not None:
        raise CatalogueError(path, line, f"tag {event.tag}: tags are not read; quote the value to make it text")


def _scalar(event: Any, path: Path, line: int) -> Any:
    """A scalar event's value: quoted and block scalars are text."""
    if event.style in ("'", '"', "|", ">"):
        return event.value
    try:
        return scalar(event.value)
    except ValueError as e:
        raise CatalogueError(path, line, str(e)) from None


def _key(node: Node, parent: Node, path: Path) -> Node:
    """Check that `node` is a new key of `parent`, and note its line."""
    if not isinstance(node.value, str):
        raise CatalogueError(path, node.line, "a mapping's key is a list or a mapping: keys are plain words")
    assert parent.key_lines is not None
    if (first := parent.key_lines.get(node.value)) is not None:
        raise CatalogueError(path, node.line, f"duplicate key {node.value!r}: it is set on line {first} already")
    parent.key_lines[node.value] = node.line
    return node
