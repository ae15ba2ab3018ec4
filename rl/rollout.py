"""What a policy did and what came of it: collected on the device, time-major."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from envs.specs import Transition
from policies.policy import seen_by, spread
from rl.agent import Agent, Looked
from rl.critic import Critic, no_value
from rl.episodes import Episodes
from rl.returns import discounted
from rl.rewards.reward import Reward


class Decided(NamedTuple):
    """What was drawn for each of b worlds; ``log_prob`` is of each part (:class:`vla.distribution.Distribution`)."""

    latent: Shaped[Tensor, "b ..."]
    actions: Float[Tensor, "b h a"]
    log_prob: Float[Tensor, "b ..."]
    values: Float[Tensor, " b"]


class Decisions(NamedTuple):
    """Some decisions of a rollout, in rows."""

    looked: Looked
    latent: Shaped[Tensor, "b ..."]
    actions: Float[Tensor, "b h a"]
    steps: Int[Tensor, " b"]


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Of n worlds t decisions each. ``actions`` are normalised chunks, ``steps`` how many of them were executed: 0
    after the end of an episode, in worlds that wait. ``rewards`` are those of a decision's steps, discounted within it.
    ``next_values`` are of what came after, where an episode ended of its last observation. ``version`` counts the
    iterations that the policy which acted had learned from.
    """

    looked: Looked
    latent: Shaped[Tensor, "t n ..."]
    actions: Float[Tensor, "t n h a"]
    log_prob: Float[Tensor, "t n ..."]
    values: Float[Tensor, "t n"]
    next_values: Float[Tensor, "t n"]
    rewards: Float[Tensor, "t n"]
    steps: Int[Tensor, "t n"]
    terminated: Bool[Tensor, "t n"]
    ended: Bool[Tensor, "t n"]
    success: Bool[Tensor, "t n"]
    version: int

    @property
    def valid(self) -> Bool[Tensor, "t n"]:
        """Decisions that were carried out."""
        return self.steps > 0

    def rows(self, index: Int[Tensor, " b"]) -> Decisions:
        """Those of the flattened (t, n)."""
        return Decisions(
            {name: tensor.flatten(0, 1)[index] for name, tensor in self.looked.items()},
            *(tensor.flatten(0, 1)[index] for tensor in (self.latent, self.actions, self.steps)),
        )

    def succeeding(self) -> Bool[Tensor, "t n"]:
        """Decisions of episodes that are known to have ended in success."""
        found, later = torch.zeros_like(self.ended), torch.zeros_like(self.ended[0])
        for t in reversed(range(len(found))):
            later = torch.where(self.ended[t], self.success[t], later)
            found[t] = later
        return found & self.valid


class Stopwatch:
    """Seconds by name; on a GPU it waits for what was asked of it before. ``each`` is called after each part."""

    def __init__(self, device: torch.device, each: Callable[[], None] | None = None) -> None:
        self._device, self._each = device, each
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timing(self, name: str) -> Any:
        began = self._now()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + self._now() - began
        if self._each is not None:
            self._each()

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


class Judged(NamedTuple):
    """Of e episodes that have ended: the rewards' scores of what was seen last, and success as 0 or 1."""

    scores: Float[Tensor, " e"]
    success: Float[Tensor, " e"]


class Collector:
    """Lets ``agent`` act in the worlds of ``episodes``, in equal shards with a generator each.

    What comes of it lies on the agent's device, wherever the worlds are.
    """

    def __init__(
        self,
        agent: Agent[Any],
        critic: Critic | None,
        episodes: Episodes,
        *,
        discount: float,
        rewards: Sequence[Reward] = (),
    ) -> None:
        self.agent, self.critic, self.episodes = agent, critic, episodes
        self._discount, self._rewards = discount, tuple(rewards)
        self._device = next(agent.parameters()).device
        self._told = False
        self._judged: list[Judged] = []
        self._ahead: tuple[Mapping[str, Any] | None, list[Looked | None]] = None, []

    def memory(self) -> dict[str, Tensor]:
        """What rewards keep of the running episodes."""
        return {f"{reward.name}/{name}": x for reward in self._rewards for name, x in reward.memory().items()}

    def remember(self, memory: Mapping[str, Tensor]) -> None:
        """Go on from a :meth:`memory`, with the episodes that were put back before."""
        self._told = self.episodes.observation is not None
        for reward in self._rewards if self._told else ():
            prefix = f"{reward.name}/"
            own = {name.removeprefix(prefix): x for name, x in memory.items() if name.startswith(prefix)}
            reward.remember(own, self.episodes.env.goals)

    def take_judged(self) -> list[Judged]:
        """What rewards thought of the ends of episodes since the last call; nothing where there are none."""
        judged, self._judged = self._judged, []
        return judged

    @torch.no_grad()
    def collect(self, decisions: int, generators: Sequence[torch.Generator], version: int, watch: Stopwatch) -> Rollout:
        """So many decisions of each world, or fewer where all wait; worlds that do not go on by themselves start."""
        episodes, columns = self.episodes, Columns(decisions)
        if episodes.observation is None or not episodes.continuous:
            with watch.timing("simulate"):
                episodes.start()
            self._told = False
        if not self._told:
            with watch.timing("reward"):
                self._started(episodes.observation)
            self._told = True
        running = torch.ones(episodes.env.num_envs, dtype=torch.bool)
        cut: list[tuple[int, Int[Tensor, " k"], Looked]] = []
        done = 0
        while done < decisions and bool(running.any()):
            with watch.timing("act"):
                looked, decided = self._decide(episodes.observation, running, generators)
                actions = self.agent.executable(decided.actions)[:, : self.agent.execute]
            before = episodes.observation
            with watch.timing("simulate"):
                moved = episodes.step_chunk(actions)
            with watch.timing("reward"):
                columns.write(done, self._came(before, moved))
            columns.write(done, {**decided._asdict(), **{f"looked/{k}": x for k, x in looked.items()}})
            if moved.ended and self.critic is not None:
                with watch.timing("act"):
                    cut += self._cut(done, moved)
            if not episodes.continuous and moved.ended:
                running[moved.ended] = False
            done += 1
        with watch.timing("act"):
            found = columns.so_far(done)
            next_values = self._next_values(found["values"], cut, generators)
        looked = {k.removeprefix("looked/"): found.pop(k) for k in list(found) if k.startswith("looked/")}
        return Rollout(looked=looked, next_values=next_values, version=version, **found)

    def _decide(
        self,
        observation: Mapping[str, Any] | None,
        running: Bool[Tensor, " n"],
        generators: Sequence[torch.Generator],
    ) -> tuple[Looked, Decided]:
        """For all worlds that are ``running``, shard by shard; rows of the others are 0."""
        parts = []
        for looked, generator in zip(self._look(observation, running, len(generators)), generators, strict=True):
            if looked is None:
                continue
            seen = self.agent.see(looked)
            distribution = self.agent.distribution(seen)
            sample = distribution.sample(generator)
            log_prob, _ = distribution.evaluate(sample.latent)
            parts.append((looked, Decided(sample.latent, sample.actions, log_prob, self._value(seen, log_prob))))
        looked, decided = zip(*parts, strict=True)
        return (
            {name: spread(torch.cat([each[name] for each in looked]), running) for name in looked[0]},
            Decided(*(spread(torch.cat(column), running) for column in zip(*decided, strict=True))),
        )

    def _look(
        self, observation: Mapping[str, Any] | None, running: Bool[Tensor, " n"], count: int
    ) -> list[Looked | None]:
        """At all worlds that are ``running``, shard by shard, None where none is; once at what was looked at ahead."""
        assert observation is not None
        if self._ahead[0] is not observation:
            looked: list[Looked | None] = []
            for rows in shards(len(running), count):
                here = running[rows]
                shown = rows_of(observation, rows)
                looked.append(self.agent.look(seen_by(shown, here)) if bool(here.any()) else None)
            self._ahead = observation, looked
        return self._ahead[1]

    def _value(self, seen: Any, like: Tensor) -> Float[Tensor, " b"]:
        return no_value(like) if self.critic is None else self.critic(self.agent.summary(seen))

    def _came(self, before: Mapping[str, Any] | None, moved: Transition) -> dict[str, Tensor]:
        """What came of a decision."""
        rewards = moved.rewards.float()
        if self._rewards:
            assert before is not None
            last = (moved.steps - 1).clamp(min=0)[:, None]
            more = torch.stack([reward(before, moved) for reward in self._rewards]).sum(dim=0)
            rewards = rewards.scatter_add(1, last, torch.where(moved.steps > 0, more.float(), 0.0)[:, None])
            if moved.ended:
                scores = torch.stack([reward.scores for reward in self._rewards]).sum(dim=0)
                self._judged.append(Judged(*(x[moved.ended].float().cpu() for x in (scores, moved.success))))
            self._started(self.episodes.observation, moved.ended)
        over = torch.zeros_like(moved.terminated)
        if moved.ended:
            over[moved.ended] = True
        came = {
            "rewards": discounted(rewards, moved.steps, self._discount),
            "steps": moved.steps,
            "terminated": moved.terminated & over,
            "ended": over,
            "success": moved.success & over,
        }
        return {name: tensor.to(self._device, non_blocking=True) for name, tensor in came.items()}

    def _started(self, observation: Mapping[str, Any] | None, worlds: Sequence[int] | None = None) -> None:
        """Tell the rewards which worlds begin (all when None)."""
        if not self._rewards or observation is None or (worlds is not None and not worlds):
            return
        mask = None
        if worlds is not None:
            mask = torch.zeros(self.episodes.env.num_envs, dtype=torch.bool)
            mask[list(worlds)] = True
        for reward in self._rewards:
            reward.start(observation, self.episodes.env.goals, mask)

    def _cut(self, at: int, moved: Transition) -> list[tuple[int, Int[Tensor, " k"], Looked]]:
        """What is last seen in the worlds that were truncated, which values are to be had of."""
        mask = torch.zeros(self.episodes.env.num_envs, dtype=torch.bool)
        mask[moved.ended] = True
        mask &= moved.truncated.cpu()
        if not bool(mask.any()):
            return []
        worlds = mask.nonzero()[:, 0].to(self._device)
        return [(at, worlds, self.agent.look(seen_by(moved.observation, mask)))]

    def _next_values(
        self,
        values: Float[Tensor, "t n"],
        cut: Sequence[tuple[int, Int[Tensor, " k"], Looked]],
        generators: Sequence[torch.Generator],
    ) -> Float[Tensor, "t n"]:
        if self.critic is None:
            return torch.zeros_like(values)
        everywhere = torch.ones(values.shape[1], dtype=torch.bool)
        ahead = self._look(self.episodes.observation, everywhere, len(generators))
        last = [self._value(self.agent.see(looked), values) for looked in ahead if looked is not None]
        following = torch.cat([values[1:], torch.cat(last)[None]])
        for at, worlds, looked in cut:
            following[at, worlds] = self._value(self.agent.see(looked), values)
        return following


class Columns:
    """Tensors of t moments, reserved when the first is known."""

    def __init__(self, t: int) -> None:
        self._t = t
        self._columns: dict[str, Tensor] = {}

    def write(self, at: int, values: Mapping[str, Tensor]) -> None:
        for name, value in values.items():
            if name not in self._columns:
                self._columns[name] = value.new_empty((self._t, *value.shape))
            self._columns[name][at] = value

    def so_far(self, count: int) -> dict[str, Tensor]:
        """The first so many moments."""
        return {name: column[:count] for name, column in self._columns.items()}


def shards(worlds: int, count: int) -> list[slice]:
    """So many equal runs of worlds."""
    size = worlds // count
    return [slice(i * size, (i + 1) * size) for i in range(count)]


def rows_of(observation: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """The observation of some neighbouring worlds."""
    return {key: value[rows] for key, value in observation.items()}
