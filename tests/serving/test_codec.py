"""The wire codec: equal to openpi-client's on good data, closed to everything else."""

import math

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from openpi_client import msgpack_numpy

from policies.serving.codec import CodecError, Limits, decode, encode

DTYPES = ("|b1", "|u1", "<u2", "<u4", "<u8", "|i1", "<i2", "<i4", "<i8", "<f2", "<f4", "<f8", ">f4", ">i2")
arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=5, min_side=1, max_side=4))
)
scalars = st.sampled_from(DTYPES[:12]).flatmap(lambda dtype: hnp.arrays(dtype, ()).map(lambda array: array[()]))
plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
trees = st.recursive(
    plain | arrays | scalars,
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)


def same(left, right) -> bool:
    if isinstance(left, dict):
        return isinstance(right, dict) and left.keys() == right.keys() and all(same(left[k], right[k]) for k in left)
    if isinstance(left, list):
        return isinstance(right, list) and len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, np.ndarray | np.generic):
        equal = type(left) is type(right) and left.dtype == right.dtype and left.shape == right.shape
        return equal and left.tobytes() == right.tobytes()
    if isinstance(left, float) and math.isnan(left):
        return isinstance(right, float) and math.isnan(right)
    return type(left) is type(right) and left == right


def array_map(**changes) -> bytes:
    entries = {b"__ndarray__": True, b"data": b"\0" * 8, b"dtype": "<f4", b"shape": [2]}
    entries.update({key.encode(): value for key, value in changes.items()})
    return msgpack.packb(entries)


@settings(max_examples=300, deadline=None)
@given(trees)
def test_both_codecs_write_the_same_bytes_and_read_the_same_values(tree):
    data = encode(tree)
    assert data == msgpack_numpy.packb(tree)
    assert same(msgpack_numpy.unpackb(data), decode(data))


def test_tuples_and_strided_arrays_travel_like_openpis():
    tree = {"shape": (1, 2), "flipped": np.arange(12, dtype=np.float32).reshape(3, 4)[::-1, ::2]}
    assert encode(tree) == msgpack_numpy.packb(tree)
    assert decode(encode(tree))["shape"] == [1, 2]
    np.testing.assert_array_equal(decode(encode(tree))["flipped"], tree["flipped"])


def test_decoded_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        decode(encode(np.zeros(3)))[0] = 1.0


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([1j]),
        np.array(["text"]),
        np.zeros((0, 3)),
        np.zeros((1,) * 6),
        {1, 2},
        2**70,
        np.longdouble(1),
        np.array([np.datetime64("2026-01-01")]),
        np.zeros(2, dtype="f4,f4"),
    ],
    ids=["object", "complex", "text", "empty", "rank 6", "set", "huge int", "long double", "datetime", "record"],
)
def test_values_without_a_wire_form_are_refused(value):
    with pytest.raises(CodecError):
        encode(value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"dtype": "|O"}, "dtype must be"),
        ({"dtype": "|V8"}, "dtype must be"),
        ({"dtype": "<c8"}, "dtype must be"),
        ({"dtype": "<U2"}, "dtype must be"),
        ({"dtype": "<f16"}, "dtype must be"),
        ({"dtype": "<M8[s]"}, "dtype must be"),
        ({"dtype": "f4,f4"}, "dtype must be"),
        ({"dtype": "<f4\n"}, "dtype must be"),
        ({"dtype": 7}, "dtype must be"),
        ({"shape": [-1]}, "shape must be"),
        ({"shape": [0]}, "shape must be"),
        ({"shape": [2.0]}, "shape must be"),
        ({"shape": [True, 2]}, "shape must be"),
        ({"shape": [1, 1, 1, 1, 1, 2]}, "shape must be"),
        ({"shape": 2}, "shape must be"),
        ({"shape": [3]}, "12 bytes, got 8"),
        ({"shape": [2**32, 2**32]}, "bytes, got 8"),
        ({"data": "eight by"}, "must be bytes"),
        ({"extra": 1}, "an array has the keys"),
    ],
)
def test_malformed_arrays_are_refused(changes, says):
    with pytest.raises(CodecError, match=says):
        decode(array_map(**changes))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not a valid msgpack"),
        (b"\xc1", "not a valid msgpack"),
        (msgpack.packb({"a": 1}) + b"\0", "ExtraData"),
        (msgpack.packb({1: 2}), "not a valid msgpack"),
        (msgpack.packb({b"key": 2}), "must be text"),
        (b"\x81\xa1\xff\x00", "UnicodeDecodeError"),
        (msgpack.packb(msgpack.ExtType(3, b"x")), "extension"),
        (msgpack.packb(msgpack.Timestamp(0)), "Timestamp"),
        (b"\xdd\xff\xff\xff\xff", "exceeds max_array_len"),
        (b"\x91" * 20 + b"\0", "nested too deeply"),
        (b"\x91" * 100_000, "StackError"),
        (msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|i1"}), "300 is no value of"),
        (msgpack.packb({b"__npgeneric__": True, b"data": "x", b"dtype": "|i1"}), "'x' is no value of"),
        (msgpack.packb([[0] * 1000] * 10), "more than 8192"),
        (msgpack.packb("x" * 20_000), "max_str_len"),
    ],
)
def test_hostile_bytes_are_refused(data, says):
    with pytest.raises(CodecError, match=says):
        decode(data)


def test_a_message_over_the_size_limit_is_refused():
    data = encode(np.zeros(100))
    assert decode(data, Limits(max_bytes=len(data))).shape == (100,)
    with pytest.raises(CodecError, match=f"message of {len(data)} bytes; at most {len(data) - 1}"):
        decode(data, Limits(max_bytes=len(data) - 1))


@pytest.mark.parametrize("count", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_thousands_of_random_and_mutated_messages_decode_or_are_refused(rng, count):
    """Whatever the bytes, the result is plain data or a CodecError; any other exception fails the test."""
    good = encode({"a": np.zeros((2, 3), np.float32), "b": {"c": [1, 2.5, "x", None]}, "d": np.int8(3)})
    refused = 0
    for index in range(count):
        if index % 2:
            data = bytearray(good)
            for _ in range(rng.integers(1, 4)):
                data[rng.integers(len(data))] = rng.integers(256)
            data = bytes(data[: rng.integers(1, len(data) + 1)] if index % 4 == 1 else data)
        else:
            data = rng.bytes(rng.integers(0, 64))
        try:
            value = decode(data)
        except CodecError:
            refused += 1
        else:
            assert isinstance(value, dict | list | str | bytes | int | float | np.ndarray | np.generic | None)
    assert 0.3 * count < refused < count
