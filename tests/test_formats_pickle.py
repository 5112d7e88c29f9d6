"""The pickle interpreter gives back the plain values that Python's own pickle module wrote."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_layouts import opcodes

from sepcore.errors import FormatError
from sepcore.formats.pickle_vm import Machine, Opaque
from sepcore.formats.source import CHUNK_BYTES, Cursor, Source
from sepcore.formats.torch_pickle import TorchVocabulary

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 200), 1 << 200) | st.floats(allow_nan=False) | st.text(max_size=300),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=5).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers(-(1 << 63), (1 << 64) - 1), inner, max_size=5)
    ),
    max_leaves=20,
)


def interpret(path: Path, content: bytes) -> object:
    path.write_bytes(content)
    with Source(path) as source:
        cursor = Cursor(source, 0, source.size)
        value = Machine(cursor, TorchVocabulary()).run()
        assert cursor.position == source.size
        return value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(PLAIN, st.integers(1, 5))
def test_plain_values_come_back(tmp_path_factory: pytest.TempPathFactory, value: object, protocol: int) -> None:
    path = tmp_path_factory.getbasetemp() / "plain.pkl"
    assert interpret(path, pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", range(1, 6))
def test_shared_and_large_containers(protocol: int, tmp_path: Path) -> None:
    shared = {"lr": 0.1, "betas": (0.9, 0.999)}
    value = [shared, shared, list(range(5000)), {str(n): n for n in range(5000)}, ("a", "b", "c", "d"), (), [], {}]
    read = interpret(tmp_path / "value.pkl", pickle.dumps(value, protocol))
    assert read == value
    assert isinstance(read, list) and read[0] is read[1]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_ordered_dicts_become_dicts(protocol: int, tmp_path: Path) -> None:
    value = OrderedDict(b=1, a=2)
    value._metadata = {"": {"version": 1}}  # type: ignore[attr-defined]
    read = interpret(tmp_path / "value.pkl", pickle.dumps(value, protocol))
    assert type(read) is dict and list(read.items()) == [("b", 1), ("a", 2)]


def test_ordered_dict_of_python_2(tmp_path: Path) -> None:
    items = opcodes([["b", 1], ["a", 2]])
    read = interpret(tmp_path / "value.pkl", b"\x80\x02ccollections\nOrderedDict\n" + items + b"\x85R.")
    assert read == {"b": 1, "a": 2}


def test_byte_strings_of_python_2_are_text(tmp_path: Path) -> None:
    assert interpret(tmp_path / "value.pkl", b"\x80\x02U\x03key.") == "key"
    assert interpret(tmp_path / "value.pkl", b"\x80\x02T\x04\0\0\0key\xe9.") == "keyé"


def test_sets_and_bytes_become_opaque(tmp_path: Path) -> None:
    value = {"set": {1, 2}, "frozen": frozenset({3}), "bytes": b"x" * 300, "array": bytearray(b"y" * 300), "after": 1}
    read = interpret(tmp_path / "value.pkl", pickle.dumps(value, 5))
    assert isinstance(read, dict) and read.pop("after") == 1
    assert all(isinstance(item, Opaque) for item in read.values())


def test_long_bytes_are_passed_over_unread(tmp_path: Path) -> None:
    value = [b"x" * (3 * CHUNK_BYTES), "after", b"y" * (CHUNK_BYTES - 9), "last"]
    read = interpret(tmp_path / "value.pkl", pickle.dumps(value, 4))
    assert isinstance(read, list) and [read[1], read[3]] == ["after", "last"]


def test_values_longer_than_a_chunk(tmp_path: Path) -> None:
    value = ["x" * (CHUNK_BYTES + 7), list(range(CHUNK_BYTES)), "é" * CHUNK_BYTES]
    assert interpret(tmp_path / "value.pkl", pickle.dumps(value, 2)) == value


def test_errors_name_the_byte_of_the_opcode(tmp_path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        interpret(tmp_path / "value.pkl", b"\x80\x02](K\1cos\nsystem\n.")
    assert caught.value.where == "byte 6"
    assert "os.system" in caught.value.found
