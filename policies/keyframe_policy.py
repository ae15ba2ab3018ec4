"""A network that aims, as a policy: raw observations of a robot in, the way to the next keyframe out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from envs.specs import STATE_KEY
from policies.blocks import in_blocks
from policies.history_policy import HistoryPolicy
from policies.keyframe_targets import pose_dims, tool_rotation
from policies.policy import Plan, seen_by, spread
from policies.straight_motion import StraightMotion
from policies.vla_policy import VLAPolicy, find_policy
from vla.config import VLAConfig
from vla.heads.heatmap import HeatmapHead
from vla.model import VLA
from vla.observation import Keyframe
from vla.saving import CONFIG_FILE, read_config

MOTION = StraightMotion()


class KeyframePolicy(VLAPolicy):
    """Aims at the next keyframe and plans the way there; it remembers nothing, and looks again at a plan's end.

    Its folder is that of :class:`VLAPolicy`. ``replan_interval`` is the most steps that a plan may take, by default
    those that the head's config says. ``ValueError`` for a network that does not aim and a robot that cannot.
    """

    def __init__(self, vla: VLA, *args: Any, **settings: Any) -> None:
        """Arguments are those of :class:`VLAPolicy`."""
        super().__init__(vla, *args, **settings)
        self._position, self._axes = pose_dims(self.embodiment)
        low, high = self.embodiment.action_low, self.embodiment.action_high
        self._low, self._high = torch.tensor(low, device=self.device), torch.tensor(high, device=self.device)

    @staticmethod
    def longest_plan(vla: VLA) -> int:
        if not isinstance(vla.head, HeatmapHead):
            raise ValueError(f"expected a network with a head that aims, got {type(vla.head).__name__}")
        return vla.head.config.longest_plan

    @classmethod
    def usual_interval(cls, vla: VLA, horizon: int) -> int:
        return horizon

    def aim(self, observation: Mapping[str, Any]) -> Keyframe:
        """Where each world's tool is to go next; ``ValueError`` for an observation that does not fit."""
        with torch.inference_mode():
            seen = self._network_observation(observation)
            numbers = in_blocks(lambda block: self.vla.aim(block).numbers, seen, self._blocks)
        return Keyframe.of(numbers.clone())

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        return self._way(observation)[0]

    def plan(self, state: None, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[None, Plan]:
        """Each world's plan is as long as its way."""
        actions, length = self._way(seen_by(observation, mask))
        return None, Plan(spread(actions, mask), spread(length, mask))

    def shows(self, observation: Mapping[str, Any]) -> UInt8[np.ndarray, "n h w 3"]:
        """Both looks' pictures with the heatmaps over them, and a cross where each look's answer is."""
        from policies.showing.aims import aim_sheet

        head = self.vla.head
        assert isinstance(head, HeatmapHead)
        with torch.inference_mode():
            seen = head.perceive(self.vla.backbone, self._network_observation(observation))
            looks = head.looks(seen)
            radii_px = head.config.radius_px, head.config.fine_radius_px
            pictures = [head.drawn(seen, look.cube, r).images[:, 0] for look, r in zip(looks, radii_px, strict=True)]
            places = [look.cube.project(look.answer_m[:, None]).position[:, :, 0] for look in looks]
            heat = [look.log_heatmaps.exp() for look in looks if look.log_heatmaps is not None]
        drawn, where = (torch.stack(each, dim=1).cpu().numpy() for each in (pictures, places))
        heatmaps = torch.stack(heat, dim=1).cpu().numpy() if heat else [None] * len(drawn)
        return np.stack([aim_sheet(*of_world) for of_world in zip(drawn, heatmaps, where, strict=True)])

    def _way(self, observation: Mapping[str, Any]) -> tuple[Float[Tensor, "n h a"], Int[Tensor, " n"]]:
        keyframe = self.aim(observation)
        state = observation[STATE_KEY].to(self.device, torch.float32)
        rotation = tool_rotation(state, self._axes)
        actions, length = MOTION.plan(state[:, self._position], rotation, keyframe, self.horizon)
        return torch.clamp(actions, self._low, self._high), length.clamp(max=self.replan_interval)


def policy_kind(config: VLAConfig) -> type[VLAPolicy]:
    """What a network of ``config`` acts as."""
    if config.aims:
        return KeyframePolicy
    return HistoryPolicy if config.history.looks_back else VLAPolicy


def load_vla_policy(directory: Path | str, *args: Any, **settings: Any) -> VLAPolicy:
    """A saved policy as what its network acts as; arguments and errors are those of :meth:`VLAPolicy.load`."""
    folder = find_policy(Path(directory))
    return policy_kind(read_config(folder / CONFIG_FILE)).load(folder, *args, **settings)
