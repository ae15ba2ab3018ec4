"""What a frozen backbone makes of an observation and a sentence, as one vector that small heads learn from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import STATE_KEY, EmbodimentSpec, image_key
from policies.network_input import InstructionTokens, network_images
from policies.processors import STATE_BOUND
from vla.base import load_base
from vla.features import Features
from vla.observation import Observation
from vla.shipped import FOLDER

NOT_ASKED = ("queries", "query_position")
"""Parts that come behind the prefix: nothing here depends on them."""


class FrozenFeatures:
    """The backbone in ``folder`` (by default the package's own), frozen, with its own scale of the robot's state.

    Errors are those of :func:`vla.base.load_base`, and ``ValueError`` where weights that the features depend on were
    never learned, and would be others each time.
    """

    def __init__(self, folder: Path = FOLDER, device: torch.device | str = "cpu") -> None:
        self.folder, self.base, self.device = folder, load_base(folder), torch.device(device)
        base = self.base
        self._backbone = base.build().requires_grad_(False).to(self.device)
        own = (name for name, _ in self._backbone.named_parameters() if not name.startswith(NOT_ASKED))
        if fresh := sorted(set(own) - base.weights.keys()):
            raise ValueError(f"the backbone has not learned all that features depend on: it lacks {fresh[0]}")
        self._tokens = InstructionTokens(self._backbone)
        scale = base.config.state
        self._offset, self._scale = (torch.tensor(x, device=self.device) for x in (scale.offset, scale.scale))

    def check(self, embodiment: EmbodimentSpec) -> None:
        """``ValueError`` unless the robot has the cameras and the numbers of the state that the backbone knows."""
        config = self.base.config
        names = tuple(dimension.name for dimension in embodiment.state)
        if names != config.state_names or not set(config.cameras) <= set(embodiment.camera_names):
            raise ValueError(
                f"the backbone knows cameras {config.cameras} and the state {config.state_names}; "
                f"{embodiment.name} has {embodiment.camera_names} and {names}"
            )

    @torch.inference_mode()
    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, "n d"]:
        """``ValueError`` for a goal that is longer than the backbone's text window."""
        self._backbone.check_texts(list(dict.fromkeys(goals)))
        return pooled(self._backbone.encode(self._observation(observation, goals)).features).clone()

    def _observation(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Observation:
        config = self.base.config
        views = [observation[image_key(camera)].to(self.device) for camera in config.cameras]
        images = torch.stack([network_images(view, config.image_size_px) for view in views], dim=1)[:, None]
        text, text_mask = self._tokens(goals, self.device)
        state = (observation[STATE_KEY].to(self.device, torch.float32) - self._offset) / self._scale
        return Observation(
            images=images,
            view_mask=torch.ones(images.shape[:3], dtype=torch.bool, device=self.device),
            text=text,
            text_mask=text_mask,
            state=state.clamp(-STATE_BOUND, STATE_BOUND),
        )


def pooled(features: Features) -> Float[Tensor, "b d"]:
    """The mean of the last layer's tokens of each role and view, the waypoint if there is one, and the state."""
    layout, last = features.layout, features.hidden[-1]
    kinds = torch.stack([layout.role, layout.view], dim=1)
    parts = []
    for kind in kinds.unique(dim=0):
        there = features.mask & (kinds == kind).all(dim=1)
        total = (last * there[..., None]).sum(dim=1)
        parts.append(total / there.sum(dim=1, keepdim=True).clamp(min=1))
    parts += [] if features.waypoint is None else [features.waypoint]
    return torch.cat([*parts, features.state], dim=1)
