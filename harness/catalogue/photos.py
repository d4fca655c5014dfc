"""Pictures as inputs: a binary PGM beside a catalogue file, read without numpy.

The netpbm format is a line of text and the bytes, so that no library is needed and what is in the
repository can be opened by any viewer. `portable greymap`, http://netpbm.sourceforge.net/doc/pgm.html.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

from harness.catalogue.case import Numbers, Photo
from harness.catalogue.literals import tensor
from harness.spec import ConvSpec

#: Bytes of the largest picture: a case is small, and every backend computes it in every run.
MAX_BYTES = 1 << 20
_HEADER = re.compile(rb"P5\s(?:#[^\n]*\n)*\s*([0-9]{1,6})\s+([0-9]{1,6})\s+([0-9]{1,5})\s")


def size_of(folder: Path, name: str) -> tuple[int, int]:
    """(height, width) of a picture.

    Raises
    ------
    ValueError
        If it cannot be read; the message begins with `file`.
    """
    rows = _pixels(folder / name)
    return len(rows), len(rows[0])


def photo(folder: Path, name: str, w: Any, scale: float, spec: ConvSpec) -> Photo:
    """The picture and its scaled weights, checked against the specification.

    Raises
    ------
    ValueError
        The message begins with the field's name.
    """
    if spec.op != "conv" or spec.bias or spec.x_shape[:2] != (1, 1) or spec.rank != 2:
        raise ValueError(f"file: a picture is the input of a 2-D conv with one channel and no bias, not of {spec}")
    assert spec.w_shape is not None
    if Fraction(repr(scale)) != Fraction(scale):
        raise ValueError(f"scale: {scale!r} is no dyadic fraction: no float equals it")
    return Photo(name, ((_pixels(folder / name),),), _scaled(tensor("w", w, spec.w_shape), scale))


def _scaled(numbers: Any, scale: float) -> Any:
    """Every number times `scale`, exactly; whole numbers stay integers."""
    if isinstance(numbers, tuple):
        return tuple(_scaled(n, scale) for n in numbers)
    value = Fraction(numbers) * Fraction(scale)
    if Fraction(float(value)) != value:
        raise ValueError(f"w: {numbers!r} times the scale {scale!r} is no double")
    return int(value) if value.denominator == 1 else float(value)


def _pixels(path: Path) -> Numbers:
    """Rows of grey values."""
    try:
        stat = path.stat()
    except (OSError, ValueError) as e:
        raise ValueError(f"file: {path.name}: {getattr(e, 'strerror', None) or e} (it stands beside the YAML file)") from None
    if not path.is_file() or stat.st_size > MAX_BYTES:
        raise ValueError(f"file: {path.name} is no file of at most {MAX_BYTES} bytes")
    return _read(path, stat.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Numbers:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ValueError(f"file: {path.name}: {e.strerror}") from None
    header = _HEADER.match(data)
    if header is None:
        raise ValueError(f"file: {path.name} is no binary PGM: it begins with P5, width, height and 255")
    width, height, most = map(int, header.groups())
    body = data[header.end() :]
    if most != 255 or width * height == 0 or len(body) != width * height:
        want = f"255 as its maximum and {width} x {height} bytes"
        raise ValueError(f"file: {path.name} has {most} as its maximum and {len(body)} bytes of pixels; expected {want}")
    return tuple(tuple(body[i : i + width]) for i in range(0, len(body), width))
