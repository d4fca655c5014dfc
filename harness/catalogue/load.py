"""Files to cases: read, validate, expand, and say where whatever is wrong stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from harness.catalogue.case import Case, suites_from
from harness.catalogue.errors import CatalogueError, nearest
from harness.catalogue.fields import SPEC_FIELDS, spec_fields
from harness.catalogue.grid import points
from harness.catalogue.literals import literal
from harness.catalogue.matrices import matrix
from harness.catalogue.models import (
    ID,
    CatalogueFile,
    Defaults,
    Entry,
    LiteralNumbers,
    MatrixNumbers,
    PhotoFile,
    RefusedEntry,
    SpecFields,
    show,
)
from harness.catalogue.nodes import Node, read
from harness.catalogue.photos import photo, size_of
from harness.spec import ConvSpec, SpecError

_TYPES = {
    "int_type": "an integer", "string_type": "text", "bool_type": "true or false", "list_type": "a list",
    "dict_type": "a mapping", "model_type": "a mapping",
}  # fmt: skip
_NESTED: Mapping[str, type[BaseModel]] = {"literal": LiteralNumbers, "matrix": MatrixNumbers, "photo": PhotoFile}
_NAMES = {"except_": "except"}
_T = TypeVar("_T")


def load_file(path: Path) -> tuple[Case, ...]:
    """The cases of one file, in its order.

    Raises
    ------
    CatalogueError
        At the first thing that is wrong, with its place.
    """
    root = read(path)
    if not isinstance(root.value, dict):
        raise CatalogueError(
            path, root.line, f"a catalogue file is a mapping with family: and cases:, got {show(root.plain())}"
        )
    _header(root, path)
    family = root.value["family"].value
    defaults = root.value.get("defaults", Node(root.line, {}, {}))
    _check(Defaults, defaults.plain(), defaults, path, "defaults")
    cases: list[Case] = []
    seen: dict[str, Case] = {}
    for node in root.value["cases"].value:
        for case in _entry(node, defaults, family, path):
            if (first := seen.get(case.id)) is not None:
                raise CatalogueError(path, case.line, f"duplicate id {case.id!r}: it is at {first.where} already")
            seen[case.id] = case
            cases.append(case)
    return tuple(cases)


def _header(root: Node, path: Path) -> None:
    """Check the file's own keys; the entries are checked one by one."""
    for key, line in (root.key_lines or {}).items():
        if key not in CatalogueFile.model_fields:
            raise CatalogueError(path, line, f"unknown key {key!r}: {nearest(key, CatalogueFile.model_fields)}")
    for key, kind, what in (("family", str, "a word"), ("cases", list, "a list of cases")):
        node = root.value.get(key)
        if node is None:
            raise CatalogueError(path, root.line, f"no {key}: a catalogue file has family: and cases:")
        if not isinstance(node.value, kind) or not node.value:
            raise CatalogueError(path, node.line, f"{key} takes {what}: got {show(node.plain())}")
    if not ID.fullmatch(family := root.value["family"].value) or "-" in family:
        raise CatalogueError(path, root.value["family"].line, f"family {family!r}: one lower-case word")


def _entry(node: Node, defaults: Node, family: str, path: Path) -> Iterator[Case]:
    """The cases of one entry: one, or one a point of its grid."""
    if not isinstance(node.value, dict):
        raise CatalogueError(path, node.line, f"a case takes a mapping: got {show(node.plain())}")
    own = node.plain()
    refused = "refused" in own
    values = defaults.plain() | own
    model = RefusedEntry if refused else Entry
    entry: Any = _check(model, values, node, path, f"case {own.get('id', '?')!r}", defaults)
    if not entry.id.startswith(family + "-"):
        raise CatalogueError(
            path, node.line_of(("id",)), f"id {entry.id!r} is not of the file's family: it begins with '{family}-'"
        )
    source = entry.source
    if not source:
        raise CatalogueError(path, node.line, f"case {entry.id!r} has no source: paper and layer, issue, or 'hand: reason'")
    common: dict[str, Any] = {
        "family": family, "why": entry.why, "source": source, "tags": tuple(entry.tags),
        "suites": suites_from(entry.suite), "file": str(path), "line": node.line,
    }  # fmt: skip
    if refused:
        written = {k: values[k] for k in SPEC_FIELDS if k in values}
        yield Case(entry.id, spec=None, refused=entry.refused, fields=_fields(written, node, path, entry.id), **common)
        return
    common["crop_of"] = entry.crop_of
    if entry.grid is None:
        if entry.except_:
            raise CatalogueError(path, node.line_of(("except",)), f"case {entry.id!r} has except: without a grid")
        yield _case(entry.id, entry, node, path, common)
        return
    yield from _grid(entry, values, node, path, common)


def _grid(entry: Entry, values: Mapping[str, Any], node: Node, path: Path, common: dict[str, Any]) -> Iterator[Case]:
    """One case a point of the entry's grid."""
    at = node.line_of(("grid",))
    for key in _NESTED:
        if getattr(entry, key) is not None:
            raise CatalogueError(path, at, f"case {entry.id!r} has {key}: and a grid: its points differ in shape")
    grid_node = node.value["grid"]
    base = {k: values[k] for k in SPEC_FIELDS if k in values}
    iterator = points(grid_node.plain(), entry.except_)
    while True:
        try:
            point = next(iterator)
        except StopIteration:
            return
        except ValueError as e:
            raise CatalogueError(path, at, f"case {entry.id!r}: {e}") from None
        for name in point.fields:
            if name in node.value:
                raise CatalogueError(path, node.line_of((name,)), f"case {entry.id!r} sets {name} and varies it in its grid")
        name = f"{entry.id}-{point.suffix}"
        merged = _check(SpecFields, base | dict(point.fields), grid_node, path, f"case {name!r}", origin=point.origin)
        yield _case(name, merged, node, path, common, at)


def _case(name: str, fields: SpecFields, node: Node, path: Path, common: Mapping[str, Any], at: int = 0) -> Case:
    """The case called `name`; `at` is the line to blame where the sizes are impossible."""
    line = at or node.line
    set_fields = {k: getattr(fields, k) for k in SPEC_FIELDS if k in fields.model_fields_set}
    picture = getattr(fields, "photo", None)
    if picture is not None:
        size = _blamed("photo", node, path, name, lambda: size_of(path.parent, picture.file))
        if set_fields.setdefault("in_size", size) != size:
            text = f"in_size is {list(set_fields['in_size'])}, the picture {picture.file} has {list(size)}"
            raise CatalogueError(path, node.line_of(("in_size",)), f"case {name!r}: {text}: leave in_size out")
    for needed in ("op", "in_size", "kernel_size"):
        if set_fields.get(needed) is None:
            raise CatalogueError(path, line, f"case {name!r} has no {needed}")
    kwargs = _fields(set_fields, node, path, name, at)
    try:
        spec = ConvSpec(**kwargs)
    except SpecError as e:
        raise CatalogueError(path, _blame(str(e), node, line), f"case {name!r}: {e}") from None
    return Case(name, spec=spec, fields=kwargs, **_numbers(fields, spec, node, path, name), **common)


def _numbers(fields: SpecFields, spec: ConvSpec, node: Node, path: Path, name: str) -> dict[str, Any]:
    """The case's literal, matrix and photo, each None where the entry has none."""
    lit, rows, picture = (getattr(fields, key, None) for key in _NESTED)
    if picture is not None and (lit is not None or rows is not None):
        line = node.line_of(("photo",))
        raise CatalogueError(path, line, f"case {name!r} has a photo, and literal numbers or a matrix: it takes one of them")
    found: dict[str, Any] = {}
    if lit is not None:
        found["literal"] = _blamed("literal", node, path, name, lambda: literal(lit.x, lit.w, lit.b, lit.y, spec))
    if rows is not None:
        worked = found.get("literal")
        found["matrix"] = _blamed("matrix", node, path, name, lambda: matrix(rows.view, rows.rows, worked, spec))
    if picture is not None:
        folder, scale = path.parent, picture.scale
        found["photo"] = _blamed("photo", node, path, name, lambda: photo(folder, picture.file, picture.w, scale, spec))
    return found


def _blamed(key: str, node: Node, path: Path, name: str, made: Callable[[], _T]) -> _T:
    """What `made` makes; its ValueError, which begins with a field of `key`, becomes one with a place."""
    try:
        return made()
    except ValueError as e:
        line = node.line_of((key, str(e).split(" ", 1)[0].rstrip(":")))
        raise CatalogueError(path, line, f"case {name!r}: {key} {e}") from None


def _fields(values: Mapping[str, Any], node: Node, path: Path, name: str, at: int = 0) -> dict[str, Any]:
    try:
        return spec_fields(values)
    except ValueError as e:
        raise CatalogueError(path, at or node.line_of(("padding",)), f"case {name!r}: {e}") from None


def _blame(message: str, node: Node, line: int) -> int:
    """The line of the field that a `SpecError` begins with or names, else the entry's."""
    for word in message.replace(":", " ").split():
        if word in SPEC_FIELDS and word != "op" and word in node.value:
            return node.line_of((word,))
    return line


def _check(
    model: type[BaseModel],
    values: Any,
    node: Node,
    path: Path,
    who: str,
    fallback: Node | None = None,
    origin: Mapping[str, tuple[str, Any]] | None = None,
) -> Any:
    """`values` as a `model`, or the first error at its place.

    The place is looked for in `node`, then in `fallback` (the file's defaults); `origin` says
    which of a grid's fields set each field.
    """
    try:
        return model.model_validate(values)
    except ValidationError as e:
        error = e.errors(include_url=False, include_context=True)[0]
    loc = tuple(error["loc"])
    where = node
    if origin and loc and (source := origin.get(str(loc[0]))):
        loc_in_node: Sequence[Any] = (*source, *loc[1:])
    else:
        loc_in_node = loc
    if fallback is not None and loc and isinstance(node.value, dict) and loc[0] not in node.value and loc[0] in fallback.value:
        where = fallback
    raise CatalogueError(path, where.line_of(tuple(loc_in_node)), f"{who}: {_message(model, error, loc)}") from None


def _message(model: type[BaseModel], error: Any, loc: tuple[Any, ...]) -> str:
    """What a pydantic error means, in the catalogue's words."""
    kind, field = error["type"], ".".join(str(s) for s in loc if not (isinstance(s, str) and "[" in s))
    got = error["input"]
    if kind == "extra_forbidden":
        known: Any = _NESTED.get(str(loc[-2]), LiteralNumbers) if len(loc) > 1 else model
        names = [f.alias or n for n, f in known.model_fields.items()]
        return f"unknown key {loc[-1]!r}: {nearest(loc[-1], names)}"
    if kind == "missing":
        return f"no {field}"
    if kind in _TYPES:
        return f"{field} takes {_TYPES[kind]}: got {show(got)}"
    if kind == "value_error":
        return f"{field}: {error['ctx']['error']}"
    if kind == "literal_error":
        known = re.findall(r"'(\w+)'", error["ctx"]["expected"])
        return f"{field}: unknown value {show(got)}: {nearest(got, known)}"
    if kind == "string_pattern_mismatch":
        return f"{field} {show(got)}: lower-case words and digits joined by hyphens"
    return f"{field}: {error['msg']}, got {show(got)}"
