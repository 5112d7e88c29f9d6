"""Resampling of maps.

It must not know images.
"""

from __future__ import annotations

from typing import Any

from sepcore.formats.torch_export.call import AtenCall, Operand, UnsupportedError, Value
from sepcore.formats.torch_export.ops.lengths import vector
from sepcore.formats.torch_export.ops.row import Row, Rows


def _upsampled(call: AtenCall, attrs: dict[str, Any]) -> Value:
    """The new size and the scales come as lists in the overload ``vec``, else apart; scales count for coordinates."""
    x = call.operand("input" if call.given("input") else "self")
    if x.rank != 4:
        raise UnsupportedError(f"an input of {x.rank} axes, not (n, c, y, x)")
    scales = _scales(call)
    if scales is not None:
        attrs["scales"] = scales
    size = call.lengths("output_size") if call.given("output_size") else None
    if size is None and scales is None:
        raise call.error("arguments", "output_size or scale_factors", "neither")
    if size is not None and len(size) != 2:
        raise call.error("argument 'output_size'", "two lengths (y, x)", str(len(size)))
    if size is not None and any(isinstance(length, Operand) for length in size):
        return call.emit("resize", x, vector(call, size), **attrs)
    if size is not None:
        attrs["output_size"] = size
    return call.emit("resize", x, **attrs)


def _scales(call: AtenCall) -> tuple[float, float] | None:
    given = call.raw("scale_factors")
    if given is None:
        given = (call.number("scales_h", None), call.number("scales_w", None))
        if None in given:
            return None
    if not isinstance(given, tuple) or len(given) != 2 or not all(type(scale) in (int, float) for scale in given):
        raise UnsupportedError("scales that are not two numbers known in advance")
    return float(given[0]), float(given[1])


def _nearest(call: AtenCall) -> Value:
    return _upsampled(call, {"mode": "nearest", "coordinate": "asymmetric", "nearest_rounding": "floor"})


def _nearest_exact(call: AtenCall) -> Value:
    """Whole positions are pixels' edges: floor(position + 1/2) is the pixel."""
    return _upsampled(call, {"mode": "nearest", "coordinate": "half_pixel", "nearest_rounding": "round_prefer_ceil"})


def _bilinear(call: AtenCall) -> Value:
    coordinate = "align_corners" if call.flag("align_corners") else "half_pixel"
    return _upsampled(call, {"mode": "bilinear", "coordinate": coordinate})


def _overloads(name: str, row: Row) -> Rows:
    return {f"aten.{name}.{overload}": row for overload in ("default", "vec")}


OPERATORS: Rows = {
    **_overloads("upsample_nearest2d", _nearest),
    **_overloads("_upsample_nearest_exact2d", _nearest_exact),
    **_overloads("upsample_bilinear2d", _bilinear),
}
