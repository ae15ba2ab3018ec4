"""Cal-QL on demonstrations, then on them and on what happens in worlds that nobody resets."""

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from envs.specs import TURNS, TurningEnv
from policies.evaluation import check_robot
from policies.imitation.evaluating import Best, Evaluator
from policies.training.checkpoint import POLICY
from policies.training.metrics import RunningMean
from policies.training.schedule import Pace, lay_out, span_at
from policies.training.seeding import Draw, derive_seed, seed_everything
from rl.agent import Looked
from rl.config import FREE_TO_CHANGE, RLConfig
from rl.conservative import actor_loss, bellman_target, cal_ql_loss
from rl.rewarded import RewardedLearner
from rl.rewards.alarm import DivergenceAlarm
from rl.robofume.agent import ReadOff, RefinedAgent
from rl.robofume.attempts import COUNTED, Attempts, Over, Word
from rl.robofume.config import RoboFuMEConfig
from rl.robofume.critics import Critics
from rl.robofume.replay import Demonstrated, Lived, Moves
from rl.rollout import Stopwatch
from vla.heads.gaussian import GaussianChunks
from vla.observation import ActionChunk
from vla.strict_json import strict_json

WORLDS, LIVED, TARGET = "worlds/", "lived/", "target/"
"""What the names of carried tensors begin with."""


class RefinedWithCritics(nn.Module):
    """What a run improves."""

    def __init__(self, actor: RefinedAgent, critics: Critics) -> None:
        super().__init__()
        self.actor, self.critics = actor, critics


class RoboFuMELearner(RewardedLearner):
    """Refines ``agent`` by ``demonstrations``, and in ``env``, worlds of the stream ``learn`` that go both ``ways``, by
    a ``word`` (RoboFuME, arXiv 2310.15145, with Cal-QL, arXiv 2303.05479).

    Of the iterations of ``config`` the first ones learn from demonstrations alone, as ``robofume`` has it. ``about`` is
    what else decides the numbers of a run, JSON-ready. ``evaluator`` tries out what was learned so far; ``best`` is the
    best that came of it. ``ValueError`` where agent, environment and settings do not fit together.
    """

    product = POLICY

    agent: RefinedAgent

    def __init__(
        self,
        config: RLConfig,
        robofume: RoboFuMEConfig,
        agent: RefinedAgent,
        env: TurningEnv,
        demonstrations: Demonstrated,
        word: Word,
        *,
        ways: Sequence[str],
        legs: Sequence[int] = (),
        about: Mapping[str, Any] | None = None,
        evaluator: Evaluator | None = None,
    ) -> None:
        super().__init__(config, legs)
        _check(config, robofume, env, agent)
        self.robofume, self.agent, self.tasks = robofume, agent.eval(), tuple(ways)
        self._about, self._evaluator = dict(about or {}), evaluator
        self.spans = lay_out((Pace(warmup_steps=config.warmup_iterations),), self.legs)
        self.demonstrations = demonstrations
        part = self.group.part(config.num_envs)
        self.attempts = Attempts(
            agent, env, part, word, robofume, ways=self.tasks, discount=config.discount, seed=config.seed
        )
        self.attempts.begin()
        self.lived = Lived(config.discount, math.ceil(self.attempts.limit / agent.execute) + 1)
        with torch.no_grad():
            summary = agent.summary(agent.see({name: x[:1] for name, x in demonstrations.looked.items()}))
        seed_everything(config.seed, 0, Draw.INITIAL_WEIGHTS)
        actions = agent.execute * agent.embodiment.action_dim
        self.critics = Critics(robofume.calql, summary.shape[1], actions).to(self.device)
        self.target = self.critics.target()
        self.take_up(RefinedWithCritics(agent, self.critics), self.is_critic)
        for group in self.optimizer.param_groups:
            group["rate"] = robofume.calql.lr / config.lr if self.is_critic(group["name"]) else 1.0
        self.counts = torch.zeros(len(self.tasks), len(COUNTED), dtype=torch.float64)
        self.alarm = DivergenceAlarm()
        self.best: Best | None = None
        self._seconds: dict[str, float] = {}
        self._iteration_s = 0.0

    def step(self, step: int) -> dict[str, float]:
        """One iteration (0-based)."""
        began, watch = time.perf_counter(), Stopwatch(self.device)
        numbers = self._live(step, watch) if step >= self.robofume.offline else {}
        with watch.timing("update"):
            means = RunningMean()
            for update in range(self.robofume.updates):
                means.add(self._update(step, update))
        self._seconds, self._iteration_s = watch.seconds, time.perf_counter() - began
        return {**means.take(), **numbers}

    def _live(self, step: int, watch: Stopwatch) -> dict[str, float]:
        """Act on in the worlds, and remember what happened."""
        seed = derive_seed(self.config.seed, step, Draw.ROLLOUT)
        generator = torch.Generator(self.device).manual_seed(seed)
        found = self.attempts.collect(self.config.decisions, generator, watch)
        self.lived.append(found.columns, found.ahead, found.final, self._value)
        self.counts = self.counts + found.counts
        said, true = (torch.cat(column) for column in zip(*found.over, strict=True))
        return {**self._outcomes(found.counts), **self.alarm.watch(*Over(said, true))}

    def _outcomes(self, counts: Float[Tensor, "w c"]) -> dict[str, float]:
        """Of the attempts that were over in an iteration, and since the run began what the word was worth."""
        found = {"attempts": float(counts[:, 0].sum()), "put_back": float(counts[:, 5].sum())}
        for way, row in zip(("all", *self.tasks), torch.cat([counts.sum(0)[None], counts]), strict=True):
            if row[0]:
                found |= {f"success/{way}": float(row[2] / row[0]), f"said/{way}": float(row[1] / row[0])}
        return found | worth(self.counts.sum(dim=0).tolist())

    @torch.no_grad()
    def _value(self, looked: Looked) -> Float[Tensor, " b"]:
        """What may be expected of what the policy would do there."""
        seen = self.agent.see(looked)
        actions = self._executed(self.agent.distribution(seen).mean)
        return self.target(self.agent.summary(seen), actions[:, None]).amin(dim=0)[:, 0]

    def _executed(self, actions: Float[Tensor, "... h a"]) -> Float[Tensor, "... e"]:
        """The part of chunks that a decision executes, within what the robot can do, in a row."""
        low, high = self.agent.bounds
        return actions[..., : self.agent.execute, :].clamp(low, high).flatten(-2)

    def _batch(self, source: torch.Generator) -> tuple[Moves, ReadOff, ActionChunk]:
        """Decisions to learn from, and demonstrations to imitate."""
        size, known, lived = self.robofume.batch_size, len(self.demonstrations), len(self.lived)
        ours = size if not lived else round(size * self.robofume.demonstrated)
        rows = torch.randint(known, (max(ours, 1),), generator=source).to(self.device)
        moves = self.demonstrations.moves(rows)
        seen, lessons = self.agent.see(moves.seen), self.demonstrations.lessons(rows)
        if lived and ours < size:
            more = self.lived.moves(torch.randint(lived, (size - ours,), generator=source).to(self.device))
            moves = Moves.together(moves, more) if ours else more
        return moves, seen, lessons

    def _update(self, step: int, update: int) -> dict[str, float]:
        """One step of critics and policy."""
        config, number = self.robofume.calql, step * self.robofume.updates + update
        source = torch.Generator().manual_seed(derive_seed(self.config.seed, number, Draw.MINIBATCHES))
        moves, shown, lessons = self._batch(source)
        self.optimizer.zero_grad(set_to_none=True)
        seen = self.agent.see(moves.seen)
        summary = self.agent.summary(seen)
        found = self._criticise(moves, seen, summary, source)
        distribution = self.agent.distribution(seen)
        noise = torch.randn(distribution.mean.shape, generator=source).to(self.device)
        actions = self._executed(distribution.mean + distribution.log_std.exp() * noise)
        with self.critics.unchanged():
            values = self.critics(summary, actions[:, None])[..., 0].mean(dim=0)
            imitation = self.agent.loss(shown, lessons)
            loss = actor_loss(values, imitation, config.imitate)
            loss.backward()
        found |= {
            "actor_loss": loss.detach(),
            "imitation": imitation.detach(),
            "loss": loss.detach() + found["critic_loss"],
        }
        numbers = self.descend(step, span_at(self.spans, step), found)
        self.target.follow(self.critics, config.tau)
        return numbers

    def _criticise(
        self, moves: Moves, seen: ReadOff, summary: Float[Tensor, "b d"], source: torch.Generator
    ) -> dict[str, Tensor]:
        """Leaves the gradient of the critics' loss; returns what there is to report of it."""
        config = self.robofume.calql
        with torch.no_grad():
            here, there = self.agent.distribution(seen), self.agent.distribution(then := self.agent.see(moves.then))
            following, _ = self._drawn(there, 1, source)
            expected = self.target(self.agent.summary(then), following).amin(dim=0)[:, 0]
            targets = bellman_target(moves.rewards, moves.discount, moves.terminated, expected)
            (now, density_now), (later, density_later) = (self._drawn(x, config.actions, source) for x in (here, there))
            moving = self.agent.moving
            shape = (len(now), config.actions, self.agent.execute, len(moving))
            even = self._executed(2 * torch.rand(shape, generator=source).to(self.device) - 1)
            numbers = int(moving.sum()) * self.agent.execute
            evenly = torch.full(even.shape[:2], -numbers * math.log(2), device=self.device)
        asked = torch.cat([moves.actions.flatten(1)[:, None], even, now, later], dim=1)
        taken, drawn, chosen = self.critics(summary, asked).split([1, config.actions, 2 * config.actions], dim=-1)
        loss = cal_ql_loss(
            taken[..., 0],
            targets,
            drawn,
            chosen,
            moves.returns if config.calibrate else torch.full_like(moves.returns, -math.inf),
            weight=config.conservative,
            log_density=torch.cat([evenly, density_now, density_later], dim=1) if config.weighted else None,
        )
        loss.loss.backward()
        known = {"bellman": loss.bellman, "gap": loss.gap, "floored": loss.floored}
        return {
            "critic_loss": loss.loss.detach(),
            "value": taken.mean().detach(),
            "return": moves.returns.mean(),
            **known,
        }

    def _drawn(
        self, distribution: GaussianChunks, count: int, source: torch.Generator
    ) -> tuple[Float[Tensor, "b m e"], Float[Tensor, "b m"]]:
        """So many chunks of each row, as they are executed, and the logarithm of the density of what moves of that."""
        mean, std = distribution.mean[:, None], distribution.log_std.exp()[:, None]
        noise = torch.randn(len(mean), count, *mean.shape[2:], generator=source).to(self.device)
        density = (-0.5 * noise.square() - std.log() - 0.5 * math.log(2 * math.pi)) * self.agent.moving
        density = density[:, :, : self.agent.execute]
        return self._executed(mean + std * noise), density.flatten(2).sum(dim=-1)

    def timings(self) -> dict[str, float]:
        total = self._iteration_s or 1.0
        return {"iteration_s": total, **{f"share_{name}": value / total for name, value in self._seconds.items()}}

    def note(self, means: Mapping[str, float]) -> str:
        if "success/all" not in means:
            return f"value {means['value']:.2f}"
        shown = {"success": "success/all", "precision": "precision", "recall": "recall"}
        return " · ".join(f"{name} {means[key]:.0%}" for name, key in shown.items() if key in means)

    def is_critic(self, name: str) -> bool:
        return name.startswith("critics.")

    def settings(self) -> dict[str, Any]:
        rl = {name: value for name, value in asdict(self.config).items() if name not in FREE_TO_CHANGE}
        known = {
            "rl": rl,
            "robofume": asdict(self.robofume),
            "agent": self.agent.settings(),
            "worlds": {"tasks": self.tasks},
        }
        return json.loads(strict_json({**known, **self._about}))

    def memory(self) -> dict[str, Any]:
        best = None if self.best is None else asdict(self.best)
        return {"counts": self.counts.tolist(), "best": best, "alarm": self.alarm.state_dict()}

    def recall(self, memory: Mapping[str, Any]) -> None:
        self.counts = torch.tensor(memory["counts"], dtype=torch.float64)
        self.best = None if memory.get("best") is None else Best(**memory["best"])
        self.alarm.load_state_dict(memory["alarm"])
        for group in self.optimizer.param_groups:
            group["rate"] = self.robofume.calql.lr / self.config.lr if self.is_critic(group["name"]) else 1.0

    def carried(self) -> dict[str, Tensor]:
        """The worlds, what happened in them, and the critics that targets come from."""
        parts = {WORLDS: self.attempts.tensors(), LIVED: self.lived.tensors(), TARGET: self.target.state_dict()}
        return {f"{kind}{name}": tensor for kind, tensors in parts.items() for name, tensor in tensors.items()}

    def take_back(self, tensors: Mapping[str, Tensor]) -> None:
        def of(kind: str) -> dict[str, Tensor]:
            return {name.removeprefix(kind): x for name, x in tensors.items() if name.startswith(kind)}

        self.target.load_state_dict(of(TARGET))
        self.lived.restore(of(LIVED))
        self.attempts.restore(of(WORLDS))

    def close(self) -> None:
        """Nothing runs beside it; the environment is its maker's to close."""


def worth(counts: Sequence[float]) -> dict[str, float]:
    """Of :data:`COUNTED`: which share of what was called a success was one (``precision``), which share of the
    successes was called so (``recall``), which share of the failures (``false_positives``), and ``resets_per_attempt``.
    What nothing is known of is left out.
    """
    attempts, said, true, both, _, put_back = counts
    shares = {
        "precision": (both, said),
        "recall": (both, true),
        "false_positives": (said - both, attempts - true),
        "resets_per_attempt": (put_back, attempts),
    }
    return {name: part / whole for name, (part, whole) in shares.items() if whole}


def _check(config: RLConfig, robofume: RoboFuMEConfig, env: TurningEnv, agent: RefinedAgent) -> None:
    check_robot(agent.embodiment, env)
    if TURNS not in env.capabilities:
        raise ValueError(f"{env.task_name} has no way back; all that its worlds declare is {sorted(env.capabilities)}")
    if env.stream != "learn":
        raise ValueError(f"expected worlds of the stream 'learn', got {env.stream!r}")
    if env.num_envs != config.num_envs:
        raise ValueError(f"expected {config.num_envs} worlds, got {env.num_envs}")
    if robofume.offline > config.iterations:
        raise ValueError(f"{robofume.offline} of the iterations are offline, and there are {config.iterations}")
