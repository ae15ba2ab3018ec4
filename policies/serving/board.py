"""What a server with a page knows of its robots, and what its operators want of them.

Everything here is touched by the server's event loop alone.
"""

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.specs import TASK_KEY, EmbodimentSpec, image_key
from policies.serving.line import shown
from policies.serving.metrics import percentiles
from policies.serving.orders import EpisodeOrder, Mode, Orders

ATTENDED_S = 0.4
"""A visible page counts as alive, and a hand as on the keys, for so long after its last word."""
_WINDOW = 500
INSTRUCTION_CHARS = 500


class HeldError(RuntimeError):
    """The operator holds this robot, so there are no actions for it."""


@dataclass(eq=False)
class RobotOnBoard:
    """One connected robot: what it asked and was answered, what it reports over its line, and what it is to do.

    ``pictures`` uint8 ``(h, w, 3)`` by camera, ``chunk`` ``(h, a)`` its latest answer. ``pilot`` is the page that
    steers it. ``came_held``: it was held when it came, as another from its address had left.
    """

    name: str
    address: str
    action_dim: int
    since_s: float = field(default_factory=time.time)
    has_line: bool = False
    mode: Mode = "policy"
    pilot: str | None = None
    came_held: bool = False
    axes: tuple[float, ...] = ()
    steered_s: float = -np.inf
    override: str | None = None
    instruction: str = ""
    episode: EpisodeOrder = "none"
    episode_number: int = 0
    pictures: dict[str, np.ndarray] = field(default_factory=dict)
    pictures_number: int = 0
    chunk: np.ndarray | None = None
    requests: int = 0
    refused: int = 0
    violations: int = 0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_WINDOW))
    report: dict[str, Any] = field(default_factory=dict)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def asked(self, observation: dict[str, Any], cameras: tuple[str, ...]) -> dict[str, Any]:
        """Note what a request shows, and put the operator's instruction in; :class:`HeldError` if it is to hold."""
        self.requests += 1
        if not self.has_line:
            self.saw({name: shown(observation[image_key(name)]) for name in cameras})
        self.instruction = observation[TASK_KEY]
        if self.override is not None:
            observation = {**observation, TASK_KEY: self.override}
        if self.mode != "policy":
            self.refused += 1
            raise HeldError("the operator holds this robot; it goes on when he releases it")
        return observation

    def answered(self, chunk: np.ndarray, total_ms: float) -> None:
        """Note an answer."""
        self.chunk = chunk
        self.latencies_ms.append(total_ms)

    def saw(self, pictures: Mapping[str, np.ndarray]) -> None:
        """Note what its cameras show."""
        self.pictures = dict(pictures)
        self.pictures_number += 1

    def hold(self) -> None:
        """Nobody moves it any more until somebody says so."""
        self.mode, self.pilot, self.axes = "held", None, ()
        self.changed.set()

    def release(self) -> None:
        """Its policy moves it again."""
        self.mode, self.pilot, self.axes, self.came_held = "policy", None, (), False
        self.changed.set()

    def facts(self) -> dict[str, Any]:
        """What a page shows of it, JSON-ready."""
        latency = percentiles(self.latencies_ms)
        return {
            "name": self.name,
            "address": self.address,
            "since_s": self.since_s,
            "line": self.has_line,
            "mode": self.mode,
            "pilot": self.pilot,
            "came_held": self.came_held,
            "instruction": self.instruction if self.override is None else self.override,
            "requests": self.requests,
            "refused": self.refused,
            "violations": self.violations,
            "latency_ms": latency,
            "report": self.report,
            "chunk": [] if self.chunk is None else np.round(self.chunk.astype(np.float64), 5).tolist(),
        }


class Board:
    """The robots and pages that are connected."""

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        self.embodiment = embodiment
        self.robots: dict[str, RobotOnBoard] = {}
        self.holds: dict[str, str | None] = {}
        """The addresses of robots that left while they were not their policies', with what they had been told to do."""
        self.pages: dict[str, float] = {}
        """When each page last said that it is visible, by its name; −inf if it is not."""

    @property
    def attended(self) -> bool:
        """Whether somebody's page is visible and alive."""
        return any(time.monotonic() - heard_s < ATTENDED_S for heard_s in self.pages.values())

    def join(self, address: str) -> RobotOnBoard:
        """A robot has connected; held, and told the same, if it may be one that left so."""
        robot = RobotOnBoard(secrets.token_hex(16), address, self.embodiment.action_dim)
        if address in self.holds:
            robot.hold()
            robot.came_held, robot.override = True, self.holds[address]
        self.robots[robot.name] = robot
        return robot

    def leave(self, robot: RobotOnBoard) -> None:
        """A robot has gone. To go is not to be released."""
        self.robots.pop(robot.name, None)
        if robot.mode != "policy":
            self.holds[robot.address] = robot.override
        robot.changed.set()

    def free(self, address: str) -> None:
        """Robots from there come held no more, and those that did, and that nobody steers, are released."""
        self.holds.pop(address, None)
        for robot in self.robots.values():
            if robot.address == address and robot.came_held and robot.pilot is None:
                robot.release()

    def page_joins(self) -> str:
        """A page has connected; its name."""
        name = secrets.token_hex(4)
        self.page_lives(name, False)
        return name

    def page_lives(self, page: str, visible: bool) -> None:
        """A page has said that it is alive, and whether it is visible: a hidden one is nobody's eyes."""
        self.pages[page] = time.monotonic() if visible else -np.inf

    def page_leaves(self, page: str) -> None:
        """A page has gone; what it steered is held."""
        self.pages.pop(page, None)
        for robot in self.robots.values():
            if robot.pilot == page:
                robot.hold()

    def orders(self, robot: RobotOnBoard) -> Orders:
        """What a robot is to do now. A hand that has left the keys leaves the robot held."""
        if robot.mode == "human" and time.monotonic() - robot.steered_s > ATTENDED_S:
            robot.hold()
        return Orders(
            mode=robot.mode,
            axes=robot.axes or (0.0,) * robot.action_dim,
            attended=self.attended,
            instruction=robot.override,
            episode=robot.episode,
            episode_number=robot.episode_number,
        )
