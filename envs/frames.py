"""The pictures that ``render`` shows, for the faces towards gymnasium and stable-baselines3."""

from typing import Any

import numpy as np
from jaxtyping import UInt8

from envs.specs import image_key
from envs.vector import TaskEnv


class Frames:
    """The first camera's pictures as last observed: copies, because observations are the caller's to write into."""

    def __init__(self, env: TaskEnv, render_mode: str | None) -> None:
        self._key = None if render_mode is None else image_key(env.embodiment.camera_names[0])
        self._latest: np.ndarray | None = None
        self._closed = False

    def keep(self, observation: dict[str, Any]) -> None:
        """Take the pictures of an observation, if anybody may want them."""
        if self._key is not None:
            self._latest = np.array(observation[self._key].cpu())

    def latest(self) -> UInt8[np.ndarray, "n h w 3"] | None:
        """The pictures last taken, None without a render mode; ``RuntimeError`` if there are none."""
        if self._closed:
            raise RuntimeError("the environment is closed; make a new one")
        if self._key is None:
            return None
        if self._latest is None:
            raise RuntimeError("call reset before render")
        return self._latest.copy()

    def close(self) -> None:
        """Show nothing any more."""
        self._closed = True
