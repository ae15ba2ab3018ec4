"""What is to be learned from a rollout: advantages, returns, and which decisions led to success."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from policies.training.group import Group, Part
from policies.training.seeding import Draw, generator
from rl.config import RLConfig
from rl.returns import Returns, discounts, gae, group_advantages, moments, normalized
from rl.rollout import Rollout


@dataclass(frozen=True, kw_only=True)
class Targets:
    """Of the t·n decisions of a rollout, flattened. ``chosen`` are those to learn from; ``places`` is where they lie
    among those of all worlds ``(t, w)``, of which ``everywhere`` are to be learned from.
    """

    advantages: Float[Tensor, " b"]
    returns: Float[Tensor, " b"]
    succeeded: Bool[Tensor, " b"]
    chosen: Bool[Tensor, " b"]
    everywhere: Bool[Tensor, "t w"]
    part: Part
    numbers: dict[str, float]

    def minibatches(self, config: RLConfig, step: int, epoch: int) -> Iterator[Int[Tensor, " k"]]:
        """This process's rows of each minibatch: what is chosen of all worlds, in an order drawn for the epoch."""
        indices = self.everywhere.flatten().nonzero()[:, 0]
        source = generator(config.seed, step * config.epochs + epoch, Draw.MINIBATCHES)
        drawn = torch.randperm(len(indices), generator=source)
        n = len(self.part)
        for batch in indices[drawn.to(indices.device)].tensor_split(min(config.minibatches, max(1, len(indices)))):
            t, world = batch // self.part.whole, batch % self.part.whole - self.part.first
            ours = (world >= 0) & (world < n)
            yield (t * n + world)[ours]


def targets_of(rollout: Rollout, config: RLConfig, group: Group) -> Targets:
    """What ``config`` has learned from it; advantages and numbers are of all processes."""
    part = group.part(config.num_envs)
    valid, succeeded = rollout.valid, rollout.succeeding()
    returns = _returns(rollout, config)
    chosen = valid if config.advantages != "none" else succeeded
    if config.advantages in ("grpo", "rloo"):
        chosen = valid & (returns.advantages != 0)
        advantages = returns.advantages
    else:
        whole = group.total(moments(returns.advantages, valid))
        advantages = normalized(returns.advantages, valid, whole)
    if config.imitate:
        chosen = chosen | succeeded
    return Targets(
        advantages=advantages.flatten(),
        returns=returns.returns.flatten(),
        succeeded=succeeded.flatten(),
        chosen=chosen.flatten(),
        everywhere=_everywhere(chosen, part, group),
        part=part,
        numbers=_numbers(rollout, returns, chosen, config, group),
    )


def _returns(rollout: Rollout, config: RLConfig) -> Returns:
    if config.advantages == "gae":
        return gae(
            rollout.rewards,
            rollout.values,
            rollout.next_values,
            rollout.terminated,
            rollout.ended,
            discounts(rollout.steps, config.discount),
            config.lam,
        )
    whole = _episode_returns(rollout, config)
    if config.advantages == "none":
        advantages = torch.zeros_like(whole)
    else:
        groups = whole.unflatten(0, (-1, config.group_size))
        rloo = config.advantages == "rloo"
        advantages = group_advantages(groups, std=not rloo, leave_one_out=rloo).flatten()
    spread = advantages.expand_as(rollout.rewards)
    return Returns(advantages=spread.masked_fill(~rollout.valid, 0.0), returns=whole.expand_as(rollout.rewards))


def _episode_returns(rollout: Rollout, config: RLConfig) -> Float[Tensor, " n"]:
    """The discounted return of each world's one episode."""
    before = rollout.steps.cumsum(dim=0) - rollout.steps
    return (rollout.rewards * discounts(before, config.discount)).sum(dim=0)


def _everywhere(chosen: Bool[Tensor, "t n"], part: Part, group: Group) -> Bool[Tensor, "t w"]:
    if group.size == 1:
        return chosen
    longest = group.largest(len(chosen))
    whole = torch.zeros(longest, part.whole, dtype=torch.uint8, device=chosen.device)
    whole[: len(chosen), part.rows] = chosen.byte()
    return group.total(whole) > 0


def _numbers(
    rollout: Rollout, returns: Returns, chosen: Bool[Tensor, "t n"], config: RLConfig, group: Group
) -> dict[str, float]:
    """What there is to report of a rollout."""
    valid = rollout.valid
    count, total, squares = group.total(moments(returns.returns, valid)).tolist()
    found = {
        "reward": float(group.total((rollout.rewards * valid).sum()) / max(count, 1.0)),
        "chosen": float(group.total(chosen.sum())),
    }
    if config.advantages == "gae":
        _, wrong, wrongs = group.total(moments(returns.returns - rollout.values, valid)).tolist()
        spread, left = squares - total**2 / max(count, 1.0), wrongs - wrong**2 / max(count, 1.0)
        found |= {"value": total / max(count, 1.0), "explained_variance": 1 - left / max(spread, 1e-8)}
    return found
