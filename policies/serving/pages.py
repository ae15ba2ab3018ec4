"""The operator's page on a policy server: its files, who may open it, and the conversations with pages and robots.

``/page`` and what lies under it are files of ours, which say nothing secret. ``/page/socket`` is the page's WebSocket:
the token is in its subprotocols, as a browser has no other place for it, and its origin must be this very server.
``/line`` is that of a robot, with the token where all robots have it. Pages are for this machine alone: others come
through a tunnel.
"""

import asyncio
import base64
import contextlib
import hmac
import logging
import secrets
import struct
from collections.abc import AsyncIterator, Coroutine, Sequence
from http import HTTPStatus
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from envs.specs import EmbodimentSpec
from policies.serving.board import Board, RobotOnBoard
from policies.serving.codec import CodecError, Limits, decode
from policies.serving.config import is_loopback_address
from policies.serving.line import LINE_PATH
from policies.serving.operating import PageError, operate
from policies.serving.orders import ORDERS_EVERY_S
from vla.strict_json import strict_json

log = logging.getLogger(__name__)

PAGE_PATH = "/page"
SOCKET_PATH = "/page/socket"
SUBPROTOCOL = "vla-page"
TOKEN_PREFIX = "token."
PAGE_MESSAGE_BYTES = 4096
"""The longest message to accept from a page."""
REPORT_BYTES = 8 * 1024 * 1024
"""The longest report to accept from a robot."""
MOST_PAGES = 8
SHOW_EVERY_S = 0.08
_POLICY_VIOLATION, _TRY_AGAIN_LATER = 1008, 1013
_ASSETS = {
    "/page": ("page.html", "text/html; charset=utf-8"),
    "/page/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/page/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/page/hands.js": ("hands.js", "text/javascript; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Pages:
    """Serves the operator's pages of one policy server. Without a ``token`` of the server's, it makes one for pages."""

    def __init__(
        self, embodiment: EmbodimentSpec, horizon: int, token: str | None, secure: bool, message_limit: int
    ) -> None:
        self.board = Board(embodiment)
        self._horizon = horizon
        self.token = token or secrets.token_urlsafe(24)
        self.own_token = token is None
        self._scheme = "https" if secure else "http"
        self._limits = Limits(max_bytes=min(message_limit, REPORT_BYTES))
        self._cameras = frozenset(embodiment.camera_names)

    def url(self, host: str, port: int) -> str:
        """Where the page is, with the token if it is the page's own."""
        name = f"[{host}]" if ":" in host else host
        return f"{self._scheme}://{name}:{port}{PAGE_PATH}" + (f"#token={self.token}" if self.own_token else "")

    def screen(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer a request below ``/page``, or let the page's WebSocket through (None)."""
        path = urlsplit(request.path).path
        if not _is_local(connection):
            return respond(HTTPStatus.FORBIDDEN, "the page is for this machine alone: come through a tunnel (ssh -L)\n")
        if not _own_name(request.headers):
            return respond(HTTPStatus.FORBIDDEN, "the page has another name: open it as localhost or 127.0.0.1\n")
        if path in _ASSETS:
            name, kind = _ASSETS[path]
            return respond(HTTPStatus.OK, _asset(name), kind, _HEADERS)
        if path != SOCKET_PATH:
            return respond(HTTPStatus.NOT_FOUND, f"the page is at {PAGE_PATH}\n")
        if request.headers.get_all("Origin") != [f"{self._scheme}://{request.headers['Host']}"]:
            return respond(HTTPStatus.FORBIDDEN, "only this server's own page may connect\n")
        if not self._authorised(request.headers):
            return respond(HTTPStatus.UNAUTHORIZED, "the page needs the server's token\n")
        if len(self.board.pages) >= MOST_PAGES:
            return respond(HTTPStatus.SERVICE_UNAVAILABLE, f"all {MOST_PAGES} pages are taken\n")
        connection.protocol.max_message_size = PAGE_MESSAGE_BYTES
        return None

    def screen_line(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let a robot's line through (None) if the robot is connected, and has none yet."""
        robot = self._robot_of(request)
        if robot is None or robot.has_line:
            return respond(
                HTTPStatus.NOT_FOUND, f"{LINE_PATH}?robot=NAME needs the name in the hello of a connected robot\n"
            )
        connection.protocol.max_message_size = self._limits.max_bytes
        return None

    @staticmethod
    def subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        """The page's protocol where it is offered; never the token that is offered beside it."""
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None

    async def serve_page(self, connection: ServerConnection) -> None:
        """Talk to a page until it leaves, or says what no page of ours says (1008)."""
        board, looks_at = self.board, [""]
        if len(board.pages) >= MOST_PAGES:
            await connection.close(_TRY_AGAIN_LATER, "all pages are taken")
            return
        page = board.page_joins()
        log.info("page %s opened from %s", page, connection.remote_address[0])
        try:
            async with _beside(connection, self._show(connection, page, looks_at)):
                async for frame in connection:
                    looks_at[0] = operate(board, page, frame) or looks_at[0]
        except PageError as error:
            log.warning("page %s was cut: %s", page, error)
            await connection.close(_POLICY_VIOLATION, str(error)[:100])
        except ConnectionClosed as closed:
            log.info("page %s ended: %s", page, closed)
        finally:
            board.page_leaves(page)

    async def serve_line(self, connection: ServerConnection) -> None:
        """Order a robot about, and hear of it, until it hangs up or has gone."""
        robot = self._robot_of(connection.request)
        if robot is None or robot.has_line:
            await connection.close(_POLICY_VIOLATION, "no such robot")
            return
        robot.has_line = True
        try:
            async with _beside(connection, self._order(connection, robot)):
                async for frame in connection:
                    self._hear(robot, frame)
        except CodecError as error:
            log.warning("the line of robot %s was cut: %s", robot.name, error)
            await connection.close(_POLICY_VIOLATION, "no report")
        except ConnectionClosed as closed:
            log.info("the line of robot %s ended: %s", robot.name, closed)
        finally:
            robot.has_line = False
            robot.report = {}

    async def _order(self, connection: ServerConnection, robot: RobotOnBoard) -> None:
        while robot.name in self.board.robots:
            robot.changed.clear()
            await connection.send(self.board.orders(robot).to_json())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ORDERS_EVERY_S):
                    await robot.changed.wait()
        await connection.close()

    def _hear(self, robot: RobotOnBoard, frame: str | bytes) -> None:
        if isinstance(frame, str):
            raise CodecError("expected a binary report, got text")
        report = decode(frame, self._limits)
        if not isinstance(report, dict) or not isinstance(report.get("images"), dict):
            raise CodecError("expected a report with images")
        images = report.pop("images")
        for name, image in images.items():
            shape = getattr(image, "shape", ())
            if name not in self._cameras or len(shape) != 3 or shape[2] != 3 or image.dtype.str != "|u1":
                raise CodecError(
                    f"expected pictures uint8 (h, w, 3) of {sorted(self._cameras)}, got {name!r:.40} {shape}"
                )
        try:
            strict_json(report)
        except (ValueError, TypeError) as error:
            raise CodecError(f"expected a report of numbers, text and lists: {error}") from error
        robot.saw(images)
        robot.report = report
        if "instruction" in report:
            robot.instruction = str(report["instruction"])

    async def _show(self, connection: ServerConnection, page: str, looks_at: list[str]) -> None:
        """Keep a page informed: robots and numbers as JSON, pictures as bytes."""
        embodiment = self.board.embodiment.to_dict()
        hello = {"type": "hello", "page": page, "horizon": self._horizon, "embodiment": embodiment}
        await connection.send(strict_json(hello, ensure_ascii=False))
        seen = ("", -1)
        while True:
            robots = self.board.robots
            if looks_at[0] not in robots:
                looks_at[0] = next(iter(robots), "")
            facts = {name: robot.facts() for name, robot in robots.items()}
            about = {"pages": len(self.board.pages), "holds": list(self.board.holds)}
            now = {"type": "state", "looks_at": looks_at[0], **about, "robots": facts}
            await connection.send(strict_json(now, ensure_ascii=False))
            robot = robots.get(looks_at[0])
            if robot is not None and (robot.name, robot.pictures_number) != seen:
                seen = robot.name, robot.pictures_number
                for name, image in robot.pictures.items():
                    await connection.send(_picture_frame(name, image))
            await asyncio.sleep(SHOW_EVERY_S)

    def _robot_of(self, request: Request | None) -> RobotOnBoard | None:
        names = parse_qs(urlsplit(request.path).query).get("robot", [""]) if request is not None else [""]
        return self.board.robots.get(names[0])

    def _authorised(self, headers: Headers) -> bool:
        offered = [part.strip() for line in headers.get_all("Sec-WebSocket-Protocol") for part in line.split(",")]
        tokens = [part.removeprefix(TOKEN_PREFIX) for part in offered if part.startswith(TOKEN_PREFIX)]
        expected = base64.urlsafe_b64encode(self.token.encode()).rstrip(b"=")
        given = tokens[0].encode("utf-8", "surrogateescape") if len(tokens) == 1 else b""
        return SUBPROTOCOL in offered and hmac.compare_digest(given, expected)


def respond(
    status: HTTPStatus, body: str, content_type: str = "text/plain; charset=utf-8", more: dict[str, str] | None = None
) -> Response:
    """A whole HTTP answer, after which the connection ends."""
    data = body.encode()
    headers = Headers({"Content-Type": content_type, "Content-Length": str(len(data)), "Connection": "close"})
    headers.update(more or {})
    return Response(status.value, status.phrase, headers, data)


@contextlib.asynccontextmanager
async def _beside(connection: ServerConnection, work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Do ``work`` while the block runs, and end it then; where it ends first, so does the connection."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(lambda _: asyncio.ensure_future(connection.close()))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionClosed):
            await task


def _picture_frame(name: str, image: Any) -> bytes:
    """Length of the head, head (JSON: camera, width, height), and the picture's RGB bytes."""
    head = strict_json({"camera": name, "width": image.shape[1], "height": image.shape[0]}).encode()
    return struct.pack("<I", len(head)) + head + image.tobytes()


def _asset(name: str) -> str:
    return (files("policies.serving") / "page" / name).read_text(encoding="utf-8")


def _is_local(connection: ServerConnection) -> bool:
    address = connection.remote_address
    return address is not None and is_loopback_address(str(address[0]))


def _own_name(headers: Headers) -> bool:
    """Whether the one Host header names this machine's loopback: a foreign name that leads here is somebody's trick."""
    hosts = headers.get_all("Host")
    if len(hosts) != 1:
        return False
    name = urlsplit(f"//{hosts[0]}").hostname or ""
    if name == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return is_loopback_address(name)
    return False
