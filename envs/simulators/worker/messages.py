"""Messages between a program and its workers: JSON behind its length, over a socket pair that only they hold."""

import json
import socket
import struct
from typing import Any

_LENGTH = struct.Struct("!I")
MOST_BYTES = 1 << 26
"""Of one message; pictures and states lie in shared memory."""


class BadMessageError(ConnectionError):
    """What came is no message: the other side is broken."""


def send(connection: socket.socket, message: dict[str, Any]) -> None:
    """Write one message. Numbers come out as they went in, NaN included: who receives it is to hear of it."""
    body = json.dumps(message, allow_nan=True).encode()
    connection.sendall(_LENGTH.pack(len(body)) + body)


def receive(connection: socket.socket) -> dict[str, Any] | None:
    """Read one message; None where the other side has closed. :class:`BadMessageError` for what is none."""
    head = _read(connection, _LENGTH.size)
    if not head:
        return None
    (length,) = _LENGTH.unpack(head)
    if length > MOST_BYTES:
        raise BadMessageError(f"a message of {length} bytes, of at most {MOST_BYTES}")
    try:
        message = json.loads(_read(connection, length))
    except ValueError as error:
        raise BadMessageError(f"no JSON: {error}") from error
    if not isinstance(message, dict):
        raise BadMessageError(f"expected an object, got {type(message).__name__}")
    return message


def _read(connection: socket.socket, count: int) -> bytes:
    """``count`` bytes, or none where the other side has closed before the first of them."""
    parts, missing = [], count
    while missing:
        part = connection.recv(min(missing, 1 << 20))
        if not part:
            if missing == count:
                return b""
            raise BadMessageError(f"closed {missing} bytes before the end of a message")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
