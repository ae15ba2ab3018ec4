"""Under which conditions a policy is evaluated; no torch, no numpy."""

from dataclasses import dataclass
from typing import Literal

Instructions = Literal["given", "shuffled", "none"]
"""What policies read: the episode's own instruction, the next episode's, or nothing."""

Without = Literal["language", "pictures"]
"""What a policy is denied, to see whether it needs it. ``language``: every instruction is empty. ``pictures``: those of
all cameras show nothing (:mod:`policies.ablation`)."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """What an episode depends on beside its seed: task, perturbation (PRESET:AXIS; none in the usual worlds), what
    instructions it is told, and what the policy is denied, in whichever order that is named.
    """

    task: str
    perturbation: str | None = None
    instructions: Instructions = "given"
    without: tuple[Without, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(sorted(set(self.without))))
