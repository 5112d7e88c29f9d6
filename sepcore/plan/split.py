"""Divides a layer among threads so that they end together; it must not know what the layer computes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

_ACROSS = 0.03  # of a thread's time: pixels that several threads read come out of another's cache
_BLOCK = 0.004  # of a thread's time: to claim a block and to begin it
_LATE = 0.05  # of a block's time: what is waited for at the end, because threads are held up


@lru_cache(maxsize=1024)
def row_and_panel_blocks(pixels: int, rows: int, panels: int, threads: int) -> tuple[int, int]:
    """Into how many blocks to divide the pixels, and into how many the weight panels.

    The pixels if that does as well: depthwise layers divide rows of pixels too, and a thread then finds in its own
    cache what it wrote before. Among two threads that is worth 1.5 % of MobileNetV1, although both read all weights.

    Parameters
    ----------
    pixels, rows : of the layer, and of its register tile.
    panels : weight panels; a block is some tiles of pixels by some panels.
    threads : 2 or more, which take blocks while there are any.
    """
    most = 4 * threads
    row_blocks = range(1, min(pixels // rows, most) + 1)
    panel_blocks = range(1, min(panels, most) + 1)

    def cost(blocks: tuple[int, int]) -> float:
        down, across = blocks
        heights = _parts(pixels // rows, down)
        heights[-1] += pixels % rows > 0
        longest = _longest([height * width for width in _parts(panels, across) for height in heights], threads)
        return (
            longest * threads / (-(-pixels // rows) * panels)
            + _ACROSS * (across > 1)
            + _BLOCK * down * across
            + _LATE * threads / (down * across)
        )

    return min(((down, across) for down in row_blocks for across in panel_blocks if down * across <= most), key=cost)


@lru_cache(maxsize=1024)
def row_blocks(height: int, rows: int, threads: int) -> int:
    """Into how many blocks of whole rows to divide a map whose tiles have ``rows``.

    Blocks may end in the middle of what would be a tile: the seven rows of half of a map are four tiles of two rows, as
    are eight rows, and pointwise layers divide the map there.
    """

    def cost(blocks: int) -> float:
        tiles = [-(-height // rows) for height in _parts(height, blocks)]
        return _longest(tiles, threads) * threads * rows / height + _BLOCK * blocks + _LATE * threads / blocks

    return min(range(1, min(height // rows, 4 * threads) + 1), key=cost, default=1)


@lru_cache(maxsize=1024)
def pixel_and_panel_blocks(
    tiles: int, panels: int, threads: int, most_down: int, before: float, across: float
) -> tuple[tuple[int, int], float]:
    """The same where blocks of the same pixels follow each other, and each begins with what its pixels need.

    Returns the blocks, and how much longer the thread that ends last takes than if all had as much to do.

    Parameters
    ----------
    tiles : of pixels; ``most_down`` is how many blocks of them there may be.
    before : what a block does with each tile's pixels before it multiplies them, and
    across : all pixels out of another core's cache; both in products of a tile and a panel.
    """
    most = 4 * threads

    def longer(blocks: tuple[int, int]) -> float:
        down, parts = blocks
        costs = [height * (width + before) for height in _parts(tiles, down) for width in _parts(panels, parts)]
        # Threads that share pixels have of each thread's only what it wrote itself.
        others = across * (threads - 1) / threads if down < threads else 0.0
        return (_longest(costs, threads) + others) * threads / (tiles * (panels + before))

    def cost(blocks: tuple[int, int]) -> float:
        count = blocks[0] * blocks[1]
        return longer(blocks) + _BLOCK * count + _LATE * threads / count

    downs, parts = range(1, min(most_down, most) + 1), range(1, min(panels, most) + 1)
    best = min(((down, part) for down in downs for part in parts if down * part <= most), key=cost)
    return best, longer(best)


def _parts(length: int, count: int) -> list[int]:
    return [(i + 1) * length // count - i * length // count for i in range(count)]


def _longest(costs: Sequence[float], threads: int) -> float:
    """When the thread that ends last does: even threads take blocks from the front, odd ones from the back."""
    left, done = list(costs), [0.0] * threads
    while left:
        thread = done.index(min(done))
        done[thread] += left.pop(0 if thread % 2 == 0 else -1)
    return max(done)
