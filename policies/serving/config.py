"""How a policy is served: address, token, limits. Everything is checked before the policy is loaded."""

import errno
import ipaddress
import logging
import math
import os
import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from policies.serving.actions import OnViolation
from policies.serving.tls import server_context
from policies.serving.worker import Gathering

TOKEN_VARIABLE = "VLA_SERVE_TOKEN"
_MIN_TOKEN_LENGTH = 16
_POSITIVE = (
    "max_message_bytes",
    "max_connections",
    "max_batch",
    "handshake_timeout_s",
    "idle_timeout_s",
    "inference_timeout_s",
    "send_timeout_s",
    "ping_interval_s",
    "log_interval_s",
)


class ServeError(RuntimeError):
    """The server or its client cannot work as configured; the text says what to change."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Settings of :class:`~policies.serving.server.PolicyServer`.

    Clients must present the token of ``token_file``, else of the environment variable ``VLA_SERVE_TOKEN``, if there is
    one; an address that other machines can reach is refused without. No wait of the server lacks one of the times here.
    """

    host: str = "127.0.0.1"
    """Address or name to listen on; 0.0.0.0 or :: for all of this machine's."""
    port: int = 8000
    """Port to listen on; 0 takes any free one."""
    token_file: Path | None = None
    """File that holds the token; it goes before the environment variable VLA_SERVE_TOKEN."""
    tls_cert: Path | None = None
    """PEM file of the certificate (chain), for TLS; needs tls_key."""
    tls_key: Path | None = None
    """PEM file of the certificate's key."""
    on_violation: OnViolation = "clamp"
    """Actions beyond the robot's bounds are refused (error), moved to the bound (clamp) or replaced by standing still
    (hold). Numbers that are not finite are refused by clamp too, and by hold before it knows what to hold."""
    max_message_bytes: int = 32 * 1024 * 1024
    """The longest message to accept from a client."""
    max_connections: int = 16
    """How many clients at once."""
    max_batch: int = 16
    """How many requests, of as many clients, to answer in one pass through the policy. 1 answers each alone, to the
    last bit as if nobody else asked; others differ in their last digits with the number that came together."""
    batch_wait_ms: float = 0.0
    """How long a request may wait for those of other clients; 0 takes what has come while the policy was busy. Nobody
    waits when all connected clients have asked, least of all a single one."""
    handshake_timeout_s: float = 10.0
    """For a newcomer's handshake (TLS, then WebSocket), and for a leaving client's goodbye."""
    idle_timeout_s: float = 1800.0
    """How long a client may take to send its next whole message."""
    inference_timeout_s: float = 120.0
    """For a request to wait for the policy and be answered by it; a policy that takes longer ends the connection."""
    send_timeout_s: float = 10.0
    """How long a client may take to read its answer."""
    ping_interval_s: float = 20.0
    """How often to ask a silent client whether it is there, while the policy thinks as well, and how long to wait for
    the answer."""
    page: bool = False
    """Also serve a page, for browsers on this machine, on which an operator watches the robots, stops them, edits their
    instructions and steers them by hand. Its address is printed."""
    log_interval_s: float = 60.0
    """How often to log the latencies."""

    @property
    def gathering(self) -> Gathering:
        """How requests of several clients are gathered."""
        return Gathering(largest=self.max_batch, wait_s=self.batch_wait_ms / 1e3)

    def check(self) -> None:
        """:class:`ServeError` naming the first setting that cannot work, a missing token or a taken port among them."""
        for name in _POSITIVE:
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ServeError(f"{name} must be positive and finite, got {value}")
        if not 0 <= self.batch_wait_ms < 1e3 * self.inference_timeout_s:
            raise ServeError(
                f"batch_wait_ms must be at least 0 and less than inference_timeout_s, got {self.batch_wait_ms}"
            )
        if self.batch_wait_ms and self.max_batch == 1:
            raise ServeError(f"max_batch 1 answers each request alone: batch_wait_ms {self.batch_wait_ms} is void")
        if not 0 <= self.port <= 65535:
            raise ServeError(f"port must lie in 0 … 65535 (0: any free port), got {self.port}")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ServeError("TLS needs both tls_cert and tls_key")
        tls_context(self)
        bind(self, read_token(self.token_file)).close()


def read_token(token_file: Path | None) -> str | None:
    """The token in ``token_file``, else in ``VLA_SERVE_TOKEN``, else None; too short or odd ones are refused."""
    if token_file is not None:
        try:
            source, token = str(token_file), token_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ServeError(f"cannot read the token file {token_file}: {error}") from error
    elif TOKEN_VARIABLE in os.environ:
        source, token = TOKEN_VARIABLE, os.environ[TOKEN_VARIABLE].strip()
    else:
        return None
    if len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise ServeError(
            f"the token in {source} must be at least {_MIN_TOKEN_LENGTH} ASCII characters without spaces; "
            'make one with: python -c "import secrets; print(secrets.token_urlsafe(32))"'
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether every address of ``host`` can be reached from this machine only; an empty host cannot be."""
    if not host:
        return False
    return all(is_loopback_address(str(info[4][0])) for info in _addresses(host, 0))


def is_loopback_address(address: str) -> bool:
    """Whether a numeric IP address (with a zone, or IPv4 inside IPv6, too) is this machine's loopback."""
    ip = ipaddress.ip_address(address.split("%")[0])
    return (getattr(ip, "ipv4_mapped", None) or ip).is_loopback


def quiet_logger(name: str) -> logging.Logger:
    """A logger for the WebSocket library that never logs what it would at level DEBUG: headers, with the token."""
    logger = logging.getLogger(name)
    logger.setLevel(max(logger.level, logging.INFO))
    return logger


def bind(config: ServeConfig, token: str | None) -> socket.socket:
    """A socket bound to the configured address but not listening yet, so that clients wait for the warm-up.

    :class:`ServeError` when the port is taken, the host unknown, or others could reach it without a token.
    """
    if token is None and not is_loopback(config.host):
        raise ServeError(
            f"{config.host or '(all addresses)'} can be reached from other machines, so a token is required: "
            f"set {TOKEN_VARIABLE} or token_file, or serve on 127.0.0.1"
        )
    family, _, _, _, address = _addresses(config.host, config.port)[0]
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
    except OSError as error:
        sock.close()
        raise bind_failure(config, error) from error
    return sock


def bind_failure(config: ServeConfig, error: OSError) -> ServeError:
    """The error to show for a port that cannot be bound or listened on."""
    if error.errno == errno.EADDRINUSE:
        return ServeError(
            f"port {config.port} on {config.host} is in use by another program; "
            "choose another with --port (0 takes any free one)"
        )
    return ServeError(f"cannot serve on {config.host} port {config.port}: {error}")


def tls_context(config: ServeConfig) -> ssl.SSLContext | None:
    """The server's TLS settings, or None without a certificate."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    try:
        return server_context(config.tls_cert, config.tls_key)
    except OSError as error:
        raise ServeError(f"cannot load {config.tls_cert} with {config.tls_key}: {error}") from error


def _addresses(host: str, port: int) -> list[tuple]:
    try:
        return socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ServeError(f"host {host!r} is unknown: {error}") from error
