"""What decides how a policy learns from a score while it acts."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from rl.rewards.config import ScorerConfig

Tried = Literal["worlds", "past"]


@dataclass(frozen=True, kw_only=True)
class FeedbackConfig:
    """RLCF (arXiv 2305.18010) of a policy: REINFORCE on a few candidates, of which their mean is the baseline."""

    reward: str = ""
    """Lets a policy learn from a score while it acts, and forget it after each episode: states, towers, a folder of vla
    reward train, a checkpoint of CLIP or SigLIP, or ask:CHECKPOINT. Empty: it acts as it is."""
    tried: Tried = "worlds"
    """worlds: candidates of a decision are carried out in the simulation, which is then put back to where it was; no
    robot can do that. past: they are the episode's last decisions, and the reward is what the score gained by each."""
    candidates: int = 3
    """Chunks that are compared with one another."""
    steps: int = 3
    """Steps of the optimiser for each decision; candidates are drawn anew for each (worlds)."""
    lr: float = 1e-5
    """Rate of AdamW, whose moments are kept as long as the weights: for an episode."""
    weight_decay: float = 5e-4
    """Of AdamW."""
    std: float = 0.3
    """Spread, in normalised actions, of a policy that comes without a distribution."""
    seed: int = 0
    """Draws the candidates, together with what an episode shows first."""
    scorer: ScorerConfig = field(default_factory=ScorerConfig)
    """How the score is read off."""

    def __post_init__(self) -> None:
        if self.tried not in get_args(Tried):
            raise ValueError(f"tried must be one of {', '.join(get_args(Tried))}, got {self.tried!r}")
        if self.candidates < 2 or self.steps < 1:
            raise ValueError(f"expected at least 2 candidates and a step, got {self.candidates} and {self.steps}")
        if self.lr <= 0 or self.std <= 0 or self.weight_decay < 0:
            raise ValueError(
                "expected lr and std above 0 and weight_decay of at least 0, got "
                f"{self.lr}, {self.std} and {self.weight_decay}"
            )
