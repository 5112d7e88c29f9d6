"""The rows for tensors of any strides, windows, resizing, reductions and products against numpy, on guarded memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from kernel_calls import ACTIVATIONS, call, close, padded

from sepcore.kernels import isa as isas
from sepcore.kernels import registry, step
from sepcore.kernels.activation.reference import activate
from sepcore.kernels.matmul import rows as matmul
from sepcore.kernels.reduce import rows as reduce
from sepcore.kernels.reduce import softmax
from sepcore.kernels.resize import rows as resize
from sepcore.kernels.strided import copy as strided_copy
from sepcore.kernels.strided import rows as strided
from sepcore.kernels.strided import walk as w
from sepcore.kernels.window import rows as window

Addresses = dict[str, int]
OPS = {"strided_copy", "strided_unary", "strided_binary", "window", "resize", "reduce", "softmax", "matmul"}


@pytest.fixture(scope="module", params=[i.name for i in isas.available()])
def isa(request: pytest.FixtureRequest) -> isas.Isa:
    return isas.by_name(request.param)


@pytest.fixture(scope="module")
def addresses(isa: isas.Isa) -> Addresses:
    from sepcore.compile import kernels_for

    return kernels_for([spec for spec in registry.rows(isa.name) if spec.op in OPS], isa.name)


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def walked(
    lengths: Sequence[int], blocks: int, row_chunk: int, column_chunk: int, **strides: Sequence[int]
) -> dict[int, int]:
    """The words of ``walk`` for six axes; strides in elements."""
    words = {w.ROW_CHUNK: row_chunk, w.COLUMN_CHUNK: column_chunk, w.BLOCKS: blocks}
    words |= {w.LENGTHS + i: length for i, length in enumerate(lengths)}
    for name, first in (("x", w.X_STRIDES), ("out", w.OUT_STRIDES), ("extra", w.EXTRA_STRIDES)):
        words |= {first + i: 4 * stride for i, stride in enumerate(strides.get(name, ()))}
    return words


def dense(lengths: Sequence[int]) -> list[int]:
    return [math.prod(lengths[i + 1 :]) for i in range(len(lengths))]


# Lengths of six axes, and how the source's axes lie in its memory.
WALKS = [
    ((1, 1, 1, 1, 1, 1), (0, 1, 2, 3, 4, 5)),
    ((1, 1, 1, 2, 3, 37), (0, 1, 2, 3, 4, 5)),
    ((2, 1, 3, 2, 5, 16), (0, 1, 2, 3, 4, 5)),
    ((1, 1, 2, 1, 9, 13), (0, 1, 2, 3, 5, 4)),
    ((2, 3, 2, 2, 3, 5), (5, 3, 1, 0, 2, 4)),
]


@pytest.mark.parametrize(("lengths", "order"), WALKS)
def test_strided_copy(isa: isas.Isa, addresses: Addresses, lengths: tuple[int, ...], order: tuple[int, ...]) -> None:
    address = addresses[strided_copy.row("copy", isa.name).name]
    x = random(*(lengths[axis] for axis in order))
    back = [order.index(axis) for axis in range(6)]
    strides = [dense(x.shape)[axis] for axis in back]
    for tiles, row_chunk, column_chunk in [(1, 99, 99), (3, 2, 7)]:
        words = walked(lengths, tiles, row_chunk, column_chunk, x=strides, out=dense(lengths))
        for at_end in (True, False):
            out = call(
                address, words, {step.X: x, step.OUT: np.full(lengths, np.nan, np.float32)}, tiles=tiles, at_end=at_end
            )
            np.testing.assert_array_equal(out, x.transpose(back))


def test_strided_copy_into_gaps(isa: isas.Isa, addresses: Addresses) -> None:
    """Repeated and thinned sources, a target with gaps that stay as they are."""
    address = addresses[strided_copy.row("copy", isa.name).name]
    x, out = random(5, 9), np.full((2, 5, 40), -7.0, np.float32)
    for columns, x_column, out_column in [(9, 1, 1), (5, 2, 3), (9, 0, 1)]:
        words = walked(
            (1, 1, 1, 2, 5, columns), 1, 9, 99, x=(0, 0, 0, 0, 9, x_column), out=(0, 0, 0, 200, 40, out_column)
        )
        expected = out.copy()
        source = x[:, ::x_column] if x_column else np.repeat(x[:, :1], columns, axis=1)
        expected[:, :, : columns * out_column : out_column][..., :columns] = source[:, :columns]
        np.testing.assert_array_equal(call(address, words, {step.X: x, step.OUT: out}), expected)


def test_strided_fill(isa: isas.Isa, addresses: Addresses) -> None:
    address = addresses[strided_copy.row("fill", isa.name).name]
    for columns, stride in [(37, 1), (5, 2)]:
        out = np.full((4, columns * stride), -7.0, np.float32)
        words = walked((1, 1, 1, 1, 4, columns), 2, 1, 8, out=(0, 0, 0, 0, columns * stride, stride))
        expected = out.copy()
        expected[:, ::stride] = 2.5
        np.testing.assert_array_equal(call(address, words, {step.OUT: out}, (0, 2.5, 0.0), tiles=2), expected)


_erf = np.vectorize(math.erf, otypes=[float])
UNARY: dict[str, Callable[[Any], Any]] = {
    "tanh": np.tanh,
    "exp": np.exp,
    "log": np.log,
    "erf": _erf,
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "reciprocal": lambda x: 1 / x,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
    "neg": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "gelu": lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2))),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "softplus": lambda x: np.logaddexp(0, x),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "elu": lambda x: np.where(x > 0, x, 0.3 * np.expm1(np.minimum(x, 0))),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": np.power,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "prelu": lambda x, y: np.where(x < 0, x * y, x),
}

_SPECIAL = [0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 1e-6, -1e-6, 3e-38, 1e-20, 1e20, 16777217.0, 2.0**31, 3e38,
            -3e38, np.inf, -np.inf, np.nan]  # fmt: skip


def arguments() -> Any:
    """Numbers of every size, around every bend of the functions, and the special ones."""
    ramp = np.linspace(-12, 12, 4001)
    wide = np.geomspace(1e-30, 1e30, 1001)
    numbers = np.concatenate([ramp, np.linspace(-110, 110, 2003), wide, -wide, _SPECIAL])
    return numbers.astype(np.float32)


def strip(count: int) -> dict[int, int]:
    return walked(
        (1, 1, 1, 1, 1, count), 1, 1, count, x=(0, 0, 0, 0, 0, 1), out=(0, 0, 0, 0, 0, 1), extra=(0, 0, 0, 0, 0, 1)
    )


@pytest.mark.parametrize("name", UNARY)
def test_unary_functions(isa: isas.Isa, addresses: Addresses, name: str) -> None:
    """Within 1e-6 of the value, or of one where the function cancels; infinities and NaN as in numpy."""
    x = arguments()
    with np.errstate(all="ignore"):
        expected = UNARY[name](x.astype(np.float64)).astype(np.float32)
    out = call(addresses[strided.row(name, isa.name).name], strip(x.size),
               {step.X: x, step.OUT: np.full_like(x, np.nan)}, (0, 0.3, 0.0))  # fmt: skip
    if name in ("gelu", "gelu_tanh", "mish"):  # -inf times 0
        keep = ~np.isneginf(x)
        x, out, expected = x[keep], out[keep], expected[keep]
    cancels = {"log", "softplus", "mish", "elu", "gelu", "gelu_tanh"}
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6 if name in cancels else 1.2e-38)


def test_standalone_activations(isa: isas.Isa, addresses: Addresses) -> None:
    x = np.linspace(-20, 20, 999).astype(np.float32)
    for activation in ACTIVATIONS:
        out = call(addresses[strided.row("activation", isa.name).name], strip(x.size),
                   {step.X: x, step.OUT: np.full_like(x, np.nan)}, activation)  # fmt: skip
        close(out, activate(x, activation))


@pytest.mark.parametrize("name", BINARY)
def test_binary_functions(isa: isas.Isa, addresses: Addresses, name: str) -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([np.repeat(_SPECIAL, len(_SPECIAL)), rng.standard_normal(3000) * 4]).astype(np.float32)
    y = np.concatenate([np.tile(_SPECIAL, len(_SPECIAL)), rng.standard_normal(2000) * 3, rng.integers(-5, 6, 1000)])
    y = y.astype(np.float32)
    with np.errstate(all="ignore"):
        expected = BINARY[name](x.astype(np.float64), y.astype(np.float64)).astype(np.float32)
    out = call(addresses[strided.row(name, isa.name).name], strip(x.size),
               {step.X: x, step.EXTRA: y, step.OUT: np.full_like(x, np.nan)})  # fmt: skip
    if name == "pow":  # 1 ** NaN and infinite exponents are not promised
        keep = np.isfinite(y) & ~((x == 1) & np.isnan(y))
        x, y, out, expected = x[keep], y[keep], out[keep], expected[keep]
    np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1.2e-38)


def test_functions_over_strides(isa: isas.Isa, addresses: Addresses) -> None:
    """Broadcast operands, rows with gaps, remainders of vectors, and every division into units."""
    add, neg = addresses[strided.row("add", isa.name).name], addresses[strided.row("neg", isa.name).name]
    for rows, columns in [(3, 37), (1, isa.lanes), (5, isa.lanes - 1), (2, 2 * isa.lanes + 1)]:
        lengths = (1, 1, 2, 1, rows, columns)
        whole, row, column = random(2, rows, columns), random(columns, seed=1), random(2, rows, seed=2)
        full = (0, 0, rows * columns, 0, columns, 1)
        of_row, of_column = (0, 0, 0, 0, 0, 1), (0, 0, rows, 0, 1, 0)
        sides = {
            full: whole,
            of_row: np.broadcast_to(row, whole.shape),
            of_column: np.broadcast_to(column[..., None], whole.shape),
        }
        memory = {full: whole, of_row: row, of_column: column}
        for tiles, row_chunk, column_chunk in [(1, rows, columns), (2, 1, isa.lanes)]:
            for a in sides:
                arrays = {step.X: memory[a], step.OUT: np.full(whole.shape, np.nan, np.float32)}
                words = walked(lengths, tiles, row_chunk, column_chunk, x=a, out=full)
                np.testing.assert_array_equal(call(neg, words, arrays, tiles=tiles), -sides[a])
                for b in sides:
                    words = walked(lengths, tiles, row_chunk, column_chunk, x=a, extra=b, out=full)
                    out = call(add, words, {**arrays, step.EXTRA: memory[b]}, tiles=tiles, at_end=rows % 2 == 1)
                    np.testing.assert_array_equal(out, sides[a] + sides[b])


def up(count: int, isa: isas.Isa) -> int:
    return -(-count // isa.lanes) * isa.lanes


def test_window(isa: isas.Isa, addresses: Addresses) -> None:
    """Windows of different lengths, dilated and empty ones."""
    height, width, channels = 7, 6, isa.lanes + 3
    stride = up(channels, isa)
    x = random(height, width, channels)
    x[3, 2, 1] = np.nan
    vertical = np.array([(0, 2, 3), (1, 3, 3), (6, 1, 3), (0, 0, 2)])
    horizontal = np.array([(0, 3, 3), (1, 2, 4)])
    for kind in window.KINDS:
        expected = np.empty((4, 2, channels))
        for oy, (y, high, counted_y) in enumerate(vertical):
            for ox, (left, wide, counted_x) in enumerate(horizontal):
                met = x.astype(np.float64)[y : y + 2 * high : 2, left : left + wide]
                if kind == "average":
                    expected[oy, ox] = met.sum(axis=(0, 1)) / (counted_y * counted_x)
                else:
                    expected[oy, ox] = met.max(axis=(0, 1), initial=-np.inf)
        r = window
        words = {
            r.OUT_HEIGHT: 4, r.OUT_WIDTH: 2, r.CHANNELS: stride, r.X_PIXEL: 4 * stride, r.X_ROW: 4 * stride * width,
            r.OUT_PIXEL: 4 * stride, r.OUT_ROW: 8 * stride, r.DILATION_Y: 2, r.DILATION_X: 1, r.ROW_BLOCKS: 3,
        }  # fmt: skip
        arrays = {step.X: padded(x, stride), step.OUT: np.full((4, 2, stride), 9.0, np.float32),
                  step.WEIGHTS: np.concatenate([vertical, horizontal]).astype(np.int64)}  # fmt: skip
        out = call(addresses[r.row(kind, isa.name).name], words, arrays, tiles=3)[:, :, :channels]
        np.testing.assert_allclose(out, expected, rtol=1e-6, atol=1e-6)
        assert np.isnan(out).any()


def test_resize(isa: isas.Isa, addresses: Addresses) -> None:
    height, width, channels = 4, 5, 2 * isa.lanes - 1
    stride = up(channels, isa)
    x = random(height, width, channels)
    rows, columns = np.array([3, 0, 0, 1, 2]), np.array([4, 4, 0])
    share_y, share_x = np.array([0.0, 0.25, 0.5, 1.0, 0.3]), np.array([0.0, 0.75, 0.6])
    next_row, next_column = np.minimum(rows + 1, 3), np.minimum(columns + 1, 4)
    r = resize
    tables = {
        "nearest": np.concatenate([rows, columns]),
        "bilinear": np.concatenate(
            [r.bilinear_table(rows, next_row, share_y), r.bilinear_table(columns, next_column, share_x)]
        ),
    }
    wide = x.astype(np.float64)
    vertical = wide[rows] * (1 - share_y[:, None, None]) + wide[next_row] * share_y[:, None, None]
    expected = {
        "nearest": wide[rows][:, columns],
        "bilinear": vertical[:, columns] * (1 - share_x[:, None]) + vertical[:, next_column] * share_x[:, None],
    }
    for mode, table in tables.items():
        words = {
            r.OUT_HEIGHT: 5, r.OUT_WIDTH: 3, r.CHANNELS: stride, r.X_PIXEL: 4 * stride, r.X_ROW: 4 * stride * width,
            r.OUT_PIXEL: 4 * stride, r.OUT_ROW: 12 * stride, r.ROW_BLOCKS: 2,
        }  # fmt: skip
        arrays = {step.X: padded(x, stride), step.OUT: np.full((5, 3, stride), np.nan, np.float32), step.WEIGHTS: table}
        out = call(addresses[r.row(mode, isa.name).name], words, arrays, tiles=2)
        close(out[:, :, :channels], expected[mode])


_REDUCTIONS: dict[str, Callable[..., Any]] = {"sum": np.sum, "maximum": np.max, "minimum": np.min}


@pytest.mark.parametrize("kind", _REDUCTIONS)
def test_reduce(isa: isas.Isa, addresses: Addresses, kind: str) -> None:
    r = reduce
    for seed, columns in enumerate([1, 3, isa.lanes, 3 * isa.lanes + 2]):
        for kept, reduced in [((1, 2, 3), (2, 1, 4)), ((1, 1, 1), (1, 1, 1)), ((2, 1, 2), (3, 2, 5))]:
            across, along = random(*kept, *reduced, columns, seed=seed), random(*kept, *reduced[:2], columns, seed=seed)
            for direction, x in (("across", across), ("along", along)):
                strides = [4 * s for s in dense(x.shape)]
                last = columns if direction == "across" else 1
                lengths = (*kept, last)
                words = {r.BLOCKS: 2}
                words |= {r.KEPT + i: length for i, length in enumerate(lengths)}
                words |= {r.OUT_KEPT + i: 4 * stride for i, stride in enumerate(dense(lengths))}
                words |= {r.X_KEPT + i: stride for i, stride in enumerate(strides[:3])}
                words |= {r.REDUCED + i: x.shape[3 + i] for i in range(3)}
                words |= {r.X_REDUCED + i: strides[3 + i] for i in range(3)}
                expected = 0.5 * _REDUCTIONS[kind](x.astype(np.float64), axis=(3, 4, 5)).reshape(lengths)
                arrays = {step.X: x, step.OUT: np.full(lengths, np.nan, np.float32)}
                out = call(addresses[r.row(kind, direction, isa.name).name], words, arrays, (0, 0.5, 0.0), tiles=2,
                           scratch=4 * isa.lanes, at_end=seed % 2 == 0)  # fmt: skip
                close(out, expected, math.prod(reduced) * columns)


@pytest.mark.parametrize("kind", softmax.KINDS)
def test_softmax(isa: isas.Isa, addresses: Addresses, kind: str) -> None:
    r = softmax
    for seed, (length, columns) in enumerate(
        [(1, 1), (5, 3), (isa.lanes, isa.lanes), (3 * isa.lanes + 1, 2 * isa.lanes + 3)]
    ):
        outer = (2, 1, 3)
        for direction in r.DIRECTIONS:
            shape = (*outer, length, columns) if direction == "across" else (*outer, length)
            x = random(*shape, seed=seed) * 30
            strides = [4 * s for s in dense(shape)]
            words = {r.LENGTH: length, r.X_STRIDE: strides[3], r.OUT_STRIDE: strides[3], r.BLOCKS: 3}
            words[r.COLUMNS] = columns if direction == "across" else 1
            for i in range(3):
                words |= {r.OUTER + i: outer[i], r.X_OUTER + i: strides[i], r.OUT_OUTER + i: strides[i]}
            shifted = x.astype(np.float64) - x.max(axis=3, keepdims=True)
            expected = shifted - np.log(np.exp(shifted).sum(axis=3, keepdims=True))
            arrays = {step.X: x, step.OUT: np.full(shape, np.nan, np.float32)}
            out = call(addresses[r.row(kind, direction, isa.name).name], words, arrays, tiles=3, scratch=4 * isa.lanes,
                       at_end=seed % 2 == 0)  # fmt: skip
            close(out, expected if kind == "log_softmax" else np.exp(expected), 2.0)


def test_matmul(isa: isas.Isa, addresses: Addresses) -> None:
    (spec,) = matmul.rows(isa.name)
    r = matmul
    for seed, (rows, inner, columns) in enumerate(
        [(1, 1, 1), (4, 7, isa.lanes), (9, 5, 2 * isa.lanes + 3), (6, 33, 3)]
    ):
        x, y = random(2, 3, inner, rows, seed=seed), random(3, inner, columns, seed=seed + 9)
        out_shape = (2, 3, rows, columns)
        words = {
            r.ROWS: rows, r.INNER: inner, r.COLUMNS: columns, r.X_ROW: 4, r.X_INNER: 4 * rows,
            r.EXTRA_ROW: 4 * columns, r.OUT_ROW: 4 * columns, r.BLOCKS: 2,
        }  # fmt: skip
        batches = [
            (1, 0, 0, 0),
            (2, 3 * inner * rows, 0, 3 * rows * columns),
            (3, inner * rows, inner * columns, rows * columns),
        ]
        for i, (length, of_x, of_y, of_out) in enumerate(batches):
            words |= {
                r.BATCH + i: length,
                r.X_BATCH + i: 4 * of_x,
                r.EXTRA_BATCH + i: 4 * of_y,
                r.OUT_BATCH + i: 4 * of_out,
            }
        arrays = {step.X: x, step.EXTRA: y, step.OUT: np.full(out_shape, np.nan, np.float32)}
        out = call(addresses[spec.name], words, arrays, tiles=2, at_end=seed % 2 == 0)
        close(out, x.astype(np.float64).swapaxes(2, 3) @ y.astype(np.float64), math.sqrt(inner))
