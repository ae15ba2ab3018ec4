"""A world of our own simulator as a robot: it goes on by the clock, whether it is commanded or not."""

import threading
import time
from typing import Any

import numpy as np
import torch

from envs.specs import TASK_KEY, VectorEnv
from policies.robots.driver import Limits, RobotError
from policies.serving.actions import hold_action
from policies.serving.batching import world_of

_EARLIEST, _LATEST = 0.5, 1.5
"""A step is taken when a command is there, but not before so much of a period since the last step, or after so much."""


class SimulatedRobot:
    """The single world of ``env`` in real time, in a thread of its own.

    The world takes one step per control period. Its steps follow the commands as they come; where none comes, it stands
    still for that step, as an arm does whose controller repeats its last command. An episode that is over stands still
    too.
    """

    def __init__(self, env: VectorEnv) -> None:
        if env.num_envs != 1:
            raise ValueError(f"a simulated robot is a single world, got an environment of {env.num_envs}")
        self.embodiment = env.embodiment
        self.limits = Limits.none(env.embodiment)
        self.task_name = env.task_name
        self.held_steps = 0
        """Steps in which no command was there."""
        self.steps = 0
        self._env = env
        self._period_s = 1.0 / env.embodiment.control_rate_hz
        self._changed = threading.Condition()
        self._command: np.ndarray | None = None
        self._last: np.ndarray | None = None
        self._observation: dict[str, Any] = {}
        self._ended, self._success, self._closing = True, False, False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="simulated-robot", daemon=True)

    @property
    def ended(self) -> bool:
        return self._ended

    @property
    def success(self) -> bool:
        return self._success

    def connect(self) -> None:
        self.begin(0)
        self._thread.start()

    def begin(self, seed: int) -> str:
        with self._changed:
            observation = self._env.reset([seed])
            self._observation = world_of(observation, 0)
            self._command, self._last = None, None
            self._ended, self._success = False, False
        return self._observation[TASK_KEY]

    def observe(self) -> dict[str, Any]:
        with self._changed:
            self._check()
            return {key: value for key, value in self._observation.items() if key != TASK_KEY}

    def act(self, action: np.ndarray) -> None:
        if action.shape != (self.embodiment.action_dim,) or not np.isfinite(action).all():
            raise RobotError(f"expected a finite action of {self.embodiment.action_dim} numbers, got {action}")
        with self._changed:
            self._check()
            self._command = action.astype(np.float32)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._command = None

    def close(self) -> None:
        with self._changed:
            if self._closing:
                return
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        self._env.close()

    def _check(self) -> None:
        if self._failure is not None:
            raise RobotError(f"the simulated robot broke down: {self._failure}") from self._failure

    def _run(self) -> None:
        try:
            stepped_s = time.monotonic()
            while not self._closing:
                time.sleep(max(stepped_s + _EARLIEST * self._period_s - time.monotonic(), 0.0))
                with self._changed:
                    left_s = stepped_s + _LATEST * self._period_s - time.monotonic()
                    self._changed.wait_for(lambda: self._closing or self._command is not None, max(left_s, 0.0))
                    stepped_s = time.monotonic()
                    if not self._closing and not self._ended:
                        self._step()
        except Exception as failure:
            self._failure = failure

    def _step(self) -> None:
        """One step of the world with what was commanded, or standing still."""
        action, self._command = self._command, None
        self.steps += 1
        if action is None:
            self.held_steps += 1
            action = hold_action(self.embodiment, self._last)
            if action is None:
                return  # nothing was ever commanded, and there is no command that means to stay
        self._last = action
        moved = self._env.step(torch.from_numpy(action.copy())[None].to(self._env.device))
        self._observation = world_of(moved.observation, 0)
        self._success, self._ended = bool(moved.success[0]), bool(moved.ended)
