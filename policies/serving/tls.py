"""TLS for both sides: what a server and a client trust, and a socket that two threads may share."""

import math
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """A server's settings. ``OSError`` for files that are not there or do not fit each other.

    It hands out no session tickets, which come after the handshake, beside the client's first words: a client that
    reads in one thread and writes in another, as that of ``websockets`` does, hangs on them now and then.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.num_tickets = 0
    return context


def client_context(authority: Path | None) -> ssl.SSLContext:
    """A client's settings; it trusts ``authority`` (a PEM file), by default the system's. ``OSError`` without it."""
    context = ssl.create_default_context(cafile=authority)
    context.sslsocket_class = SharedSSLSocket
    return context


class SharedSSLSocket(ssl.SSLSocket):
    """A TLS socket from which one thread may receive while another sends.

    OpenSSL's connections are for one thread at a time, and Python does not see to that: a thread that sends while
    another receives what TLS itself has to say (session tickets, new keys) can leave both waiting for ever. Here the
    two take turns, and neither waits for the network during its turn.
    """

    _turn: AbstractContextManager[bool] | None = None
    _limit_s: float | None = None

    def do_handshake(self, block: bool = False) -> None:
        super().do_handshake(block)
        self._limit_s = super().gettimeout()
        super().settimeout(0.0)
        self._turn = threading.Lock()

    def settimeout(self, value: float | None) -> None:
        if self._turn is None:
            super().settimeout(value)
        else:
            self._limit_s = value

    def gettimeout(self) -> float | None:
        return super().gettimeout() if self._turn is None else self._limit_s

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        return self._in_turn(lambda: super(SharedSSLSocket, self).recv(buflen, flags))

    def send(self, data: Any, flags: int = 0) -> int:
        return self._in_turn(lambda: super(SharedSSLSocket, self).send(data, flags))

    def close(self) -> None:
        """Close, and end the other thread's wait."""
        with suppress(OSError):  # it may have ended by itself
            socket.socket.shutdown(self, socket.SHUT_RDWR)
        super().close()

    def _in_turn(self, operation: Callable[[], T]) -> T:
        if self._turn is None:
            return operation()
        give_up_s = math.inf if self._limit_s is None else time.monotonic() + self._limit_s
        while True:
            try:
                with self._turn:
                    return operation()
            except (ssl.SSLWantReadError, BlockingIOError):  # the latter after the TLS connection was shut down
                self._wait(select.POLLIN, give_up_s)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, give_up_s)

    def _wait(self, event: int, give_up_s: float) -> None:
        left_s, descriptor = give_up_s - time.monotonic(), self.fileno()
        if descriptor < 0:
            raise ConnectionAbortedError("the socket is closed")
        poll = select.poll()
        poll.register(descriptor, event)
        if left_s <= 0 or not poll.poll(None if left_s == math.inf else 1e3 * left_s):
            raise TimeoutError("timed out")
