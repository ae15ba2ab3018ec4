"""How a robot's computer reaches a policy server: address, TLS, token, time-outs, and what to say when it cannot."""

import logging
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from websockets.exceptions import InvalidHandshake, InvalidMessage, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import WebSocketURI, parse_uri

from policies.serving.config import ServeError, is_loopback_address, quiet_logger, read_token
from policies.serving.tls import client_context

log = logging.getLogger(__name__)

_RETRY_PAUSE_S = 0.1
_CLOSE_TIMEOUT_S = 1.0
_WRONG_NAME = (62, 64)
"""OpenSSL's verification errors for a certificate of another host name or address."""


class ServerUnavailableError(ConnectionError):
    """No connection to the server, or it ended; the text says why."""


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Where the server is and how long to wait for it.

    Times are seconds. The token comes from ``token_file``, else from the environment variable ``VLA_SERVE_TOKEN``, if
    there is one. It and all observations cross the network in clear text unless ``url`` begins with ``wss:``.
    """

    url: str = "ws://127.0.0.1:8000"
    """ws://host:port, or wss://host:port for TLS."""
    token_file: Path | None = None
    """File that holds the server's token; it goes before the environment variable VLA_SERVE_TOKEN."""
    tls_ca: Path | None = None
    """PEM file of the authority to trust instead of the system's, or a self-signed server's own certificate."""
    wait_s: float = 0.0
    """How long to try again while nothing listens there, as while a server starts."""
    connect_timeout_s: float = 5.0
    """For each of: the TCP connection (to each of the host's addresses), the handshakes (TLS, WebSocket), the hello."""
    call_timeout_s: float = 5.0
    """For one request and its reply, unless the call says otherwise; a control loop's watchdog does."""
    max_message_bytes: int = 32 * 1024 * 1024
    """The longest message to accept from the server."""

    def check(self) -> None:
        """:class:`ServeError` naming the first setting that cannot work, or that another one makes useless."""
        for name in ("connect_timeout_s", "call_timeout_s", "max_message_bytes"):
            if not 0 < getattr(self, name) < math.inf:
                raise ServeError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.wait_s < math.inf:
            raise ServeError(f"wait_s must be at least 0 and finite, got {self.wait_s}")
        if "@" in self.url:
            raise ServeError("url must hold no user or password: the token belongs into token_file")
        if self.tls_ca is not None and not self.url.startswith("wss:"):
            raise ServeError(f"tls_ca is for TLS, which {self.url} does not use: the url must begin with wss:")


def open_connection(config: ClientConfig, scope: ExitStack) -> ClientConnection:
    """Open the WebSocket for as long as ``scope``, trying again for ``wait_s`` while nothing listens.

    :class:`ServerUnavailableError` says what is in the way, :class:`ServeError` which setting is wrong.
    """
    config.check()
    token, tls = read_token(config.token_file), _tls_context(config)
    give_up_s = time.monotonic() + config.wait_s
    while True:
        try:
            return _connect_once(config, token, tls, scope)
        except (OSError, InvalidURI, InvalidHandshake, ValueError) as error:
            if isinstance(error, ConnectionRefusedError) and time.monotonic() < give_up_s:
                time.sleep(_RETRY_PAUSE_S)
                continue
            raise ServerUnavailableError(f"cannot connect to {config.url}: {error}{_hint(config, error)}") from error


class SendWatch:
    """Ends a connection whose sending takes too long, so that a blocked send fails instead of hanging.

    No option of the socket can: each counts anew with every part of a message that goes through, and TLS ignores it.
    One thread watches for the connection's whole life: to start one per request costs too much.
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._socket = connection.socket
        self._events: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        threading.Thread(target=self._watch, name="send-watch", daemon=True).start()

    @contextmanager
    def within(self, limit_s: float) -> Iterator[None]:
        """A block that sends one message, in ``limit_s`` at most."""
        self._events.put(limit_s)
        try:
            yield
        finally:
            self._events.put(0.0)

    def close(self) -> None:
        """End the watching thread."""
        self._events.put(None)

    def _watch(self) -> None:
        while (limit_s := self._events.get()) is not None:
            try:
                event = self._events.get(timeout=limit_s)
            except queue.Empty:
                self._cut()
                event = self._events.get()
            if event is None:
                return

    def _cut(self) -> None:
        with suppress(OSError):  # it may have ended by itself
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not TLS's own, which another thread is using


def _connect_once(
    config: ClientConfig, token: str | None, tls: ssl.SSLContext | None, scope: ExitStack
) -> ClientConnection:
    uri = parse_uri(config.url)
    sock = socket.create_connection((uri.host, uri.port), timeout=config.connect_timeout_s)
    sock.settimeout(None)
    if token is not None and not uri.secure:
        _warn_of_eavesdroppers(sock, uri)
    opening = connect(
        config.url,
        sock=sock,
        ssl=tls,
        additional_headers={"Authorization": f"Api-Key {token}"} if token else None,
        compression=None,
        max_size=config.max_message_bytes,
        open_timeout=config.connect_timeout_s,
        close_timeout=_CLOSE_TIMEOUT_S,
        proxy=None,
        logger=quiet_logger(f"{__name__}.websockets"),
    )
    return scope.enter_context(opening)


def _warn_of_eavesdroppers(sock: socket.socket, uri: WebSocketURI) -> None:
    if not is_loopback_address(sock.getpeername()[0]):
        log.warning("no TLS: the token and all observations go to %s in clear text; use wss: if you can", uri.host)


def _tls_context(config: ClientConfig) -> ssl.SSLContext | None:
    if not config.url.startswith("wss:"):
        return None
    try:
        return client_context(config.tls_ca)
    except OSError as error:
        raise ServeError(f"cannot load tls_ca {config.tls_ca} (a PEM file of certificates): {error}") from error


def _hint(config: ClientConfig, error: Exception) -> str:
    """What to do about ``error``, as far as its kind tells."""
    if isinstance(error, ConnectionRefusedError):
        return "; is it running? (wait_s waits for a server that is starting)"
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _WRONG_NAME:
            return "; its certificate is for another host name than the url's"
        trusted = "the system's authorities" if config.tls_ca is None else f"the authority in {config.tls_ca}"
        return f"; {trusted} did not sign its certificate: tls_ca must be the one that did (or be that certificate)"
    if isinstance(error, ssl.SSLError):
        return "; if it does not use TLS, the url must begin with ws:"
    if isinstance(error, InvalidMessage) and not config.url.startswith("wss:"):
        return "; if it uses TLS, the url must begin with wss:"
    if isinstance(error, InvalidStatus):
        return f": {(error.response.body or b'').decode(errors='replace').strip()[:200]}"
    return ""
