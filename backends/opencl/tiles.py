"""How many outputs a work item of the blocked kernel keeps in registers, and in which order items go through the tiles.

A tile of some filters x some vectors of neighbouring outputs reads each input once for all its filters and each weight
once for all its outputs. Without tuning a model of a processor's cycles chooses among a few shapes.
"""

from __future__ import annotations

from dataclasses import dataclass

#: Bytes of a vector register that the tiles of a processor are made for; a narrower one takes two for each.
VECTOR_BYTES = 64
#: Bytes of the input of a chunk of tiles: what stays in a processor's caches while all filters pass over it.
CHUNK_BYTES = 192 << 10


@dataclass(frozen=True)
class Tile:
    """Build options of blocked.cl.

    Attributes
    ----------
    block : int
        Output channels of an item.
    vectors : int
        Vectors of an item.
    width : int
        Elements of a vector; 1 on GPUs.
    items : int
        Work items of a group; 1 on processors.
    """

    block: int
    vectors: int
    width: int
    items: int

    def options(self, taps: int = 0) -> tuple[str, ...]:
        """Of the build; `taps` is how many are unrolled, 0 for a loop."""
        found = f"-DBLOCK={self.block} -DVECTORS={self.vectors} -DWIDTH={self.width} -DITEMS={self.items}".split()
        return (*found, f"-DTAPS={taps}") if taps else tuple(found)


#: Filters and vectors of a processor's tiles: their sums, a row of inputs and a weight have a register each, of 32. Few,
#: because each is a program of its own, and each row beyond eight costs a pointer that is in no register.
SHAPES = ((8, 3), (6, 4), (4, 6), (8, 2), (1, 8), (2, 8))


def default_tile(pixels: int, filters: int, processor: bool, itemsize: int) -> Tile:
    """The tile without tuning: on a processor the one that takes the fewest cycles by `cycles`."""
    if not processor:
        return Tile(min(8, filters), 4, 1, 64)
    width = VECTOR_BYTES // itemsize
    shapes = [(min(block, filters), vectors) for block, vectors in SHAPES]
    found = min(shapes, key=lambda t: cycles(pixels, filters, t[0], t[1], width))
    return Tile(found[0], found[1], width, 1)


def cycles(pixels: int, filters: int, block: int, vectors: int, width: int) -> float:
    """Cycles a channel and tap of a processor with two multipliers and two loads a cycle, for all tiles of a group.

    A tile takes as long as its products, its loads (one of two inputs lies across two cache lines) or the latency of
    a product, whichever is longest; and some cycles to begin and end, here those of a sum of some hundred terms.
    """
    whole, rest = divmod(-(-pixels // width), vectors)

    def tile(n: int) -> float:
        return max(block * n / 2, (1.6 * n + block + 2) / 2, 4.0) + 1.0

    return -(-filters // block) * (whole * tile(vectors) + (tile(rest) if rest else 0.0))


def chunk_of_tiles(bytes_a_place: int, span: int, reach: int) -> int:
    """Tiles of `span` outputs whose input, `bytes_a_place` an output and `reach` beyond, fits `CHUNK_BYTES`."""
    return max(1, (CHUNK_BYTES // bytes_a_place - reach) // span)
