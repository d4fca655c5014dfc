"""How many outputs a work item of the blocked kernel keeps in registers, and in which order items go through the tiles.

A tile of some filters x some vectors of neighbouring outputs reads each input once for all its filters and each weight
once for all its outputs. Without tuning a model of a processor's cycles chooses among a few shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import log2

#: Bytes of a vector register that the tiles of a processor are made for; a narrower one takes two for each.
VECTOR_BYTES = 64
#: Bytes of the input of a chunk of tiles: what stays in a processor's caches while all filters pass over it.
CHUNK_BYTES = 192 << 10


@dataclass(frozen=True)
class Tile:
    """Build options of blocked.cl, and its chunks.

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
    chunk : int
        Bytes of the input of a chunk of tiles.
    unroll : int
        Taps up to which their loop is unrolled.
    """

    block: int
    vectors: int
    width: int
    items: int
    chunk: int = CHUNK_BYTES
    unroll: int = 1

    @property
    def span(self) -> int:
        """Outputs of a tile, an output channel."""
        return self.vectors * self.width * self.items

    @property
    def settings(self) -> dict[str, int]:
        """By name, as they are kept."""
        return asdict(self)

    def fitted(self, filters: int) -> Tile:
        """With no more output channels than a group has."""
        return replace(self, block=min(self.block, filters))

    def options(self, taps: int = 0) -> tuple[str, ...]:
        """Of the build; `taps` is how many are unrolled, 0 for a loop."""
        found = f"-DBLOCK={self.block} -DVECTORS={self.vectors} -DWIDTH={self.width} -DITEMS={self.items}".split()
        return (*found, f"-DTAPS={taps}") if taps else tuple(found)


#: Filters and vectors of a processor's tiles: their sums, a row of inputs and a weight have a register each, of 32. Few,
#: because each is a program of its own, and each row beyond eight costs a pointer that is in no register.
SHAPES = ((8, 3), (6, 4), (4, 6), (8, 2), (1, 8), (2, 8))
#: What tuning tries besides.
MORE_SHAPES = (*SHAPES, (12, 2), (5, 5), (4, 4), (4, 5), (8, 1), (16, 1))
#: The shapes of outputs so few that no choice pays for the build of another program, and how few those are.
SMALL_SHAPES, SMALL = ((8, 3), (1, 8)), 4096


def default_tile(pixels: int, filters: int, processor: bool, itemsize: int) -> Tile:
    """The tile without tuning: on a processor the one that takes the fewest cycles by `cycles`."""
    if not processor:
        return Tile(max(block for block in (1, 2, 4, 8) if block <= max(1, filters)), 4, 1, 64)
    width = VECTOR_BYTES // itemsize
    menu = SMALL_SHAPES if pixels * filters < SMALL else SHAPES
    shapes = [(block, vectors) for block, vectors in menu if block <= filters]
    found = min(shapes, key=lambda t: cycles(pixels, filters, t[0], t[1], width))
    return Tile(found[0], found[1], width, 1)


#: Accumulators of an item of a GPU, at most: beyond, they leave its registers.
MOST_SUMS = 64
#: Taps of the largest kernel that is unrolled: 3 x 3.
MOST_UNROLLED = 9


def from_settings(settings: Mapping[str, int]) -> Tile:
    """The tile of settings that were kept.

    Raises
    ------
    TypeError
        If they are not a tile's.
    """
    return Tile(**settings)


def candidates(default: Tile, pixels: int, filters: int, taps: int, processor: bool, most_items: int) -> list[Tile]:
    """Tiles worth trying: the default first, then other shapes, other chunks and an unrolled loop."""
    found = [default, *(_of_processor if processor else _of_gpu)(default, pixels, filters, most_items)]
    shapes = [t.fitted(filters) for t in found]
    variants = [replace(default, chunk=b) for b in (CHUNK_BYTES // 3, 3 * CHUNK_BYTES)] if processor else []
    if 1 < taps <= MOST_UNROLLED:
        variants += [replace(t, unroll=taps) for t in shapes[:3]]
    return list(dict.fromkeys([*shapes[:3], *variants, *shapes[3:]]))  # the most promising first, if there is little time


def _of_processor(default: Tile, pixels: int, filters: int, most_items: int) -> list[Tile]:
    """Shapes of whole registers by the model's cycles, and the best of half registers: of 16 there are twice as many."""
    shapes = sorted(MORE_SHAPES, key=lambda t: cycles(pixels, filters, min(t[0], filters), t[1], default.width))
    half = max(1, default.width // 2)
    narrow = [replace(default, block=b, vectors=v, width=half) for b, v in ((6, 2), (4, 3), (default.block, default.vectors))]
    return [replace(default, block=b, vectors=v) for b, v in shapes] + narrow


def _of_gpu(default: Tile, pixels: int, filters: int, most_items: int) -> list[Tile]:
    """Blocks, vectors and groups about the default, nearest first."""
    all_of = product((8, 4, 16, 2), (4, 2, 8, 1), (64, 128, 32, 256))
    fits = [t for t in all_of if t[0] * t[1] <= MOST_SUMS and t[2] <= most_items]
    fits.sort(key=lambda t: abs(log2(t[0] / 8)) + abs(log2(t[1] / 4)) + abs(log2(t[2] / 64)))
    return [replace(default, block=b, vectors=v, items=i) for b, v, i in fits]


def cycles(pixels: int, filters: int, block: int, vectors: int, width: int) -> float:
    """Cycles a channel and tap of a processor with two multipliers and two loads a cycle, for all tiles of a group.

    A tile takes as long as its products, its loads (one of two inputs lies across two cache lines) or the latency of
    a product, whichever is longest; and some cycles to begin and end, here those of a sum of some hundred terms.
    """
    whole, rest = divmod(-(-pixels // width), vectors)

    def tile(n: int) -> float:
        return max(block * n / 2, (1.6 * n + block + 2) / 2, 4.0) + 1.0

    return -(-filters // block) * (whole * tile(vectors) + (tile(rest) if rest else 0.0))


def chunk_of_tiles(bytes_a_place: int, span: int, reach: int, size: int = CHUNK_BYTES) -> int:
    """Tiles of `span` outputs whose input, `bytes_a_place` an output and `reach` beyond, fits `size` bytes."""
    return max(1, (size // bytes_a_place - reach) // span)
