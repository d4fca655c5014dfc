"""Figures of matplotlib as inline SVG that follows the page: its colours in light and dark, its font, its width.

Figures are drawn in colours that stand for roles, and these become CSS variables; text stays text. Sizes are chosen so
that a figure is legible at the width of a phone: it is as wide as one, and a wide page puts several beside each other.
The same data give the same bytes. matplotlib is imported when a figure is drawn, and only here.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count
from typing import TYPE_CHECKING, Any

from harness.text import writable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: In points, which are the units of the view box: as wide as a phone's page.
WIDTH, HEIGHT, FONT = 380, 290, 11.5
#: Stand for the page's colours, and are found again in what matplotlib writes.
FG, MUTED, LINE, CARD, BG = "#a00001", "#a00002", "#a00003", "#a00004", "#a00005"
#: Series' colours (`--c0` ... of the page's style); then they come again with other marks.
COLOURS = tuple(f"#b0000{i}" for i in range(8))
_VARIABLES = {FG: "--fg", MUTED: "--muted", LINE: "--line", CARD: "--card", BG: "--bg"} | {
    c: f"--c{i}" for i, c in enumerate(COLOURS)
}
_COLOUR = re.compile("|".join(_VARIABLES))
#: Marks and strokes: of other lengths than `COLOURS`, so that 88 series differ. A dash is in widths of the line.
MARKS = ("o", "s", "^", "D", "v", "P", "X", "p", "<", "*", ">")
DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1.5, 1.5), (6, 2, 1.5, 2), (9, 3))
_SVG, _XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "convproof",
    "text.parse_math": False,  # a name may hold dollars
    "font.size": FONT,
    "axes.labelsize": FONT,
    "axes.titlesize": FONT,
    "xtick.labelsize": FONT - 0.5,
    "ytick.labelsize": FONT - 0.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": FG,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "text.color": FG,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": FG,
    "ytick.labelcolor": FG,
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "path.simplify": True,
}


@dataclass(frozen=True)
class Style:
    """How a series is told from the others: by colour, by mark and by stroke."""

    number: int

    @property
    def colour(self) -> str:
        """The colour to draw with."""
        return COLOURS[self.number % len(COLOURS)]

    @property
    def variable(self) -> str:
        """Its variable of the page's style."""
        return f"var({_VARIABLES[self.colour]})"

    @property
    def mark(self) -> str:
        """The letter that matplotlib draws it by."""
        return MARKS[self.number % len(MARKS)]

    @property
    def dash(self) -> Any:
        """The line style."""
        return (0, DASHES[self.number % len(DASHES)]) if DASHES[self.number % len(DASHES)] else "-"


@dataclass(frozen=True)
class Key:
    """An entry of a legend, which the page sets as text: it wraps at any width."""

    label: str
    svg: str


@dataclass(frozen=True)
class Plot:
    """A figure for the page.

    Attributes
    ----------
    name : str
        Unique on the page, of letters and digits.
    title, text : str
        The title, and what a reader who can't see it is told.
    svg : str
    caption : str
        How it is to be read.
    keys : tuple of Key
    """

    name: str
    title: str
    text: str
    svg: str
    caption: str = ""
    keys: tuple[Key, ...] = ()


def missing() -> str:
    """Why nothing can be drawn, and what to do; empty where it can."""
    return "" if find_spec("matplotlib") else "plots need matplotlib: pip install 'convproof[reports]'"


@contextmanager
def drawing() -> Iterator[None]:
    """Settings under which figures are made and written: ours, whatever the user's file says."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # the first use may tell of caches
    import matplotlib as mpl

    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)  # type: ignore[arg-type]
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # the reader's font draws it
        yield


def figure(height: float = HEIGHT, **how: Any) -> tuple[Figure, Any]:
    """A new figure and what `Figure.subplots(**how)` makes; within `drawing`."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(WIDTH / 72, height / 72), dpi=72, layout="constrained")
    made.patch.set_visible(False)
    axes = made.subplots(**how)
    for ax in made.axes:
        ax.patch.set_visible(False)
    return made, axes


def inline(made: Figure, name: str, title: str, text: str) -> str:
    """The SVG element, to stand in a page: labelled, with ids of its own, in the page's colours."""
    with io.StringIO() as file:
        made.savefig(file, format="svg", metadata={"Date": None})
        root = ET.fromstring(file.getvalue())  # noqa: S314 - matplotlib wrote it
    _clean(root, name)
    box = root.attrib["viewBox"]
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-labelledby": f"{name}-t {name}-d", "class": "drawn"})
    for place, (tag, words) in enumerate((("title", title), ("desc", text))):
        element = ET.Element(tag, {"id": f"{name}-{tag[0]}"})
        element.text = writable(words, 1_000)
        root.insert(place, element)
    return ET.tostring(root, encoding="unicode")


def _clean(root: ET.Element, name: str) -> None:
    """Drop what a page has no use for, in place: metadata, clips, unused ids, fonts; and rename ids and colours."""
    marks: dict[str, str] = {}
    numbers = count()
    for parent in root.iter():
        for child in list(parent):
            if child.tag in (f"{_SVG}metadata", f"{_SVG}style", f"{_SVG}clipPath"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.removeprefix(_SVG)
        held = element.attrib
        held.pop("clip-path", None)
        identity = held.pop("id", None)
        if element.tag == "path" and identity is not None:
            held["id"] = marks[identity] = f"{name}-m{next(numbers)}"
        if (target := held.pop(f"{_XLINK}href", None)) is not None:
            held["href"] = target
        for key in ("x", "y", "d"):
            if key in held:
                held[key] = _shorter(held[key])
        if "style" in held:
            held["style"] = _restyled(held["style"])
        if held.get("transform", "").startswith("rotate(-0 "):
            del held["transform"]
        if element.tag != "text":
            element.text = None
        element.tail = None
    for element in root.iter("use"):
        element.attrib["href"] = f"#{marks[element.attrib['href'].removeprefix('#')]}"
    for parent in root.iter():  # what is left empty
        for child in list(parent):
            if child.tag in ("defs", "g") and len(child) == 0:
                parent.remove(child)


_NUMBER = re.compile(r"-?\d+\.\d+")


def _shorter(text: str) -> str:
    """A tenth of a point is enough for a place on a page."""
    return " ".join(_NUMBER.sub(lambda m: f"{float(m[0]):.1f}".removesuffix(".0"), text).split())


def _restyled(style: str) -> str:
    kept = [part.strip() for part in style.split(";") if part.strip() and not part.strip().startswith("font-family")]
    return _COLOUR.sub(lambda m: f"var({_VARIABLES[m[0]]})", ";".join(p.replace(": ", ":") for p in kept))


def key(label: str, style: Style | None, *, line: bool = False, hollow: bool = False) -> Key:
    """The legend's entry of a series: its stroke, its mark, its name; without a style of what all series share."""
    colour = style.variable if style is not None else "var(--muted)"
    parts = []
    if line and style is not None:
        dash = ",".join(f"{1.8 * d:g}" for d in DASHES[style.number % len(DASHES)]) or "none"
        parts.append(f'<path d="M0 7H30" fill="none" stroke="{colour}" stroke-width="1.8" stroke-dasharray="{dash}"/>')
    outline = _outline(style.mark if style is not None else "o")
    parts.append(f'<path d="{outline}" fill="{"none" if hollow else colour}" stroke="{colour}" stroke-width="1.3"/>')
    return Key(label, f'<svg class="key" viewBox="0 0 30 14" aria-hidden="true">{"".join(parts)}</svg>')


def _outline(mark: str) -> str:
    """A mark's outline as a path, 9 units high in the middle of a box of 30 x 14."""
    from matplotlib.markers import MarkerStyle

    drawn = MarkerStyle(mark)
    path = drawn.get_path().transformed(drawn.get_transform())
    parts = []
    for points, code in path.iter_segments(curves=True):
        pairs = [f"{15 + 9 * x:.1f} {7 - 9 * y:.1f}" for x, y in points.reshape(-1, 2)]
        letter = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}[int(code)]
        parts.append("Z" if letter == "Z" else letter + " ".join(pairs))
    return "".join(parts)


def log_axis(ax: Axes, which: str, low: float, high: float, *, unit: str = "") -> None:
    """A logarithmic axis from `low` to `high`, with four to seven labelled ticks as people write numbers."""
    axis = getattr(ax, f"{which}axis")
    getattr(ax, f"set_{which}scale")("log")
    getattr(ax, f"set_{which}lim")(low, high)
    places = log_ticks(low, high)
    axis.set_ticks(places, [f"{plain(p)}{unit}" for p in places])
    axis.set_ticks([], minor=True)


def log_ticks(low: float, high: float) -> list[float]:
    """At most seven round numbers in a range, evenly spaced on a logarithmic scale where it spans decades.

    Examples
    --------
    >>> log_ticks(0.9, 3.5), log_ticks(0.5, 2e6), log_ticks(3.02, 3.4)
    ([1.0, 1.5, 2.0, 3.0], [1.0, 100.0, 10000.0, 1000000.0], [3.1, 3.2, 3.3, 3.4])
    """
    from math import ceil, floor, log10

    first, last = floor(log10(low)), ceil(log10(high))
    for steps in ((1, 1.5, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
        found = [float(f"{s}e{k}") for k in range(first, last + 1) for s in steps if low <= s * 10.0**k <= high]
        if len(found) <= 6:
            break
    else:
        step = ceil((last - first) / 6)
        found = [10.0**k for k in range(first, last + 1) if k % step == 0 and low <= 10.0**k <= high]
    if len(found) < 3:
        place = 10.0 ** floor(log10((high - low) / 3))
        whole = range(ceil(low / place), floor(high / place * (1 + 1e-12)) + 1)
        found = [float(f"{i * place:.10g}") for i in whole][:: max(1, len(whole) // 5)]
    return found


def plain(value: float) -> str:
    """A tick's number: `1000`, `0.01`, `10⁶`.

    Examples
    --------
    >>> plain(0.01), plain(2000.0), plain(1e6), plain(2e-7)
    ('0.01', '2000', '10⁶', '2·10⁻⁷')
    """
    if 1e-3 <= abs(value) < 1e5 or value == 0:
        return f"{value:g}"
    mantissa, _, power = f"{value:.1e}".partition("e")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"10{raised}" if float(mantissa) == 1 else f"{float(mantissa):g}·10{raised}"


def margins(values: Sequence[float], share: float = 0.06) -> tuple[float, float]:
    """The ends of a logarithmic axis that holds positive values with room on both sides."""
    low, high = min(values), max(values)
    room = max((high / low) ** share, 1.05)
    return low / room, high * room
