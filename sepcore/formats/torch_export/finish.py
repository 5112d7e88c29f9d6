"""Put a translated graph together with its weights, and hold what results against what the file declares.

It must not repair anything: a graph that is not what the file says it is, is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sepcore.errors import FormatError, GraphError
from sepcore.formats.torch_export.call import Operand, brief
from sepcore.formats.torch_export.translate import Translation
from sepcore.ir.graph import Array, Dim, Graph, frozen
from sepcore.ir.infer import infer_shapes
from sepcore.ir.ops.operator import shape_text
from sepcore.ir.verify import verify


def finished(path: str, translation: Translation, arrays: Mapping[str, Array]) -> Graph:
    """The whole graph.

    Parameters
    ----------
    path : the file, for messages.
    translation : the graph, and what the file declares of it.
    arrays : the elements of the weights and constants, by name in the graph.

    Raises
    ------
    FormatError : the file declares another shape or type than a tensor has or a node makes, or the nodes do not fit
        together.
    """
    constants = dict(translation.graph.constants)
    for name, array in arrays.items():
        constants[name] = _as_declared(path, name, array, translation.declared[name])
    graph = translation.graph.with_(constants=MappingProxyType(constants))
    try:
        verify(graph)
        _check_shapes(path, graph, translation)
    except GraphError as error:
        raise FormatError(path, "the graph", "nodes that fit together", brief(str(error))) from None
    return graph


def _as_declared(path: str, name: str, array: Array, declared: Operand) -> Array:
    widened = array.astype(declared.dtype) if array.dtype.itemsize == 2 and array.dtype.kind == "f" else array
    native = widened.astype(widened.dtype.newbyteorder("="), copy=False)
    if native.dtype != declared.dtype or native.shape != declared.shape:
        expected = f"{declared.dtype}{shape_text(declared.shape)}, as the graph declares"
        raise FormatError(path, f"tensor '{brief(name)}'", expected, f"{native.dtype}{shape_text(native.shape)}")
    return frozen(native)


def _check_shapes(path: str, graph: Graph, translation: Translation) -> None:
    """Infer all shapes for the lengths that the model was exported with, and compare them with the declared ones."""
    inputs = {value.name: _concrete(value.shape, translation.hints) for value in graph.inputs}
    shapes = {name: shape for name, shape in inputs.items() if shape is not None}
    if len(shapes) != len(inputs):
        return
    values = infer_shapes(graph, shapes)
    for name, declared in translation.declared.items():
        expected = _concrete(declared.shape, translation.hints)
        found = values.get(name)
        if found is None or expected is None:
            continue
        if found.shape != expected or found.dtype != declared.dtype:
            raise FormatError(
                path,
                f"value '{brief(name)}'",
                f"{declared.dtype}{shape_text(expected)}, as the graph declares",
                f"{found.dtype}{shape_text(found.shape)}",
            )


def _concrete(shape: tuple[Dim, ...], hints: Mapping[str, int]) -> tuple[int, ...] | None:
    """``shape`` with the hints for its symbolic lengths; None where one is missing."""
    lengths = [hints.get(length) if isinstance(length, str) else length for length in shape]
    known = tuple(length for length in lengths if length is not None)
    return known if len(known) == len(lengths) else None
