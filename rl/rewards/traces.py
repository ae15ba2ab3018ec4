"""Episodes as rewards see them: what was shown at the moments of decision, what was asked, and what became of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int
from torch import Tensor

from envs.specs import STATE_KEY, image_key
from policies.data.episode import Episode

FRAMES_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Trace:
    """``shown`` holds tensors ``(t, …)`` by the keys of an observation, at control steps ``steps``.

    ``goal`` is the sentence that a reward is told, ``means`` the same in words that do not depend on its phrasing,
    where they are known. ``success`` says whether the last frame shows what the goal asks for. ``kind`` says who acted.
    """

    shown: dict[str, Tensor]
    steps: Int[Tensor, " t"]
    goal: str
    means: str
    task: str
    seed: int
    success: bool
    kind: str

    def __len__(self) -> int:
        return len(self.steps)

    def told(self, other: "Trace", kind: str) -> "Trace":
        """This episode, judged by the goal of another one: a failure unless the two mean the same."""
        same = self.means == other.means
        return replace(self, goal=other.goal, means=other.means, success=self.success and same, kind=kind)

    def since(self, frame: int) -> "Trace":
        """What of it is left from a frame on."""
        return replace(self, shown={key: x[frame:] for key, x in self.shown.items()}, steps=self.steps[frame:])

    @classmethod
    def of_episode(cls, episode: Episode, every: int = 1) -> "Trace":
        """A recorded one, every so many frames and the last: frame k is what was seen before action k was taken."""
        last = len(episode) - 1
        steps = torch.arange(last % every, len(episode), every)
        fields = {image_key(name): image for name, image in episode.images.items()} | {STATE_KEY: episode.state}
        return cls(
            shown={key: torch.from_numpy(array[steps.numpy()]) for key, array in fields.items()},
            steps=steps,
            goal=episode.instruction,
            means=episode.instruction,
            task=episode.task,
            seed=episode.seed,
            success=episode.success,
            kind="demonstration",
        )


def batches(traces: Sequence[Trace], frames: int = FRAMES_AT_ONCE) -> Iterator[tuple[dict[str, Tensor], list[str]]]:
    """All frames of all traces in their order, at least so many at a time but for the last: an observation, and a goal
    for each row.
    """
    waiting: list[Trace] = []
    for trace in traces:
        waiting.append(trace)
        if sum(map(len, waiting)) >= frames:
            yield _together(waiting)
            waiting = []
    if waiting:
        yield _together(waiting)


def _together(traces: Sequence[Trace]) -> tuple[dict[str, Tensor], list[str]]:
    shown = {key: torch.cat([trace.shown[key] for trace in traces]) for key in traces[0].shown}
    return shown, [trace.goal for trace in traces for _ in range(len(trace))]


def apart(rows: Tensor, traces: Sequence[Trace]) -> list[Tensor]:
    """One row per frame, as :func:`batches` ordered them, by trace."""
    return list(rows.split([len(trace) for trace in traces])) if traces else []
