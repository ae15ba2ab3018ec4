"""One iteration of learning from reward: collect, say what was good, and improve the policy by it."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from envs.specs import VectorEnv
from policies.evaluation import check_robot
from policies.imitation.evaluating import SUCCESS, Best, Evaluator, report_of
from policies.training.checkpoint import POLICY
from policies.training.group import Group, Part
from policies.training.learner import Learner
from policies.training.metrics import RunningMean
from policies.training.schedule import Pace, lay_out, span_at
from policies.training.seeding import Draw, derive_seed, random_state_kept, seed_everything
from rl.agent import Agent
from rl.config import FREE_TO_CHANGE, RLConfig
from rl.critic import ActorCritic, Critic
from rl.curriculum import TaskCurriculum
from rl.episodes import Episodes, tally
from rl.improvement import Improvement, Learning
from rl.levels import check_level
from rl.rewards.reward import Reward
from rl.rollout import Collector, Rollout, Stopwatch
from rl.targets import Targets, targets_of
from vla.strict_json import strict_json

SAME = 1e-5
"""By how much the mean ratio of probabilities may differ from 1 before anything was learned: rounding."""
EVALUATED = "evaluated/"
"""What the names of success rates in an evaluation begin with; those of its own episodes begin with ``success/``."""
REFERENCE, REWARDS = "reference/", "rewards/"
"""What the names of carried tensors begin with."""
FASTER, MOST = 1.5, 100.0
"""By what the policy's learning rate is adapted after an iteration, and how far from that of the settings at most."""
Weigh = Callable[[Sequence[float]], None]
"""Sets how often each task is drawn."""


def worlds_of(config: RLConfig, group: Group) -> Part:
    """Those of this process among all of a run's; ``ValueError`` where they cannot be shared out."""
    shards = shards_of(config, group)
    for what, count in (("shards", shards), ("processes", group.size)):
        if config.num_envs % (count * config.alike):
            alike = f" in groups of {config.alike}" if config.alike > 1 else ""
            raise ValueError(f"num_envs {config.num_envs}{alike} cannot be shared out to {count} {what}")
    if shards % group.size:
        raise ValueError(f"{shards} shards cannot be shared out to {group.size} processes")
    return group.part(config.num_envs)


def shards_of(config: RLConfig, group: Group) -> int:
    """How many shards there are in all processes."""
    return config.shards or group.size


class RLLearner(Learner[RLConfig]):
    """Improves ``agent`` in ``env``, this process's worlds of the stream ``learn`` (:func:`worlds_of`).

    ``tasks`` are all that its worlds may be at; ``weigh`` sets how often each is drawn, for a curriculum. ``rewards``
    are paid beside the environment's own. ``about`` is what else decides the numbers of a run, JSON-ready.
    ``evaluator`` tries out what was learned so far; ``best`` is the best that came of it.
    ``ValueError`` where agent, environment and settings do not fit together.
    """

    product = POLICY

    def __init__(
        self,
        config: RLConfig,
        agent: Agent[Any],
        env: VectorEnv,
        *,
        tasks: Sequence[str] = (),
        legs: Sequence[int] = (),
        rewards: Sequence[Reward] = (),
        weigh: Weigh | None = None,
        about: Mapping[str, Any] | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        super().__init__(config, legs)
        self.part = worlds_of(config, self.group)
        self._check(env, agent)
        self.tasks = tuple(tasks) or (env.task_name,)
        self._weigh, self._about = weigh, dict(about or {})
        self.spans = lay_out((Pace(warmup_steps=config.warmup_iterations),), self.legs)
        self.agent = agent.eval()
        self.episodes = Episodes(
            env, self.part, seed=config.seed, alike=config.alike, continuous=not config.whole_episodes
        )
        self.curriculum: TaskCurriculum | None = None
        if config.weigh_tasks:
            if weigh is None:
                raise ValueError("to weigh tasks, there must be several, which can be drawn more or less often")
            self.curriculum = config.curriculum.build(self.tasks)
        self.critic = self._first_critic()
        self.take_up(ActorCritic(agent, self.critic), lambda name: name.startswith("critic."))
        self._pace = 1.0
        self._set_rates()
        self.reference = agent.frozen_copy() if config.reference_kl else None
        self.collector = Collector(agent, self.critic, self.episodes, discount=config.discount, rewards=rewards)
        self._improvement = Improvement(config, agent, self.critic, self.reference)
        self._watch = Stopwatch(self.device)
        self._decided = 0
        self.best: Best | None = None
        self._evaluator = evaluator

    def step(self, step: int) -> dict[str, float]:
        """One iteration (0-based)."""
        self._watch = watch = Stopwatch(self.device)
        rollout = self._collect(step)
        with watch.timing("update"):
            targets = targets_of(rollout, self.config, self.group)
            numbers = self._improve(step, rollout, targets)
            sums = {name: self.group.total(value) for name, value in self.agent.absorb(rollout.looked).items()}
            self.agent.take_in(sums)
            self._adapt(numbers)
        self._decided = int(self.group.total(rollout.valid.sum()))
        return {**numbers, **self._outcomes(), **targets.numbers, "decisions": float(self._decided)}

    def examine(self, done: int) -> dict[str, float]:
        """How often the policy succeeds where it does not learn, ``evaluated/TASK``, with each interval's bounds."""
        evaluator = self._evaluator
        if evaluator is None or (done % evaluator.every and done != self.legs[-1]):
            return {}
        with random_state_kept(self.device), self.average.applied():
            outcomes = evaluator.outcomes(self.agent.acting())
        self.best = Best.of(done, outcomes, evaluator.about).unless(self.best)
        return {f"{EVALUATED}{name.removeprefix(SUCCESS)}": rate for name, rate in report_of(outcomes).items()}

    @property
    def best_step(self) -> int | None:
        return None if self.best is None else self.best.step

    def timings(self) -> dict[str, float]:
        seconds = self._watch.seconds
        total = sum(seconds.values()) or 1.0
        shares = {f"share_{name}": value / total for name, value in seconds.items()}
        return {"decisions_per_s": self._decided / total, "iteration_s": total, **shares}

    def note(self, means: Mapping[str, float]) -> str:
        success = means.get("success/all")
        found = "no episode ended" if success is None else f"success {success:.0%}"
        return f"{found} · {self.timings()['decisions_per_s']:.0f} decisions/s"

    def clip(self) -> Tensor:
        """The critic's gradient and the policy's apart: neither slows the other down."""
        model = self.model
        assert isinstance(model, ActorCritic)
        norms = []
        for critic in (False, True):
            chosen = [p for name, p in self.parameters.items() if model.is_critic(name) == critic]
            if chosen:
                norms.append(torch.nn.utils.clip_grad_norm_(chosen, self.config.grad_clip))
        return norms[0]

    def save(self, directory: Path) -> None:
        with self.average.applied():
            self.agent.save(directory)

    def settings(self) -> dict[str, Any]:
        rl = {name: value for name, value in asdict(self.config).items() if name not in FREE_TO_CHANGE}
        worlds = {"tasks": list(self.tasks), "shards": shards_of(self.config, self.group)}
        return json.loads(strict_json({"rl": rl, "agent": self.agent.settings(), "worlds": worlds, **self._about}))

    def memory(self) -> dict[str, Any]:
        return {
            "curriculum": None if self.curriculum is None else self.curriculum.memory(),
            "pace": self._pace,
            "best": None if self.best is None else asdict(self.best),
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._pace = memory["pace"]
        best = memory.get("best")
        self.best = None if best is None else Best(**best)
        self._set_rates()
        if self.curriculum is not None:
            self.curriculum = self.curriculum.recall(memory["curriculum"])

    def carried(self) -> dict[str, Tensor]:
        """The worlds and their episodes, what rewards remember of them, and the policy that the run started from."""
        remembered = {f"{REWARDS}{name}": x for name, x in self.collector.memory().items()}
        carried = self.group.gathered({**self.episodes.tensors(), **remembered})
        if self.reference is None:
            return carried
        weights = dict(self.reference.named_parameters())
        return carried | {f"{REFERENCE}{name}": weights[name] for name in self._learned_by_the_agent()}

    @torch.no_grad()
    def take_back(self, tensors: Mapping[str, Tensor]) -> None:
        if self.reference is not None:
            weights = dict(self.reference.named_parameters())
            for name in self._learned_by_the_agent():
                weights[name].copy_(tensors[f"{REFERENCE}{name}"])
        rows = {name: x[self.part.rows] for name, x in tensors.items() if not name.startswith(REFERENCE)}
        self.episodes.restore(rows)
        self.collector.remember({n.removeprefix(REWARDS): x for n, x in rows.items() if n.startswith(REWARDS)})

    def _collect(self, step: int) -> Rollout:
        if self.curriculum is not None and self._weigh is not None:
            self._weigh(self.curriculum.weights)
        count = shards_of(self.config, self.group)
        ours = self.group.part(count)
        generators = [
            torch.Generator(self.device).manual_seed(derive_seed(self.config.seed, step, Draw.ROLLOUT, shard))
            for shard in range(ours.first, ours.end)
        ]
        return self.collector.collect(self._decisions(), generators, step, self._watch)

    def _decisions(self) -> int:
        """Per world and iteration, at most."""
        if not self.config.whole_episodes:
            return self.config.decisions
        return -(-self.episodes.env.max_episode_steps // self.agent.execute)

    def _improve(self, step: int, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """Go through the iteration's decisions, in minibatches, until the policy has moved far enough.

        Returns the means over the last of the epochs. ``RuntimeError`` where the policy that learns is not the one that
        acted.
        """
        config = self.config
        warming = self.critic is not None and step < config.critic.warmup
        learning = self._improvement.of(rollout, targets, warming)
        means, updates, first = RunningMean(), 0, 0.0
        if not bool(targets.everywhere.any()):
            return {"loss": 0.0, "updates": 0.0}
        for epoch in range(config.epochs):
            means.take()
            for rows in targets.minibatches(config, step, epoch):
                numbers = self._update(step, learning, rows)
                means.add(numbers)
                updates += 1
                if updates == 1 and (first := numbers.get("deviation", 0.0)) > SAME:
                    raise RuntimeError(
                        "before anything was learned, the policy that learns gives other probabilities than the one "
                        f"that acted: their ratios differ from 1 by {first:.2g} on average"
                    )
                if config.target_kl is not None and numbers.get("approx_kl", 0.0) > config.target_kl:
                    return {**means.take(), "first_deviation": first, "updates": float(updates), "stopped": 1.0}
        return {**means.take(), "first_deviation": first, "updates": float(updates), "stopped": 0.0}

    def _adapt(self, numbers: dict[str, float]) -> None:
        """Let the policy's rate follow how far it has moved, as Rudin et al. 2021 do (arXiv 2109.11978)."""
        config = self.config
        if not config.adapt_lr or config.target_kl is None or "approx_kl" not in numbers:
            return
        if numbers["stopped"]:
            self._pace = max(self._pace / FASTER, 1 / MOST)
        elif numbers["approx_kl"] < config.target_kl / 4:
            self._pace = min(self._pace * FASTER, MOST)
        numbers["pace"] = self._pace
        self._set_rates()

    def _set_rates(self) -> None:
        for group in self.optimizer.param_groups:
            critics = group["name"].startswith("critic.")
            group["rate"] = self.config.critic.lr / self.config.lr if critics else self._pace

    def _update(self, step: int, learning: Learning, rows: Int[Tensor, " k"]) -> dict[str, float]:
        """One step along the gradient of a minibatch, of which this process has ``rows``."""
        self.optimizer.zero_grad(set_to_none=True)
        terms, weights = learning.terms(rows)
        terms = self.over_all(terms)
        nothing = torch.zeros((), device=self.device)
        loss = sum((weight * terms[name].mean for name, weight in weights.items()), start=nothing)
        if loss.requires_grad:
            loss.backward()
        found = {name: term.mean.detach() for name, term in terms.items()}
        return self.descend(step, span_at(self.spans, step), {"loss": loss.detach(), **found})

    def _outcomes(self) -> dict[str, float]:
        """Of the episodes that ended in this iteration, in all processes; the curriculum is told."""
        sums = self.group.total(tally(self.episodes.take_finished(), self.tasks))
        if self.curriculum is not None:
            self.curriculum = self.curriculum.after(sums[:, :2].long())
        found: dict[str, float] = {"episodes": float(sums[:, 0].sum())}
        for name, row in [("all", sums.sum(dim=0)), *zip(self.tasks, sums, strict=True)]:
            if row[0] and (name == "all" or len(self.tasks) > 1):
                found[f"success/{name}"] = float(row[1] / row[0])
        if found["episodes"]:
            found |= {
                "return": float(sums[:, 2].sum() / sums[:, 0].sum()),
                "episode_steps": float(sums[:, 3].sum() / sums[:, 0].sum()),
            }
        return found

    def _first_critic(self) -> Critic | None:
        """Also sees that the level of the loss fits the distribution, by a look at the worlds' first pictures."""
        observation = self.episodes.start()
        with torch.no_grad():
            seen = self.agent.see(self.agent.look(observation))
            check_level(self.config.level, self.agent.distribution(seen).action_axis)
            width = self.agent.summary(seen).shape[1]
        if self.config.advantages != "gae":
            return None
        seed_everything(self.config.seed, 0, Draw.INITIAL_WEIGHTS)
        return Critic(self.config.critic, width).to(self.device)

    def _learned_by_the_agent(self) -> list[str]:
        return [name.removeprefix("actor.") for name in self.parameters if name.startswith("actor.")]

    def _check(self, env: VectorEnv, agent: Agent[Any]) -> None:
        check_robot(agent.embodiment, env)
        if env.stream != "learn":
            raise ValueError(f"expected worlds of the stream 'learn', got {env.stream!r}")
        if env.num_envs != len(self.part):
            raise ValueError(f"expected {len(self.part)} worlds in this process, got {env.num_envs}")
        if not any(parameter.requires_grad for parameter in agent.parameters()):
            raise ValueError(f"everything of the policy is frozen, so nothing can learn: {list(self.config.frozen)}")
