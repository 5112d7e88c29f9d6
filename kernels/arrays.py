"""Depthwise and pointwise convolution of NumPy arrays, parallel over rows, for Python and for a user's own Numba code.

Arrays are channels-last. The functions compile at their first call, for the instruction set of ``isa.chosen()``; how
many threads they use is Numba's setting (``numba.set_num_threads``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types
from numba.extending import intrinsic

from sepcore.kernels import isa as isas
from sepcore.kernels import step
from sepcore.kernels.jit import array_function
from sepcore.kernels.pointwise.rows import Tile
from sepcore.kernels.pointwise.tile import pointwise_tile
from sepcore.kernels.simd import lanes_of

_ISA = isas.chosen()
_LANES = _ISA.lanes
_ROWS = {"avx512": 14, "avx2": 6, "neon": 8, "portable": 5}[_ISA.name]
_COLUMNS = 2 * _LANES
_BLOCK = 8 * _ROWS
_tile = pointwise_tile(Tile(_ROWS, 2), _ISA)
_one = pointwise_tile(Tile(1, 2), _ISA)
_v = lanes_of(_ISA)
_load, _store, _load_part, _store_part, _fma = _v.load, _v.store, _v.load_part, _v.store_part, _v.fma


@intrinsic
def _address(typingctx: Any, array: Any) -> Any:
    """Address of an array's first element."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, context.get_value_type(types.intp))

    return types.intp(array), codegen


@array_function
def pointwise_conv2d(x, weight, bias):
    """Pointwise (1x1) convolution.

    Parameters
    ----------
    x : float32 (n, h, w, ic), C-contiguous.
    weight : float32 (oc, ic), C-contiguous: PyTorch's (oc, ic, 1, 1) without its last two axes.
    bias : float32 (oc,).

    Returns
    -------
    float32 (n, h, w, oc), a new array.

    Raises
    ------
    ValueError : channel counts that do not agree.
    """
    n, h, w, ic = x.shape
    oc = weight.shape[0]
    if weight.shape[1] != ic:
        raise ValueError("pointwise_conv2d: weight must have as many input channels as x")
    if bias.shape[0] != oc:
        raise ValueError("pointwise_conv2d: bias must have one value for each output channel")
    m = n * h * w
    panels = (oc + _COLUMNS - 1) // _COLUMNS
    packed = np.zeros((panels, 1 + ic, _COLUMNS), np.float32)
    for c in prange(oc):
        packed[c // _COLUMNS, 0, c % _COLUMNS] = bias[c]
        for k in range(ic):
            packed[c // _COLUMNS, 1 + k, c % _COLUMNS] = weight[c, k]
    # The tile stores whole vectors: into a padded copy of each block of pixels, from which the channels are taken.
    out = np.empty((m, oc), np.float32)
    linear = np.zeros(step.WORDS, np.int64)
    pixels = x.reshape(m, ic)
    for block in prange((m + _BLOCK - 1) // _BLOCK):
        first = block * _BLOCK
        count = min(_BLOCK, m - first)
        wide = np.empty((count, panels * _COLUMNS), np.float32)
        source = _address(pixels) + 4 * first * ic
        for p in range(panels):
            panel = _address(packed) + 4 * p * (1 + ic) * _COLUMNS
            target = _address(wide) + 4 * p * _COLUMNS
            stride = 4 * panels * _COLUMNS
            if count >= _ROWS:
                _tile(source, 4 * ic, count, panel, ic, target, stride, 0, 0, _address(linear), panel, 0)
            else:
                _one(source, 4 * ic, count, panel, ic, target, stride, 0, 0, _address(linear), panel, 0)
        out[first : first + count] = wide[:, :oc]
    return out.reshape(n, h, w, oc)


@array_function
def depthwise_conv2d(x, weight, bias, stride, padding):
    """Depthwise convolution: channel c of the result is channel c of x, filtered.

    Parameters
    ----------
    x : float32 (n, h, w, c), C-contiguous.
    weight : float32 (kh, kw, c), C-contiguous: PyTorch's (c, 1, kh, kw) with the channels last.
    bias : float32 (c,).
    stride : int, both ways.
    padding : int, zeros on all four sides.

    Returns
    -------
    float32 (n, (h + 2*padding - kh) // stride + 1, (w + 2*padding - kw) // stride + 1, c), a new array.

    Raises
    ------
    ValueError : channel counts that do not agree, a stride below 1, or a map smaller than the kernel.
    """
    n, h, w, c = x.shape
    kh, kw = weight.shape[0], weight.shape[1]
    if weight.shape[2] != c or bias.shape[0] != c:
        raise ValueError("depthwise_conv2d: weight and bias must have as many channels as x")
    if stride < 1 or padding < 0:
        raise ValueError("depthwise_conv2d: stride must be at least 1 and padding at least 0")
    if h + 2 * padding < kh or w + 2 * padding < kw:
        raise ValueError("depthwise_conv2d: the padded map is smaller than the kernel")
    oh, ow = (h + 2 * padding - kh) // stride + 1, (w + 2 * padding - kw) // stride + 1
    out = np.empty((n, oh, ow, c), np.float32)
    source, taps, start, target = _address(x), _address(weight), _address(bias), _address(out)
    for row in prange(n * oh):
        image, oy = row // oh, row % oh
        for ox in range(ow):
            for g in range(0, c, _LANES):
                rest = min(_LANES, c - g)
                total = _load_part(start + 4 * g, rest)
                for ky in range(max(0, padding - oy * stride), min(kh, h + padding - oy * stride)):
                    iy = oy * stride - padding + ky
                    for kx in range(max(0, padding - ox * stride), min(kw, w + padding - ox * stride)):
                        pixel = (image * h + iy) * w + ox * stride - padding + kx
                        at, tap = source + 4 * (pixel * c + g), taps + 4 * ((ky * kw + kx) * c + g)
                        if rest == _LANES:
                            total = _fma(_load(at), _load(tap), total)
                        else:
                            total = _fma(_load_part(at, rest), _load_part(tap, rest), total)
                _store_part(target + 4 * ((row * ow + ox) * c + g), total, rest)
    return out
