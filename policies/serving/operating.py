"""What an operator's page may say, checked and carried out on the board."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any, get_args

from policies.serving.board import INSTRUCTION_CHARS, Board, RobotOnBoard
from policies.serving.orders import EpisodeOrder, OrdersError, checked_axes

Act = Callable[[Board, RobotOnBoard, str, Mapping[str, Any]], None]


class PageError(ValueError):
    """A page's message that is none; the text says what was expected."""


def operate(board: Board, page: str, text: str | bytes) -> str | None:
    """Carry out one message of ``page``; returns the robot that it now looks at, if that is what it says.

    Only ``alive`` of a page that is ``visible`` is a sign of life. :class:`PageError` for anything that no page of ours
    sends. A robot that has gone meanwhile is nobody's fault: nothing happens.
    """
    message = _parsed(text)
    kind = message.get("type")
    if kind == "alive":
        board.page_lives(page, message.get("visible") is True)
        return None
    if kind == "free":
        board.free(str(message.get("address")))
        return None
    robot = board.robots.get(str(message.get("robot")))
    if kind == "look":
        return robot.name if robot else None
    act = _ACTS.get(str(kind))
    if act is None:
        raise PageError(f"unknown type {kind!r:.40}; expected alive, free, look, {', '.join(_ACTS)}")
    if robot is not None:
        act(board, robot, page, message)
        robot.changed.set()
    return None


def _parsed(text: str | bytes) -> dict[str, Any]:
    if isinstance(text, bytes):
        raise PageError("expected text, got a binary frame")
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PageError(f"expected JSON: {error}") from error
    if not isinstance(message, dict):
        raise PageError(f"expected a JSON object, got {type(message).__name__}")
    return message


def _stop(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Anybody may stop a robot."""
    robot.hold()


def _release(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Give a robot that is held, or steered by this page, to its policy; if it came held, others need not."""
    if robot.pilot in (None, page):
        if robot.came_held:
            board.holds.pop(robot.address, None)
        robot.release()


def _take(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Take a robot over, unless another page steers it, or it cannot be steered."""
    if robot.has_line and robot.pilot in (None, page):
        robot.mode, robot.pilot, robot.axes = "human", page, ()
        robot.steered_s = time.monotonic()


def _steer(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Move a robot that this page has taken over."""
    try:
        axes = checked_axes(message.get("axes"), robot.action_dim)
    except OrdersError as error:
        raise PageError(str(error)) from error
    if robot.mode == "human" and robot.pilot == page:
        robot.axes, robot.steered_s = axes, time.monotonic()


def _instruct(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Replace its instruction; an empty one gives it back its own."""
    text = message.get("text")
    if not isinstance(text, str) or len(text) > INSTRUCTION_CHARS or not text.isprintable():
        raise PageError(f"an instruction is a line of at most {INSTRUCTION_CHARS} printable characters")
    robot.override = text.strip() or None


def _episode(board: Board, robot: RobotOnBoard, page: str, message: Mapping[str, Any]) -> None:
    """Begin or end its episode."""
    order = message.get("order")
    known = {name: name for name in get_args(EpisodeOrder) if name != "none"}
    if not isinstance(order, str) or order not in known:
        raise PageError(f"unknown episode order {order!r:.40}")
    robot.episode, robot.episode_number = known[order], robot.episode_number + 1


_ACTS: dict[str, Act] = {
    "stop": _stop,
    "release": _release,
    "take": _take,
    "steer": _steer,
    "instruct": _instruct,
    "episode": _episode,
}
