"""How a network that is ready to run is called, however it came about; it must not plan or compile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sepcore.errors import InputError
from sepcore.runtime.inputs import checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]


class _Described(Protocol):
    @property
    def name(self) -> str: ...


Described = TypeVar("Described", bound=_Described)


class Runner(Generic[Described]):
    """A network as its users see it.

    Attributes
    ----------
    inputs, outputs : names and shapes; a length that may vary is a name.
    """

    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]

    def __call__(self, *arrays: Array) -> Any:
        """The network's outputs.

        Parameters
        ----------
        arrays : one per input, float32, C order or not; (n, 3, h, w) for a classifier. They are not modified.

        Returns
        -------
        float32 array, or a tuple of them where the network has several outputs; the caller's own.

        Raises
        ------
        InputError : wrong count, type, dtype, rank or shape; says what was expected and found.
        """
        outputs = self._run_checked(arrays)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def run(self, output_names: Sequence[str] | None, feeds: Mapping[str, Array]) -> list[Array]:
        """ONNX Runtime's spelling: outputs by name (all where None) for inputs by name."""
        known = [value.name for value in self.inputs]
        if set(feeds) != set(known):
            raise InputError(f"inputs: expected {', '.join(known)}, found {', '.join(feeds) or 'none'}")
        outputs = dict(zip((value.name for value in self.outputs), self._run_checked([feeds[name] for name in known])))
        wanted = list(outputs) if output_names is None else list(output_names)
        for name in wanted:
            if name not in outputs:
                raise InputError(f"output: expected one of {', '.join(outputs)}, found {name!r}")
        return [outputs[name] for name in wanted]

    def get_inputs(self) -> list[Described]:
        """ONNX Runtime's spelling of ``inputs``."""
        return list(self.inputs)

    def get_outputs(self) -> list[Described]:
        """ONNX Runtime's spelling of ``outputs``."""
        return list(self.outputs)

    @property
    def _input_names(self) -> Sequence[str]:
        return [value.name for value in self.inputs]

    def _run_checked(self, arrays: Sequence[Array]) -> list[Array]:
        names = self._input_names
        if len(arrays) != len(names):
            raise InputError(f"inputs: expected {len(names)}, found {len(arrays)}")
        return self._run([checked(name, array) for name, array in zip(names, arrays)])

    def _run(self, arrays: list[Array]) -> list[Array]:
        """The outputs for as many contiguous float32 arrays as there are inputs; their shapes are not yet checked."""
        raise NotImplementedError
