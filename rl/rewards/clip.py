"""Scores read off pictures by an image tower and a text tower: how well what is seen fits the words of the goal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import image_key
from vla.towers import Towers


class GoalSimilarity:
    """The cosine of what ``cameras`` show and the words of the goal, or that of VLM-RM (Rocamora et al., ICLR 2024).

    With a ``baseline``, a sentence that describes any scene of the kind, it is :func:`projected_similarity`, which
    counts what lies off the line from baseline to goal less, by ``alpha``. ``describe`` makes of an instruction what is
    to be seen when it is done; by default the instruction itself is compared. Vectors of texts are kept. ``ValueError``
    for cameras that the towers do not know.
    """

    def __init__(
        self,
        towers: Towers,
        cameras: Sequence[str],
        *,
        baseline: str | None = None,
        alpha: float = 0.5,
        describe: Callable[[str], str] = str,
    ) -> None:
        if towers.cameras and tuple(cameras) != towers.cameras:
            raise ValueError(f"{towers.name} sees through {towers.cameras}, got the cameras {tuple(cameras)}")
        if not cameras:
            raise ValueError("expected at least one camera to look through")
        if not 0 <= alpha <= 1:
            raise ValueError(f"expected alpha in 0 … 1, got {alpha}")
        self.name = f"{towers.name}-{'cosine' if baseline is None else 'projected'}"
        self._towers, self._cameras, self._describe, self._alpha = towers, tuple(cameras), describe, alpha
        self._baseline = None if baseline is None else towers.embed_texts([baseline])
        self._known: dict[str, Float[Tensor, " e"]] = {}

    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, " n"]:
        views = torch.stack([observation[image_key(camera)] for camera in self._cameras], dim=1)
        seen, goal = self._towers.embed_images(views.to(self._towers.device)), self._words(goals)
        if self._baseline is None:
            return (seen * goal).sum(dim=-1)
        return projected_similarity(seen, goal, self._baseline.expand_as(goal), self._alpha)

    def _words(self, goals: Sequence[str]) -> Float[Tensor, "n e"]:
        if new := [goal for goal in dict.fromkeys(goals) if goal not in self._known]:
            vectors = self._towers.embed_texts([self._describe(goal) for goal in new])
            self._known |= dict(zip(new, vectors, strict=True))
        return torch.stack([self._known[goal] for goal in goals])


def projected_similarity(
    seen: Float[Tensor, "n e"], goal: Float[Tensor, "n e"], baseline: Float[Tensor, "n e"], alpha: float
) -> Float[Tensor, " n"]:
    """1 − ½‖α·proj_L(s) + (1 − α)·s − g‖² of unit vectors s, g and b, L being the line through g and b; in −1 … 1.

    With α = 0 it is the cosine of s and g; with α = 1 only what changes along L counts. ``ValueError`` where baseline
    and goal are one point, which makes no line.
    """
    line = goal - baseline
    length = line.norm(dim=-1, keepdim=True)
    if bool((length < 1e-6).any()):
        raise ValueError("expected a baseline that says something else than the goal: the two have the same vector")
    line, away = line / length, seen - goal
    along = (away * line).sum(dim=-1, keepdim=True) * line
    return 1 - (alpha * along + (1 - alpha) * away).square().sum(dim=-1) / 2
