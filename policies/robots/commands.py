"""From what a policy wants to what a robot is told: the way between their units, and the limits of the robot.

A plausibility check of numbers, not a certified safety function.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from envs.specs import EmbodimentSpec
from policies.robots.driver import Limits
from policies.serving.keys import key_diff


@dataclass(frozen=True, kw_only=True)
class ActionTranslation:
    """Between a policy's actions and a robot's, which may differ in one thing: what is a change per step (relative) for
    one may be a place to be at (absolute) for the other.

    ``base`` ``(a,)`` is where the robot was told to be before the step. :meth:`to_policy` is the inverse of
    :meth:`to_robot` for the same base. ``ValueError`` for embodiments that differ in anything else that matters.
    """

    policy: EmbodimentSpec
    robot: EmbodimentSpec

    def __post_init__(self) -> None:
        ours, theirs = _promises(self.policy), _promises(self.robot)
        if ours != theirs:
            raise ValueError("the policy drives another robot than this one:\n" + key_diff(ours, theirs))

    @property
    def needs_base(self) -> np.ndarray:
        """Which dimensions bool ``(a,)`` cannot be translated without a base."""
        return self._relative(self.policy) != self._relative(self.robot)

    @property
    def changes(self) -> np.ndarray:
        """Which dimensions bool ``(a,)`` of the policy's actions are changes."""
        return self._relative(self.policy)

    def to_robot(self, action: Float[np.ndarray, " a"], base: Float[np.ndarray, " a"]) -> Float[np.ndarray, " a"]:
        """The robot's action for the policy's."""
        return self._added(action, base, self._relative(self.policy))

    def to_policy(self, action: Float[np.ndarray, " a"], base: Float[np.ndarray, " a"]) -> Float[np.ndarray, " a"]:
        """The policy's action that the robot's stands for."""
        return self._added(action, base, self._relative(self.robot))

    def _added(self, action: np.ndarray, base: np.ndarray, changes: np.ndarray) -> np.ndarray:
        """``action`` where both mean the same; else a place for a change, or the other way round."""
        moved = np.where(changes, base + action, action - base)
        return np.where(self.needs_base, moved, action).astype(np.float32)

    @staticmethod
    def _relative(embodiment: EmbodimentSpec) -> np.ndarray:
        return np.array([dim.relative for dim in embodiment.action])


def _promises(embodiment: EmbodimentSpec) -> list[str]:
    """What must be the same for policy and robot, a line for each; bounds are each one's own."""
    cameras = [f"camera {c.name} {c.height_px}×{c.width_px}{' depth' * c.depth}" for c in embodiment.cameras]
    vectors = [
        f"{kind} {place} {dim.name} ({dim.unit}, {dim.frame})"
        for kind, dims in (("state", embodiment.state), ("action", embodiment.action))
        for place, dim in enumerate(dims)
    ]
    return [f"{embodiment.control_rate_hz:g} Hz", *cameras, *vectors]


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One command: ``action`` ``(a,)`` for the robot, the same as ``meant`` ``(a,)`` in the policy's units, and whether
    it had to be changed: ``bent`` to the robot's bounds, ``slowed`` to its greatest step.
    """

    action: np.ndarray
    meant: np.ndarray
    bent: bool = False
    slowed: bool = False


class Commander:
    """Makes commands of a policy's actions, one after the other, and remembers where the robot was told to be."""

    def __init__(self, policy: EmbodimentSpec, robot: EmbodimentSpec, limits: Limits) -> None:
        limits.check(robot)
        self._translation = ActionTranslation(policy=policy, robot=robot)
        self._limits = limits
        self._relative = np.array([dim.relative for dim in robot.action])
        self._low, self._high = np.array(robot.action_low, np.float32), np.array(robot.action_high, np.float32)
        self._most = np.array(limits.max_step, np.float32)
        lost = self._translation.needs_base & np.array([place is None for place in limits.follows])
        if lost.any():
            names = [dim.name for dim, gone in zip(robot.action, lost, strict=True) if gone]
            raise ValueError(
                f"actions {names} are relative for one of policy and robot, and follow no state of the robot"
            )
        self._base = self._before = np.full(robot.action_dim, np.nan, np.float32)
        self.last: np.ndarray | None = None
        """What the robot was told last, or where it stood before, in the policy's units; NaN where nobody knows."""

    def start(self, observation: Mapping[str, Any]) -> None:
        """The robot stands where ``observation`` says, and has not been told anything yet."""
        self._base = self._limits.sensed(observation)
        self.last = np.where(self._translation.changes, np.float32(0), self._base).astype(np.float32)

    def command(self, action: Float[np.ndarray, " a"]) -> Sent:
        """The command for an action in the policy's units; ``ValueError`` for one that is not finite."""
        if not np.isfinite(action).all():
            raise ValueError(f"expected a finite action, got {action}")
        wanted = self._translation.to_robot(action, self._base)
        bent = np.clip(wanted, self._low, self._high)
        start = np.where(self._relative, np.float32(0), np.where(np.isnan(self._base), bent, self._base))
        slowed = np.clip(bent, start - self._most, start + self._most)
        return self._sent(slowed, bool((bent != wanted).any()), bool((slowed != bent).any()))

    def hold(self) -> Sent | None:
        """The command to stay where the robot was told to be: None where it was never told, and no state says it."""
        still = np.where(self._relative, np.float32(0), self._base).astype(np.float32)
        return None if np.isnan(still).any() else self._sent(still)

    def carried_out(self, sent: Sent, action: Float[np.ndarray, " a"]) -> Sent:
        """The last command as the robot's own software passed it on, which may have gone less far than it was told."""
        short = not np.allclose(action, sent.action, atol=1e-5)
        self._base = self._before
        return self._sent(action, sent.bent, sent.slowed or short)

    def _sent(self, action: np.ndarray, bent: bool = False, slowed: bool = False) -> Sent:
        action, self._before = action.astype(np.float32), self._base
        meant = self._translation.to_policy(action, self._base)
        self._base = np.where(self._relative, self._base + action, action).astype(np.float32)
        self.last = meant
        return Sent(action=action, meant=meant, bent=bent, slowed=slowed)
