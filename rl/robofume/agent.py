"""The policy that is refined: all of it is frozen but a small network on what its head reads its chunks off."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import STATE_KEY
from policies.vla_policy import VLAPolicy
from rl.agent import Looked
from rl.policy_agent import PolicyAgent
from rl.vla_agent import SUMMARY, gaussian_about, roles_of, summed_up
from vla.features import TokenRole
from vla.heads.gaussian import GaussianChunks, GaussianHead
from vla.observation import ActionChunk

READ = "read"


class ReadOff(NamedTuple):
    """Hidden states of the head, the robot's state, and what the backbone sees, summed up."""

    hidden: Float[Tensor, "b k d"]
    state: Float[Tensor, "b s"]
    summary: Float[Tensor, "b e"]


class RefinedAgent(PolicyAgent[ReadOff]):
    """The network of ``policy``, of which the refinement of its Gaussian head alone learns (:func:`refined`).

    A picture is looked at once: :meth:`look` keeps the few numbers that refinement and critics need. ``execute`` is by
    default the policy's replan interval. ``TypeError`` for a policy without a refinement.
    """

    def __init__(self, policy: VLAPolicy, *, execute: int | None = None) -> None:
        head = policy.vla.head
        if not isinstance(head, GaussianHead) or head.refinement is None:
            raise TypeError(f"expected a gaussian head with a refinement, got {type(head).__name__}: see refined")
        super().__init__(policy, execute)
        self.head = head
        self.vla.requires_grad_(False)
        head.refinement.requires_grad_(True)
        self._roles: list[TokenRole] | None = None

    @torch.no_grad()
    def look(self, observation: Mapping[str, Any]) -> Looked:
        features = self.head.perceive(self.vla.backbone, self.inputs.observation(self.inputs.take(observation)))
        self._roles = roles_of(features) if self._roles is None else self._roles
        hidden, summary = self.head.hidden(features), summed_up(features, self._roles)
        return {READ: hidden.float(), STATE_KEY: features.state.float(), SUMMARY: summary}

    def see(self, looked: Looked) -> ReadOff:
        return ReadOff(looked[READ], looked[STATE_KEY], looked[SUMMARY])

    def distribution(self, seen: ReadOff) -> GaussianChunks:
        return self.head.read_off(seen.hidden, seen.state)

    def summary(self, seen: ReadOff) -> Float[Tensor, "b e"]:
        """Means of the last layer over the tokens of each role, state and waypoint, and the head's hidden states."""
        return torch.cat([seen.summary, seen.hidden.flatten(1)], dim=-1)

    def loss(self, seen: ReadOff, target: ActionChunk) -> Float[Tensor, ""]:
        """The squared error of the mean, over the numbers of valid actions."""
        error = (self.distribution(seen).mean - target.actions).square().mean(dim=-1)
        return error.masked_fill(~target.valid, 0.0).sum() / target.valid.sum().clamp(min=1)

    def normalized(self, actions: Float[Tensor, "n h a"]) -> Float[Tensor, "n h a"]:
        """The inverse of :meth:`executable`, but for its bounds."""
        return self._normalization.action.normalize(actions.to(self.inputs.device))

    @property
    def bounds(self) -> tuple[Float[Tensor, " a"], Float[Tensor, " a"]]:
        """The least and the most that the robot can be told, normalised: what stays as it is has one value."""
        action, device = self._normalization.action, self.inputs.device
        low, high = (
            action.normalize(torch.tensor(end, device=device))
            for end in (self.embodiment.action_low, self.embodiment.action_high)
        )
        still = action.normalize(action.unnormalize(torch.zeros_like(low)))
        return torch.where(self.moving, low, still), torch.where(self.moving, high, still)


def refined(policy: VLAPolicy, *, std: float, width: int) -> VLAPolicy:
    """``policy`` with a Gaussian of ``std`` about its chunk and a refinement of ``width``, which says nothing at first:
    it acts as the old one did until that learns. One that has a refinement stays as it is.

    ``ValueError`` for a head that no Gaussian can take over.
    """
    if getattr(policy.vla.config.head, "refined", 0):
        return policy
    return gaussian_about(policy, std=std, refined=width)
