"""Episode after episode in the worlds of one process, and what became of them."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from envs.specs import SNAPSHOTS, Snapshot, SnapshotEnv, Transition, VectorEnv
from policies.training.group import Part

SEEDS_PER_RUN = 1 << 32
"""Seeds of the stream ``learn`` that a run's own seed sets apart."""
ENV, TEXTS = "env/", "instructions"


class Finished(NamedTuple):
    """Episodes that have ended: each one's task, success, sum of rewards and control steps."""

    tasks: list[str]
    success: Bool[Tensor, " e"]
    reward: Float[Tensor, " e"]
    steps: Int[Tensor, " e"]


class Episodes:
    """Steps ``env``, the worlds ``part`` of a run's.

    Episode k of world i, of w in all processes together, has the seed i // ``alike`` + k · w // ``alike``, counted from
    the run's own first one: so ``alike`` neighbours always share their start, whatever the number of processes.
    ``continuous`` worlds start their next episode by themselves; the others wait for :meth:`start`.
    """

    def __init__(self, env: VectorEnv, part: Part, *, seed: int, alike: int = 1, continuous: bool = True) -> None:
        self.env, self.continuous = env, continuous
        self._place = (part.first + torch.arange(len(part))) // alike + seed * SEEDS_PER_RUN
        self._stride = part.whole // alike
        self._episode = torch.full((len(part),), -1)
        self._reward = torch.zeros(len(part), device=env.device)
        self._steps = torch.zeros(len(part), dtype=torch.long, device=env.device)
        self._finished: list[Finished] = []
        self.observation: dict[str, Any] | None = None

    def start(self) -> dict[str, Any]:
        """Begin the next episode in every world."""
        self._begin(torch.ones_like(self._episode, dtype=torch.bool))
        assert self.observation is not None
        return self.observation

    def step_chunk(self, actions: Float[Tensor, "n k a"]) -> Transition:
        """Execute them; ``observation`` is then what the policy sees next, that of the result the last of an episode
        where that has ended.
        """
        moved = self.env.step_chunk(actions)
        self._reward = self._reward + moved.reward
        self._steps = self._steps + moved.steps
        self.observation = moved.observation
        if moved.ended:
            self._note(moved)
            if self.continuous:
                mask = torch.zeros_like(self._episode, dtype=torch.bool)
                mask[moved.ended] = True
                self._begin(mask)
        return moved

    def take_finished(self) -> list[Finished]:
        """Those since the last call."""
        finished, self._finished = self._finished, []
        return finished

    def tensors(self) -> dict[str, Tensor]:
        """All that it takes to go on from here exactly, a row per world; of an environment that cannot be photographed
        no more than which episodes come next.
        """
        counted = {"episode": self._episode, "reward": self._reward, "steps": self._steps}
        if not self.continuous or self.observation is None or not photographable(self.env):
            return counted
        snapshot = self.env.snapshot()
        return {
            **counted,
            TEXTS: encoded(snapshot.instructions),
            **{f"{ENV}{name}": tensor for name, tensor in snapshot.tensors.items()},
        }

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`tensors`."""
        self._episode = tensors["episode"].cpu().clone()
        self._reward, self._steps = (tensors[name].to(self.env.device).clone() for name in ("reward", "steps"))
        self._finished, self.observation = [], None
        if TEXTS in tensors and isinstance(self.env, SnapshotEnv):
            worlds = {n.removeprefix(ENV): t.to(self.env.device) for n, t in tensors.items() if n.startswith(ENV)}
            self.observation = self.env.restore(Snapshot(worlds, decoded(tensors[TEXTS])))

    def _begin(self, mask: Bool[Tensor, " n"]) -> None:
        self._episode = self._episode + mask
        self.observation = self.env.reset(self._place + self._episode * self._stride, mask)
        anew = mask.to(self.env.device)
        self._reward, self._steps = self._reward.masked_fill(anew, 0.0), self._steps.masked_fill(anew, 0)

    def _note(self, moved: Transition) -> None:
        names = self.env.task_names
        worlds = torch.tensor(moved.ended, device=self.env.device)
        self._finished.append(
            Finished(
                [names[world] for world in moved.ended],
                moved.success[worlds],
                self._reward[worlds],
                self._steps[worlds],
            )
        )


def photographable(env: VectorEnv) -> TypeGuard[SnapshotEnv]:
    """Whether its worlds can be put back exactly."""
    return SNAPSHOTS in env.capabilities and isinstance(env, SnapshotEnv)


def tally(finished: Sequence[Finished], tasks: Sequence[str]) -> Float[Tensor, "m 4"]:
    """Of each of ``tasks``: how many episodes, successes, rewards and control steps; float64."""
    sums = torch.zeros(len(tasks), 4, dtype=torch.float64)
    for each in finished:
        index = torch.tensor([tasks.index(name) for name in each.tasks])
        columns = [torch.ones(len(index)), each.success.cpu(), each.reward.cpu(), each.steps.cpu()]
        sums.index_add_(0, index, torch.stack([column.double() for column in columns], dim=1))
    return sums


def outcomes(sums: Float[Tensor, "m 4"], tasks: Sequence[str]) -> dict[str, float]:
    """What there is to report of a :func:`tally`: success of all and of each of several tasks, return and length."""
    whole = sums.sum(dim=0)
    found: dict[str, float] = {"episodes": float(whole[0])}
    for name, row in [("all", whole), *zip(tasks, sums, strict=True)]:
        if row[0] and (name == "all" or len(tasks) > 1):
            found[f"success/{name}"] = float(row[1] / row[0])
    if found["episodes"]:
        found |= {"return": float(whole[2] / whole[0]), "episode_steps": float(whole[3] / whole[0])}
    return found


def encoded(texts: Sequence[str]) -> UInt8[Tensor, "n c"]:
    """UTF-8, each row filled up with zeros."""
    rows = [torch.tensor(list(text.encode()), dtype=torch.uint8) for text in texts]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)


def decoded(rows: UInt8[Tensor, "n c"]) -> list[str]:
    """The inverse of :func:`encoded`."""
    return [bytes(row).rstrip(b"\0").decode() for row in rows.cpu().numpy()]
