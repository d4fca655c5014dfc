"""The README's tables of what each built-in backend and each library takes, made from the `Limits` they declare.

`python -m reports.capabilities` prints it, `--write` puts it between the README's markers, `--check`
exits with 1 where the README differs. Declared limits are the only source: the plan, the skips and
this table cannot disagree.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from harness.backend import BackendInfo, Limits
from harness.registry import Registry, load
from harness.spec import default_types
from harness.spec.convspec import DTYPE_TRIPLES, OPS, PADDING_MODES

BEGIN, END = "<!-- capabilities:begin -->", "<!-- capabilities:end -->"
_FEATURES = ("dilation", "groups", "flip", "negative_padding", "asymmetric_padding", "zero_batch")
_HEADINGS = (
    "backend",
    "algorithm",
    "operations",
    "element types",
    "axes",
    "padding modes",
    "not taken",
    "NaN reaches",
    "extra",
)
#: Element types as `Limits.dtypes` names them: the input's name for its default accumulator and output.
_TYPES = [t[0] if t == default_types("conv", t[0]) else "/".join(t) for t in DTYPE_TRIPLES]
_TAINT = {"exact": "its receptive field", "tile": "the tiles it touches", "image": "its image"}


def built_in() -> list[BackendInfo]:
    """Facts of the backends that Convproof brings, by name; their optional imports are not needed."""
    return _ours(Registry.installed().entries)


def libraries() -> list[BackendInfo]:
    """The same of the outside libraries that it wraps, which need not be installed."""
    return _ours(Registry.installed().libraries)


def _ours(entries: Mapping[str, str]) -> list[BackendInfo]:
    return [load(f"{name}={value}").info for name, value in entries.items() if value.startswith("backends.")]


def tables() -> str:
    """What stands between the README's markers."""
    named = "Outside libraries, run when they are named (`--backend torch`, `--baseline torch`) and installed:"
    return f"{capability_table(built_in())}\n\n{named}\n\n{capability_table(libraries())}"


def capability_table(infos: Iterable[BackendInfo]) -> str:
    """A Markdown table, a row a backend; a column that all leave empty is left out.

    Examples
    --------
    >>> row = capability_table([BackendInfo("mine", limits=Limits(ops=("conv",), groups=False))]).splitlines()[-1]
    >>> row
    '| `mine` | direct | conv | all | 1, 2, 3 | all | groups | its receptive field |'
    """
    cells = [_row(i) for i in infos]
    kept = [i for i in range(len(_HEADINGS)) if any(row[i] for row in cells)]
    rows = [[row[i] for i in kept] for row in (_HEADINGS, ("---",) * len(_HEADINGS), *cells)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _row(info: BackendInfo) -> tuple[str, ...]:
    limits = info.limits
    return (
        f"`{info.name}`",
        info.classes,
        _names(limits.ops, OPS),
        _names(limits.dtypes, _TYPES),
        ", ".join(map(str, limits.ranks)),
        _names(limits.padding_modes, PADDING_MODES),
        _not_taken(limits),
        _TAINT.get(info.taint, info.taint),
        f"`{info.extra}`" if info.extra else "",
    )


def _names(names: tuple[str, ...] | None, known: Iterable[str]) -> str:
    return "all" if names is None or set(names) >= set(known) else ", ".join(names)


def _not_taken(limits: Limits) -> str:
    """Features that are declared off, and the first line of the rule's docstring for the rest."""
    parts = [f.replace("_", " ") for f in _FEATURES if not getattr(limits, f)]
    if limits.rule is not None:
        text = (limits.rule.__doc__ or "see its rule").strip().partition("\n")[0].rstrip(".")
        parts.append(text[:1].lower() + text[1:])
    return ", ".join(parts) or "-"


def replaced(text: str, table: str) -> str:
    """`text` with what stands between the markers replaced by `table`.

    Raises
    ------
    ValueError
        If the markers are not there, once each and in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no {BEGIN} ... {END}: put both markers where the table belongs")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print, write or check the table; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reports.capabilities", description="The README's tables of backends.")
    parser.add_argument("--readme", type=Path, default=Path("README.md"))
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--write", action="store_true", help="put the table into the README")
    what.add_argument("--check", action="store_true", help="exit with 1 where the README differs")
    options = parser.parse_args(arguments)
    table = tables()
    if not (options.write or options.check):
        sys.stdout.write(table + "\n")
        return 0
    old = options.readme.read_text(encoding="utf-8")
    new = replaced(old, table)
    if options.write:
        options.readme.write_text(new, encoding="utf-8")
    elif old != new:
        sys.stderr.write(f"{options.readme}: the table of backends is stale: python -m reports.capabilities --write\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
