"""A robot's control loop on top of a policy server that may be slow, or gone."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from policies.serving.actions import hold_action
from policies.serving.client import PolicyClient, ServerRefusalError, ServerTimeoutError, ServerUnavailableError
from policies.serving.keys import ACTIONS, WARNINGS


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

    While an answer is late the robot holds (:func:`~policies.serving.actions.hold_action`) what it did last, which the
    server is told with every request. After ``watchdog_s`` without an answer, or when the connection is lost,
    :class:`WatchdogError` is raised and the caller must stop the robot, as it must on a :class:`ServerRefusalError`; an
    answer that comes later than that is never obeyed. Not a certified safety function.
    """

    def __init__(self, client: PolicyClient, replan_interval: int | None = None, watchdog_s: float = 0.5) -> None:
        interval = client.replan_interval if replan_interval is None else replan_interval
        if not 1 <= interval <= client.horizon:
            raise ValueError(f"replan_interval must lie in 1…{client.horizon} (the horizon), got {interval}")
        if not watchdog_s > 0:
            raise ValueError(f"watchdog_s must be positive, got {watchdog_s}")
        self.replan_interval = interval
        self.watchdog_s = watchdog_s
        self.timings: list[CallTiming] = []
        self.warnings: list[str] = []
        self._client = client
        self._chunk: np.ndarray | None = None
        self._cursor = 0
        self._asked_s: float | None = None
        self._last: np.ndarray | None = None

    @property
    def needs_observation(self) -> bool:
        """Whether the next :meth:`step` looks at its observation."""
        return self._asked_s is None and (self._chunk is None or self._cursor >= self.replan_interval)

    def step(self, observation: Mapping[str, Any] | None, timeout_s: float) -> Command:
        """The next action, waiting at most ``timeout_s`` for the server (``watchdog_s`` if there is nothing to hold).

        ``observation`` is unbatched, keys of ``envs.specs``; it may be None when not needed. Where the network takes no
        more of a request, or the reply to an earlier stream's is still to come, that wait may last ``watchdog_s`` too.
        """
        if self.needs_observation or self._asked_s is not None:
            try:
                self._replan(observation, timeout_s)
            except ServerTimeoutError:
                return Command(action=self._hold_or_stop(), held=True)
            except ServerUnavailableError as error:
                raise WatchdogError(f"the policy server is gone: {error}") from error
        assert self._chunk is not None
        action = self._chunk[self._cursor]
        self._cursor += 1
        self._last = action
        return Command(action=action, held=False)

    def _replan(self, observation: Mapping[str, Any] | None, timeout_s: float) -> None:
        """Send ``observation`` unless a request is under way, and take its answer if it comes in time."""
        if self._asked_s is None:
            if observation is None:
                raise ValueError("this step needs an observation")
            asked_s = time.monotonic()
            try:
                self._client.send(observation, self._chunk is None, self.watchdog_s, self._last)
            except ServerTimeoutError as error:
                raise WatchdogError("the policy server is still busy with an earlier request") from error
            self._asked_s = asked_s
        left_s = self._asked_s + self.watchdog_s - time.monotonic()
        if left_s <= 0:
            raise ServerTimeoutError("the watchdog has expired")
        holdable = hold_action(self._client.embodiment, self._last) is not None
        try:
            reply = self._client.receive(min(timeout_s, left_s) if holdable else left_s)
        except ServerRefusalError:
            self._asked_s = None
            raise
        round_trip_ms = 1e3 * (time.monotonic() - self._asked_s)
        self.timings.append(CallTiming(round_trip_ms=round_trip_ms, policy_ms=_policy_ms(reply)))
        self.warnings += reply.get(WARNINGS, ())
        self._chunk, self._cursor, self._asked_s = reply[ACTIONS], 0, None

    def _hold_or_stop(self) -> np.ndarray:
        assert self._asked_s is not None
        waited_s = time.monotonic() - self._asked_s
        still = hold_action(self._client.embodiment, self._last)
        if waited_s >= self.watchdog_s or still is None:
            raise WatchdogError(
                f"no actions from the policy server for {1e3 * waited_s:.0f} ms "
                f"(the watchdog allows {1e3 * self.watchdog_s:.0f} ms)"
            )
        self._last = still
        return still


def _policy_ms(reply: Mapping[str, Any]) -> float | None:
    """The policy's own time in a reply, if the server tells it as a finite number."""
    timing = reply.get("policy_timing")
    value = timing.get("infer_ms") if isinstance(timing, Mapping) else None
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
