"""Pictures without a plotting library: a palette PNG of integers, as a data URI."""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Sequence

import numpy as np

Colour = tuple[int, int, int]


def png(index: np.ndarray, palette: Sequence[Colour]) -> bytes:
    r"""A PNG file (ISO/IEC 15948) with a palette.

    Parameters
    ----------
    index : ndarray of uint8, (rows, columns)
        Entries of the palette.
    palette : sequence of (red, green, blue)
        At most 256.

    Examples
    --------
    >>> png(np.zeros((2, 3), np.uint8), [(255, 0, 0)])[:8]
    b'\x89PNG\r\n\x1a\n'
    """
    rows, columns = index.shape
    lines = np.zeros((rows, columns + 1), np.uint8)  # a line begins with its filter, 0: none
    lines[:, 1:] = index
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = (
        (b"IHDR", header),
        (b"PLTE", bytes(c for colour in palette for c in colour)),
        (b"IDAT", zlib.compress(lines.tobytes(), 9)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*c) for c in chunks)


def data_uri(image: bytes) -> str:
    """`image` as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(image).decode('ascii')}"


def blocks(index: np.ndarray, limit: int) -> tuple[np.ndarray, tuple[int, int]]:
    """`index` with no side longer than `limit`: blocks are replaced by their largest entry.

    Returns
    -------
    ndarray, (int, int)
        And the rows and columns of a block.

    Examples
    --------
    >>> blocks(np.array([[1, 9, 2, 3, 4]]), 3)
    (array([[9, 3, 4]]), (1, 2))
    """
    step = tuple(-(-n // limit) for n in index.shape)
    for axis, s in enumerate(step):
        if s > 1:
            index = np.maximum.reduceat(index, np.arange(0, index.shape[axis], s), axis)
    return index, (step[0], step[1])


def ramp(stops: Sequence[Colour], count: int) -> list[Colour]:
    """`count` colours, the stops at equal distances and straight lines between them."""
    at = np.linspace(0, len(stops) - 1, count)
    bands = [np.interp(at, range(len(stops)), [s[i] for s in stops]) for i in range(3)]
    return [(int(r), int(g), int(b)) for r, g, b in zip(*np.rint(bands), strict=True)]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
