"""Who moves the robot in the next control step, and what he wants: the policy, a person, or nobody."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.specs import EmbodimentSpec
from policies.robots.heartbeat import Heartbeat
from policies.robots.steering import steered
from policies.serving.client import PolicyClient, ProtocolError, ServerRefusalError
from policies.serving.control import ActionStream, CallTiming, WatchdogError
from policies.serving.line import RobotLine

HELD_CODE = "held"
"""The code with which a server refuses a robot that its operator holds."""
_NOT_FINITE = "not finite"


class RunStoppedError(RuntimeError):
    """The run must end with the robot stopped; the text says why."""


@dataclass(frozen=True, kw_only=True)
class Timing:
    """How a robot asks its policy, and how long it waits for what."""

    replan_interval: int | None = None
    """Actions to execute before asking again; the server's own choice by default."""
    ahead: bool = False
    """Ask for the next actions while the present ones are carried out, so early that they are there in time."""
    watchdog_s: float = 0.5
    """How long an answer may take. The robot holds as soon as no action is left; what comes later is not obeyed."""
    stop_after_s: float = 2.0
    """How long the policy, the robot's senses or the line to the page may fail, the robot holding, until it is stopped
    for good and the run ends.
    """

    def __post_init__(self) -> None:
        for name in ("watchdog_s", "stop_after_s"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One of ``ACTORS``, the action ``(a,)`` that he wants, in the policy's units (None: the robot is to hold), and why
    it holds, in a few words.
    """

    actor: str
    action: np.ndarray | None = None
    why: str = ""


class Chooser:
    """Asks dead-man's switch, operator and policy in this order, at every control step.

    Whenever somebody else has moved the robot or it had to hold, what the policy had planned before is dropped, and it
    looks anew, at the beginning of an episode as far as it remembers anything. ``clock`` gives seconds.
    """

    def __init__(
        self,
        client: PolicyClient,
        timing: Timing,
        heartbeat: Heartbeat,
        line: RobotLine | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.refused = 0
        """Answers that no robot may be sent: not finite, or beyond what the server allows."""
        self.timings: list[CallTiming] = []
        self._client = client
        self._timing = timing
        self._heartbeat = heartbeat
        self._line = line
        self._clock = clock
        self._stream: ActionStream | None = None
        self._failing_s: float | None = None

    @property
    def embodiment(self) -> EmbodimentSpec:
        return self._client.embodiment

    def drop(self) -> None:
        """Forget what was planned."""
        if self._stream is not None:
            self.timings += self._stream.timings
        self._stream = None

    def choose(self, observation: Mapping[str, Any], last: np.ndarray | None, timeout_s: float) -> Choice:
        """Who acts now. ``last`` ``(a,)`` is the action in force. The policy is waited for ``timeout_s``, at its
        beginning the watchdog's time.

        :class:`RunStoppedError` once the policy, or the line to the operator, has been failing for ``stop_after_s``.
        """
        if (other := self._somebody(last)) is not None:
            return other
        choice = self._ask(observation, last, timeout_s)
        return self._somebody(last) or choice  # who may have come while the policy was waited for

    def held(self, why: str) -> Choice:
        """Hold, as nobody is to move the robot; nothing is wrong with it."""
        self.drop()
        self._failing_s = None
        return Choice(actor="held", why=why)

    def failed(self, why: str) -> Choice:
        """Hold as something is wrong with the robot itself; :class:`RunStoppedError` after ``stop_after_s`` of that."""
        return self._fail(why)

    def _somebody(self, last: np.ndarray | None) -> Choice | None:
        """What comes before the policy, if anything does."""
        if self._line is not None and self._line.silent:
            return self._fail("the operator's page is out of reach")
        if not self._heartbeat.alive():
            return self.held("nobody is at the dead-man's switch")
        if self._line is None or (orders := self._line.orders).mode == "policy":
            return None
        if orders.mode == "held":
            return self.held("the operator holds the robot")
        self.drop()
        self._failing_s = None
        return Choice(actor="human", action=steered(self.embodiment, orders.axes, last))

    def _ask(self, observation: Mapping[str, Any], last: np.ndarray | None, timeout_s: float) -> Choice:
        timing = self._timing
        if self._stream is None:
            self._stream = ActionStream(self._client, timing.replan_interval, timing.watchdog_s, timing.ahead)
        if last is not None and np.isfinite(last).all():
            self._stream.last = last
        try:
            command = self._stream.step(observation, timeout_s)
        except WatchdogError as error:
            return self._fail(str(error))
        except ServerRefusalError as error:
            if error.code == HELD_CODE:
                return self.held("the operator holds the robot")
            self.refused += error.code == "invalid_actions"
            return self._fail(str(error))
        except ProtocolError as error:
            self.refused += _NOT_FINITE in str(error)
            return self._fail(str(error))
        if command.held:  # who is late each time, until the watchdog gives up, has not answered yet
            return Choice(actor="held", why="the policy's answer is late")
        self._failing_s = None
        return Choice(actor="policy", action=command.action)

    def _fail(self, why: str) -> Choice:
        self.drop()
        now_s = self._clock()
        self._failing_s = now_s if self._failing_s is None else self._failing_s
        if now_s - self._failing_s >= self._timing.stop_after_s:
            raise RunStoppedError(f"stopped after {self._timing.stop_after_s:g} s of holding: {why}")
        return Choice(actor="held", why=why)
