"""A network that is shown moments of the past, as a policy: it remembers what cameras showed when it was asked."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from envs.specs import STATE_KEY, image_key
from policies.policy import seen_by
from policies.vla_policy import VLAPolicy
from vla.model import VLA
from vla.observation import Observation
from vla.spatial.memory_bank import picture_features, sample_frames

FEATURES = "features"
"""Key of what a memory bank compares."""


class Recollection(NamedTuple):
    """What cameras showed n worlds at their last k plans, the newest last, by the keys of the observation; nothing
    before the first. ``plans`` counts the plans of each world's episode.
    """

    seen: Mapping[str, Shaped[Tensor, "n k ..."]]
    plans: Int[Tensor, " n"]


class HistoryPolicy(VLAPolicy):
    """Shows its network the moments that training did, which it looks at and keeps when it plans.

    It is asked every ``replan_interval`` control steps and cannot look in between, so that this must divide the steps
    between moments (``frame_gap``), and each plan must be carried out for exactly as long: see ``paced``. Before enough
    of an episode has passed, its first moment stands in for earlier ones, as in training, or a memory bank holds less.
    Its folder is that of :class:`VLAPolicy`. ``ValueError`` for a ``replan_interval`` that does not divide.
    """

    remembers = True
    paced = True

    def __init__(self, vla: VLA, *args: Any, **settings: Any) -> None:
        """Arguments are those of :class:`VLAPolicy`, but that ``replan_interval`` is by default the longest that fits
        and is no more than half of the horizon.
        """
        super().__init__(vla, *args, **settings)
        self.continues = False
        self._history = vla.config.history
        if self._history.gap % self.replan_interval:
            raise ValueError(
                f"the network is shown moments {self._history.gap} control steps apart, and sees only when it plans: "
                f"expected a replan_interval that divides {self._history.gap}, got {self.replan_interval}"
            )
        self._plans_apart = self._history.gap // self.replan_interval
        self._kept = (self._history.moments - 1) * self._plans_apart + 1

    @classmethod
    def usual_interval(cls, vla: VLA, horizon: int) -> int:
        most = super().usual_interval(vla, horizon)
        gap = vla.config.history.gap
        return max(steps for steps in range(1, most + 1) if gap % steps == 0)

    def start(self, n: int) -> Recollection:  # pyright: ignore[reportIncompatibleMethodOverride]
        return Recollection({}, torch.zeros(n, dtype=torch.long))

    def _network_observation(self, observation: Mapping[str, Any]) -> Observation:
        """Of the first moment of an episode."""
        count = len(observation[STATE_KEY])
        return self._look(self.start(count), observation, torch.ones(count, dtype=torch.bool))[1]

    def _look(
        self, state: Any, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]
    ) -> tuple[Recollection, Observation]:
        taken = self.inputs.take(seen_by(observation, mask))
        fresh = {key: taken[key] for key in self.inputs.pictured}
        if self._history.sampling == "memory_bank":
            views = [taken[image_key(camera)] for camera in self.vla.config.cameras]
            fresh[FEATURES] = picture_features(torch.stack(views, 1))
        mask = mask.cpu()
        state = self._with(state, fresh, mask)
        worlds = mask.nonzero()[:, 0]
        shown, there, age_steps = self._shown(
            {key: kept[worlds] for key, kept in state.seen.items()}, state.plans[worlds]
        )
        age_s = age_steps / self.embodiment.control_rate_hz
        return state, self.inputs.looking_back(taken, shown, there, age_s)

    def _with(self, state: Recollection, fresh: Mapping[str, Tensor], mask: Bool[Tensor, " n"]) -> Recollection:
        """``state``, which stays as it is, with what the worlds in ``mask`` see now, in the place of their oldest."""
        seen, worlds = {}, mask.nonzero()[:, 0]
        for key, new in fresh.items():
            kept = state.seen.get(key)
            if kept is None:
                kept = new.new_zeros(len(mask), self._kept, *new.shape[1:])
            newer = torch.cat([kept[worlds, 1:], new[:, None]], dim=1)
            seen[key] = kept.index_copy(0, worlds.to(kept.device), newer)
        return Recollection(seen, state.plans + mask)

    def _shown(
        self, seen: Mapping[str, Shaped[Tensor, "m k ..."]], plans: Int[Tensor, " m"]
    ) -> tuple[dict[str, Tensor], Bool[Tensor, "m t"], Int[Tensor, "m t"]]:
        """What the network is shown of what was ``seen``, which of its frames there are, and how many steps ago."""
        wanted = self._plans_apart * torch.arange(self._history.moments - 1, -1, -1)
        back = torch.minimum(wanted, plans[:, None] - 1).to(self.device)
        there = torch.ones_like(back, dtype=torch.bool)
        row = torch.arange(len(plans), device=self.device)[:, None]
        if FEATURES in seen:
            features = seen[FEATURES][row, self._kept - 1 - back]
            valid = (wanted < plans[:, None]).to(self.device)
            found = sample_frames(features, valid, self._history.frames)
            back, there = back.gather(1, found.times), found.mask
        shown = {key: kept[row, self._kept - 1 - back] for key, kept in seen.items() if key != FEATURES}
        return shown, there, back * self.replan_interval
