"""One connection to the policy server: hello, then strictly one request and one reply in turn."""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from envs.specs import TASK_KEY
from policies.serving.actions import ActionError, ActionGuard
from policies.serving.board import HeldError, RobotOnBoard
from policies.serving.codec import CodecError, Limits, decode, encode
from policies.serving.config import ServeConfig
from policies.serving.inference import (
    ClientGoneError,
    Inference,
    InferenceStoppedError,
    InferenceThread,
    InferenceTimeoutError,
    Question,
)
from policies.serving.keys import ACTIONS, ANSWER, LAST_ACTION, RESET, WARNINGS, ObservationAdapter, ObservationError
from policies.serving.metrics import LatencyMetrics
from policies.serving.underway import RunningChunk, running_chunk

log = logging.getLogger(__name__)

_NORMAL_CLOSURE = 1000
_GOING_AWAY = 1001
_INTERNAL_ERROR = 1011
_REMEMBERED = 1024


class ClientStalledError(ConnectionError):
    """The client does not read what it is sent; its connection has been cut."""


@dataclass(frozen=True, kw_only=True)
class _Request:
    """One request, checked: what the policy sees, whether an episode begins, what the robot did last and still does."""

    observation: dict[str, Any]
    reset: bool
    last_action: np.ndarray | None
    underway: RunningChunk | None


class Session:
    """Serves one client until it leaves, is idle too long, stops reading, or the policy fails.

    A request that is refused (not decodable, not this embodiment's observation, actions that may not be sent, a robot
    that its operator holds: ``robot`` is what the page knows of it) is answered by a text frame ``[code id]
    explanation`` and the connection lives on as if the request had never come: what it says of an episode's beginning
    or of the robot counts for nothing. A failing or stuck policy is answered likewise, without details, and the
    connection closes (1011).

    Waits: for the next whole message ``idle_timeout_s``, for the actions ``inference_timeout_s``, for the client to
    take an answer ``send_timeout_s``, for its goodbye ``handshake_timeout_s``.
    """

    def __init__(
        self,
        connection: ServerConnection,
        thread: InferenceThread,
        horizon: int,
        adapter: ObservationAdapter,
        guard: ActionGuard,
        metrics: LatencyMetrics,
        config: ServeConfig,
        robot: RobotOnBoard | None = None,
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._horizon = horizon
        self._adapter = adapter
        self._guard = guard
        self._metrics = metrics
        self._config = config
        self._robot = robot
        self._limits = Limits(max_bytes=config.max_message_bytes)
        self._previous: dict[str, float] = {}
        self._remarked: set[int] = set()
        """Instructions of this episode (hashes, which stay small) that the policy has been asked for remarks on."""
        self._logged: set[int] = set()
        """Remarks (hashes again) that the log has of this connection: its episodes may ask for the same ones anew."""
        self._memory: Any = None
        """What the policy remembers of this connection's episode; None at its beginning."""
        self._gone: asyncio.Future[None] = asyncio.ensure_future(connection.wait_closed())
        """Done when the client has left, which also ends a request that waits for its turn."""

    async def run(self, hello: bytes) -> None:
        """Talk until the connection ends; never raises for anything that the client did."""
        try:
            await self._send(hello)
            while (frame := await self._next_frame()) is not None:
                if not await self._answer(frame):
                    await self._connection.close(_INTERNAL_ERROR, "internal error")
                    return
        except (ConnectionClosed, ClientGoneError) as closed:
            log.info("connection %s ended: %s", self._connection.id, closed)
        except ClientStalledError as stalled:
            log.warning("connection %s was cut: %s", self._connection.id, stalled)
        except InferenceStoppedError as stopped:
            await self._connection.close(_GOING_AWAY, str(stopped))
        finally:
            self._gone.cancel()

    async def _next_frame(self) -> str | bytes | None:
        """The next message, or None (and a closed connection) after the idle timeout."""
        try:
            async with asyncio.timeout(self._config.idle_timeout_s):
                return await self._connection.recv()
        except TimeoutError:
            await self._connection.close(_NORMAL_CLOSURE, f"idle for {self._config.idle_timeout_s:g} s")
            return None

    async def _answer(self, frame: str | bytes) -> bool:
        """Send a reply or an error; False when the connection must close."""
        received_s, incident = time.perf_counter(), secrets.token_hex(4)
        try:
            request = self._decode(frame)
            decode_ms = 1e3 * (time.perf_counter() - received_s)
            known = set() if request.reset else self._remarked
            memory = None if request.reset else self._memory
            instruction = hash(request.observation[TASK_KEY])
            limit_s = self._config.inference_timeout_s
            question = Question(
                observation=request.observation,
                memory=memory,
                underway=request.underway,
                remark=instruction not in known,
            )
            inference = await self._thread.run(question, limit_s, self._gone)
            self._log(inference.remarks)
            await self._reply(request, inference, decode_ms, received_s)
            self._remarked = _with(known, instruction)
        except (ConnectionClosed, ClientStalledError, ClientGoneError, InferenceStoppedError):
            raise
        except (CodecError, ObservationError, ActionError, HeldError) as error:
            self._metrics.refused += 1
            await self._refuse(incident, _CODES[type(error)], str(error))
        except InferenceTimeoutError as error:
            log.error("incident %s: %s", incident, error)
            await self._refuse(incident, "inference_timeout", str(error))
            return False
        except Exception:
            log.exception("incident %s: the policy failed", incident)
            await self._refuse(incident, "internal_error", "the policy failed; the server's log has the details")
            return False
        return True

    def _decode(self, frame: str | bytes) -> _Request:
        if isinstance(frame, str):
            raise CodecError("expected a binary frame with a msgpack map, got a text frame")
        message = decode(frame, self._limits)
        observation = self._adapter.from_wire(message)
        if self._robot is not None:
            observation = self._robot.asked(observation, self._adapter.embodiment.camera_names)
        reset, last_action = bool(message.get(RESET, False)), message.get(LAST_ACTION)
        underway = running_chunk(message, self._horizon, self._adapter.embodiment.action_dim)
        return _Request(observation=observation, reset=reset, last_action=last_action, underway=underway)

    async def _reply(self, request: _Request, inference: Inference, decode_ms: float, received_s: float) -> None:
        seen = self._guard.violations
        try:
            actions = self._guard.check(inference.actions, request.reset, request.last_action)
            self._memory = inference.memory
        finally:
            violations = self._guard.violations - seen
            self._metrics.violations += violations
            if self._robot is not None:
                self._robot.violations += violations
        encode_s = time.perf_counter()
        timing = {"infer_ms": inference.infer_ms, "decode_ms": decode_ms, "queue_ms": inference.queue_ms}
        reply = encode(
            {
                ACTIONS: actions,
                "server_timing": {**timing, **self._previous},
                "policy_timing": {"infer_ms": inference.policy_ms},
                "action_violations": violations,
                **({WARNINGS: inference.remarks} if inference.remarks else {}),
                **({ANSWER: inference.answer} if inference.answer else {}),
            }
        )
        encode_ms = 1e3 * (time.perf_counter() - encode_s)
        await self._send(reply)
        total_ms = 1e3 * (time.perf_counter() - received_s)
        if self._robot is not None:
            self._robot.answered(actions, total_ms)
        self._previous = {"prev_total_ms": total_ms, "prev_encode_ms": encode_ms}
        self._metrics.add(
            {"decode": decode_ms, "queue": inference.queue_ms, "infer": inference.infer_ms, "encode": encode_ms},
            inference.batch,
        )

    def _log(self, remarks: list[str]) -> None:
        """Log the remarks that are new on this connection."""
        for remark in remarks:
            if hash(remark) not in self._logged:
                log.warning("connection %s: %s", self._connection.id, remark)
                self._logged = _with(self._logged, hash(remark))

    async def _refuse(self, incident: str, code: str, explanation: str) -> None:
        log.info("connection %s refused [%s %s] %s", self._connection.id, code, incident, explanation)
        await self._send(f"[{code} {incident}] {explanation}")

    async def _send(self, message: str | bytes) -> None:
        """Send within ``send_timeout_s``; else cut the connection and raise :class:`ClientStalledError`."""
        limit_s = self._config.send_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._connection.send(message)
        except TimeoutError as error:
            self._connection.transport.abort()
            raise ClientStalledError(f"the client did not read for {limit_s:g} s") from error


def _with(known: set[int], new: int) -> set[int]:
    """``known`` and ``new``; it starts anew before it grows large."""
    return {*known, new} if len(known) < _REMEMBERED else {new}


_CODES: dict[type[Exception], str] = {
    CodecError: "invalid_frame",
    ObservationError: "invalid_observation",
    ActionError: "invalid_actions",
    HeldError: "held",
}
