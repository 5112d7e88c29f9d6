"""Resampling of maps.

It must not know images.
"""

from __future__ import annotations

from typing import Any

from sepcore.formats.onnx.ops.row import Row
from sepcore.formats.onnx.step import Operand, Step, UnsupportedError

_MODES = {"nearest": "nearest", "linear": "bilinear"}
_COORDINATES = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
_ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


def _resize(step: Step) -> Operand:
    attrs = _settings(step)
    x = step.input(0)
    if x.rank not in (3, 4):
        raise UnsupportedError(f"an input of {x.rank} axes; sepcore resizes maps (n, c, h, w)")
    axes = step.axes(step.integers("axes", tuple(range(x.rank))), x.rank)
    sized = step.has(3)
    if sized == (step.has(2) and step.input(2).shape != (0,)):
        raise step.error("inputs", "either scales or sizes", "both" if sized else "neither")
    if sized and step.input(3).content is None:
        return _to_computed_size(step, x, axes, attrs)
    if sized:
        sizes = dict(zip(axes, _one_per_axis(step, axes, step.constant_integers(3, "the sizes"))))
        lengths = [sizes.get(axis, x.shape[axis]) for axis in range(x.rank)]
        if min(sizes.values(), default=1) < 1:
            raise step.error("the sizes", "lengths of 1 or more", str(lengths))
        if any(lengths[axis] != x.shape[axis] for axis in (0, 1)):
            raise UnsupportedError(f"sizes {lengths} that change the batch or the channels of {list(x.shape)}")
        if None in lengths[2:]:
            raise UnsupportedError(f"sizes {lengths} of maps whose size is open")
        return _over_map(step, x, "output_size", tuple(lengths[2:]), 1, attrs)
    scales = dict(zip(axes, _one_per_axis(step, axes, step.constant_numbers(2, "the scales"))))
    if scales.get(0, 1) != 1 or scales.get(1, 1) != 1 or min(scales.values()) <= 0:
        raise UnsupportedError(f"scales {list(scales.values())}; only those of a map may differ from 1")
    return _over_map(step, x, "scales", tuple(scales.get(axis, 1.0) for axis in range(2, x.rank)), 1.0, attrs)


def _settings(step: Step) -> dict[str, Any]:
    """Mode, coordinates and rounding; what none of sepcore's can express is refused."""
    mode = step.text("mode", "nearest")
    coordinate = step.text("coordinate_transformation_mode", "half_pixel")
    rounding = step.text("nearest_mode", "round_prefer_floor")
    for name, found, allowed in (
        ("mode", mode, tuple(_MODES)),
        ("coordinate_transformation_mode", coordinate, _COORDINATES),
        ("nearest_mode", rounding, _ROUNDINGS),
    ):
        if found not in allowed:
            raise UnsupportedError(f"{name} {found!r}; sepcore has {', '.join(allowed)}")
    if step.flag("antialias"):
        raise UnsupportedError("antialias")
    policy = step.text("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":
        raise UnsupportedError(f"keep_aspect_ratio_policy {policy!r}; sepcore has stretch")
    # These belong to modes that have been refused above.
    step.ignore("cubic_coeff_a", "exclude_outside", "extrapolation_value")
    return {"mode": _MODES[mode], "coordinate": coordinate, "nearest_rounding": rounding}


def _one_per_axis(step: Step, axes: tuple[int, ...], given: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(given) != len(axes):
        raise step.error("scales or sizes", f"{len(axes)} numbers", str(given))
    return given


def _over_map(
    step: Step, x: Operand, name: str, numbers: tuple[Any, ...], missing: float, attrs: dict[str, Any]
) -> Operand:
    """Resize (n, c, h, w), or (n, c, w) as maps of one row."""
    if x.rank == 4:
        return step.emit("resize", x, **{name: numbers}, **attrs)
    widened = step.emit("unsqueeze", x, axes=(2,))
    return step.emit("squeeze", step.emit("resize", widened, **{name: (missing, *numbers)}, **attrs), axes=(2,))


def _to_computed_size(step: Step, x: Operand, axes: tuple[int, ...], attrs: dict[str, Any]) -> Operand:
    """A size that follows from other shapes, which the batch and the channels are taken to keep."""
    if x.rank != 4 or axes not in ((0, 1, 2, 3), (2, 3)):
        raise UnsupportedError("sizes that are not constant, for other than maps (n, c, h, w)")
    size = step.input(3)
    if axes == (0, 1, 2, 3):
        size = step.emit("slice", size, axes=(0,), starts=(2,), ends=(4,), steps=(1,))
    return step.emit("resize", x, size, **attrs)


OPERATORS = (Row("Resize", _resize, 1, 4),)
