"""A WebSocket policy server that the unmodified ``openpi-client`` can talk to.

Connect → the server sends its metadata (binary msgpack). Then, in lock step, the client sends an
observation map (keys of ``policies.serving.keys``) and receives ``actions`` float32 ``(h, a)`` with
timing maps, or a text frame with an error. A new connection is a new episode, and so is an
observation with ``reset`` true. What is remembered between requests belongs to one connection, and a
request that is refused changes none of it. Requests of several connections are answered in one pass through the
policy where they come together (:mod:`policies.serving.worker`). ``GET /healthz`` says that the server is up,
``/readyz`` that it takes requests, ``/metrics`` (with the token, if there is one) gives latency percentiles, sizes of
batches and how many requests wait, as JSON. With ``page`` there is an operator's page at ``/page``
(:mod:`policies.serving.pages`), and the hello names the robot's ``line`` to it.
"""

import asyncio
import contextlib
import hmac
import logging
import signal
import socket
import threading
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.http11 import Request, Response

from policies.policy import Policy
from policies.serving.actions import ActionGuard
from policies.serving.codec import encode
from policies.serving.config import (
    ServeConfig,
    ServeError,
    bind,
    bind_failure,
    is_loopback,
    quiet_logger,
    read_token,
    tls_context,
)
from policies.serving.inference import InferenceThread, InferenceTimeoutError, Question
from policies.serving.keys import ObservationAdapter
from policies.serving.line import LINE_KEY, LINE_PATH
from policies.serving.metrics import LatencyMetrics
from policies.serving.pages import PAGE_PATH, SOCKET_PATH, Pages, respond
from policies.serving.session import Session
from policies.serving.underway import RunningChunk
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

PROTOCOL = "openpi"
PROTOCOL_VERSION = 1
_TRY_AGAIN_LATER = 1013


class PolicyServer:
    """Serves one policy to several clients; see the module's docstring for the protocol, and :class:`ServeConfig` for
    the time-out of every wait.

    The constructor binds the port (without listening), so that a taken port or a missing token is
    reported before any long work. ``port`` is the bound one. :class:`ServeError` says what is wrong.
    """

    def __init__(self, policy: Policy, config: ServeConfig | None = None) -> None:
        self.config = config or ServeConfig()
        self.config.check()
        self.policy = policy
        self.adapter = ObservationAdapter(policy.embodiment)
        self.metrics = LatencyMetrics()
        self._token = read_token(self.config.token_file)
        self._tls = tls_context(self.config)
        self._socket: socket.socket = bind(self.config, self._token)
        self.port: int = self._socket.getsockname()[1]
        self._thread = InferenceThread(policy, self.config.gathering)
        self._hello = self.metadata()
        self.pages: Pages | None = None
        """The operator's page, if it is served."""
        if self.config.page:
            limit, secure = self.config.max_message_bytes, self._tls is not None
            self.pages = Pages(policy.embodiment, policy.horizon, self._token, secure, limit)
        self._connections = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    def metadata(self) -> dict[str, Any]:
        """The hello: what robot this policy drives and by which conventions, so that clients can assert it."""
        embodiment = self.policy.embodiment
        return {
            "protocol": PROTOCOL,
            "protocol_version": PROTOCOL_VERSION,
            "server": "vla-stack",
            "embodiment": embodiment.to_dict(),
            "control_rate_hz": embodiment.control_rate_hz,
            "horizon": self.policy.horizon,
            "replan_interval": self.policy.replan_interval,
            "continues": self.policy.continues,
            "paced": self.policy.paced,
            "remembers": self.policy.remembers or self.config.on_violation == "hold",
            "observation": self.adapter.describe(),
            "conventions": {
                "images": "uint8 RGB, height x width x 3, unbatched",
                "depth": "metres along the optical axis, 0 = no reading",
                "camera_frame": "OpenCV: x right, y down, z forward",
                "quaternion": "wxyz",
                "gripper": "0 open, 1 closed",
                "last_action": "may be in requests: the action in force, held if need be; else row replan_interval - 1",
                "actions": "one row per control step; names, units, frames and bounds in embodiment.action",
            },
        }

    async def serve_forever(self, started: threading.Event | asyncio.Event | None = None) -> None:
        """Warm the policy up, open the port (then set ``started``), and serve until :meth:`stop` or cancellation."""
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        try:
            await self._warm_up()
            server = await self._listen()
            try:
                self._announce()
                if started is not None:
                    started.set()
                await self._log_until_stopped()
            finally:
                server.close()
                self._thread.close()
                await server.wait_closed()
        finally:
            self._thread.close()
            self._socket.close()
            log.info("server closed: %s", strict_json(self.metrics.summary()))

    async def serve_until_told(self, started: threading.Event | asyncio.Event | None = None) -> None:
        """:meth:`serve_forever` that SIGTERM ends in good order too, as service managers and containers send it.

        Runs in the main thread. Where the system has no such signal, it only serves.
        """
        with contextlib.suppress(NotImplementedError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.stop)
        await self.serve_forever(started)

    def stop(self) -> None:
        """End :meth:`serve_forever` from any thread; connections are closed with code 1001."""
        if self._loop is not None and self._stopping is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stopping.set)

    async def _warm_up(self) -> None:
        """An inference on a blank observation, and one that goes on from it where the policy can, so that compilation
        does not meet the first client.
        """
        policy, limit_s = self.policy, self.config.inference_timeout_s
        try:
            result = await self._thread.run(Question(observation=self.adapter.example()), limit_s)
            if policy.continues:
                begun = RunningChunk(actions=result.actions, delay_steps=1)
                await self._thread.run(Question(observation=self.adapter.example(), underway=begun), limit_s)
        except InferenceTimeoutError as error:
            raise ServeError(
                f"the policy's first inference took longer than inference_timeout_s, {limit_s:g}"
            ) from error
        ActionGuard(policy.embodiment, policy.horizon, policy.replan_interval, "clamp").check(result.actions)
        log.info("warm-up inference took %.1f ms", result.infer_ms)

    async def _listen(self) -> Server:
        config = self.config
        try:
            return await serve(
                self._serve_connection,
                sock=self._socket,
                ssl=self._tls,
                process_request=self._process_request,
                select_subprotocol=Pages.subprotocol,
                compression=None,
                max_size=config.max_message_bytes,
                max_queue=1,
                open_timeout=config.handshake_timeout_s,  # of TLS and of the WebSocket, each
                close_timeout=config.handshake_timeout_s,
                ping_interval=config.ping_interval_s,
                ping_timeout=config.ping_interval_s,
                logger=quiet_logger(f"{__name__}.websockets"),
            )
        except OSError as error:
            raise bind_failure(config, error) from error

    def _announce(self) -> None:
        log.info("serving %s on %s port %d", self.policy.embodiment.name, self.config.host, self.port)
        if self.pages is not None:
            host = self.config.host if is_loopback(self.config.host) else "127.0.0.1"
            print(f"page: {self.pages.url(host, self.port)}", flush=True)  # not logged: it may hold the page's token
        if self._tls is None and not is_loopback(self.config.host):
            log.warning("no TLS: the token and all observations cross the network in clear text")

    async def _log_until_stopped(self) -> None:
        assert self._stopping is not None
        logged = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(self.config.log_interval_s):
                    await self._stopping.wait()
            except TimeoutError:
                if self.metrics.requests > logged:
                    logged = self.metrics.requests
                    log.info("latency: %s", strict_json(self.metrics.summary()))

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer plain HTTP and refuse the upgrade (401, 404, 503) before a WebSocket exists."""
        path = request.path.split("?")[0]
        if path == "/healthz":
            return respond(HTTPStatus.OK, "OK\n")
        if path == "/readyz" and self._thread.stuck:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, "an inference that timed out still occupies the policy\n")
        if path == "/readyz":
            return respond(HTTPStatus.OK, "OK\n")
        if self.pages is not None and (path == PAGE_PATH or path.startswith(f"{PAGE_PATH}/")):
            return self.pages.screen(connection, request)
        if "Origin" in request.headers:  # a browser: a web page must not reach a robot through the loopback address
            return respond(HTTPStatus.FORBIDDEN, "the policy answers robots, not web pages\n")
        if not self._authorised(request.headers):
            return respond(HTTPStatus.UNAUTHORIZED, "a valid 'Authorization: Api-Key <token>' header is required\n")
        if path == "/metrics":
            now = {**self.metrics.summary(), "waiting": self._thread.waiting}
            return respond(HTTPStatus.OK, strict_json(now) + "\n", "application/json")
        if self.pages is not None and path == LINE_PATH:
            return self.pages.screen_line(connection, request)
        if path != "/":
            return respond(HTTPStatus.NOT_FOUND, "the policy answers at /\n")
        if self._connections >= self.config.max_connections:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, f"all {self.config.max_connections} connections are taken\n")
        return None

    def _authorised(self, headers: Headers) -> bool:
        if self._token is None:
            return True
        given = headers.get_all("Authorization")
        expected = f"Api-Key {self._token}".encode()
        return len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "surrogateescape"), expected)

    async def _serve_connection(self, connection: ServerConnection) -> None:
        path = connection.request.path.split("?")[0] if connection.request is not None else "/"
        if self.pages is not None and path == SOCKET_PATH:
            await self.pages.serve_page(connection)
        elif self.pages is not None and path == LINE_PATH:
            await self.pages.serve_line(connection)
        else:
            await self._serve_robot(connection)

    async def _serve_robot(self, connection: ServerConnection) -> None:
        if self._connections >= self.config.max_connections:
            await connection.close(_TRY_AGAIN_LATER, "all connections are taken")
            return
        self._connections += 1
        robot = self.pages.board.join(str(connection.remote_address[0])) if self.pages is not None else None
        try:
            policy, on_violation = self.policy, self.config.on_violation
            guard = ActionGuard(policy.embodiment, policy.horizon, policy.replan_interval, on_violation)
            session = Session(
                connection, self._thread, policy.horizon, self.adapter, guard, self.metrics, self.config, robot
            )
            with self._thread.client():
                await session.run(encode(self._hello | ({LINE_KEY: robot.name} if robot is not None else {})))
        finally:
            self._connections -= 1
            if self.pages is not None and robot is not None:
                self.pages.board.leave(robot)


@contextlib.contextmanager
def running(server: PolicyServer) -> Iterator[int]:
    """Serve in a thread of this process and yield the port; errors before the port opens are raised here.

    Waits for the warm-up (``inference_timeout_s``), and in the end 10 s at most for the connections to close.
    """
    started, failure = threading.Event(), []

    def run() -> None:
        try:
            asyncio.run(server.serve_forever(started))
        except BaseException as error:
            failure.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=run, name="policy-server", daemon=True)
    thread.start()
    started.wait()
    try:
        if not failure:
            yield server.port
    finally:
        server.stop()
        thread.join(timeout=10.0)
    if failure:
        raise failure[0]
