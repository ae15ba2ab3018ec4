"""One iteration of learning from reward: collect, say what was good, and improve the policy by it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from envs.specs import VectorEnv
from policies.evaluation import check_robot
from policies.imitation.evaluating import Best, Evaluator
from policies.training.checkpoint import POLICY
from policies.training.metrics import RunningMean
from policies.training.schedule import Pace, lay_out, span_at
from policies.training.seeding import Draw, derive_seed, seed_everything
from rl.agent import Agent
from rl.background import BackgroundCollector, Collected, Order
from rl.config import FREE_TO_CHANGE, RLConfig
from rl.critic import ActorCritic, Critic
from rl.curriculum import TaskCurriculum
from rl.episodes import Episodes, Finished, outcomes, tally
from rl.improvement import Improvement, Learning
from rl.levels import check_level
from rl.rewarded import RewardedLearner
from rl.rewards.alarm import DivergenceAlarm
from rl.rewards.reward import Reward
from rl.rollout import Collector, Judged, Rollout, Stopwatch
from rl.sharing import shards_of, worlds_of
from rl.targets import Targets, targets_of
from vla.strict_json import strict_json

SAME = 1e-5
"""By how much the mean ratio of probabilities may differ from 1 before anything was learned: rounding."""
DRAWN = "drawn/"
"""What the names of a curriculum's weights begin with, those that an iteration was collected with."""
REFERENCE, REWARDS = "reference/", "rewards/"
"""What the names of carried tensors begin with."""
FASTER, MOST = 1.5, 100.0
"""By what the policy's learning rate is adapted after an iteration, and how far from that of the settings at most."""
Weigh = Callable[[Sequence[float]], None]
"""Sets how often each task is drawn."""


class RLLearner(RewardedLearner):
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
        self.whole = ActorCritic(agent, self.critic)
        self.take_up(self.whole, lambda name: name.startswith("critic."))
        self._pace = 1.0
        self._set_rates()
        self.reference = agent.frozen_copy() if config.reference_kl else None
        self._acting = self.whole.frozen_copy() if config.staleness else self.whole
        self.collector = Collector(
            self._acting.actor, self._acting.critic, self.episodes, discount=config.discount, rewards=rewards
        )
        self.alarm = DivergenceAlarm() if rewards else None
        self._background: BackgroundCollector | None = None
        self._improvement = Improvement(config, agent, self.critic, self.reference)
        self._seconds: dict[str, float] = {}
        self._decided, self._iteration_s = 0, 0.0
        self.best: Best | None = None
        self._evaluator = evaluator

    def step(self, step: int) -> dict[str, float]:
        """One iteration (0-based)."""
        began, watch = time.perf_counter(), Stopwatch(self.device)
        collected = self._next_rollout(step, watch)
        rollout = collected.rollout
        with watch.timing("update"):
            targets = targets_of(rollout, self.config, self.group)
            numbers = self._improve(step, rollout, targets)
            sums = {name: self.group.total(value) for name, value in self.agent.absorb(rollout.looked).items()}
            self.agent.take_in(sums)
            self._adapt(numbers)
        self._decided = int(self.group.total(rollout.valid.sum()))
        numbers |= {**self._outcomes(collected.finished), **targets.numbers, "decisions": float(self._decided)}
        numbers |= self._watched(collected.judged)
        if self.config.staleness:
            numbers["staleness"] = float(step - rollout.version)
        self._seconds = {**collected.seconds, **watch.seconds}
        self._iteration_s = time.perf_counter() - began
        return numbers

    def timings(self) -> dict[str, float]:
        """Parts are shares of the iteration's time; what is collected meanwhile may take more than is left of it."""
        total = self._iteration_s or 1.0
        shares = {f"share_{name}": value / total for name, value in self._seconds.items()}
        return {"decisions_per_s": self._decided / total, "iteration_s": total, **shares}

    def note(self, means: Mapping[str, float]) -> str:
        success = means.get("success/all")
        found = "no episode ended" if success is None else f"success {success:.0%}"
        return f"{found} · {self.timings()['decisions_per_s']:.0f} decisions/s"

    def is_critic(self, name: str) -> bool:
        return self.whole.is_critic(name)

    def settings(self) -> dict[str, Any]:
        rl = {name: value for name, value in asdict(self.config).items() if name not in FREE_TO_CHANGE}
        worlds = {"tasks": list(self.tasks), "shards": shards_of(self.config, self.group)}
        return json.loads(strict_json({"rl": rl, "agent": self.agent.settings(), "worlds": worlds, **self._about}))

    def memory(self) -> dict[str, Any]:
        return {
            "curriculum": None if self.curriculum is None else self.curriculum.memory(),
            "pace": self._pace,
            "best": None if self.best is None else asdict(self.best),
            "alarm": None if self.alarm is None else self.alarm.state_dict(),
        }

    def recall(self, memory: Mapping[str, Any]) -> None:
        self._pace = memory["pace"]
        best = memory.get("best")
        self.best = None if best is None else Best(**best)
        self._set_rates()
        if self.alarm is not None and memory.get("alarm") is not None:
            self.alarm.load_state_dict(memory["alarm"])
        if self.curriculum is not None:
            self.curriculum = self.curriculum.recall(memory["curriculum"])

    def carried(self) -> dict[str, Tensor]:
        """The worlds and their episodes, what rewards remember of them, and the policy that the run started from."""
        if self._background is not None:
            self._background.rest()
        remembered = {f"{REWARDS}{name}": x for name, x in self.collector.memory().items()}
        carried = self.group.gathered({**self.episodes.tensors(), **remembered})
        if self.reference is None:
            return carried
        return carried | {f"{REFERENCE}{name}": value for name, value in self._remembered(self.reference).items()}

    @torch.no_grad()
    def take_back(self, tensors: Mapping[str, Tensor]) -> None:
        if self.reference is not None:
            for name, value in self._remembered(self.reference).items():
                if (kept := tensors.get(f"{REFERENCE}{name}")) is not None:  # runs of before kept no statistics
                    value.copy_(kept)
        rows = {name: x[self.part.rows] for name, x in tensors.items() if not name.startswith(REFERENCE)}
        self.episodes.restore(rows)
        self.collector.remember({n.removeprefix(REWARDS): x for n, x in rows.items() if n.startswith(REWARDS)})

    def close(self) -> None:
        """End what collects; the environment is its maker's to close."""
        if self._background is not None:
            self._background.close()

    def _next_rollout(self, step: int, watch: Stopwatch) -> Collected:
        """What this iteration learns from: collected now, or meanwhile."""
        config, weights = self.config, None if self.curriculum is None else self.curriculum.weights
        if not config.staleness:
            return self._collect(step, Order(step, {}, weights), watch)
        order = Order(step, self.whole.current(), weights)
        if self._background is None:
            name = f"the collector of rank {self.group.rank}"
            about: dict[str, Any] = {"first": step, "end": config.iterations, "device": self.device, "name": name}
            limits = {"staleness": config.staleness, "patience_s": config.patience_s}
            self._background = BackgroundCollector(self._collect, **about, **limits)
            self._background.order(order)
        with watch.timing("wait"):
            collected = self._background.take()
        self._background.order(order)
        return collected

    def _collect(self, step: int, order: Order, watch: Stopwatch) -> Collected:
        """Touches nothing of what learns, so that another thread may call it."""
        if order.task_weights is not None and self._weigh is not None:
            self._weigh(order.task_weights)
        if order.weights:
            self._acting.become(order.weights)
        count = shards_of(self.config, self.group)
        ours = self.group.part(count)
        generators = [
            torch.Generator(self.device).manual_seed(derive_seed(self.config.seed, step, Draw.ROLLOUT, shard))
            for shard in range(ours.first, ours.end)
        ]
        rollout = self.collector.collect(self._decisions(), generators, order.version, watch)
        return Collected(rollout, self.episodes.take_finished(), self.collector.take_judged(), watch.seconds)

    def _decisions(self) -> int:
        """Per world and iteration, at most."""
        if not self.config.whole_episodes:
            return self.config.decisions
        return -(-self.episodes.env.max_episode_steps // self.agent.execute)

    def _improve(self, step: int, rollout: Rollout, targets: Targets) -> dict[str, float]:
        """Go through the iteration's decisions, in minibatches, until the policy has moved far enough.

        That is when the mean over an epoch is sure to lie above ``target_kl``, which may be before its end, as no
        minibatch's is negative. One of them alone says little: a single decision that has become a hundred times as
        likely is most of it. Returns the means over the last of the epochs. ``RuntimeError`` where the policy that
        learns is not the one that acted.
        """
        config = self.config
        warming = self.critic is not None and step < config.critic.warmup
        learning = self._improvement.of(rollout, targets, warming)
        means, updates, first = RunningMean(), 0, 0.0
        if not bool(targets.everywhere.any()):
            return {"loss": 0.0, "updates": 0.0}
        for epoch in range(config.epochs):
            means.take()
            moved, minibatches = 0.0, list(targets.minibatches(config, step, epoch))
            for rows in minibatches:
                numbers = self._update(step, learning, rows)
                means.add(numbers)
                updates += 1
                if updates == 1 and (first := numbers.get("deviation", 0.0)) > SAME:
                    raise RuntimeError(
                        "before anything was learned, the policy that learns gives other probabilities than the one "
                        f"that acted: their ratios differ from 1 by {first:.2g} on average"
                    )
                moved += numbers.get("approx_kl", 0.0) / len(minibatches)
                if config.target_kl is not None and moved > config.target_kl:
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

    def _outcomes(self, finished: Sequence[Finished]) -> dict[str, float]:
        """Of the episodes that ended in this iteration, in all processes, and how often tasks were drawn meanwhile; the
        curriculum is told.
        """
        sums = self.group.total(tally(finished, self.tasks))
        found = outcomes(sums, self.tasks)
        if self.curriculum is not None:
            found |= {f"{DRAWN}{task}": w for task, w in zip(self.tasks, self.curriculum.weights, strict=True)}
            self.curriculum = self.curriculum.after(sums[:, :2].long())
        return found

    def _watched(self, judged: Sequence[Judged]) -> dict[str, float]:
        """Whether learned rewards still go with success, by the episodes of all processes; the leading one knows."""
        if self.alarm is None:
            return {}
        columns = [torch.cat([torch.zeros(0), *column]) for column in zip(*judged, strict=True)] or [torch.zeros(0)] * 2
        whole = self.group.gathered(dict(zip(Judged._fields, columns, strict=True)))
        return self.alarm.watch(**whole)

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

    def _remembered(self, reference: Agent[Any]) -> dict[str, Tensor]:
        """What of the first policy may be other than in the policy that has learned since: weights that learn, and
        running statistics.
        """
        weights = dict(reference.named_parameters())
        learned = (name.removeprefix("actor.") for name in self.parameters if name.startswith("actor."))
        return {name: weights[name] for name in learned} | dict(reference.named_buffers())

    def _check(self, env: VectorEnv, agent: Agent[Any]) -> None:
        check_robot(agent.embodiment, env)
        if env.stream != "learn":
            raise ValueError(f"expected worlds of the stream 'learn', got {env.stream!r}")
        if env.num_envs != len(self.part):
            raise ValueError(f"expected {len(self.part)} worlds in this process, got {env.num_envs}")
        if not any(parameter.requires_grad for parameter in agent.parameters()):
            raise ValueError(f"everything of the policy is frozen, so nothing can learn: {list(self.config.frozen)}")
