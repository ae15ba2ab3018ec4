"""A robot's control loop on top of a policy server that may be slow, or gone."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.serving.actions import hold_action
from policies.serving.client import (
    PolicyClient,
    ServerRefusalError,
    ServerTimeoutError,
    ServerUnavailableError,
    check_pace,
)
from policies.serving.keys import ACTIONS, ANSWER, WARNINGS
from policies.serving.overlap import ChunkCursor
from policies.serving.underway import RunningChunk


class WatchdogError(RuntimeError):
    """The server has been silent for too long (or is gone): the robot must stop now."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """The action ``(a,)`` of one control step. ``held``: the robot stands still because the server is late."""

    action: np.ndarray
    held: bool


@dataclass(frozen=True, kw_only=True)
class CallTiming:
    """One answered request: the whole round trip, and the part the policy itself took (None: not told), in ms."""

    round_trip_ms: float
    policy_ms: float | None


class ActionStream:
    """One action per control step, asking the server anew every ``replan_interval`` steps.

    ``ahead`` asks earlier, while the present chunk is carried out, so that the robot need not wait for the policy
    (:class:`~policies.serving.overlap.ChunkCursor` says when, and which actions of a chunk are past when it comes). A
    policy that continues what is under way is told it. ``ValueError`` for a server that tells time by its plans, and is
    to be asked at other times.

    While an answer is late and no action is left, the robot holds (:func:`~policies.serving.actions.hold_action`) what
    it did last, which the server is told with every request: ahead, what it will have done when the answer comes.
    After ``watchdog_s`` without an answer, or when the connection is lost, :class:`WatchdogError` is raised and the
    caller must stop the robot, as it must on a :class:`ServerRefusalError`; an answer that comes later than that is
    never obeyed. ``clock`` gives seconds. Not a certified safety function.
    """

    def __init__(
        self,
        client: PolicyClient,
        replan_interval: int | None = None,
        watchdog_s: float = 0.5,
        ahead: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        interval = client.replan_interval if replan_interval is None else replan_interval
        if not 1 <= interval <= client.horizon:
            raise ValueError(f"replan_interval must lie in 1…{client.horizon} (the horizon), got {interval}")
        check_pace(client, interval, ahead)
        if not watchdog_s > 0:
            raise ValueError(f"watchdog_s must be positive, got {watchdog_s}")
        self.replan_interval = interval
        self.watchdog_s = watchdog_s
        self.timings: list[CallTiming] = []
        self.warnings: list[str] = []
        self.answers: list[str] = []
        """What a policy that speaks said of its chunks, one after the other."""
        self._client = client
        self._clock = clock
        self._chunk = ChunkCursor(interval, ahead)
        self._begun = False
        self._asked_s: float | None = None
        self.last: np.ndarray | None = None
        """The action in force; whoever sends another one than was chosen here says so."""

    @property
    def needs_observation(self) -> bool:
        """Whether the next :meth:`step` looks at its observation."""
        return self._chunk.wants

    def step(self, observation: Mapping[str, Any] | None, timeout_s: float) -> Command:
        """The next action. Only if none is left, it waits for the server, at most ``timeout_s`` (``watchdog_s`` if
        there is nothing to hold).

        ``observation`` is unbatched, keys of ``envs.specs``; it may be None when not needed. Where the network takes no
        more of a request, or the reply to an earlier stream's is still to come, that wait may last ``watchdog_s`` too.
        """
        try:
            if self._chunk.wants:
                self._ask(observation)
                if self._chunk.spent:
                    self._receive(timeout_s)
            elif self._asked_s is not None:
                self._receive(timeout_s if self._chunk.spent else 0.0)
        except ServerTimeoutError:
            self._check_watchdog()
        except ServerUnavailableError as error:
            raise WatchdogError(f"the policy server is gone: {error}") from error
        action = self._chunk.step()
        held = action is None
        self.last = self._still() if action is None else action
        return Command(action=self.last, held=held)

    def _ask(self, observation: Mapping[str, Any] | None) -> None:
        """Send ``observation``, with what is in force and under way."""
        if observation is None:
            raise ValueError("this step needs an observation")
        left, in_force, underway = self._chunk.left, self.last, None
        if len(left):
            delay = min(self._chunk.delay_steps, len(left))
            in_force = left[delay - 1]
            underway = RunningChunk(actions=left, delay_steps=delay) if self._client.continues else None
        asked_s = self._clock()
        try:
            self._client.send(observation, not self._begun, self.watchdog_s, in_force, underway)
        except ServerTimeoutError as error:
            raise WatchdogError("the policy server is still busy with an earlier request") from error
        self._asked_s = asked_s
        self._chunk.ask()

    def _receive(self, timeout_s: float) -> None:
        """Take the answer to what was asked if it comes in time; :class:`ServerTimeoutError` otherwise."""
        assert self._asked_s is not None
        left_s = self._asked_s + self.watchdog_s - self._clock()
        if left_s <= 0:
            raise ServerTimeoutError("the watchdog has expired")
        holdable = not self._chunk.spent or hold_action(self._client.embodiment, self.last) is not None
        try:
            reply = self._client.receive(min(timeout_s, left_s) if holdable else left_s)
        except ServerRefusalError:
            self._asked_s = None
            self._chunk.give_up()
            raise
        waited_s = self._clock() - self._asked_s
        self.timings.append(CallTiming(round_trip_ms=1e3 * waited_s, policy_ms=_policy_ms(reply)))
        self.warnings += reply.get(WARNINGS, ())
        if ANSWER in reply:
            self.answers.append(str(reply[ANSWER]))
        blocked_s = waited_s if self._chunk.spent else 0.0
        self._chunk.arrive(reply[ACTIONS], math.ceil(blocked_s * self._client.embodiment.control_rate_hz))
        self._begun, self._asked_s = True, None

    def _check_watchdog(self) -> None:
        """Whether the robot may go on without an answer."""
        assert self._asked_s is not None
        waited_s = self._clock() - self._asked_s
        stuck = self._chunk.spent and hold_action(self._client.embodiment, self.last) is None
        if waited_s >= self.watchdog_s or stuck:
            raise WatchdogError(
                f"no actions from the policy server for {1e3 * waited_s:.0f} ms "
                f"(the watchdog allows {1e3 * self.watchdog_s:.0f} ms)"
            )

    def _still(self) -> np.ndarray:
        """The action that keeps the robot where it is."""
        still = hold_action(self._client.embodiment, self.last)
        if still is None:
            raise WatchdogError("no action is left, and there is none to hold")
        return still


def _policy_ms(reply: Mapping[str, Any]) -> float | None:
    """The policy's own time in a reply, if the server tells it as a finite number."""
    timing = reply.get("policy_timing")
    value = timing.get("infer_ms") if isinstance(timing, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
