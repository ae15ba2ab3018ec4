"""One world of another project's simulator, behind the keys, units and frames of ours."""

from typing import Any, Protocol

import numpy as np
from jaxtyping import Float

from envs.specs import EmbodimentSpec, Stream


class SimulatorWorld(Protocol):
    """One episode at a time, in numpy, without a batch axis.

    An observation is a dict by the keys of :mod:`envs.specs` (images upright, camera poses in the OpenCV frame,
    quaternions ``wxyz``, gripper 0 open … 1 closed in the state). An episode depends on ``stream`` and its seed alone.
    """

    embodiment: EmbodimentSpec
    task_name: str
    max_episode_steps: int
    capabilities: frozenset[str]
    """Out of ``envs.specs.CAPABILITIES``; what a world does not declare is never called."""

    @property
    def instruction(self) -> str:
        """What the episode's policy is told."""
        ...

    @property
    def goal(self) -> str:
        """What the instruction asks for, in words that do not depend on its phrasing."""
        ...

    def reset(self, stream: Stream, seed: int) -> None:
        """Start the episode of that stream and seed."""
        ...

    def step(self, action: Float[np.ndarray, " a"]) -> tuple[float, bool, bool]:
        """One control step: reward, whether the episode is over for good, and whether the task is solved."""
        ...

    def observe(self) -> dict[str, Any]:
        """What robot and cameras show now; rendering happens here and nowhere else."""
        ...

    def expert_action(self) -> Float[np.ndarray, " a"]:
        """What the demonstrator would do now."""
        ...

    def snapshot(self) -> dict[str, np.ndarray]:
        """Everything that the episode is."""
        ...

    def restore(self, snapshot: dict[str, np.ndarray]) -> None:
        """Put the world back to where it was photographed."""
        ...

    def close(self) -> None:
        """Free the simulator; safe to call twice."""
        ...
