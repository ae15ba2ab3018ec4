"""What chunks would lead to, seen in simulated worlds that are put back afterwards."""

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import SNAPSHOTS, SnapshotEnv, VectorEnv
from policies.policy import seen_by, spread
from rl.rewards.reward import Scorer


class Rehearsal:
    """Carries chunks out in ``env`` itself and says what ``scorer`` thinks of what comes of them.

    ``ValueError`` for an environment that cannot be photographed.
    """

    def __init__(self, env: VectorEnv, scorer: Scorer) -> None:
        if SNAPSHOTS not in env.capabilities:
            raise ValueError(
                f"candidates can be tried where worlds can be put back ({SNAPSHOTS}); {env.task_name} declares "
                f"{sorted(env.capabilities)}: learn from the past instead"
            )
        self._env = cast(SnapshotEnv, env)  # which isinstance would ask for what it has only once it is reset
        self._scorer = scorer

    def __call__(
        self, chunks: Float[Tensor, "k n e a"], mask: Bool[Tensor, " w"], goals: Sequence[str]
    ) -> Float[Tensor, "n k"]:
        """The score of what each of k chunks leads to in the n worlds of ``mask``; all worlds are then as before."""
        if not len(chunks):
            raise ValueError("expected at least one chunk for each world")
        before, found = self._env.snapshot(), []
        for chunk in chunks:
            moved = self._env.step_chunk(spread(chunk.to(self._env.device), mask))
            found.append(self._scorer(seen_by(moved.observation, mask), goals).float())
            self._env.restore(before)
        return torch.stack(found, dim=1)
