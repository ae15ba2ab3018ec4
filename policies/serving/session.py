"""One connection to the policy server: hello, then strictly one request and one reply in turn."""

import asyncio
import logging
import secrets
import time
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from policies.serving.actions import ActionError, ActionGuard
from policies.serving.codec import CodecError, Limits, decode, encode
from policies.serving.config import ServeConfig
from policies.serving.inference import Inference, InferenceStoppedError, InferenceThread
from policies.serving.keys import ACTIONS, RESET, ObservationAdapter, ObservationError
from policies.serving.metrics import LatencyMetrics

log = logging.getLogger(__name__)

_NORMAL_CLOSURE = 1000
_GOING_AWAY = 1001
_INTERNAL_ERROR = 1011


class Session:
    """Serves one client until it leaves, is idle too long, or the policy fails.

    A request that is refused (not decodable, not this embodiment's observation, actions that may
    not be sent) is answered by a text frame ``[code id] explanation`` and the connection lives on.
    A failing or stuck policy is answered likewise, without details, and the connection closes (1011).
    """

    def __init__(
        self,
        connection: ServerConnection,
        thread: InferenceThread,
        adapter: ObservationAdapter,
        guard: ActionGuard,
        metrics: LatencyMetrics,
        config: ServeConfig,
    ) -> None:
        self._connection = connection
        self._thread = thread
        self._adapter = adapter
        self._guard = guard
        self._metrics = metrics
        self._config = config
        self._limits = Limits(max_bytes=config.max_message_bytes)
        self._previous: dict[str, float] = {}
        self._memory: Any = None
        """What the policy remembers of this connection's episode; None at its beginning."""

    async def run(self, hello: bytes) -> None:
        """Talk until the connection ends; never raises for anything that the client did."""
        try:
            await self._connection.send(hello)
            while (frame := await self._next_frame()) is not None:
                if not await self._answer(frame):
                    await self._connection.close(_INTERNAL_ERROR, "internal error")
                    return
        except ConnectionClosed as closed:
            log.info("connection %s ended: %s", self._connection.id, closed)
        except InferenceStoppedError as stopped:
            await self._connection.close(_GOING_AWAY, str(stopped))

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
            observation = self._decode(frame)
            decode_ms = 1e3 * (time.perf_counter() - received_s)
            inference = await self._thread.run(observation, self._config.inference_timeout_s, self._memory)
            await self._reply(inference, decode_ms, received_s)
        except (ConnectionClosed, InferenceStoppedError):
            raise
        except (CodecError, ObservationError, ActionError) as error:
            self._metrics.refused += 1
            await self._refuse(incident, _CODES[type(error)], str(error))
        except TimeoutError:
            explanation = f"no actions within {self._config.inference_timeout_s:g} s"
            log.error("incident %s: %s", incident, explanation)
            await self._refuse(incident, "inference_timeout", explanation)
            return False
        except Exception:
            log.exception("incident %s: the policy failed", incident)
            await self._refuse(incident, "internal_error", "the policy failed; the server's log has the details")
            return False
        return True

    def _decode(self, frame: str | bytes) -> dict[str, Any]:
        if isinstance(frame, str):
            raise CodecError("expected a binary frame with a msgpack map, got a text frame")
        message = decode(frame, self._limits)
        observation = self._adapter.from_wire(message)
        if message.get(RESET, False):
            self._guard.reset()
            self._memory = None
        return observation

    async def _reply(self, inference: Inference, decode_ms: float, received_s: float) -> None:
        seen = self._guard.violations
        try:
            actions = self._guard.check(inference.actions)
            self._memory = inference.memory
        finally:
            violations = self._guard.violations - seen
            self._metrics.violations += violations
        encode_s = time.perf_counter()
        timing = {"infer_ms": inference.infer_ms, "decode_ms": decode_ms, "queue_ms": inference.queue_ms}
        reply = encode(
            {
                ACTIONS: actions,
                "server_timing": {**timing, **self._previous},
                "policy_timing": {"infer_ms": inference.policy_ms},
                "action_violations": violations,
            }
        )
        encode_ms = 1e3 * (time.perf_counter() - encode_s)
        await self._connection.send(reply)
        total_ms = 1e3 * (time.perf_counter() - received_s)
        self._previous = {"prev_total_ms": total_ms, "prev_encode_ms": encode_ms}
        self._metrics.add(
            {"decode": decode_ms, "queue": inference.queue_ms, "infer": inference.infer_ms, "encode": encode_ms}
        )

    async def _refuse(self, incident: str, code: str, explanation: str) -> None:
        log.info("connection %s refused [%s %s] %s", self._connection.id, code, incident, explanation)
        await self._connection.send(f"[{code} {incident}] {explanation}")


_CODES: dict[type[Exception], str] = {
    CodecError: "invalid_frame",
    ObservationError: "invalid_observation",
    ActionError: "invalid_actions",
}
