"""Users' operators: right numbers wherever they run, never old machine code, plain errors for what cannot be one."""

from __future__ import annotations

import math
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import sepcore
from sepcore import ops
from sepcore.errors import CompileError, GraphError, OptionError, UnsupportedModelError
from sepcore.ir.graph import Graph, GraphBuilder
from sepcore.ir.ops import custom
from sepcore.ir.reference import run_reference
from sepcore.kernels import isa as isas
from sepcore.kernels.custom import source
from sepcore.opening import opened_network
from sepcore.options import SessionOptions
from sepcore.passes import run_passes
from sepcore.plan.program import Step
from sepcore.runtime.session import Session

SLOPE = 0.25


def tanh_exp(x: Any) -> Any:
    return x * math.tanh(math.exp(x))


def bent(x: Any, power: float = 1.5, above: int = 2) -> Any:
    """Branches, an attribute of each kind, a global, numpy's functions, literals of both kinds."""
    if x < 0:
        return SLOPE * x
    return np.power(x, power) if x > above else 2 * np.sqrt(x) - math.log1p(x)


def mixed(first: int, last: int, out: Any, a: Any, b: Any, scale: float = 2.0) -> None:
    for i in range(first, last):
        out[i] = scale * a[a.size - 1 - i] + b[i % b.size]


def neighbours(first: int, last: int, out: Any, a: Any) -> None:
    for c in range(first, last):
        for y in range(out.shape[2]):
            for x in range(out.shape[3]):
                out[0, c, y, x] = a[0, c, y, 2 * x] + a[0, c, y, 2 * x + 1]


@pytest.fixture(autouse=True)
def operators() -> Iterator[None]:
    """The operators above; none is left behind."""
    sepcore.op("my.domain::TanhExp")(tanh_exp)
    sepcore.op("my.domain::Bent")(bent)
    sepcore.op("my.domain::Mixed")(mixed)
    sepcore.op("my.domain::Neighbours", axis=1, shape=lambda a: (*a[:3], a[3] // 2))(neighbours)
    yield
    for op in custom.registered():
        ops.remove(op.removeprefix(custom.PREFIX))


def random(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def network(act: str, **attrs: Any) -> Graph:
    """Every kernel with an epilogue, at widths that fill no tile: first layer, 1x1, depthwise, residual, dense."""
    b = GraphBuilder("net")

    def conv(x: str, ic: int, oc: int, size: int, *, groups: int = 1, stride: int = 1) -> str:
        weight = random(oc, ic // groups, size, size, seed=oc + size) / math.sqrt(ic // groups * size * size)
        constants = b.constant("w", weight.astype(np.float32)), b.constant("b", random(oc, seed=ic))
        return b.add("conv2d", (x, *constants), padding=(size // 2,) * 4, groups=groups, strides=(stride, stride))

    def activated(x: str) -> str:
        return b.add(f"{custom.PREFIX}{act}", (x,), **attrs)

    x = activated(conv(b.input("x", ("n", 3, "h", "w")), 3, 24, 3, stride=2))
    x = shortcut = activated(conv(x, 24, 40, 1))
    x = activated(conv(x, 40, 40, 3, groups=40))
    x = activated(b.add("add", (conv(x, 40, 40, 1), shortcut)))
    x = activated(conv(x, 40, 24, 3))
    return run_passes(b.build([b.add("softmax", (x,), axis=1), b.add("identity", (x,))]))


def alone(op: str, *shapes: tuple[Any, ...], **attrs: Any) -> Graph:
    """A graph of one operator; inputs behind the first are constants."""
    b = GraphBuilder("alone")
    constants = [b.constant(f"c{i}", random(*shape, seed=i)) for i, shape in enumerate(shapes[1:])]
    return b.build([b.add(f"{custom.PREFIX}{op}", (b.input("x", shapes[0]), *constants), **attrs)])


def steps(session: Session, *shape: int) -> list[Step]:
    program = session.program(shape)
    return [part for step in program.steps for part in (step, *(row for run in step.chain for row in run))]


@pytest.mark.parametrize(("act", "attrs"), [("tanh_exp", {}), ("bent", {"power": 1.25, "above": 1})])
def test_behind_every_kernel_it_gives_what_the_python_function_gives(act: str, attrs: Any) -> None:
    graph, x = network(act, **attrs), random(3, 3, 37, 29)
    session = Session(graph, SessionOptions(num_threads=2))
    for made, expected in zip(session(x), run_reference(graph, {"x": x})):
        np.testing.assert_allclose(made, expected, rtol=2e-5, atol=2e-5 * float(np.abs(expected).max()))
    behind = {step.kernel.split("_")[1] for step in steps(session, 1, 3, 37, 29) if step.epilogue}
    assert behind >= {"stem", "pointwise", "depthwise", "conv"}


def test_bits_are_the_same_for_any_threads_and_batch() -> None:
    graph, x = network("tanh_exp"), random(5, 3, 45, 45)
    one, two = (Session(graph, SessionOptions(num_threads=n)) for n in (1, 2))
    expected = one(x)[1]
    for _ in range(20):
        np.testing.assert_array_equal(two(x[:1])[1], expected[:1])
    np.testing.assert_array_equal(two(x)[1], expected)
    for i in range(5):
        np.testing.assert_array_equal(one(x[i : i + 1])[1], expected[i : i + 1])


def test_threads_never_activate_a_pixel_twice() -> None:
    """SiLU too runs over stored tiles; 49 pixels fill no tile of 14, so the last one is moved up."""
    b = GraphBuilder("silu")
    weight = b.constant("w", random(512, 512, 1, 1) / np.float32(16))
    y = b.input("x", ("n", 512, 7, 7))
    graph = run_passes(b.build([b.add("silu", (b.add("conv2d", (y, weight)),))]))
    x = random(1, 512, 7, 7)
    expected = Session(graph, SessionOptions(num_threads=1))(x)
    several = Session(graph, SessionOptions(num_threads=2))
    for _ in range(300):
        np.testing.assert_array_equal(several(x), expected)


@pytest.mark.parametrize("shape", [(1, 19, 5, 7), (1, 33), (1, 4, 3, 5, 9)])
def test_as_a_node_over_any_tensor(shape: tuple[int, ...]) -> None:
    graph, x = alone("bent", shape), 3 * random(*shape)
    session = Session(graph, SessionOptions(num_threads=2))
    (expected,) = run_reference(graph, {"x": x})
    np.testing.assert_allclose(session(x), expected, rtol=1e-5, atol=1e-6)
    assert any("custom_elementwise" in step.kernel for step in steps(session, *shape))


def test_a_map_that_others_read_keeps_its_values() -> None:
    b = GraphBuilder("shared")
    weight = b.constant("w", random(16, 16, 1, 1) / np.float32(4))
    y = b.add("conv2d", (b.input("x", ("n", 16, 9, 9)), weight))
    # And a part of a concat, which has a place of its own.
    z = b.add("custom.tanh_exp", (b.add("conv2d", (y, weight)),))
    both = b.add("concat", (b.add("mul", (y, y)), z), axis=1)
    graph = run_passes(b.build([both, b.add("custom.tanh_exp", (y,)), b.add("add", (y, y))]))
    x = random(2, 16, 9, 9)
    for made, expected in zip(Session(graph)(x), run_reference(graph, {"x": x})):
        np.testing.assert_allclose(made, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes", "attrs"),
    [("mixed", [("n", 3, 40, 40), (7,)], {"scale": 0.5}), ("neighbours", [("n", 6, 5, 8)], {})],
)
def test_range_kernels(op: str, shapes: Any, attrs: Any) -> None:
    graph = alone(op, *shapes, **attrs)
    x = random(3, *shapes[0][1:])
    one, two = (Session(graph, SessionOptions(num_threads=n)) for n in (1, 2))
    for i in range(3):
        (expected,) = run_reference(graph, {"x": x[i : i + 1]})
        np.testing.assert_allclose(one(x)[i : i + 1], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(two(x), one(x))
    np.testing.assert_array_equal(two(x[:1]), one(x)[:1])


def test_the_reference_is_the_users_where_there_is_one() -> None:
    ops.remove("tanh_exp")
    sepcore.op(reference=lambda x: np.full_like(x, 7.0))(tanh_exp)
    (made,) = run_reference(alone("tanh_exp", (1, 4)), {"x": random(1, 4)})
    np.testing.assert_array_equal(made, np.full((1, 4), 7, np.float32))


_GRIDS = {
    "log": np.logspace(-30, 30, 4001), "sqrt": np.logspace(-30, 30, 4001), "log1p": np.linspace(-0.999, 50, 4001),
    "sin": np.linspace(-1e4, 1e4, 40001), "cos": np.linspace(-1e4, 1e4, 40001), "exp": np.linspace(-80, 80, 4001),
    "expm1": np.concatenate([np.linspace(-20, 20, 4001), np.logspace(-12, 0, 999)]),
}  # fmt: skip


@pytest.mark.parametrize("isa", [isa.name for isa in isas.available()])
def test_mathematics_is_right_to_a_few_units_of_the_last_place(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_CPU_ISA", isa)

    def every(first: int, last: int, out: Any, a: Any) -> None:
        for i in range(first, last):
            x = a[0, 0, i]
            out[0, 0, i], out[0, 1, i], out[0, 2, i] = math.exp(x), math.expm1(x), math.log(x)
            out[0, 3, i], out[0, 4, i], out[0, 5, i] = math.log1p(x), math.tanh(x), math.erf(x)
            out[0, 6, i], out[0, 7, i], out[0, 8, i] = math.sqrt(x), math.fabs(x), math.floor(x)
            out[0, 9, i], out[0, 10, i], out[0, 11, i] = math.ceil(x), math.pow(x, 1.5), math.sin(x)
            out[0, 12, i] = math.cos(x)

    sepcore.op(axis=2, shape=lambda a: (a[0], 13, a[2]))(every)
    grid = np.concatenate([np.linspace(-8, 8, 4001), *_GRIDS.values()]).astype(np.float32)
    made = Session(alone("every", (1, 1, grid.size)))(grid.reshape(1, 1, -1))[0]
    wide = grid.astype(np.float64)
    with np.errstate(all="ignore"):
        for row, name in zip(made, source.MATHEMATICS, strict=True):
            if name == "erf":
                expected = np.array([math.erf(x) for x in wide])
            else:
                expected = np.power(wide, 1.5) if name == "pow" else getattr(np, name)(wide)
            inside = np.isin(grid, _GRIDS[name].astype(np.float32)) if name in _GRIDS else np.abs(grid) <= 8
            np.testing.assert_allclose(row[inside], expected[inside], rtol=1.5e-6, atol=4e-7, err_msg=name)


def program_text(body: str) -> str:
    """A script that registers an operator as ``body`` writes it, runs it on 2.0, and prints whether Numba was there."""
    head = """
        import math, sys
        import numpy as np
        import sepcore
        from sepcore.ir.graph import GraphBuilder
        from sepcore.runtime.session import Session
    """
    tail = """
        b = GraphBuilder("g")
        run = Session(b.build([b.add("custom.own", (b.input("x", (1, 4)),))]))
        print(float(run(np.full((1, 4), 2, np.float32))[0, 0]), "numba" in sys.modules or "llvmlite" in sys.modules)
    """
    return "\n".join(map(textwrap.dedent, (head, body, tail)))


def ran(body: str) -> tuple[float, bool]:
    script = program_text(body)
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    value, compiled = made.stdout.split()
    return float(value), compiled == "True"


def test_editing_the_function_never_runs_old_machine_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEPCORE_CACHE_DIR", str(tmp_path))
    first = "@sepcore.op()\ndef own(x): return x * 3.0"
    assert ran(first) == (6.0, True)
    assert ran(first) == (6.0, False)
    assert ran("@sepcore.op()\ndef own(x): return x * 4.0") == (8.0, True)
    through_global = "FACTOR = {}\ndef inner(x): return x * FACTOR\n@sepcore.op()\ndef own(x): return inner(x)"
    assert ran(through_global.format(5.0)) == (10.0, True)
    assert ran(through_global.format(7.0)) == (14.0, True)
    assert ran(through_global.format(5.0)) == (10.0, False)


def closure(value: Any) -> Callable[[Any], Any]:
    def own(x: Any) -> Any:
        return x * value[1]

    return own


def test_what_a_function_is_made_of_tells_it_from_others() -> None:
    arrays = [np.array([1.0, 2.0]), np.array([1.0, 3.0]), (1.0, 2.0), (1, 2), (True, 2.0), (1.0, np.float32(2))]
    functions: list[FunctionType] = [closure(value) for value in arrays]  # type: ignore[misc]
    assert len({source.digest(f) for f in functions}) == len(arrays)
    assert source.digest(closure((1.0, 2.0))) == source.digest(closure((1.0, 2.0)))  # type: ignore[arg-type]


def test_a_function_is_kept_as_it_was_when_it_was_registered() -> None:
    table = np.array([1.0, 5.0])
    sepcore.op()(closure(table))
    table[1] = 9.0
    graph = alone("own", (1, 4))
    assert Session(graph)(np.ones((1, 4), np.float32))[0, 0] == 5.0
    assert run_reference(graph, {"x": np.ones((1, 4), np.float32)})[0][0, 0] == 5.0


def test_the_same_function_may_be_registered_again_and_another_may_not() -> None:
    sepcore.op("my.domain::TanhExp")(tanh_exp)
    with pytest.raises(OptionError, match=r"'tanh_exp'.*taken by another function.*remove"):
        sepcore.op(name="tanh_exp")(lambda x: x)
    with pytest.raises(OptionError, match=r"'own'.*'my.domain::Bent'.*'bent'"):
        sepcore.op("my.domain::Bent", name="own")(lambda x: x)
    ops.remove("tanh_exp")
    sepcore.op(name="tanh_exp")(lambda x: x + 1.0)
    assert Session(alone("tanh_exp", (1, 4)))(np.ones((1, 4), np.float32))[0, 0] == 2.0
    with pytest.raises(OptionError, match="'other': expected one that is registered"):
        ops.remove("other")


def recursive(x: Any) -> Any:
    return recursive(x - 1.0) if x > 0 else x


def raising(x: Any) -> Any:
    if x > 1:
        raise ValueError
    return x


def with_keyword_only(x: Any, *, a: float = 1.0) -> Any:
    return x


def with_import(x: Any) -> Any:
    import cmath

    return cmath.sqrt(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x, y: x, r"expected f\(x\), or .*found f\(x, y\)"),
        (lambda first, last, out: None, r"found f\(first, last, out\)"),
        (lambda first, last, out, a, b, c, d: None, "found f"),
        (lambda x, scale="two": x, "attribute scale: expected a number as default, found 'two'"),
        (with_keyword_only, "keyword-only"),
        (lambda *x: x, "variadic"),
        (recursive, "recursive calls itself"),
        (with_import, "an import"),
        (raising, "a raise statement"),
        (lambda x: x * unknown, "unknown has no value yet"),  # type: ignore[name-defined]  # noqa: F821
        (lambda x: math.gamma(x), "math.gamma: gamma has no kernel code; expected one of exp"),
        (lambda x: math.no_such(x), "the module math has no such name"),  # type: ignore[attr-defined]
        (lambda x: x * len(np.linalg.__name__), "np.linalg: the module numpy.linalg as a value"),
        (closure({1: 2.0}), "value: dict: expected numbers"),
        (closure(np.array(["a", "b"])), "value: an array of"),
        (print, "expected a Python function, found builtin"),
    ],
)
def test_what_cannot_be_an_operator(function: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        sepcore.op(name="own")(function)
    assert custom.find("custom.own") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "Own"}, "name: expected up to 40 of a-z"),
        ({"name": "silu"}, "one of sepcore's own"),
        ({"name": "relu6"}, "one of sepcore's own"),
        ({"names": ("Own",)}, "names: expected 'domain::Op'"),
        ({"axis": 1}, "shape and axis: expected none"),
    ],
)
def test_wrong_arguments(arguments: Any, message: str) -> None:
    names = arguments.pop("names", ())
    with pytest.raises(OptionError, match=message):
        sepcore.op(*names, **{"name": "own", **arguments})(lambda x: x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: x.no_such, "Numba refuses it(.|\n)*no_such"),
        (lambda x: (x, x), "Numba refuses it"),
        (lambda x: x**0.3, "expected no symbols from outside, found powf"),
    ],
)
def test_what_numba_cannot_compile(function: Any, message: str) -> None:
    sepcore.op(name="own")(function)
    with pytest.raises(CompileError, match=message):
        Session(alone("own", (1, 4)))(random(1, 4))


def test_what_may_raise_is_refused() -> None:
    def own(first: int, last: int, out: Any, a: Any) -> None:
        square = a.reshape(3, 3)
        out[first] = square[0, 0]

    sepcore.op()(own)
    with pytest.raises(CompileError, match=r"custom_range_own.*may raise"):
        Session(alone("own", (1, 4)))(random(1, 4))


@pytest.mark.parametrize("rule", [lambda a: 1 / 0, lambda a: (0, 1), lambda a: ("n",)])
def test_a_broken_shape_rule_names_the_node(rule: Any) -> None:
    ops.remove("neighbours")
    sepcore.op(axis=1, shape=rule)(neighbours)
    with pytest.raises(GraphError, match=r"custom\.neighbours.*shape rule: expected"):
        run_reference(alone("neighbours", (1, 2, 2, 2)), {"x": random(1, 2, 2, 2)})


def onnx_file(path: Path, op: str, domain: str = "my.domain", **attributes: Any) -> Path:
    weight = onnx.numpy_helper.from_array(random(8, 3, 1, 1), "w")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["y"]),
        helper.make_node(op, ["y"], ["z"], domain=domain, **attributes),
    ]
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", c, 6, 6]) for n, c in (("x", 3), ("z", 8))]
    graph = helper.make_graph(nodes, "net", value[:1], value[1:], [weight])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("my.domain", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets), str(path))
    return path


def test_by_its_name_in_an_onnx_file(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "a.onnx", "Bent", power=1.25, above=1)
    x = random(2, 3, 6, 6)
    y = np.einsum("oc,nchw->nohw", random(8, 3, 1, 1)[:, :, 0, 0].astype(np.float64), x.astype(np.float64))
    with np.errstate(invalid="ignore"):
        positive = np.where(y > 1, np.power(y, 1.25), 2 * np.sqrt(y) - np.log1p(y))
    np.testing.assert_allclose(sepcore.load(path)(x), np.where(y < 0, SLOPE * y, positive), rtol=1e-5, atol=1e-5)


def test_an_onnx_operator_that_is_not_registered_says_how_to(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "a.onnx", "Other")
    with pytest.raises(UnsupportedModelError, match=r'@sepcore.op\("my.domain::Other"\)'):
        sepcore.load(path)


def test_an_onnx_attribute_that_the_function_has_not(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError, match="attribute 'beta' is not known"):
        sepcore.load(onnx_file(tmp_path / "a.onnx", "Bent", beta=1.0))


def test_as_the_activation_of_a_family() -> None:
    net = sepcore.load("digits", activation="tanh_exp")
    x = random(2, 3, 32, 32)
    graph = opened_network("digits", None, None, None, None, None, {"activation": "tanh_exp"}).graph
    (expected,) = run_reference(graph, {net.inputs[0].name: x})
    assert any(node.op == "custom.tanh_exp" for node in graph.nodes)
    np.testing.assert_allclose(net(x), expected, rtol=1e-4, atol=1e-4 * float(np.abs(expected).max()))
    with pytest.raises(OptionError, match=r"activation: expected one of .*tanh_exp.*registered with @sepcore.op"):
        sepcore.load("digits", activation="mixed")


def test_a_sep_file_says_which_operator_it_needs(tmp_path: Path) -> None:
    from sepcore.api import convert

    path = tmp_path / "net.sep"
    convert("digits", path, activation="tanh_exp")
    x = random(1, 3, 32, 32)
    expected = sepcore.load("digits", activation="tanh_exp")(x)
    np.testing.assert_array_equal(sepcore.load(path)(x), expected)
    ops.remove("tanh_exp")
    with pytest.raises(UnsupportedModelError, match=r"'tanh_exp', registered with @sepcore\.op"):
        sepcore.load(path)
