"""The losses of an iteration, minibatch by minibatch."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.agent import Agent
from rl.config import RLConfig
from rl.critic import Critic
from rl.levels import Evaluated, at_level, evaluate
from rl.losses import decoupled_policy_loss, kl_k3, mean_over, ppo_policy_loss, value_loss
from rl.rollout import Decisions, Rollout
from rl.targets import Targets
from vla.distribution import Distribution
from vla.objectives import Term
from vla.observation import ActionChunk


class Improvement:
    """What ``agent`` and ``critic`` are to minimise."""

    def __init__(
        self, config: RLConfig, agent: Agent[Any], critic: Critic | None, reference: Agent[Any] | None
    ) -> None:
        self.config, self.agent, self.critic, self.reference = config, agent, critic, reference

    def of(self, rollout: Rollout, targets: Targets, warming: bool) -> "Learning":
        """Of one rollout; while the critic is ``warming`` up, it learns alone."""
        return Learning(self, rollout, targets, warming)


class Learning:
    """The losses on one rollout."""

    def __init__(self, about: Improvement, rollout: Rollout, targets: Targets, warming: bool) -> None:
        self._about, self._rollout, self._targets, self._warming = about, rollout, targets, warming
        decoupled = about.config.staleness and about.config.advantages != "none" and not warming
        self._proximal = self._log_probs_now() if decoupled else None

    def terms(self, rows: Int[Tensor, " k"]) -> tuple[dict[str, Term], dict[str, float]]:
        """Of the decisions ``rows`` (any number, none too): losses and what else there is to report, and the weights of
        the losses among them.
        """
        config, agent, critic = self._about.config, self._about.agent, self._about.critic
        counts = torch.ones(max(1, len(rows)), dtype=torch.bool, device=rows.device)
        if not len(rows):  # one that does not count: every process speaks of the same terms
            rows, counts = torch.zeros_like(counts, dtype=torch.long), ~counts
        batch = self._rollout.rows(rows)
        seen = agent.see(batch.looked)
        terms: dict[str, Term] = {}
        weights: dict[str, float] = {}
        if critic is not None:
            terms |= self._value(critic(agent.summary(seen)), rows, counts)
            weights["value_loss"] = config.critic.weight
        if self._warming:
            return terms, weights
        if config.advantages != "none":
            terms |= self._policy(agent.distribution(seen), batch, rows, counts)
            weights |= {"policy_loss": 1.0, "entropy": -config.entropy}
            if self._about.reference is not None:
                weights["reference_kl"] = config.reference_kl
        if config.imitate:
            terms["imitation"] = self._imitation(seen, batch, rows, counts)
            weights["imitation"] = config.imitate
        return terms, weights

    def _policy(
        self, distribution: Distribution, batch: Decisions, rows: Int[Tensor, " k"], counts: Bool[Tensor, " k"]
    ) -> dict[str, Term]:
        config, steps = self._about.config, batch.steps * counts
        now = evaluate(distribution, batch.latent, config.level, steps, self._about.agent.moving)
        parts = self._rollout.log_prob.flatten(0, 1)[rows]
        old, _ = at_level(parts, config.level, steps, distribution.action_axis, self._about.agent.moving)
        advantages = self._targets.advantages[rows]
        limits: dict[str, Any] = {
            "clip_low": config.clip_low,
            "clip_high": config.clip_high,
            "dual_clip": config.dual_clip,
            "log_ratio_limit": config.log_ratio_limit,
            "over": config.over,
        }
        if self._proximal is None:
            found = ppo_policy_loss(now.log_prob, old, advantages, now.mask, **limits)
        else:
            near, limits["weight_limit"] = self._proximal[rows], config.weight_limit
            found = decoupled_policy_loss(now.log_prob, near, old, advantages, now.mask, **limits)
        terms = {"policy_loss": found.loss, **found.numbers, "entropy": mean_over(now.entropy, now.mask)}
        if self._about.reference is not None:
            terms["reference_kl"] = kl_k3(now.log_prob, self._reference(batch, steps), now.mask, over=config.over)
        log_std = getattr(distribution, "log_std", None)
        if log_std is not None:
            std = log_std.detach().exp().flatten(1)
            terms["std"] = Term.over(std, counts[:, None].expand_as(std))
        return terms

    @torch.no_grad()
    def _log_probs_now(self) -> Float[Tensor, "b p"]:
        """Of all that was done, under the policy as it is before it learns from it; in pieces, to save memory."""
        config, agent = self._about.config, self._about.agent
        found = []
        device = self._rollout.steps.device
        for rows in torch.arange(self._rollout.steps.numel(), device=device).chunk(config.minibatches):
            batch = self._rollout.rows(rows)
            distribution = agent.distribution(agent.see(batch.looked))
            found.append(evaluate(distribution, batch.latent, config.level, batch.steps, agent.moving).log_prob)
        return torch.cat(found)

    @torch.no_grad()
    def _reference(self, batch: Decisions, steps: Int[Tensor, " k"]) -> Float[Tensor, "k p"]:
        reference = self._about.reference
        assert reference is not None
        distribution = reference.distribution(reference.see(batch.looked))
        found: Evaluated = evaluate(
            distribution, batch.latent, self._about.config.level, steps, self._about.agent.moving
        )
        return found.log_prob

    def _value(
        self, values: Float[Tensor, " k"], rows: Int[Tensor, " k"], counts: Bool[Tensor, " k"]
    ) -> Mapping[str, Term]:
        config = self._about.config.critic
        old = self._rollout.values.flatten()[rows]
        found = value_loss(values, old, self._targets.returns[rows], counts, clip=config.clip, huber=config.huber)
        return {"value_loss": found.loss, "value_clip_fraction": found.clip_fraction}

    def _imitation(self, seen: Any, batch: Decisions, rows: Int[Tensor, " k"], counts: Bool[Tensor, " k"]) -> Term:
        """The head's own loss on chunks that were executed on the way to success."""
        steps = batch.steps * (counts & self._targets.succeeded[rows])
        valid = torch.arange(batch.actions.shape[1], device=steps.device) < steps[:, None]
        loss = self._about.agent.loss(seen, ActionChunk(actions=batch.actions, valid=valid))
        return Term(loss * valid.sum(), valid.sum())
