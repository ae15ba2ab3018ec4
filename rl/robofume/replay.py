"""What critics and policy learn from: decisions of the demonstrations, and those that were made in the worlds.

What a picture shows the network is worked out once and kept once: what follows a decision is looked up where the next
one keeps it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rl.agent import Looked
from rl.conservative import monte_carlo
from rl.returns import discounts
from vla.observation import ActionChunk

AHEAD, FINAL, LOOKED = "ahead/", "final/", "looked/"
"""What names of kept tensors begin with."""


class Moves(NamedTuple):
    """b decisions: what was ``seen``, the part of the chunk that was executed, what it earned, and what was seen
    ``then``. ``discount`` is γ to the power of its control steps, ``returns`` what came of it in all.
    """

    seen: Looked
    actions: Float[Tensor, "b k a"]
    rewards: Float[Tensor, " b"]
    discount: Float[Tensor, " b"]
    terminated: Bool[Tensor, " b"]
    returns: Float[Tensor, " b"]
    then: Looked

    @classmethod
    def together(cls, first: "Moves", second: "Moves") -> "Moves":
        """Both, one after the other."""
        return cls(
            seen=_joined(first.seen, second.seen),
            actions=torch.cat([first.actions, second.actions]),
            rewards=torch.cat([first.rewards, second.rewards]),
            discount=torch.cat([first.discount, second.discount]),
            terminated=torch.cat([first.terminated, second.terminated]),
            returns=torch.cat([first.returns, second.returns]),
            then=_joined(first.then, second.then),
        )


@dataclass(frozen=True, kw_only=True)
class Demonstrated:
    """Of f frames of successful episodes one decision each: ``chunk`` are the actions from there, ``left`` how many
    control steps the episode still has, and ``earned`` what its success pays.
    """

    looked: Looked
    chunk: ActionChunk
    left: Int[Tensor, " f"]
    execute: int
    discount: float
    earned: float

    def __len__(self) -> int:
        return len(self.left)

    def moves(self, rows: Int[Tensor, " b"]) -> Moves:
        """Some of them. A decision in which the episode ends is over at its success."""
        left = self.left[rows]
        over = left <= self.execute
        steps = left.clamp(max=self.execute)
        returns = self.earned * discounts(left - 1, self.discount)
        then = torch.where(over, rows, rows + steps)
        return Moves(
            seen={name: tensor[rows] for name, tensor in self.looked.items()},
            actions=self.chunk.actions[rows, : self.execute],
            rewards=returns.masked_fill(~over, 0.0),
            discount=discounts(steps, self.discount),
            terminated=over,
            returns=returns,
            then={name: tensor[then] for name, tensor in self.looked.items()},
        )

    def lessons(self, rows: Int[Tensor, " b"]) -> ActionChunk:
        """What to imitate there."""
        return ActionChunk(actions=self.chunk.actions[rows], valid=self.chunk.valid[rows])


class Lived:
    """Decisions of n worlds, t of them so far, time-major; ``span`` rows are more than any attempt has decisions.

    Columns are ``actions (t, n, k, a)``, ``rewards``, ``steps``, ``terminated``, ``ended``, ``returns``, and those of
    what was looked at; beside them what the worlds show now (``ahead``), and what was last seen in worlds before they
    were put back (``final``), at the rows that ``put_back (t, n)`` counts from 1 on.
    """

    def __init__(self, discount: float, span: int) -> None:
        self._discount, self._span = discount, span
        self._kept: dict[str, Tensor] = {}

    def __len__(self) -> int:
        return self._kept["steps"].numel() if self._kept else 0

    def append(
        self,
        columns: Mapping[str, Tensor],
        ahead: Looked,
        final: Looked | None,
        value: Callable[[Looked], Float[Tensor, " b"]],
    ) -> None:
        """The decisions of an iteration; ``put_back`` counts the rows of ``final`` alone, from 1 on. ``value`` says
        what may still be expected, for returns of what was cut short or goes on.
        """
        before = self._kept
        grown = dict(columns)
        known = 0 if f"{FINAL}count" not in before else int(before[f"{FINAL}count"])
        grown["put_back"] = torch.where(columns["put_back"] > 0, columns["put_back"] + known, 0)
        grown["returns"] = torch.zeros_like(columns["rewards"])
        kept = {name: torch.cat([before[name], x]) if name in before else x for name, x in grown.items()}
        kept |= {f"{AHEAD}{name}": x for name, x in ahead.items()}
        finals = {f"{FINAL}{name}": x for name, x in (final or {}).items()}
        old = {name: x for name, x in before.items() if name.startswith(FINAL)}
        kept |= old | {name: torch.cat([old[name], x]) if name in old else x for name, x in finals.items()}
        kept[f"{FINAL}count"] = torch.tensor(known + (len(next(iter(final.values()))) if final else 0))
        self._kept = kept
        self._look_back(len(columns["rewards"]), value)

    def _look_back(self, fresh: int, value: Callable[[Looked], Float[Tensor, " b"]]) -> None:
        """Work out anew what came of the newest decisions: of attempts that go on it is known better each time."""
        kept = self._kept
        t, n = kept["steps"].shape
        first = max(0, t - fresh - self._span)
        ended, terminated = kept["ended"][first:], kept["terminated"][first:]
        ask = ended & ~terminated
        ask[-1] |= ~ended[-1]
        rows = (ask.flatten().nonzero()[:, 0]) + first * n
        rest = torch.zeros(ask.shape, device=ask.device)
        if len(rows):
            rest[ask] = value(self._then(rows)).float()
        steps = discounts(kept["steps"][first:], self._discount)
        kept["returns"][first:] = monte_carlo(kept["rewards"][first:], steps, terminated, ended, rest)

    def moves(self, rows: Int[Tensor, " b"]) -> Moves:
        """Some of the flattened (t, n)."""
        flat = {name: self._kept[name].flatten(0, 1)[rows] for name in _COLUMNS}
        looked = {k.removeprefix(LOOKED): x for k, x in self._kept.items() if k.startswith(LOOKED)}
        return Moves(
            seen={name: x.flatten(0, 1)[rows] for name, x in looked.items()},
            actions=flat["actions"],
            rewards=flat["rewards"],
            discount=discounts(flat["steps"], self._discount),
            terminated=flat["terminated"],
            returns=flat["returns"],
            then=self._then(rows),
        )

    def _then(self, rows: Int[Tensor, " b"]) -> Looked:
        """What was seen after each decision: before the next one, now, or last before the world was put back."""
        kept = self._kept
        t, n = kept["steps"].shape
        put_back, following = kept["put_back"].flatten()[rows], rows + n
        found: Looked = {}
        for name, looked in kept.items():
            if not name.startswith(LOOKED):
                continue
            bare = name.removeprefix(LOOKED)
            table = [looked.flatten(0, 1), kept[f"{AHEAD}{bare}"]]
            last = kept.get(f"{FINAL}{bare}")
            picked = torch.empty((len(rows), *looked.shape[2:]), device=looked.device, dtype=looked.dtype)
            inside = (following < t * n) & (put_back == 0)
            ahead = (following >= t * n) & (put_back == 0)
            picked[inside] = table[0][following[inside]]
            picked[ahead] = table[1][following[ahead] - t * n]
            if last is not None:
                picked[put_back > 0] = last[put_back[put_back > 0] - 1]
            found[bare] = picked
        return found

    def tensors(self) -> dict[str, Tensor]:
        """All of it, for a checkpoint; :meth:`restore` takes it back."""
        return dict(self._kept)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._kept = {name: tensor.clone() for name, tensor in tensors.items()}


def _joined(first: Looked, second: Looked) -> Looked:
    return {name: torch.cat([tensor, second[name]]) for name, tensor in first.items()}


_COLUMNS = ("actions", "rewards", "steps", "terminated", "returns")
