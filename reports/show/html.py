"""A page as one HTML file: nothing from the network, light and dark, legible on a phone; all text is escaped."""

from __future__ import annotations

from html import escape

import numpy as np

from reports.raster import data_uri, png
from reports.show.model import HUES, Image, Page, Section, Table

#: Grey, and the last entry for what is wrong.
_WRONG = 255
#: Pixels of a picture on the screen: whole multiples of its own, up to this.
WIDTH = 176
_PALETTE = [(v, v, v) for v in range(255)] + [(214, 40, 57)]
_HUES = "\n".join(f".h{i}{{background:hsl({(i * 150 + 28) % 360} var(--sat) var(--lit))}}" for i in range(HUES))
_STYLE = (
    """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--muted:#57606a;--line:#d5dbe1;--card:#f6f8fa;
--good:#0a5240;--bad:#b3261e;--sat:75%;--lit:82%}
@media (prefers-color-scheme:dark){:root{--bg:#14181d;--fg:#e2e7ec;--muted:#9aa5b1;--line:#323a43;--card:#1d2329;
--good:#7fd1b5;--bad:#ff8a80;--sat:38%;--lit:30%}}
*{box-sizing:border-box}html{-webkit-text-size-adjust:100%}
body{margin:0 auto;padding:1.2rem 1rem 4rem;max-width:90rem;background:var(--bg);color:var(--fg);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.4rem;margin:0 0 .4rem}h2{font-size:1.1rem;margin:2rem 0 .3rem;padding-top:.8rem;
border-top:1px solid var(--line);overflow-wrap:anywhere}
p{margin:.2rem 0;overflow-wrap:anywhere}.muted,figcaption,th{color:var(--muted)}
code,pre,table{font-family:ui-monospace,"SF Mono",Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{margin:.6rem 0 0;padding:.5rem .7rem;background:var(--card);border:1px solid var(--line);border-radius:4px;
font-size:.82rem;white-space:pre-wrap;overflow-wrap:anywhere}
.row{display:flex;flex-wrap:wrap;gap:1rem 1.4rem;align-items:flex-start;margin:.8rem 0}
figure{margin:0;max-width:100%;min-width:0}h3{font-size:.86rem;margin:0 0 .3rem;font-weight:600;overflow-wrap:anywhere}
figcaption{font-size:.82rem;line-height:1.35;margin-top:.3rem;max-width:20rem;overflow-wrap:anywhere}
.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}
.scroll{overflow-x:auto;max-width:100%}
figure.img{width:var(--w)}img{display:block;image-rendering:pixelated;width:100%;height:auto;
border:1px solid var(--line)}
table{border-collapse:collapse;font-size:.84rem;line-height:1.3}
th{font-weight:400;font-size:.74rem;padding:.1rem .35rem;text-align:right;white-space:nowrap}
td{padding:.12rem .4rem;text-align:right;border:1px solid var(--line);font-variant-numeric:tabular-nums;white-space:nowrap}
td.z{color:var(--muted);text-align:center}
td.w{outline:2px solid var(--bad);outline-offset:-2px;color:var(--bad);font-weight:700}
@media (max-width:30rem){body{padding:.8rem .6rem 3rem}.row{gap:.8rem}td{padding:.1rem .28rem}
figure.img{width:min(var(--w),calc(50% - .4rem))}}
"""
    + _HUES
)


def render(page: Page) -> str:
    """The file's text."""
    sections = "\n".join(_section(s) for s in page.sections)
    lead = "".join(f'<p class="muted">{escape(t)}</p>' for t in page.lead)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'\">\n"
        f"<title>{escape(page.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<h1>{escape(page.title)}</h1>\n{lead}\n{sections}\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    lead = "".join(f'<p class="muted">{escape(t)}</p>' for t in section.lead)
    items = "\n".join(_image(i) if isinstance(i, Image) else _table(i) for i in section.items)
    notes = f"<pre>{escape(chr(10).join(section.notes))}</pre>" if section.notes else ""
    return f'<section>\n<h2>{escape(section.title)}</h2>\n{lead}\n<div class="row">\n{items}\n</div>\n{notes}\n</section>'


def _figure(item: Table | Image, body: str, attributes: str = "") -> str:
    """Title, body, and the verdict under it."""
    kind = {None: "muted", True: "good", False: "bad"}[item.good]
    sign = {None: "", True: "\N{CHECK MARK} ", False: "\N{BALLOT X} "}[item.good]
    told = f'<figcaption class="{kind}">{sign}{escape(item.verdict)}</figcaption>' if item.verdict else ""
    return f"<figure{attributes}><h3>{escape(item.title)}</h3>{body}{told}</figure>"


def _image(image: Image) -> str:
    index = np.where(image.wrong, _WRONG, np.minimum(image.pixels, 254)).astype(np.uint8)
    uri = data_uri(png(index, _PALETTE))
    rows, columns = index.shape
    width = columns * max(1, WIDTH // columns)
    said = escape(f"{image.title}, {rows} by {columns}", quote=True)
    picture = f'<img src="{uri}" width="{columns}" height="{rows}" alt="{said}">'
    return _figure(image, picture, f' class="img" style="--w:{width}px"')


def _table(table: Table) -> str:
    head = ""
    if table.columns:
        corner = "<th></th>" if table.rows else ""
        head = f"<tr>{corner}{''.join(f'<th>{escape(c)}</th>' for c in table.columns)}</tr>"
    lines = []
    for r, row in enumerate(table.cells):
        label = f"<th>{escape(table.rows[r])}</th>" if table.rows else ""
        lines.append(f"<tr>{label}{''.join(_cell(table, r, c, text) for c, text in enumerate(row))}</tr>")
    return _figure(table, f'<div class="scroll"><table>{head}{"".join(lines)}</table></div>')


def _cell(table: Table, r: int, c: int, text: str) -> str:
    names = []
    if table.hue[r, c] >= 0:
        names.append(f"h{int(table.hue[r, c]) % HUES}")
    if table.wrong[r, c]:
        names.append("w")
    elif table.faint[r, c]:
        names.append("z")
        text = "\N{MIDDLE DOT}"
    kind = f' class="{" ".join(names)}"' if names else ""
    return f"<td{kind}>{escape(text)}{'!' if table.wrong[r, c] else ''}</td>"
