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
from sepcore.formats.pickle_vm import MAX_DEPTH, MAX_OPCODES, MAX_TEXT_BYTES, Machine, Opaque
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


REFUSALS = {
    "nothing left": (b".", 2, "one value at the end"),
    "two values left": (b"NN.", 4, "one value at the end"),
    "a mark left open": (b"N(0.", 4, "an operand"),
    "a mark left open below": (b"(N.", 4, "one value at the end"),
    "too many opcodes": (b"N" + b"\x94" * MAX_OPCODES + b".", 1 + MAX_OPCODES, "opcodes"),
    "too many marks": (b"(" * (MAX_DEPTH + 1) + b"0" * MAX_DEPTH + b"N.", 2 + MAX_DEPTH, "nested at most"),
    "a long integer": (b"\x8a\x41" + b"\1" * 65 + b".", 2, "an integer of at most"),
    "letters for a number": (b"I0x10\n.", 2, "a decimal integer"),
    "an unknown opcode": (b"\xff.", 2, "an opcode that"),
    "INST": (b"(iargparse\nNamespace\n.", 3, "an opcode that"),
    "a memo entry never stored": (b"Nq\1h\2.", 5, "a memo entry"),
    "text that is not UTF-8": (b"X\2\0\0\0\xff\xfe.", 2, "UTF-8"),
    "a tuple of too few": (b"N\x86.", 3, "an operand"),
    "an item without a list": (b"Na.", 3, "an operand"),
    "items for a number": (b"K\1(NNe.", 7, "a list"),
    "items for a dict": (b"}(NNu0}(NNe.", 12, "a list"),
    "pairs for a list": (b"](K\1K\2u.", 8, "a dict"),
    "a key without value": (b"}(K\1K\2K\3u.", 10, "a value for every key"),
    "a tuple as key": (b"})Ns.", 5, "as dict key"),
    "a list as key": (b"}]Ns.", 5, "as dict key"),
    "a key of 65 bits": (b"}\x8a\x09" + b"\0" * 8 + b"\1Ns.", 15, "of at most 64 bits"),
    "a global of numbers": (b"K\1K\2\x93.", 6, "a module and a name"),
    "an unknown global": (b"](K\1cos\nsystem\n.", 6, "containers only"),
    "an unknown global at once": (b"cos\nsystem\n.", 2, "a state dict"),
    "a call of a number": (b"K\1)R.", 5, "an allowed constructor"),
    "a call with a list": (b"cargparse\nNamespace\n]R.", 23, "a tuple of arguments"),
    "a call with keywords": (b"cargparse\nNamespace\n)}(K\1K\1u\x92.", 30, "without keyword"),
    "a call with a number for keywords": (b"cargparse\nNamespace\n)K\1\x92.", 25, "without keyword"),
    "state for a list": (b"]}b.", 4, "can take attributes"),
    "state for a class": (b"ccollections\nOrderedDict\n}b.", 28, "can take attributes"),
    "a persistent id that is a list": (b"](X\7\0\0\0storageeQ.", 17, "a persistent id"),
    "an ordered dict of a number": (b"ccollections\nOrderedDict\nK\1\x85R.", 30, "OrderedDict()"),
    "an ordered dict of triples": (b"ccollections\nOrderedDict\n](NNN\x87e\x85R.", 35, "pair"),
    "an ordered dict with list keys": (b"ccollections\nOrderedDict\n](]N\x86e\x85R.", 34, "as dict key"),
    "a size of a number": (b"ctorch\nSize\nK\1\x85R.", 17, "torch.Size"),
    "a size of many": (b"ctorch\nSize\n](" + b"N" * 33 + b"e\x85R.", 51, "torch.Size"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_name_the_opcode_and_the_reason(name: str, tmp_path: Path) -> None:
    program, position, reason = REFUSALS[name]
    with pytest.raises(FormatError) as caught:
        interpret(tmp_path / "value.pkl", b"\x80\x02" + program)
    assert (caught.value.where, reason in caught.value.expected) == (f"byte {position}", True), str(caught.value)


def test_text_is_bounded_as_a_whole(tmp_path: Path) -> None:
    piece = b"X\0\0\x10\0" + b"x" * (1 << 20) + b"0"
    count = MAX_TEXT_BYTES >> 20
    assert interpret(tmp_path / "value.pkl", b"\x80\x02" + piece * count + b"N.") is None
    with pytest.raises(FormatError, match="bytes of strings"):
        interpret(tmp_path / "value.pkl", b"\x80\x02" + piece * (count + 1) + b"N.")


def test_copies_count_as_opcodes(tmp_path: Path) -> None:
    pairs = b"](" + b"K\1N\x86" * (MAX_OPCODES // 5) + b"e\x85q\0"
    copies = b"ccollections\nOrderedDict\nq\1" + b"h\1h\0R0" * 3 + b"."
    with pytest.raises(FormatError, match="opcodes"):
        interpret(tmp_path / "value.pkl", b"\x80\x02" + pairs + copies)


def test_long_lines_are_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="a line of at most 512 bytes"):
        interpret(tmp_path / "value.pkl", b"\x80\x02I" + b"1" * 600 + b"\n.")
