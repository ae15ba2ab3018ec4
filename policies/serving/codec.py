"""The wire codec of openpi's policy protocol: msgpack with numpy arrays as small maps.

Bytes from the network are hostile until proven otherwise. Nothing here can build an object other
than plain data: an array's dtype must match a whitelist *before* numpy sees its name, its size
must equal its data, and the number, depth and length of everything is capped while it is decoded.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgpack
import numpy as np

_DTYPE = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_ARRAY_KEYS = {b"__ndarray__", b"data", b"dtype", b"shape"}
_SCALAR_KEYS = {b"__npgeneric__", b"data", b"dtype"}
_MAX_RANK = 5
_LEAVES = (str, bytes, bool, int, float, np.ndarray, np.generic, type(None))


class CodecError(ValueError):
    """Bytes that are no valid message, or a value that no message can carry."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a message may hold at most; ``max_items`` counts map entries and list items together."""

    max_bytes: int = 32 * 1024 * 1024
    max_depth: int = 8
    max_items: int = 8192
    max_string: int = 16384
    max_container: int = 1024


DEFAULT_LIMITS = Limits()


def encode(value: Any) -> bytes:
    """Pack maps, lists, text, numbers, bytes and numpy arrays or scalars (kinds ``b i u f``).

    Raises :class:`CodecError` for anything else, and for arrays that :func:`decode` would refuse.
    """
    try:
        packed = msgpack.packb(value, default=_pack_numpy)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"cannot encode: {error}") from error
    assert packed is not None
    return packed


def decode(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Unpack one message; the inverse of :func:`encode`, except that tuples come back as lists.

    Arrays are read-only views of the message. Raises :class:`CodecError`, and nothing else, for
    bytes that are malformed, too big, too deep, or that ask for anything but plain data.
    """
    if len(data) > limits.max_bytes:
        raise CodecError(f"message of {len(data)} bytes; at most {limits.max_bytes} are accepted")
    builder = _Builder(limits)
    try:
        value = msgpack.unpackb(
            data,
            object_hook=builder.map,
            list_hook=builder.list,
            ext_hook=_refuse_extension,
            max_str_len=limits.max_string,
            max_bin_len=limits.max_bytes,
            max_array_len=limits.max_container,
            max_map_len=limits.max_container,
        )
    except CodecError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.UnpackException) as error:
        raise CodecError(f"not a valid msgpack message: {type(error).__name__}: {error}") from error
    _check_tree(value, limits.max_depth)
    return value


class _Builder:
    """msgpack's hooks for one message: count what is built, and turn array maps into arrays."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._items = 0

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > self._limits.max_items:
            raise CodecError(f"more than {self._limits.max_items} keys and list items in one message")

    def list(self, items: list[Any]) -> list[Any]:
        self._count(len(items))
        return items

    def map(self, entries: dict[Any, Any]) -> Any:
        self._count(len(entries))
        if b"__ndarray__" in entries:
            return _array(entries, self._limits.max_bytes)
        if b"__npgeneric__" in entries:
            return _scalar(entries)
        for key in entries:
            if not isinstance(key, str):
                raise CodecError(f"map keys must be text, got {_short(key)}")
        return entries


def _pack_numpy(value: Any) -> dict[bytes, Any]:
    if isinstance(value, np.ndarray):
        _check_dtype(value.dtype.str)
        _check_shape(list(value.shape))
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic):
        _check_dtype(value.dtype.str)
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise CodecError(f"values of type {type(value).__name__} cannot be sent")


def _array(entries: Mapping[Any, Any], max_bytes: int) -> np.ndarray:
    if set(entries) != _ARRAY_KEYS:
        raise CodecError(f"an array has the keys {sorted(_ARRAY_KEYS)}, got {_short(list(entries))}")
    dtype = _check_dtype(entries[b"dtype"])
    shape = _check_shape(entries[b"shape"])
    data = entries[b"data"]
    if not isinstance(data, bytes):
        raise CodecError(f"array data must be bytes, got {type(data).__name__}")
    expected = math.prod(shape) * dtype.itemsize
    if expected != len(data) or expected > max_bytes:
        raise CodecError(f"an array {dtype.str} of shape {_short(shape)} has {expected} bytes, got {len(data)}")
    return np.frombuffer(data, dtype=dtype).reshape(shape)


def _scalar(entries: Mapping[Any, Any]) -> np.generic:
    if set(entries) != _SCALAR_KEYS:
        raise CodecError(f"a numpy scalar has the keys {sorted(_SCALAR_KEYS)}, got {_short(list(entries))}")
    dtype = _check_dtype(entries[b"dtype"])
    value = entries[b"data"]
    if dtype.kind in "iu":
        fits = type(value) is int and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max
    else:
        fits = type(value) is (bool if dtype.kind == "b" else float)
    if not fits:
        raise CodecError(f"{_short(value)} is no value of {dtype.str}")
    return dtype.type(value)


def _check_dtype(name: Any) -> np.dtype:
    """The dtype of that name: bool, integers, or floats of at most 8 bytes."""
    if not isinstance(name, str) or _DTYPE.fullmatch(name) is None:
        raise CodecError(f"dtype must be a bool, integer or float of at most 8 bytes (e.g. '<f4'), got {_short(name)}")
    return np.dtype(name)


def _check_shape(shape: Any) -> list[int]:
    if not isinstance(shape, list) or not all(type(dim) is int and dim > 0 for dim in shape) or len(shape) > _MAX_RANK:
        raise CodecError(f"a shape must be a list of at most {_MAX_RANK} positive integers, got {_short(shape)}")
    return shape


def _check_tree(value: Any, depth_left: int) -> None:
    """Refuse trees deeper than allowed and leaves that are no plain data (msgpack timestamps)."""
    if isinstance(value, dict | list):
        if depth_left == 0:
            raise CodecError("message is nested too deeply")
        for child in value.values() if isinstance(value, dict) else value:
            _check_tree(child, depth_left - 1)
    elif not isinstance(value, _LEAVES):
        raise CodecError(f"values of type {type(value).__name__} are not accepted")


def _refuse_extension(code: int, _: bytes) -> Any:
    raise CodecError(f"msgpack extension type {code} is not accepted")


def _short(value: Any) -> str:
    """``repr`` cut to a length fit for an error message."""
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "…"
