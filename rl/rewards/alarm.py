"""When a learned reward and true success part: the policy has found what the reward likes better than the task."""

import logging
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from policies.intervals import Z_95
from rl.rewards.measures import spearman

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AlarmConfig:
    """``window`` is how many finished episodes are looked at; ``limit`` the rank correlation of reward and success that
    an honest reward keeps.
    """

    window: int = 100
    limit: float = 0.1

    def __post_init__(self) -> None:
        if self.window < 8 or not -1 < self.limit < 1:
            raise ValueError(f"expected a window of at least 8 episodes and a limit in −1 … 1, got {self}")


@dataclass(frozen=True, kw_only=True)
class Divergence:
    """Why there is an alarm: ``correlation`` is NaN where success does not vary within the window.

    Means are over the older and the newer half of the window.
    """

    episodes: int
    correlation: float
    reward_before: float
    reward_now: float
    success_before: float
    success_now: float

    def __str__(self) -> str:
        rise = f"the learned reward rises from {self.reward_before:.3g} to {self.reward_now:.3g}"
        success = f"success goes from {self.success_before:.0%} to {self.success_now:.0%}"
        related = "" if math.isnan(self.correlation) else f"; their rank correlation is {self.correlation:.2f}"
        return f"after {self.episodes} episodes {rise} while {success}{related}"


class DivergenceAlarm:
    """Told of every finished episode, says when reward and success have parted.

    That is when, over the last ``window`` episodes, the reward rises from the older half to the newer one by more than
    chance (Welch's t above 1.96), and either the rank correlation of reward and success lies below ``limit`` with all
    of its 95 % interval (Fisher's z), or success has gone altogether where there had been some more than chance
    explains. Where nothing succeeds yet, or everything does, there is nothing to compare with, and no alarm.
    """

    def __init__(self, config: AlarmConfig = AlarmConfig()) -> None:
        self.config = config
        self._recent: deque[tuple[float, bool]] = deque(maxlen=config.window)
        self._episodes = 0
        self._best_rate = 0.0
        self._ringing = False

    def finished(self, reward: float, success: bool) -> Divergence | None:
        """One more episode, with the sum of its learned reward; the divergence, if there is one now."""
        if not math.isfinite(reward):
            raise ValueError(f"expected a finite reward of an episode, got {reward}")
        self._recent.append((float(reward), bool(success)))
        self._episodes += 1
        if len(self._recent) < self.config.window:
            return None
        rewards, successes = (list(column) for column in zip(*self._recent, strict=True))
        rate, gone = sum(successes) / len(successes), False
        if not any(successes):
            gone = self._best_rate * len(successes) > Z_95**2  # that many were to be expected, none came
        self._best_rate = max(self._best_rate, rate)
        half = len(rewards) // 2
        before, now = rewards[:half], rewards[half:]
        correlation = spearman(rewards, [float(won) for won in successes])
        parted = gone or (not math.isnan(correlation) and _upper(correlation, len(rewards)) < self.config.limit)
        if not parted or _welch(before, now) <= Z_95:
            return None
        return Divergence(
            episodes=self._episodes,
            correlation=correlation,
            reward_before=sum(before) / len(before),
            reward_now=sum(now) / len(now),
            success_before=self._best_rate if gone else sum(successes[:half]) / half,
            success_now=sum(successes[half:]) / len(now),
        )

    def watch(self, scores: Float[Tensor, " e"], success: Float[Tensor, " e"]) -> dict[str, float]:
        """Tell it of episodes, in order; ``diverged`` says whether it rings after the last of them, and a warning tells
        why when it begins to. Scores that are no numbers are passed over.
        """
        found: Divergence | None = None
        for score, won in zip(scores.tolist(), success.tolist(), strict=True):
            if math.isfinite(score):
                found = self.finished(score, bool(won))
        if len(scores):
            if found is not None and not self._ringing:
                log.warning("do not trust the learned reward any more: %s", found)
            self._ringing = found is not None
        return {"diverged": float(self._ringing)}

    def state_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`load_state_dict` is the inverse."""
        recent = [list(each) for each in self._recent]
        about = {"episodes": self._episodes, "best": self._best_rate, "ringing": self._ringing}
        return {"recent": recent, **about}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._recent.clear()
        self._recent.extend((float(reward), bool(success)) for reward, success in state["recent"])
        self._episodes, self._best_rate = int(state["episodes"]), float(state["best"])
        self._ringing = bool(state["ringing"])


def _upper(correlation: float, n: int) -> float:
    """The upper end of a rank correlation's 95 % interval, by Fisher's z with Fieller's variance 1.06 / (n − 3)."""
    z = math.atanh(max(-1 + 1e-12, min(1 - 1e-12, correlation)))
    return math.tanh(z + Z_95 * math.sqrt(1.06 / (n - 3)))


def _welch(before: list[float], now: list[float]) -> float:
    """By how many standard errors the mean has risen."""
    means = [math.fsum(part) / len(part) for part in (before, now)]
    errors = [
        math.fsum((value - mean) ** 2 for value in part) / (len(part) - 1) / len(part)
        for part, mean in zip((before, now), means, strict=True)
    ]
    risen, spread = means[1] - means[0], math.sqrt(sum(errors))
    return risen / spread if spread else math.copysign(math.inf, risen) if risen else 0.0
