"""Say what the globals and persistent ids in PyTorch's pickles mean; the allow-list is here and nowhere else.

Nothing here imports torch or runs anything a file names: each listed global stands for a function or constant below.
The argument lists are those of torch/_utils.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sepcore.formats.arrays import ITEM_BYTES
from sepcore.formats.pickle_vm import Constructor, Opaque, Refusal, checked_key, shown
from sepcore.formats.torch_tensors import MAX_RANK, Storage, Tensor, checked_size, checked_tensor


@dataclass(frozen=True, slots=True)
class Pickled:
    """What a PyTorch file holds, before any weight is read.

    Parameters
    ----------
    root : the pickled value, tensors in it being ``Tensor``.
    storages : key -> whole storage, for all that the pickle mentions.
    offsets : key -> byte of the file at which the storage's elements begin; every range is checked.
    """

    root: object
    storages: Mapping[str, Storage]
    offsets: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StorageType:
    """What ``torch.FloatStorage`` and the like stand for."""

    dtype: str


@dataclass(frozen=True, slots=True)
class ElementType:
    """What ``torch.float32`` and the like stand for."""

    dtype: str


class TorchVocabulary:
    """The meaning of one file's globals and persistent ids; collects the storages they mention."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}

    def find_global(self, name: str, *, outermost: bool) -> object:
        """Return what ``name`` stands for, or raise Refusal with the way out that PyTorch offers."""
        if name in _GLOBALS:
            return _GLOBALS[name]
        if name in _REFUSED:
            raise Refusal("a dense, strided tensor with stored values", f"{_REFUSED[name]} (global {name})")
        if outermost or name.startswith("torch.nn.modules."):
            raise Refusal(
                "a state dict; this file pickles a whole object, as torch.save(model) does: "
                "load it where its code is and save model.state_dict()",
                f"global {name}",
            )
        raise Refusal("tensors, numbers, strings and containers only; save model.state_dict() alone", f"global {name}")

    def load_persistent(self, persistent_id: object) -> Storage:
        """Return the storage that ``("storage", type, key, location, numel[, view])`` names, or raise Refusal."""
        match persistent_id if isinstance(persistent_id, tuple) else None:
            case ("module", *_):
                raise Refusal("a state dict; save model.state_dict()", "a whole module (torch.save(model))")
            case ("storage", StorageType(dtype), str(key), str(location), numel):
                return self._storage(key, dtype, location, numel)
            case ("storage", StorageType(dtype), str(key), str(location), numel, view):
                return _window(self._storage(key, dtype, location, numel), view)
        raise Refusal("a persistent id ('storage', type, key, location, numel)", shown(persistent_id))

    def _storage(self, key: str, dtype: str, location: str, numel: object) -> Storage:
        if location == "meta":
            raise Refusal("a tensor with stored values", f"storage '{key}' on the meta device")
        if dtype not in ITEM_BYTES:
            raise Refusal(f"an element type of {', '.join(ITEM_BYTES)}", dtype)
        storage = Storage(key, dtype, checked_size("numel", numel))
        known = self.storages.setdefault(key, storage)
        if known != storage:
            raise Refusal(f"storage '{key}' as {known.numel} of {known.dtype}, as before", f"{numel} of {dtype}")
        return known


def _window(storage: Storage, view: object) -> Storage:
    # PyTorch before 0.4 wrote views of storages: (key of the view, first element, elements).
    match view:
        case None:
            return storage
        case (str(), start, numel):
            first, count = checked_size("view offset", start), checked_size("view size", numel)
            if first + count <= storage.numel:
                return Storage(storage.key, storage.dtype, count, first)
    raise Refusal(f"a view inside storage '{storage.key}' of {storage.numel} elements", shown(view))


def _ordered_dict(arguments: tuple[object, ...]) -> object:
    match arguments:
        case ():
            return {}
        case (list(items),):  # as Python 2 wrote it
            return dict(_pair(item) for item in items)
    raise Refusal("OrderedDict() or OrderedDict([[key, value], …])", shown(arguments))


def _pair(item: object) -> tuple[object, object]:
    match item:
        case (key, value):
            return checked_key(key), value
    raise Refusal("a [key, value] pair", shown(item))


def _size(arguments: tuple[object, ...]) -> object:
    match arguments:
        case ((*dims,),) if len(dims) <= MAX_RANK:
            return tuple(dims)
    raise Refusal(f"torch.Size of at most {MAX_RANK} sizes", shown(arguments))


def _rebuild_tensor(arguments: tuple[object, ...]) -> Tensor:
    if len(arguments) != 4:
        raise Refusal("_rebuild_tensor(storage, offset, size, stride)", f"{len(arguments)} arguments")
    return checked_tensor(arguments)


def _rebuild_tensor_v2(arguments: tuple[object, ...]) -> Tensor:
    if len(arguments) not in (6, 7):
        raise Refusal("_rebuild_tensor_v2 with 6 or 7 arguments", f"{len(arguments)}")
    if arguments[6:]:
        _check_metadata(arguments[6])
    return checked_tensor(arguments[:4])


def _rebuild_tensor_v3(arguments: tuple[object, ...]) -> Tensor:
    if len(arguments) not in (7, 8):
        raise Refusal("_rebuild_tensor_v3 with 7 or 8 arguments", f"{len(arguments)}")
    element_type = arguments[6]
    if not isinstance(element_type, ElementType):
        raise Refusal("a dtype", shown(element_type))
    if element_type.dtype not in ITEM_BYTES:
        raise Refusal(f"an element type of {', '.join(ITEM_BYTES)}", element_type.dtype)
    if arguments[7:]:
        _check_metadata(arguments[7])
    return checked_tensor(arguments[:4], element_type.dtype)


def _check_metadata(metadata: object) -> None:
    # The conj and neg bits say that the stored values are not the tensor's.
    if metadata is not None and not (isinstance(metadata, dict) and not metadata):
        raise Refusal("a tensor without lazy conjugation or negation", shown(metadata))


def _rebuild_parameter(arguments: tuple[object, ...]) -> Tensor:
    if len(arguments) in (3, 4) and isinstance(arguments[0], Tensor):
        return arguments[0]
    raise Refusal("a parameter made of a tensor", shown(arguments))


def _rebuild_from_type(arguments: tuple[object, ...]) -> object:
    # A tensor with Python attributes: (constructor, class, its arguments, attributes).
    match arguments:
        case (Constructor() as constructor, Opaque(), tuple(inner), _) if constructor in _TENSOR_CONSTRUCTORS:
            return constructor.build(inner)
    raise Refusal("a plain tensor with attributes", shown(arguments))


def _opaque(name: str) -> Constructor:
    return Constructor(name, lambda arguments: Opaque(name))


_TENSOR_CONSTRUCTORS = (
    Constructor("torch._utils._rebuild_tensor", _rebuild_tensor),
    Constructor("torch._utils._rebuild_tensor_v2", _rebuild_tensor_v2),
    Constructor("torch._utils._rebuild_tensor_v3", _rebuild_tensor_v3),
    Constructor("torch._utils._rebuild_parameter", _rebuild_parameter),
    Constructor("torch._utils._rebuild_parameter_with_state", _rebuild_parameter),
)

_CONSTRUCTORS = (
    *_TENSOR_CONSTRUCTORS,
    Constructor("torch._tensor._rebuild_from_type_v2", _rebuild_from_type),
    Constructor("torch.Size", _size),
    Constructor("collections.OrderedDict", _ordered_dict),
)

_STORAGE_DTYPES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8 (quantized)",
    "QUInt8Storage": "quint8 (quantized)",
    "QInt32Storage": "qint32 (quantized)",
    "QUInt4x2Storage": "quint4x2 (quantized)",
    "QUInt2x4Storage": "quint2x4 (quantized)",
    "UntypedStorage": "uint8",
}

_UNREADABLE_DTYPES = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "complex32")

_BUILTINS = (
    *("bool", "bytearray", "complex", "dict", "float", "frozenset", "int", "list", "object"),
    *("range", "set", "slice", "str", "tuple", "xrange"),
)

# Values and classes that training code keeps beside the weights: allowed, and dropped.
_OPAQUE = (
    *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),
    "_codecs.encode",
    "argparse.Namespace",
    "collections.Counter",
    "collections.defaultdict",
    "datetime.date",
    "datetime.datetime",
    "datetime.time",
    "datetime.timedelta",
    "datetime.timezone",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.PureWindowsPath",
    "pathlib.WindowsPath",
    "pathlib._local.PosixPath",
    "pathlib._local.WindowsPath",
    "torch.device",
    "types.SimpleNamespace",
)

_REFUSED = {
    "torch._utils._rebuild_qtensor": "a quantized tensor",
    "torch._utils._rebuild_sparse_tensor": "a sparse tensor",
    "torch._utils._rebuild_sparse_csr_tensor": "a sparse tensor",
    "torch._utils._rebuild_nested_tensor": "a nested tensor",
    "torch._utils._rebuild_meta_tensor_no_storage": "a tensor on the meta device",
    "torch._utils._rebuild_wrapper_subclass": "a tensor subclass",
    "torch._utils._rebuild_device_tensor_from_numpy": "a tensor without storage",
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": "a tensor without storage",
}

_GLOBALS: Mapping[str, object] = {
    **{constructor.name: constructor for constructor in _CONSTRUCTORS},
    **{name: _opaque(name) for name in _OPAQUE},
    **{f"torch.{name}": StorageType(dtype) for name, dtype in _STORAGE_DTYPES.items()},
    "torch.storage.UntypedStorage": StorageType("uint8"),
    **{f"torch.{dtype}": ElementType(dtype) for dtype in (*ITEM_BYTES, *_UNREADABLE_DTYPES)},
    "torch.Tensor": Opaque("torch.Tensor"),
    "torch.nn.parameter.Parameter": Opaque("torch.nn.parameter.Parameter"),
}
