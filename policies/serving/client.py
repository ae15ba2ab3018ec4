"""The robot's side of a policy server: numpy, msgpack and websockets are all it needs.

Every wait has an end. A reply that takes too long raises :class:`ServerTimeoutError` and the connection
stays usable: the late reply is thrown away when it comes. A request that the server does not take in time ends the
connection, since half a message cannot be taken back.
"""

import logging
import re
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Self

import numpy as np
from websockets.exceptions import ConnectionClosed

from envs.specs import EmbodimentSpec
from policies.described import described
from policies.serving.codec import CodecError, decode, encode
from policies.serving.connection import ClientConfig, SendWatch, ServerUnavailableError, open_connection
from policies.serving.keys import ACTIONS, LAST_ACTION, RESET, WARNINGS, ObservationAdapter
from policies.serving.underway import RunningChunk

log = logging.getLogger(__name__)

_REFUSAL = re.compile(r"\[(\w+) ([0-9a-f]{8})\] (.*)", re.DOTALL)
_LEAST_SENDING_S = 0.1
"""A request is given this long at least to leave: being cut off costs the connection."""


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


class PolicyClient:
    """A connection to a policy server; one connection is one episode at a time.

    With ``expected``, a server whose embodiment differs is refused at once. Raises
    :class:`ServerUnavailableError`, :class:`ServerTimeoutError`, :class:`ServerRefusalError`,
    :class:`ProtocolError`, :class:`EmbodimentMismatchError`, or ``ServeError`` for settings that cannot work.
    How long the constructor waits is up to ``ClientConfig``: ``wait_s``, then ``connect_timeout_s`` for each step.
    """

    def __init__(self, config: ClientConfig | None = None, expected: EmbodimentSpec | None = None) -> None:
        self.config = config or ClientConfig()
        self._open = ExitStack()
        self._socket = open_connection(self.config, self._open)
        try:
            self.metadata: dict[str, Any] = self._decoded(self._receive_frame(self.config.connect_timeout_s))
            self.embodiment, self.horizon, self.replan_interval = _promises(self.metadata, self.config.url)
            if expected is not None:
                check_embodiment(expected, self.embodiment)
        except BaseException:
            self._open.close()
            raise
        self._watch = SendWatch(self._socket)
        self._open.callback(self._watch.close)
        self.continues = bool(self.metadata.get("continues", False))
        """Whether the policy heeds what the robot goes on doing while it waits."""
        self.paced = bool(self.metadata.get("paced", False))
        """Whether the policy tells time by its plans: see :func:`check_pace`."""
        self._adapter = ObservationAdapter(self.embodiment)
        self._unanswered = False
        self.warnings: list[str] = []
        """What the policy could not take in of what it was told, each logged when it came for the first time."""

    def infer(
        self,
        observation: Mapping[str, Any],
        reset: bool = False,
        timeout_s: float | None = None,
        last_action: np.ndarray | None = None,
        underway: RunningChunk | None = None,
    ) -> dict[str, Any]:
        """The server's reply to one unbatched observation (our keys or the wire's), within ``timeout_s`` in all.

        The reply holds ``actions`` float32 ``(horizon, a)`` and timing maps in ms. Where the policy cannot take in the
        instruction as it is, the first reply to it in an episode also holds ``warnings``, a list of sentences. A policy
        that speaks says in ``answer``, a sentence, what it does with these actions.
        ``timeout_s`` is by default the config's ``call_timeout_s``. The other arguments and errors are those of
        :meth:`send`.
        """
        timeout_s = self.config.call_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        self.send(observation, reset, timeout_s, last_action, underway)
        return self.receive(deadline_s - time.monotonic())

    def send(
        self,
        observation: Mapping[str, Any],
        reset: bool = False,
        timeout_s: float | None = None,
        last_action: np.ndarray | None = None,
        underway: RunningChunk | None = None,
    ) -> None:
        """Ask for actions; :meth:`receive` gets them.

        ``reset`` begins an episode. ``last_action`` float32 ``(a,)`` is what the robot carried out last, for the server
        to hold if it must. ``underway`` is what it goes on doing, for a server that ``continues`` (others refuse it or
        pay no heed). ``ObservationError`` when the observation does not fit the embodiment.

        One request at a time: a late reply to the previous one is awaited and thrown away first. That and the sending
        take ``timeout_s`` at most (by default the config's ``call_timeout_s``): :class:`ServerTimeoutError` while the
        late reply is still awaited, after which one may send again; :class:`ServerUnavailableError` once the request
        has begun to leave, which ends the connection.
        """
        timeout_s = self.config.call_timeout_s if timeout_s is None else timeout_s
        deadline_s = time.monotonic() + timeout_s
        message = self._adapter.to_wire(observation)
        if reset:
            message[RESET] = True
        if last_action is not None:
            message[LAST_ACTION] = np.asarray(last_action, np.float32)
        if underway is not None:
            message |= underway.to_wire()
        frame = encode(message)
        if self._unanswered:
            self._receive_frame(deadline_s - time.monotonic())
        self._unanswered = True
        limit_s = max(deadline_s - time.monotonic(), _LEAST_SENDING_S)
        try:
            with self._watch.within(limit_s):
                self._socket.send(frame)
        except ConnectionClosed as error:
            raise self._unavailable(error, f" while a request was sent, for which it had {limit_s:.3f} s") from error

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """The reply to the last :meth:`send` within ``timeout_s`` (0: if it is there).

        After :class:`ServerTimeoutError` it may be asked for again.
        """
        if not self._unanswered:
            raise ProtocolError("nothing was asked: send an observation first")
        frame = self._receive_frame(timeout_s)
        self._unanswered = False
        reply = self._decoded(frame)
        actions = reply.get(ACTIONS)
        shape = (self.horizon, self.embodiment.action_dim)
        if not isinstance(actions, np.ndarray) or actions.dtype != np.float32 or actions.shape != shape:
            raise ProtocolError(f"expected float32 actions of shape {shape}, got {described(actions)}")
        if not np.isfinite(actions).all():
            raise ProtocolError("the server sent actions that are not finite")
        for warning in reply.get(WARNINGS, ()):
            if warning not in self.warnings:
                log.warning("the policy server: %s", warning)
                self.warnings.append(warning)
        return reply

    def close(self) -> None:
        """End the connection, waiting a second at most for the server's goodbye; safe to call twice."""
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

    def _unavailable(self, error: ConnectionClosed, when: str = "") -> ServerUnavailableError:
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        return ServerUnavailableError(f"the connection to {self.config.url} ended{when}: {error}{cause}")


def check_embodiment(expected: EmbodimentSpec, given: EmbodimentSpec) -> None:
    """:class:`EmbodimentMismatchError` that lists every field in which the server's embodiment differs from ours."""
    ours, theirs = expected.to_dict(), given.to_dict()
    differing = [name for name in ours if ours[name] != theirs[name]]
    if differing:
        lines = [
            f"  {name}: expected {_short(ours[name])}, the server has {_short(theirs[name])}" for name in differing
        ]
        raise EmbodimentMismatchError("the server drives another embodiment:\n" + "\n".join(lines))


def check_pace(client: PolicyClient, replan_interval: int, ahead: bool = False) -> None:
    """``ValueError`` for a server that must be asked every so many steps, and is to be asked at other times."""
    if client.paced and (ahead or replan_interval != client.replan_interval):
        asked = "ahead of need" if ahead else f"every {replan_interval} steps"
        raise ValueError(
            f"the server's policy tells time by its plans, so it must be asked every {client.replan_interval} control "
            f"steps, in turn; it is to be asked {asked}"
        )


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
