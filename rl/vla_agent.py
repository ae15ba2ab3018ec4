"""A VLA that learns from reward, on top of the processing that it acts with."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from envs.specs import STATE_KEY
from policies.vla_policy import VLAPolicy
from rl.agent import Looked
from rl.policy_agent import PolicyAgent
from vla.distribution import Distribution
from vla.features import Features, TokenLayout, TokenRole
from vla.head import Decoder, FeaturesHead, Head
from vla.heads.bridge import BridgeConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mlp import MLPConfig
from vla.observation import ActionChunk

HIDDEN, MASK, WAYPOINT, SUMMARY = "hidden", "mask", "waypoint", "summary"


class Sight(NamedTuple):
    """What the head looks at, and the critic."""

    by_the_head: Features | Decoder
    summary: Float[Tensor, "b d"]


class VLAAgent(PolicyAgent[Sight]):
    """The network of ``policy``; parts of it whose names begin as one of ``frozen`` do not learn.

    Where the whole backbone is frozen, and the head looks at one pass through it, :meth:`look` keeps the features that
    the head reads, so that learning costs the head alone; else it keeps pictures and tokens. ``execute`` is by default
    the policy's replan interval. ``TypeError`` for a head without a distribution: see :func:`with_distribution`;
    ``ValueError`` for a network with a pool of modulators, which choose for samples that are looked at in one pass.
    """

    def __init__(self, policy: VLAPolicy, *, frozen: Sequence[str] = ("backbone",), execute: int | None = None) -> None:
        _check_head(policy.vla.head)
        if policy.vla.pool is not None:
            raise ValueError("a policy with a pool of modulators learns by imitation alone (vla train), not by reward")
        super().__init__(policy, execute)
        for name, parameter in self.vla.named_parameters():
            if any(name == part or name.startswith(f"{part}.") for part in frozen):
                parameter.requires_grad_(False)
        learning = any(parameter.requires_grad for parameter in self.vla.backbone.parameters())
        self.keeps_features = isinstance(self.vla.head, FeaturesHead) and not learning
        self._layout: TokenLayout | None = None
        self._roles: list[TokenRole] | None = None

    @torch.no_grad()
    def look(self, observation: Mapping[str, Any]) -> Looked:
        taken = self.inputs.take(observation)
        head = self.vla.head
        if not self.keeps_features or not isinstance(head, FeaturesHead):
            return taken
        features = head.perceive(self.vla.backbone, self.inputs.observation(taken))
        summary, features = self._summary(features), features.of_roles(*head.reads)
        self._layout = replace(features.layout, position=None)  # which is that of these samples alone
        kept = {HIDDEN: features.hidden.transpose(0, 1), MASK: features.mask, STATE_KEY: features.state}
        kept[SUMMARY] = summary
        return kept if features.waypoint is None else {**kept, WAYPOINT: features.waypoint}

    def see(self, looked: Looked) -> Sight:
        if not self.keeps_features:
            seen = self.vla.head.perceive(self.vla.backbone, self.inputs.observation(looked))
            return Sight(seen, self._summary(seen if isinstance(seen, Features) else seen.features))
        assert self._layout is not None, "look first"
        features = Features(
            hidden=looked[HIDDEN].transpose(0, 1),
            mask=looked[MASK],
            layout=self._layout,
            state=looked[STATE_KEY],
            waypoint=looked.get(WAYPOINT),
        )
        return Sight(features, looked[SUMMARY])

    def distribution(self, seen: Sight) -> Distribution:
        return self.vla.head.distribution(seen.by_the_head)

    def summary(self, seen: Sight) -> Float[Tensor, "b d"]:
        """Means of the last layer over the tokens of each role, the state and the waypoint."""
        return seen.summary

    def loss(self, seen: Sight, target: ActionChunk) -> Float[Tensor, ""]:
        return self.vla.head.loss(seen.by_the_head, target)[0]

    def _summary(self, features: Features) -> Float[Tensor, "b d"]:
        if self._roles is None:
            self._roles = roles_of(features)
        return summed_up(features, self._roles)


def roles_of(features: Features) -> list[TokenRole]:
    """Those of which there are tokens."""
    return [role for role in TokenRole if bool((features.layout.role == role).any())]


def summed_up(features: Features, roles: Sequence[TokenRole]) -> Float[Tensor, "b d"]:
    """Means of the last layer over the tokens of each of ``roles``, the state and the waypoint."""
    known = [role_means(features, roles), features.state]
    known += [] if features.waypoint is None else [features.waypoint]
    return torch.cat([x.float() for x in known], dim=-1)


def role_means(features: Features, roles: Sequence[TokenRole]) -> Float[Tensor, "b d"]:
    """Of the last layer's tokens, the mean over those of each of ``roles``, side by side."""
    belongs = functional.one_hot(features.layout.role.long(), len(TokenRole))[:, list(roles)]
    weight = belongs.to(features.hidden.dtype) * features.mask[..., None]
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("bnr,bnd->brd", weight, features.hidden[-1]).flatten(1)


def with_distribution(policy: VLAPolicy, std: float) -> VLAPolicy:
    """``policy``, or where its head knows one chunk alone, the same with a Gaussian of ``std`` about that chunk.

    The head's network, as it has learned, says the mean; so the new policy acts as the old one did, to the last bit,
    until it learns. ``ValueError`` for a head that no Gaussian can take over.
    """
    if type(policy.vla.head).distribution is not Head.distribution:
        return policy
    return gaussian_about(policy, std=std)


def gaussian_about(policy: VLAPolicy, **fields: Any) -> VLAPolicy:
    """``policy`` with a Gaussian about the one chunk that its head knows; ``fields`` are of its
    :class:`~vla.heads.gaussian.GaussianConfig`. ``ValueError`` for a head that no Gaussian can take over.
    """
    vla = policy.vla
    config = replace(_about(vla.config.head), **fields)
    head = config.build(
        backbone=vla.backbone,
        state_dim=vla.config.state_dim,
        horizon=vla.config.horizon,
        action_dim=vla.config.action_dim,
    ).to(policy.device)
    head.mean.load_state_dict(vla.head.state_dict())
    vla.head, vla.config = head, replace(vla.config, head=config)
    return VLAPolicy(vla, policy.normalization, policy.embodiment, policy.replan_interval, base=policy.base)


def _about(head: Any) -> GaussianConfig:
    if isinstance(head, MLPConfig):
        return GaussianConfig(mean="mlp", width=head.width, layers=head.layers)
    if isinstance(head, BridgeConfig) and head == BridgeConfig(heads=head.heads):
        return GaussianConfig(mean="bridge", heads=head.heads)
    raise ValueError(
        "learning from reward needs a distribution over chunks; a Gaussian can be put about the chunk of an mlp head, "
        f"or of a bridge head with its usual conditions, layers and attention, got {head}"
    )


def _check_head(head: Head[Any]) -> None:
    if type(head).distribution is Head.distribution:
        raise TypeError(f"{type(head).__name__} has no distribution over chunks: see with_distribution")
