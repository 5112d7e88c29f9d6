"""Every registry row of every instruction set of this CPU against its slow twin, on shapes that hit each remainder."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
from kernel_calls import ACTIVATIONS, call, close, padded

from sepcore.kernels import isa as isas
from sepcore.kernels import registry, step
from sepcore.kernels.activation import codes
from sepcore.kernels.conv import dense, stem
from sepcore.kernels.depthwise import general
from sepcore.kernels.depthwise import pack as depthwise_pack
from sepcore.kernels.depthwise import rows as depthwise
from sepcore.kernels.depthwise.reference import depthwise as depthwise_reference
from sepcore.kernels.elementwise import layout
from sepcore.kernels.elementwise import rows as elementwise
from sepcore.kernels.elementwise.reference import elementwise as elementwise_reference
from sepcore.kernels.pointwise import pack as pointwise_pack
from sepcore.kernels.pointwise import rows as pointwise
from sepcore.kernels.pointwise import scale
from sepcore.kernels.pointwise.reference import pointwise as pointwise_reference
from sepcore.kernels.pool import rows as pool
from sepcore.kernels.pool.reference import global_average_pool
from sepcore.kernels.spec import KernelSpec

Addresses = dict[str, int]


@pytest.fixture(scope="module", params=[i.name for i in isas.available()])
def isa(request: pytest.FixtureRequest) -> isas.Isa:
    return isas.by_name(request.param)


@pytest.fixture(scope="module")
def addresses(isa: isas.Isa) -> Addresses:
    from sepcore.compile import kernels_for

    return kernels_for(list(registry.rows(isa.name)), isa.name)


def of(isa: isas.Isa, op: str) -> list[KernelSpec]:
    found = [spec for spec in registry.rows(isa.name) if spec.op == op]
    assert found, op
    return found


def up(count: int, isa: isas.Isa) -> int:
    return -(-count // isa.lanes) * isa.lanes


def random(rng: np.random.Generator, *shape: int) -> Any:
    return rng.standard_normal(shape).astype(np.float32)


def test_every_row_has_a_test(isa: isas.Isa) -> None:
    tested = {
        "pointwise", "pointwise_gathered",
        "depthwise", "depthwise_general", "stem", "conv", "global_average_pool", "elementwise", "layout",
        "scale_weights",
        "chain",  # tests/test_plan_bands.py
        # In test_kernels_general.py:
        "strided_copy", "strided_unary", "strided_binary", "window", "resize", "reduce", "softmax", "matmul",
    }  # fmt: skip
    if isa.name == "avx512":
        tested |= {"crossed"}  # tests/test_kernels_crossed.py
        tested |= {"winograd"}  # tests/test_kernels_winograd.py
    assert {spec.op for spec in registry.rows(isa.name)} == tested
    names = [spec.name for spec in registry.rows(isa.name)]
    assert len(names) == len(set(names))
    assert all(registry.find(name).name == name for name in names)


def pointwise_case(
    isa: isas.Isa, address: int, tile: pointwise.Tile, m: int, k: int, n: int, seed: int, gathered: bool = False
) -> None:
    rng = np.random.default_rng(seed)
    activation = ACTIVATIONS[seed % len(ACTIVATIONS)]
    x, weight, bias = random(rng, m, k), random(rng, n, k), random(rng, n)
    residual = random(rng, m, n) if seed % 3 == 0 else None
    panels = pointwise_pack.panels(tile, isa.lanes, n)
    stride = max(up(n, isa), panels * tile.columns(isa.lanes))
    tiles_down = -(-m // tile.rows)
    row_blocks, panel_blocks = (min(3, tiles_down), 1) if seed % 2 else (1, min(3, panels))
    arrays = {
        # K is not padded: nothing behind a pixel's k floats may be read, so the last pixel ends at the guard page.
        step.X: x,
        step.WEIGHTS: pointwise_pack.pack(weight, bias, tile, isa.lanes),
        step.OUT: np.full((m, stride), np.nan, np.float32),
    }
    words = {
        pointwise.M: m,
        pointwise.K: k,
        pointwise.X_STRIDE: 4 * k,
        pointwise.OUT_STRIDE: 4 * stride,
        pointwise.EXTRA_STRIDE: 4 * stride,
        pointwise.PANELS: panels,
        pointwise.ROW_BLOCKS: row_blocks,
        pointwise.PANEL_BLOCKS: panel_blocks,
        pointwise.PREFETCH_SHIFT: seed % 3,
        pointwise.AHEAD: (seed % 5) << 20,
    }
    if residual is not None:
        arrays[step.EXTRA] = padded(residual, stride)
    if gathered:
        # Channels anywhere in two planes of as many pixels, one of them at the very end of the memory.
        planes = random(rng, 2, m, k)
        columns = np.append(rng.permutation(2 * k - 1)[: k - 1], 2 * k - 1)
        arrays[step.X], arrays[pointwise.COLUMNS] = planes, np.append(4 * (columns // k * m * k + columns % k), -1)
        x = np.concatenate([planes[0], planes[1]], axis=1)[:, columns]
    out = call(address, words, arrays, activation, row_blocks * panel_blocks, at_end=seed % 2 == 0)
    close(out[:, :n], pointwise_reference(x, weight, bias, activation, residual), np.sqrt(k))


@pytest.mark.parametrize("op", ["pointwise", "pointwise_gathered"])
def test_pointwise(isa: isas.Isa, addresses: Addresses, op: str) -> None:
    for number, spec in enumerate(of(isa, op)):
        tile, columns = spec.parameters, spec.parameters.columns(isa.lanes)
        for seed, (m, k, n) in enumerate(
            [
                (tile.rows, 1, columns),
                (tile.rows + 1, 3, columns + 1),
                (2 * tile.rows, 16, 2 * columns),
                (3 * tile.rows - 1, 7, max(1, columns - 3)),
                (4 * tile.rows + 2, 33, 1),
                (tile.rows, 5, 3 * columns - 1),
                (5 * tile.rows, 24, columns),
                (2 * tile.rows + 1, 64, 2 * columns - 1),
            ]
        ):
            pointwise_case(isa, addresses[spec.name], tile, m, k, n, number + seed, op == "pointwise_gathered")


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda a: codes.NAMES[a[0]])
def test_pointwise_activations_at_their_limits(
    isa: isas.Isa, addresses: Addresses, activation: tuple[int, float, float]
) -> None:
    """Large, tiny, infinite and NaN sums: what the reference gives, NaN kept."""
    values = np.array([0, 1e-30, -1e-30, 3, -3, 6, -6, 20, -20, 80, -80, 1e4, -1e4, 3e38, np.inf, np.nan], np.float32)
    tile = pointwise.Tile(1, 1)
    columns = tile.columns(isa.lanes)
    n = -(-len(values) // columns) * columns
    bias = np.resize(values, n)
    arrays = {
        step.X: np.zeros((1, 1), np.float32),
        step.WEIGHTS: pointwise_pack.pack(np.zeros((n, 1), np.float32), bias, tile, isa.lanes),
        step.OUT: np.zeros((1, n), np.float32),
    }
    words = {
        pointwise.M: 1, pointwise.K: 1, pointwise.X_STRIDE: 4, pointwise.OUT_STRIDE: 4 * n,
        pointwise.PANELS: n // columns, pointwise.ROW_BLOCKS: 1, pointwise.PANEL_BLOCKS: 1,
    }  # fmt: skip
    out = call(addresses[pointwise.row(tile, isa.name).name], words, arrays, activation)[0]
    with np.errstate(all="ignore"):
        from sepcore.kernels.activation.reference import activate

        expected = activate(bias.astype(np.float64), activation).astype(np.float32)
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-30)


def depthwise_case(isa: isas.Isa, address: int, w: depthwise.Window, height: int, out_width: int, seed: int) -> bool:
    rng = np.random.default_rng(seed)
    channels = (isa.lanes, isa.lanes + 3, 3 * isa.lanes - 1)[seed % 3]
    width = (out_width - 1) * w.stride + w.size - w.left - w.right
    top, bottom = w.left, w.left
    out_height = (height + top + bottom - w.size) // w.stride + 1
    if width < 1 or out_height < 1 or not depthwise.fits(w, width, out_width):
        return False
    activation = ACTIVATIONS[seed % len(ACTIVATIONS)]
    stride = up(channels, isa)
    x, weight = random(rng, height, width, channels), random(rng, channels, 1, w.size, w.size)
    bias = random(rng, channels)
    row_blocks, channel_blocks = (max(1, min(2, out_height // w.rows)), 1) if seed % 2 else (1, stride // isa.lanes)
    arrays = {
        step.X: padded(x, stride),
        step.WEIGHTS: depthwise_pack.pack(weight, bias, isa.lanes),
        step.OUT: np.full((out_height, out_width, stride), np.nan, np.float32),
        step.ZEROS: np.zeros((width, stride), np.float32),
        step.EXTRA: np.full((out_height, stride), np.nan, np.float32),
    }
    words = {
        depthwise.HEIGHT: height,
        depthwise.WIDTH: width,
        depthwise.OUT_HEIGHT: out_height,
        depthwise.OUT_WIDTH: out_width,
        depthwise.CHANNELS: stride,
        depthwise.X_PIXEL: 4 * stride,
        depthwise.X_ROW: 4 * stride * width,
        depthwise.OUT_PIXEL: 4 * stride,
        depthwise.OUT_ROW: 4 * stride * out_width,
        depthwise.PAD_TOP: top,
        depthwise.ROW_BLOCKS: row_blocks,
        depthwise.CHANNEL_BLOCKS: channel_blocks,
        depthwise.X_RING: height,
    }
    run = partial(call, address, words, arrays, activation, row_blocks * channel_blocks, at_end=seed % 2 == 0)
    out = run()
    expected = depthwise_reference(x, weight, bias, w.stride, (top, w.left, bottom, w.right), activation)
    close(out[:, :, :channels], expected, w.size)
    one_by_one = np.cumsum(out, axis=1, dtype=np.float32)[:, -1]
    assert np.array_equal(run(result=step.EXTRA), one_by_one)
    return True


def test_depthwise(isa: isas.Isa, addresses: Addresses) -> None:
    for number, spec in enumerate(of(isa, "depthwise")):
        w = spec.parameters
        ran = 0
        for seed, (height, out_width) in enumerate(
            [(1, w.width), (2, w.width), (5, 2 * w.width), (8, 2 * w.width + 1), (7, 3 * w.width - 1), (9, w.width)]
        ):
            ran += depthwise_case(isa, addresses[spec.name], w, height, out_width, number + seed)
        assert ran, spec.name


def test_depthwise_general(isa: isas.Isa, addresses: Addresses) -> None:
    (spec,) = of(isa, "depthwise_general")
    for seed, (size, stride, pad, height, width) in enumerate(
        [(3, 1, 1, 1, 1), (4, 3, 0, 9, 5), (9, 1, 4, 6, 7), (3, 2, 1, 5, 4), (2, 2, 0, 4, 6)]
    ):
        rng = np.random.default_rng(seed)
        channels = isa.lanes + seed
        width_bytes = 4 * up(channels, isa)
        x, weight = random(rng, height, width, channels), random(rng, channels, 1, size, size)
        bias, activation = random(rng, channels), ACTIVATIONS[seed]
        expected = depthwise_reference(x, weight, bias, stride, (pad,) * 4, activation)
        oh, ow, _ = expected.shape
        blocks = min(2, oh)
        g = general
        words = {
            g.HEIGHT: height, g.WIDTH: width, g.OUT_HEIGHT: oh, g.OUT_WIDTH: ow, g.CHANNELS: up(channels, isa),
            g.X_PIXEL: width_bytes, g.X_ROW: width_bytes * width, g.OUT_PIXEL: width_bytes,
            g.OUT_ROW: width_bytes * ow, g.PAD_TOP: pad, g.PAD_LEFT: pad, g.SIZE_Y: size, g.SIZE_X: size,
            g.STRIDE_Y: stride, g.STRIDE_X: stride, g.DILATION_Y: 1, g.DILATION_X: 1, g.ROW_BLOCKS: blocks,
        }  # fmt: skip
        arrays = {
            step.X: padded(x, up(channels, isa)),
            step.WEIGHTS: depthwise_pack.pack(weight, bias, isa.lanes),
            step.OUT: np.full((oh, ow, up(channels, isa)), np.nan, np.float32),
        }
        out = call(addresses[spec.name], words, arrays, activation, blocks, at_end=seed % 2 == 0)
        close(out[:, :, :channels], expected, size)


def dense_reference(
    x: Any, weight: Any, bias: Any, stride: int, padding: tuple[int, int, int, int], dilation: int, groups: int
) -> Any:
    """x (h, w, c), weight (oc, c / groups, kh, kw): float64 (oh, ow, oc), by the definition."""
    top, left, bottom, right = padding
    padded_x = np.pad(x.astype(np.float64), ((top, bottom), (left, right), (0, 0)))
    oc, per_group, kh, kw = weight.shape
    oh = (padded_x.shape[0] - (kh - 1) * dilation - 1) // stride + 1
    ow = (padded_x.shape[1] - (kw - 1) * dilation - 1) // stride + 1
    out = np.zeros((oh, ow, oc)) + bias
    for o in range(oc):
        first = (o // (oc // groups)) * per_group
        for i in range(kh):
            for j in range(kw):
                taps = padded_x[i * dilation :, j * dilation :][: (oh - 1) * stride + 1 : stride]
                taps = taps[:, : (ow - 1) * stride + 1 : stride]
                out[:, :, o] += taps[:, :, first : first + per_group] @ weight[o, :, i, j]
    return out


def test_dense(isa: isas.Isa, addresses: Addresses) -> None:
    from sepcore.kernels.activation.reference import activate

    for number, spec in enumerate(of(isa, "conv")):
        tile = spec.parameters
        for seed, (ic, oc, size, stride, dilation, groups, height, width) in enumerate(
            [(3, 5, 3, 1, 1, 1, 7, 7), (8, 40, 3, 2, 1, 1, 9, 8), (6, 10, 3, 1, 2, 2, 6, 8), (4, 4, 5, 1, 1, 4, 5, 5)]
        ):
            rng = np.random.default_rng(number + seed)
            pad = (size // 2) * dilation
            x, weight = random(rng, height, width, ic), random(rng, oc, ic // groups, size, size)
            bias, activation = random(rng, oc), ACTIVATIONS[(number + seed) % len(ACTIVATIONS)]
            expected = dense_reference(x, weight, bias, stride, (pad,) * 4, dilation, groups)
            oh, ow, _ = expected.shape
            m, k = oh * ow, ic // groups
            if m < tile.rows:
                continue
            columns = tile.columns(isa.lanes)
            panels = -(-(oc // groups) // columns)
            x_stride = up(ic, isa)
            stride_out = max(up(oc, isa), oc - oc // groups + panels * columns)
            residual = random(rng, oh, ow, oc) if seed % 2 else None
            expected = activate(expected if residual is None else expected + residual, activation)
            blocks = min(2, -(-m // tile.rows))
            d = dense
            words = {
                d.HEIGHT: height, d.WIDTH: width, d.OUT_WIDTH: ow, d.M: m, d.K: k, d.X_PIXEL: 4 * x_stride,
                d.X_ROW: 4 * x_stride * width, d.OUT_PIXEL: 4 * stride_out, d.EXTRA_PIXEL: 4 * stride_out,
                d.SIZE_Y: size, d.SIZE_X: size, d.STRIDE_Y: stride, d.STRIDE_X: stride, d.PAD_TOP: pad,
                d.PAD_LEFT: pad, d.DILATION_Y: dilation, d.DILATION_X: dilation, d.PANELS: panels, d.GROUPS: groups,
                d.OUT_CHANNELS: oc // groups, d.ROW_BLOCKS: blocks, d.X_RING: height, d.TABLE: 64 * (seed % 2),
            }  # fmt: skip
            arrays = {
                step.X: padded(x, x_stride),
                step.WEIGHTS: dense.pack(weight, bias, groups, tile, isa.lanes),
                step.OUT: np.full((m, stride_out), np.nan, np.float32),
                step.ZEROS: np.zeros(max(isa.lanes, k), np.float32),
            }
            if residual is not None:
                arrays[step.EXTRA] = padded(residual.reshape(m, oc), stride_out)
            scratch = dense.scratch_bytes(tile, size * size) + 64 * (seed % 2)
            out = call(addresses[spec.name], words, arrays, activation, blocks, scratch, at_end=seed % 2 == 0)
            close(out[:, :oc].reshape(oh, ow, oc), expected, np.sqrt(k) * size)


def test_stem(isa: isas.Isa, addresses: Addresses) -> None:
    from sepcore.kernels.activation.reference import activate

    for number, spec in enumerate(of(isa, "stem")):
        s = spec.parameters
        window = depthwise.Window(s.size, s.stride, s.width, s.left, s.right)
        ran = 0
        for seed, (channels, height, out_width) in enumerate(
            [(3, 1, s.width), (1, 4, 2 * s.width), (3, 6, 2 * s.width + 1), (4, 5, 3 * s.width - 1), (2, 7, s.width)]
        ):
            rng = np.random.default_rng(number + seed)
            width = (out_width - 1) * s.stride + s.size - s.left - s.right
            if width < 1 or not depthwise.fits(window, width, out_width):
                continue
            ran += 1
            columns = s.vectors * isa.lanes
            oc = (columns, columns + 1, max(1, columns - 3))[seed % 3]
            panels = -(-oc // columns)
            stride_out = max(up(oc, isa), panels * columns)
            x, weight, bias = random(rng, channels, height, width), random(rng, oc, channels, 3, 3), random(rng, oc)
            activation = ACTIVATIONS[(number + seed) % len(ACTIVATIONS)]
            expected = activate(
                dense_reference(x.transpose(1, 2, 0), weight, bias, s.stride, (1, s.left, 1, s.right), 1, 1), activation
            )
            oh, ow, _ = expected.shape
            assert ow == out_width
            blocks = min(2, oh)
            words = {
                stem.HEIGHT: height, stem.WIDTH: width, stem.OUT_HEIGHT: oh, stem.OUT_WIDTH: ow,
                stem.IN_CHANNELS: channels, stem.OUT_PIXEL: 4 * stride_out, stem.OUT_ROW: 4 * stride_out * ow,
                stem.PAD_TOP: 1, stem.PANELS: panels, stem.ROW_BLOCKS: blocks,
            }  # fmt: skip
            arrays = {
                step.X: x,
                step.WEIGHTS: stem.pack(weight, bias, s, isa.lanes),
                step.OUT: np.full((oh, ow, stride_out), np.nan, np.float32),
                step.ZEROS: np.zeros(width, np.float32),
            }
            out = call(addresses[spec.name], words, arrays, activation, blocks, at_end=seed % 2 == 0)
            close(out[:, :, :oc], expected, 5)
        assert ran, spec.name


def test_global_average_pool(isa: isas.Isa, addresses: Addresses) -> None:
    (spec,) = of(isa, "global_average_pool")
    for seed, (rows, width, groups) in enumerate([(1, 1, 1), (7, 7, 4), (1, 7, 5), (12, 1, 11), (3, 4, 6)]):
        rng = np.random.default_rng(seed)
        channels = groups * isa.lanes
        x = random(rng, rows * width, channels)
        words = {
            pool.PIXELS: rows * width,
            pool.ROWS: rows,
            pool.WIDTH: width,
            pool.CHANNELS: channels,
            pool.X_PIXEL: 4 * channels,
            pool.CHANNEL_BLOCKS: 1 + seed,
        }
        arrays = {step.X: x, step.OUT: np.full(channels, np.nan, np.float32)}
        out = call(addresses[spec.name], words, arrays, tiles=1 + seed, at_end=seed % 2 == 0)
        close(out, global_average_pool(x))


def test_elementwise(isa: isas.Isa, addresses: Addresses) -> None:
    for number, spec in enumerate(of(isa, "elementwise")):
        for seed, activation in enumerate(ACTIVATIONS):
            rng = np.random.default_rng(number + seed)
            pixels, channels = 1 + 3 * seed, isa.lanes * (1 + seed % 3)
            x, one = random(rng, pixels, channels), seed % 2 == 0
            extra = random(rng, 1 if one else pixels, channels)
            r, blocks = elementwise, min(pixels, 3)
            words = {
                r.PIXELS: pixels, r.CHANNELS: channels, r.X_PIXEL: 4 * channels, r.OUT_PIXEL: 4 * channels,
                r.EXTRA_PIXEL: 0 if one else 4 * channels, r.PIXEL_BLOCKS: blocks,
            }  # fmt: skip
            arrays = {step.X: x, step.EXTRA: extra, step.OUT: np.full((pixels, channels), np.nan, np.float32)}
            out = call(addresses[spec.name], words, arrays, activation, blocks, at_end=seed % 2 == 0)
            close(out, elementwise_reference(spec.parameters, x, extra, activation))


def test_scale_weights(isa: isas.Isa, addresses: Addresses) -> None:
    (spec,) = of(isa, "scale_weights")
    for seed, tile in enumerate(pointwise.tiles(isa.name)):
        rng = np.random.default_rng(seed)
        k, panels, columns = 1 + seed % 7, 1 + seed % 3, tile.packed_columns(isa.lanes)
        x, factors = random(rng, panels, 1 + k, columns), random(rng, k)
        rows = panels * (1 + k)
        words = {scale.ROWS: rows, scale.K: k, scale.COLUMNS: columns, scale.ROW_BLOCKS: min(rows, 3)}
        arrays = {step.X: x, step.EXTRA: factors, step.OUT: np.full_like(x, np.nan)}
        out = call(addresses[spec.name], words, arrays, tiles=min(rows, 3), at_end=seed % 2 == 0)
        np.testing.assert_array_equal(out, x * np.append(np.float32(1), factors)[:, None])


def test_layout(isa: isas.Isa, addresses: Addresses) -> None:
    rng = np.random.default_rng(0)
    for direction in layout.DIRECTIONS:
        for pixels, channels in [(1, 1), (6, 3), (35, isa.lanes + 1), (4, 2 * isa.lanes)]:
            stride, blocks = up(channels, isa), min(2, pixels, channels)
            planar, nhwc = random(rng, channels, pixels), random(rng, pixels, stride)
            x, out_shape, expected = {
                "pack": (planar, (pixels, stride), padded(planar.T, stride)),
                "unpack": (nhwc, (channels, pixels), nhwc[:, :channels].T),
                "trim": (nhwc, (pixels, channels), nhwc[:, :channels]),
            }[direction]
            words = {layout.PIXELS: pixels, layout.CHANNELS: channels, layout.PIXEL: 4 * stride, layout.BLOCKS: blocks}
            arrays = {step.X: x, step.OUT: np.full(out_shape, np.nan, np.float32)}
            out = call(addresses[layout.row(direction, isa.name).name], words, arrays, tiles=blocks)
            np.testing.assert_array_equal(out, expected)
