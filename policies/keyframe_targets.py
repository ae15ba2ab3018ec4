"""What a policy that aims at keyframes learns from, and which robots can have one."""

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import EmbodimentSpec
from policies.data.keyframes import GRIPPER_FRAME, tool_dims
from policies.data.windows import WindowBatch
from vla.observation import Keyframe

MOVES = ("dx", "dy", "dz", "rx", "ry", "rz", "gripper")
"""The actions of a robot that a plan can be made for."""
AXES = tuple(f"tool_{axis}_axis_{part}" for axis in "xy" for part in "xyz")


def pose_dims(embodiment: EmbodimentSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The numbers of the state that are the tool's position, and the x and y axes of its frame.

    ``ValueError`` for a robot that does not say them, or does not obey changes of the tool's pose.
    """
    names = [dim.name for dim in embodiment.state]
    position, axes = tool_dims(embodiment), tuple(names.index(name) for name in AXES if name in names)
    moves = tuple(dim.name for dim in embodiment.action)
    if moves != MOVES:
        raise ValueError(
            f"a policy that aims at keyframes moves a tool by {list(MOVES)} (control delta_pose), "
            f"{embodiment.name} obeys {list(moves)}"
        )
    if len(position) != 3 or len(axes) != len(AXES):
        raise ValueError(
            f"a policy that aims at keyframes must know the tool's pose: expected its position and {list(AXES)} in the "
            f"state of {embodiment.name}, got {names}"
        )
    return position, axes


def gripper_dims(embodiment: EmbodimentSpec) -> tuple[int, ...]:
    """The numbers of the state that say how far the gripper is open."""
    return tuple(i for i, dim in enumerate(embodiment.state) if dim.frame == GRIPPER_FRAME)


def tool_rotation(state: Float[Tensor, "n d"], axes: tuple[int, ...]) -> Float[Tensor, "n 3 3"]:
    """The tool's frame in the world, from the two axes that the state says of it."""
    x, y = state[:, axes[:3]], state[:, axes[3:]]
    x = torch.nn.functional.normalize(x, dim=-1)
    z = torch.nn.functional.normalize(torch.linalg.cross(x, y), dim=-1)
    return torch.stack([x, torch.linalg.cross(z, x), z], dim=-1)


class KeyframeTargets:
    """The keyframes of windows; ``ValueError`` for a robot that cannot aim at any."""

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        self._position, self._axes = pose_dims(embodiment)
        gripper = embodiment.action[-1]
        self._closed_from = (gripper.low + gripper.high) / 2

    def __call__(self, batch: WindowBatch, device: torch.device) -> Keyframe:
        """Of each sample; commands of the gripper are 0 or 1, whichever they are nearer to."""
        state = batch.keyframe_state.to(device)
        return Keyframe(
            position_m=state[:, self._position],
            rotation=tool_rotation(state, self._axes),
            gripper=(batch.way_action[:, -1].to(device) > self._closed_from).float(),
            gripper_after=(batch.keyframe_action[:, -1].to(device) > self._closed_from).float(),
            clearance=batch.leads_over.to(device).float(),
        )
