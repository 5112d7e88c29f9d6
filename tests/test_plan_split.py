"""Blocks of a layer: every tile in one, threads with as much to do, and pixels divided where that does."""

from __future__ import annotations

import pytest

from sepcore.plan.split import pixel_and_panel_blocks, row_and_panel_blocks, row_blocks

# Pixels, rows of a tile, weight panels: of MobileNetV2's and V3-Large's last layers, which two threads shared 3 to 2.
UNEVEN = [(49, 7, 5), (196, 2, 9), (49, 7, 3), (49, 14, 5), (784, 14, 1)]


def longest_share(pixels: int, rows: int, panels: int, threads: int) -> float:
    """What the last thread has to do of all tiles, by the kernel's own arithmetic; threads as fast as each other."""
    down, across = row_and_panel_blocks(pixels, rows, panels, threads)
    tiles = []
    for part in range(across):
        columns = (part + 1) * panels // across - part * panels // across
        for block in range(down):
            units = pixels // rows
            begin, end = block * units // down * rows, (block + 1) * units // down * rows
            end = pixels if block == down - 1 else end
            assert end - begin >= rows and columns > 0
            tiles.append(-(-(end - begin) // rows) * columns)
    assert sum(tiles) == -(-pixels // rows) * panels
    ends = [0] * threads
    while tiles:
        thread = ends.index(min(ends))
        ends[thread] += tiles.pop(-1 if thread % 2 else 0)
    return max(ends) / (-(-pixels // rows) * panels)


@pytest.mark.parametrize(("pixels", "rows", "panels"), UNEVEN)
def test_two_threads_have_as_much_to_do(pixels: int, rows: int, panels: int) -> None:
    assert longest_share(pixels, rows, panels, 2) < 0.54


@pytest.mark.parametrize("threads", [2, 3, 4, 8])
@pytest.mark.parametrize("pixels", [1, 5, 49, 196, 3136])
@pytest.mark.parametrize("rows", [1, 4, 7, 14])
@pytest.mark.parametrize("panels", [1, 2, 7, 20])
def test_no_block_is_empty(pixels: int, rows: int, panels: int, threads: int) -> None:
    if pixels >= rows:
        share = longest_share(pixels, rows, panels, threads)
        assert share <= 1


def test_the_pixels_are_divided_where_that_is_even_and_else_the_panels() -> None:
    down, across = row_and_panel_blocks(3136, 14, 4, 2)
    assert across == 1 and down % 2 == 0
    down, across = row_and_panel_blocks(196, 14, 16, 2)
    assert across == 1 and down % 2 == 0
    down, across = row_and_panel_blocks(49, 49, 40, 2)
    assert down == 1 and across % 2 == 0


@pytest.mark.parametrize("threads", [2, 3, 4, 8])
@pytest.mark.parametrize("height", [1, 2, 5, 7, 14, 28, 56, 112])
def test_rows_of_a_map_are_divided_evenly(height: int, threads: int) -> None:
    """By tiles of two rows, as the depthwise kernel walks each block."""
    blocks = row_blocks(height, 2, threads)
    heights = [(i + 1) * height // blocks - i * height // blocks for i in range(blocks)]
    assert sum(heights) == height and (min(heights) >= 2 or blocks == 1)
    ends = [0] * threads
    for _ in range(blocks):
        thread = ends.index(min(ends))
        ends[thread] += -(-heights.pop(-1 if thread % 2 else 0) // 2)
    if height >= 4 * threads:
        assert max(ends) * threads <= 1.34 * (height / 2)


def test_two_threads_meet_in_the_middle_of_a_map() -> None:
    """Pixels of the layers around are divided there."""
    blocks = row_blocks(14, 2, 2)
    assert blocks % 2 == 0 and blocks // 2 * 14 // blocks == 7


def test_pixels_are_divided_and_panels_where_those_are_uneven() -> None:
    (down, across), longer = pixel_and_panel_blocks(14, 6, 2, 14, 0.05, 1.0)
    assert (down % 2, across) == (0, 1) and longer < 1.01
    (down, across), longer = pixel_and_panel_blocks(5, 8, 2, 5, 0.05, 1.0)
    assert across % 2 == 0 and 1.0 < longer < 1.05
    (down, across), _ = pixel_and_panel_blocks(14, 6, 2, 1, 0.05, 1.0)
    assert down == 1 and across % 2 == 0
