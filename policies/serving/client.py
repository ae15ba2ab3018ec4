"""The robot's side of a policy server: numpy, msgpack and websockets are all it needs.

Every wait has an end. A call that takes too long raises :class:`ServerTimeoutError` and the connection
stays usable: the late reply is thrown away when it comes.
"""

import logging
import re
import socket
import ssl
import struct
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.uri import parse_uri

from envs.specs import EmbodimentSpec
from policies.serving.codec import CodecError, decode, encode
from policies.serving.config import read_token
from policies.serving.keys import ACTIONS, RESET, WARNINGS, ObservationAdapter

log = logging.getLogger(__name__)

_REFUSAL = re.compile(r"\[(\w+) ([0-9a-f]{8})\] (.*)", re.DOTALL)
_RETRY_PAUSE_S = 0.1


class ServerUnavailableError(ConnectionError):
    """No connection to the server, or it ended; the text says why."""


class ServerTimeoutError(TimeoutError):
    """The server did not answer within the deadline."""


class ServerRefusalError(RuntimeError):
    """The server answered with an error; ``code`` says which kind, ``incident`` finds it in the server's log."""

    def __init__(self, code: str, incident: str, explanation: str) -> None:
        super().__init__(f"the policy server refused the request [{code} {incident}]: {explanation}")
        self.code = code
        self.incident = incident


class ProtocolError(RuntimeError):
    """The server sent what the protocol does not allow."""


class EmbodimentMismatchError(ValueError):
    """The server drives another robot than the one here."""


@dataclass(frozen=True, kw_only=True)
class ClientConfig:
    """Where the server is and how long to wait for it, in seconds.

    ``url`` is ``ws://host:port`` or ``wss://host:port`` (TLS; ``tls_ca`` is the authority to trust,
    else the system's). ``wait_s`` is how long to wait for a server that has not started yet. The
    token comes from ``token_file`` or the environment variable ``VLA_SERVE_TOKEN``.
    """

    url: str = "ws://127.0.0.1:8000"
    token_file: Path | None = None
    tls_ca: Path | None = None
    wait_s: float = 0.0
    connect_timeout_s: float = 5.0
    call_timeout_s: float = 5.0
    max_message_bytes: int = 32 * 1024 * 1024


class PolicyClient:
    """A connection to a policy server; one connection is one episode at a time.

    With ``expected``, a server whose embodiment differs is refused at once. Raises
    :class:`ServerUnavailableError`, :class:`ServerTimeoutError`, :class:`ServerRefusalError`,
    :class:`ProtocolError` or :class:`EmbodimentMismatchError`.
    """

    def __init__(self, config: ClientConfig | None = None, expected: EmbodimentSpec | None = None) -> None:
        self.config = config or ClientConfig()
        self._open = ExitStack()
        self._socket = _connect(self.config, self._open)
        try:
            self.metadata: dict[str, Any] = self._decoded(self._receive_frame(self.config.connect_timeout_s))
            self.embodiment, self.horizon, self.replan_interval = _promises(self.metadata, self.config.url)
            if expected is not None:
                check_embodiment(expected, self.embodiment)
        except BaseException:
            self._open.close()
            raise
        self._adapter = ObservationAdapter(self.embodiment)
        self._unanswered = False
        self.warnings: list[str] = []
        """What the policy could not take in of what it was told, each logged when it came for the first time."""

    def infer(
        self, observation: Mapping[str, Any], reset: bool = False, timeout_s: float | None = None
    ) -> dict[str, Any]:
        """The server's reply to one unbatched observation (our keys or the wire's), within ``timeout_s``.

        The reply holds ``actions`` float32 ``(horizon, a)`` and timing maps in ms. Where the policy cannot take in the
        instruction as it is, the first reply to it in an episode also holds ``warnings``, a list of sentences.
        ``reset`` begins an episode. ``ObservationError`` when the observation does not fit the embodiment.
        """
        timeout_s = self.config.call_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        self.send(observation, reset, timeout_s)
        return self.receive(deadline_s - time.monotonic())

    def send(self, observation: Mapping[str, Any], reset: bool = False, timeout_s: float | None = None) -> None:
        """Ask for actions; :meth:`receive` gets them.

        One request at a time: a late reply to the previous one is awaited (``timeout_s``) and thrown away.
        """
        message = self._adapter.to_wire(observation)
        if reset:
            message[RESET] = True
        frame = encode(message)
        if self._unanswered:
            self._receive_frame(self.config.call_timeout_s if timeout_s is None else timeout_s)
            self._unanswered = False
        try:
            self._socket.send(frame)
        except ConnectionClosed as error:
            raise self._unavailable(error) from error
        self._unanswered = True

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The reply to the last :meth:`send`; after :class:`ServerTimeoutError` it may be asked for again."""
        if not self._unanswered:
            raise ProtocolError("nothing was asked: send an observation first")
        frame = self._receive_frame(timeout_s)
        self._unanswered = False
        reply = self._decoded(frame)
        actions = reply.get(ACTIONS)
        shape = (self.horizon, self.embodiment.action_dim)
        if not isinstance(actions, np.ndarray) or actions.dtype != np.float32 or actions.shape != shape:
            raise ProtocolError(f"expected float32 actions of shape {shape}, got {getattr(actions, 'shape', actions)}")
        if not np.isfinite(actions).all():
            raise ProtocolError("the server sent actions that are not finite")
        for warning in reply.get(WARNINGS, ()):
            if warning not in self.warnings:
                log.warning("the policy server: %s", warning)
                self.warnings.append(warning)
        return reply

    def close(self) -> None:
        """End the connection; safe to call twice."""
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive_frame(self, timeout_s: float) -> str | bytes:
        try:
            return self._socket.recv(timeout=max(timeout_s, 0.0))
        except TimeoutError as error:
            raise ServerTimeoutError(f"no answer from {self.config.url} within {max(timeout_s, 0.0):.3f} s") from error
        except ConnectionClosed as error:
            raise self._unavailable(error) from error

    def _decoded(self, frame: str | bytes) -> dict[str, Any]:
        if isinstance(frame, str):
            found = _REFUSAL.fullmatch(frame)
            raise ServerRefusalError(*found.groups()) if found else ServerRefusalError("unknown", "-", frame)
        try:
            message = decode(frame)
        except CodecError as error:
            raise ProtocolError(f"the server sent bytes that are no message: {error}") from error
        if not isinstance(message, dict):
            raise ProtocolError(f"expected a map from the server, got {type(message).__name__}")
        return message

    def _unavailable(self, error: ConnectionClosed) -> ServerUnavailableError:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return ServerUnavailableError(f"the connection to {self.config.url} ended: {error}{cause}")


def check_embodiment(expected: EmbodimentSpec, given: EmbodimentSpec) -> None:
    """:class:`EmbodimentMismatchError` that lists every field in which the server's embodiment differs from ours."""
    ours, theirs = expected.to_dict(), given.to_dict()
    differing = [name for name in ours if ours[name] != theirs[name]]
    if differing:
        lines = [
            f"  {name}: expected {_short(ours[name])}, the server has {_short(theirs[name])}" for name in differing
        ]
        raise EmbodimentMismatchError("the server drives another embodiment:\n" + "\n".join(lines))


def _connect(config: ClientConfig, scope: ExitStack) -> ClientConnection:
    """Open the WebSocket for as long as ``scope``, trying again for ``wait_s`` while nothing listens."""
    token = read_token(config.token_file)
    give_up_s = time.monotonic() + config.wait_s
    while True:
        try:
            return _connect_once(config, token, scope)
        except (OSError, InvalidURI, InvalidHandshake) as error:
            refused = isinstance(error, ConnectionRefusedError)
            if refused and time.monotonic() < give_up_s:
                time.sleep(_RETRY_PAUSE_S)
                continue
            hint = "; is it running? (wait_s waits for a server that is starting)" if refused else ""
            if isinstance(error, InvalidStatus):
                hint = f": {(error.response.body or b'').decode(errors='replace').strip()[:200]}"
            raise ServerUnavailableError(f"cannot connect to {config.url}: {error}{hint}") from error


def _connect_once(config: ClientConfig, token: str | None, scope: ExitStack) -> ClientConnection:
    tls = ssl.create_default_context(cafile=config.tls_ca) if config.url.startswith("wss:") else None
    uri = parse_uri(config.url)
    sock = socket.create_connection((uri.host, uri.port), timeout=config.connect_timeout_s)
    # The socket will be shared with a reading thread, so only this option bounds a blocked *send* alone.
    seconds = int(config.call_timeout_s)
    limit = struct.pack("ll", seconds, int(1e6 * (config.call_timeout_s - seconds)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.settimeout(None)
    opening = connect(
        config.url,
        sock=sock,
        ssl=tls,
        additional_headers={"Authorization": f"Api-Key {token}"} if token else None,
        compression=None,
        max_size=config.max_message_bytes,
        open_timeout=config.connect_timeout_s,
        close_timeout=1.0,
        proxy=None,
    )
    return scope.enter_context(opening)


def _promises(metadata: Mapping[str, Any], url: str) -> tuple[EmbodimentSpec, int, int]:
    """The embodiment, horizon and replan interval of a server's hello."""
    try:
        embodiment = EmbodimentSpec.from_dict(metadata["embodiment"])
        return embodiment, int(metadata["horizon"]), int(metadata["replan_interval"])
    except (KeyError, TypeError, ValueError) as error:
        raise ProtocolError(f"the server at {url} does not describe its embodiment: {error!r}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else text[:297] + "…"
