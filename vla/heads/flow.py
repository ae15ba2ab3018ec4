"""The flow-matching head of π0 (Black et al. 2024, arXiv 2410.24164) and SmolVLA (arXiv 2506.01844)."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vla.backbone import Backbone
from vla.features import Features
from vla.head import FeaturesHead
from vla.heads.chunks import check_target, held, over_numbers, over_valid
from vla.heads.expert import ActionExpert
from vla.heads.flow_field import Field, FlowPaths, between, flow
from vla.heads.real_time import flow_on
from vla.observation import ActionChunk, Begun

LATEST = 0.999
"""The latest time that is learned: π0's s."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Of :class:`FlowHead`.

    The expert has a ``width`` and attention ``heads`` of its own and the backbone's depth. ``steps`` are Euler's from
    noise to actions. Learning sees the time ``LATEST`` · (1 − z), z drawn from the beta distribution of ``alpha`` and
    ``beta``: with π0's 1.5 and 1, early times, where noise prevails, come more often. ``level`` is the noise on the way
    when chunks are sampled to learn from reward, see :class:`vla.heads.flow_field.FlowPaths`.
    """

    width: int = 96
    heads: int = 4
    steps: int = 10
    alpha: float = 1.5
    beta: float = 1.0
    level: float = 0.5

    def __post_init__(self) -> None:
        if self.steps < 1 or not min(self.alpha, self.beta, self.level) > 0:
            raise ValueError(
                f"expected at least one step and positive alpha, beta and level of the flow head, got {self}"
            )

    def build(self, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int) -> "FlowHead":
        """The head with fresh weights for the features of ``backbone``."""
        return FlowHead(self, backbone=backbone, state_dim=state_dim, horizon=horizon, action_dim=action_dim)


class FlowHead(FeaturesHead):
    """Learns the velocity of straight paths from noise to chunks by mean square, and follows it to act.

    It acts from ``start``, which is kept with its weights, so that the same observation gives the same chunk, and
    chunks of successive observations are of one kind where several would do. That is the middle of the noise, 0: from
    any other start all chunks of an episode err to the same side. :meth:`distribution` draws noise for each chunk.
    """

    start: Tensor
    goes_on: ClassVar[bool] = True

    def __init__(
        self, config: FlowConfig, *, backbone: Backbone, state_dim: int, horizon: int, action_dim: int
    ) -> None:
        super().__init__()
        self.config, self.horizon, self.action_dim = config, horizon, action_dim
        self.expert = ActionExpert(
            width=config.width,
            heads=config.heads,
            backbone=(backbone.width, backbone.depth),
            state_dim=state_dim,
            horizon=horizon,
            action_dim=action_dim,
        )
        self.register_buffer("start", torch.zeros(horizon, action_dim))

    def loss(self, seen: Features, target: ActionChunk) -> tuple[Float[Tensor, ""], dict[str, Tensor]]:
        """With times and noise from torch's random state. Actions that are not valid are as the last valid one."""
        b = len(seen.state)
        check_target(target, (b, self.horizon, self.action_dim))
        actions = held(target)
        z = torch.distributions.Beta(self.config.alpha, self.config.beta).sample((b,)).to(actions)
        x, velocity = between(actions, torch.randn_like(actions), LATEST * (1 - z))
        error = (self.field(seen)(x, LATEST * (1 - z)) - velocity).square()
        loss = over_valid(over_numbers(error, target), target.valid)
        return loss, {"velocity_error": loss.detach()}

    def act(self, seen: Features) -> Float[Tensor, "b h a"]:
        return flow(self.field(seen), self._start(seen), self.config.steps)

    def go_on(self, seen: Features, begun: Begun) -> Float[Tensor, "b h a"]:
        """Real-time chunking: see :func:`vla.heads.real_time.flow_on`. It works in torch's inference mode too."""
        with torch.inference_mode(False):  # it differentiates, which inference mode forbids
            own = replace(seen, hidden=seen.hidden.clone(), mask=seen.mask.clone(), state=seen.state.clone())
            begun = Begun(actions=begun.actions.clone(), fixed=begun.fixed.clone(), known=begun.known.clone())
            with torch.no_grad():
                field = self.field(own)
            return flow_on(field, self._start(own), self.config.steps, begun)

    def distribution(self, seen: Features) -> FlowPaths:
        return FlowPaths(self.field(seen), self._start(seen), self.config.steps, self.config.level)

    def field(self, seen: Features) -> Field:
        """Towards the chunks that fit what is seen, at which it looks once, now."""
        conditions = self.expert.conditions(seen)
        return lambda actions, time: self.expert(actions, time, conditions)

    def _start(self, seen: Features) -> Float[Tensor, "b h a"]:
        return self.start.expand(len(seen.state), -1, -1)
