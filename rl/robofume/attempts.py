"""Attempt after attempt in worlds that are not reset: who says that one has succeeded, and what was true."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.specs import Transition, TurningEnv
from policies.policy import seen_by
from policies.training.group import Part
from rl.agent import Looked
from rl.episodes import Episodes
from rl.returns import discounted
from rl.robofume.agent import RefinedAgent
from rl.robofume.config import RoboFuMEConfig
from rl.robofume.replay import LOOKED
from rl.rollout import Columns, Stopwatch

COUNTED = ("attempts", "said", "true", "both", "steps", "put_back")
"""What is counted of attempts that are over: how many, which were called successes, which were, which both; their
control steps; and how often a world was put back."""


class Word(Protocol):
    """Says of running attempts that they have succeeded; what it remembers of them is a dict of tensors."""

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None: ...

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        """1 in the decision in which it says so."""
        ...

    def memory(self) -> dict[str, Tensor]: ...

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None: ...


class SimulatorsWord:
    """What the simulator knows of ``env``, and no robot does: the most that a classifier could be worth."""

    def __init__(self, env: TurningEnv) -> None:
        self._env = env

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        pass

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        return self._env.stages_done[:, 0].float()

    def memory(self) -> dict[str, Tensor]:
        return {}

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        pass


class StandingWorlds(Episodes):
    """Worlds that start nothing by themselves and are put back, or turned round, when somebody says so."""

    env: TurningEnv

    def step_chunk(self, actions: Float[Tensor, "n k a"]) -> Transition:
        moved = self.env.step_chunk(actions)
        self.observation = moved.observation
        return moved

    def put_back(self, mask: Bool[Tensor, " n"]) -> None:
        """Begin the next episode in the worlds of ``mask``."""
        self._begin(mask)

    def turn(self, mask: Bool[Tensor, " n"]) -> None:
        """Ask for the opposite in the worlds of ``mask``, as they stand."""
        self.observation = self.env.turn(mask)


class Over(NamedTuple):
    """Of e attempts that are over: what was said, and what was true, as 0 or 1."""

    said: Float[Tensor, " e"]
    true: Float[Tensor, " e"]


class Happened(NamedTuple):
    """t decisions in n worlds: ``columns`` ``(t, n, …)``, what the worlds show ``ahead``, what was seen last in those
    that were put back (``final``), the attempts that are ``over``, and :data:`COUNTED` of each way.
    """

    columns: dict[str, Tensor]
    ahead: Looked
    final: Looked | None
    over: list[Over]
    counts: Float[Tensor, "w c"]


class Attempts:
    """Lets ``agent`` act in the worlds of ``env``, which has a way back, by the ``word`` of somebody.

    Where that says that an attempt has succeeded, it is over and paid ``reward``, and the opposite is asked for. One
    that takes ``limit`` control steps is cut short. Worlds whose episodes end are put back, or all whose attempts do.
    """

    def __init__(
        self,
        agent: RefinedAgent,
        env: TurningEnv,
        part: Part,
        word: Word,
        config: RoboFuMEConfig,
        *,
        ways: Sequence[str],
        discount: float,
        seed: int,
    ) -> None:
        self.agent, self.word, self.worlds = agent, word, StandingWorlds(env, part, seed=seed)
        self.limit = config.attempt_steps or env.attempt_steps
        self._config, self._discount, self._env = config, discount, env
        self._taken = torch.zeros(env.num_envs, dtype=torch.long)
        self._ahead: tuple[Mapping[str, Any] | None, Looked] = None, {}
        self._ways = tuple(ways)

    def begin(self) -> None:
        """Start all worlds."""
        observation = self.worlds.start()
        self.word.start(observation, self._env.goals)

    @torch.no_grad()
    def collect(self, decisions: int, generator: torch.Generator, watch: Stopwatch) -> Happened:
        """So many decisions of each world."""
        gathered = _Gathered(decisions, len(self._ways))
        for t in range(decisions):
            self._decide(t, generator, watch, gathered)
        with watch.timing("act"):
            return gathered.before(self._look())

    def _decide(self, t: int, generator: torch.Generator, watch: Stopwatch, gathered: "_Gathered") -> None:
        """One decision of each world, and what comes of it."""
        with watch.timing("act"):
            looked = self._look()
            sample = self.agent.distribution(self.agent.see(looked)).sample(generator)
            actions = self.agent.executable(sample.actions)[:, : self.agent.execute]
        before, ways = self.worlds.observation, self._ways_now()
        assert before is not None
        with watch.timing("simulate"):
            moved = self.worlds.step_chunk(actions)
        with watch.timing("judge"):
            said = self.word(before, moved).bool().cpu()
        true = self._env.stages_done[:, 0].cpu().clone()
        came, put_back = self._came(moved, said)
        with watch.timing("act"):
            last = self._last_seen(moved, put_back & ~said)
        gathered.write(t, {**came, "actions": self.agent.normalized(actions)}, looked)
        gathered.last_seen(t, put_back & ~said, last)
        gathered.count(ways, came["ended"], said, true, self._taken, put_back)
        with watch.timing("simulate"):
            self._go_on(came["ended"], said, put_back)

    def _came(self, moved: Transition, said: Bool[Tensor, " n"]) -> tuple[dict[str, Tensor], Bool[Tensor, " n"]]:
        """What came of a decision, and which worlds are to be put back."""
        self._taken = self._taken + moved.steps.cpu()
        put_back = torch.zeros_like(said)
        if moved.ended:
            put_back[moved.ended] = True
        ended = said | put_back | (self._taken >= self.limit)
        if self._config.resets == "attempts":
            put_back = ended
        steps = moved.steps.cpu()
        paid = torch.zeros(moved.rewards.shape)
        paid.scatter_(1, (steps - 1).clamp(min=0)[:, None], said.float()[:, None] * self._config.calql.reward)
        came = {
            "rewards": discounted(paid, steps, self._discount),
            "steps": steps,
            "terminated": said,
            "ended": ended,
        }
        return came, put_back

    def _last_seen(self, moved: Transition, mask: Bool[Tensor, " n"]) -> Looked | None:
        """What the worlds of ``mask``, if there are any, show before they are put back."""
        return self.agent.look(seen_by(moved.observation, mask)) if bool(mask.any()) else None

    def _go_on(self, done: Bool[Tensor, " n"], said: Bool[Tensor, " n"], put_back: Bool[Tensor, " n"]) -> None:
        """Into the next attempts."""
        if bool(put_back.any()):
            self.worlds.put_back(put_back)
        if bool((turned := said & ~put_back).any()):
            self.worlds.turn(turned)
        if bool(done.any()):
            assert self.worlds.observation is not None
            self.word.start(self.worlds.observation, self._env.goals, done)
        self._taken = self._taken.masked_fill(done, 0)

    def _look(self) -> Looked:
        """At what all worlds show; once at each observation."""
        observation = self.worlds.observation
        assert observation is not None
        if self._ahead[0] is not observation:
            self._ahead = observation, self.agent.look(observation)
        return self._ahead[1]

    def _ways_now(self) -> Int[Tensor, " n"]:
        return torch.tensor([self._ways.index(name) for name in self._env.task_names])

    def tensors(self) -> dict[str, Tensor]:
        """All that it takes to go on from here exactly."""
        remembered = {f"{_WORD}{name}": x for name, x in self.word.memory().items()}
        return {**self.worlds.tensors(), "taken": self._taken, **remembered}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self.worlds.restore(tensors)
        self._taken = tensors["taken"].cpu().clone()
        if self.worlds.observation is not None:
            own = {name.removeprefix(_WORD): x for name, x in tensors.items() if name.startswith(_WORD)}
            self.word.remember(own, self._env.goals)


class _Gathered:
    """What happens in some decisions, as it comes."""

    def __init__(self, decisions: int, ways: int) -> None:
        self._columns, self._decisions = Columns(decisions), decisions
        self._final: list[Looked] = []
        self._seen_last = 0
        self._over: list[Over] = []
        self._counts = torch.zeros(ways, len(COUNTED), dtype=torch.float64)

    def write(self, t: int, came: Mapping[str, Tensor], looked: Looked) -> None:
        """What came of decision ``t``, on the device of what was looked at."""
        device = next(iter(looked.values())).device
        self._columns.write(t, {name: tensor.to(device) for name, tensor in came.items()})
        self._columns.write(t, {f"{LOOKED}{name}": tensor for name, tensor in looked.items()})

    def last_seen(self, t: int, mask: Bool[Tensor, " n"], looked: Looked | None) -> None:
        """What the worlds of ``mask`` showed before they are put back, counted from 1 on."""
        numbers = (mask.cumsum(0) + self._seen_last).masked_fill(~mask, 0)
        self._columns.write(t, {"put_back": numbers})
        self._seen_last += int(mask.sum())
        self._final += [] if looked is None else [looked]

    def count(
        self,
        ways: Int[Tensor, " n"],
        done: Bool[Tensor, " n"],
        said: Bool[Tensor, " n"],
        true: Bool[Tensor, " n"],
        taken: Int[Tensor, " n"],
        put_back: Bool[Tensor, " n"],
    ) -> None:
        """The attempts that are ``done``, and the worlds that are put back."""
        self._over.append(Over(said[done].float(), true[done].float()))
        numbers = torch.stack([done, said, true & done, said & true, taken * done, put_back], dim=1)
        self._counts.index_add_(0, ways, numbers.double())

    def before(self, ahead: Looked) -> Happened:
        """All of it, before what the worlds show ``ahead``."""
        columns = self._columns.so_far(self._decisions)
        columns["put_back"] = columns["put_back"].to(columns["steps"].device)
        final = {name: torch.cat([each[name] for each in self._final]) for name in ahead} if self._final else None
        return Happened(columns, ahead, final, self._over, self._counts)


_WORD = "word/"
