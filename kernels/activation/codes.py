"""Activations that kernels apply before they store: their codes and parameters in a step; nothing is computed here."""

from __future__ import annotations

from sepcore.kernels import isa as isas

LINEAR = 0
CLAMP = 1
LEAKY_RELU = 2
HARDSWISH = 3
HARDSIGMOID = 4
SILU = 5
SIGMOID = 6
CALL = 7  # a function of the user's: epilogues call it on the stored tile; its address stands in place of parameters
DIVIDED_SILU = 8  # SILU where a division of 512 bits takes less than an estimate and a step of Newton's iteration

NAMES = {
    LINEAR: "linear",
    CLAMP: "clamp",
    LEAKY_RELU: "leaky_relu",
    HARDSWISH: "hardswish",
    HARDSIGMOID: "hardsigmoid",
    SILU: "silu",
    SIGMOID: "sigmoid",
    DIVIDED_SILU: "divided_silu",
}

_INFINITY = float("inf")


def encode(activation: tuple[object, ...] | None, isa: str) -> tuple[int, float, float] | None:
    """Code and two parameters of a graph activation such as ``("clamp", 0.0, 6.0)``; None where no epilogue has it."""
    if activation is None:
        return LINEAR, 0.0, 0.0
    name, *parameters = activation
    numbers = [float(p) for p in parameters]  # type: ignore[arg-type]
    if name == "relu":
        return CLAMP, 0.0, _INFINITY
    if name == "clamp":
        return CLAMP, numbers[0], numbers[1]
    if name == "leaky_relu":
        return LEAKY_RELU, numbers[0], 0.0
    if name == "hardsigmoid":
        alpha, beta = numbers or (1.0 / 6.0, 0.5)
        return HARDSIGMOID, alpha, beta
    divided = isa == "avx512" and isas.two_passes()
    plain = {"hardswish": HARDSWISH, "silu": DIVIDED_SILU if divided else SILU, "sigmoid": SIGMOID}
    return (plain[str(name)], 0.0, 0.0) if name in plain else None
