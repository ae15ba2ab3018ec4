"""From tool poses to joint targets: closed-loop inverse kinematics, batched in torch, the same for every engine.

Damped least squares (Nakamura & Hanafusa 1986; Wampler 1986) with feedback on the pose that is commanded (Siciliano
1990) and a posture term in the null space.
"""

from dataclasses import dataclass
from math import sin

import torch
from jaxtyping import Float
from torch import Tensor

from envs.batch import Batch
from envs.kinematics import ChainPose, SerialChain
from envs.rotations import compose, matrix_from_vector, rotate


@dataclass(frozen=True, kw_only=True)
class ServoConfig:
    """Limits and gains of :class:`PoseServo`.

    ``max_translation_m`` and ``max_rotation_rad`` bound what the tool is asked for per control step, ``max_turn_rad``
    what a joint is. ``damping`` is λ of the least squares (m, rad); ``posture_gain`` the share of the way home that the
    arm's spare freedom goes per step. ``leash_rad`` is how far a commanded joint may be from the real one, ``leash_m``
    and ``leash_turn_rad`` how far the commanded pose may be from the one that the commanded joints reach: what is
    farther could not be had, and is forgotten.

    ``rotation_weight`` is how many metres a radian of the tool counts for where an arm cannot do both: below 1,
    position wins.
    """

    max_translation_m: float = 0.04
    max_rotation_rad: float = 0.2
    max_turn_rad: float = 0.15
    damping: float = 0.015
    posture_gain: float = 0.1
    leash_rad: float = 0.25
    leash_m: float = 0.06
    leash_turn_rad: float = 0.4
    rotation_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ToolPose(Batch):
    """Where the tool is, or is to be, in the world (m)."""

    position: Float[Tensor, "n 3"]
    rotation: Float[Tensor, "n 3 3"]

    def moved(self, translation_m: Float[Tensor, "n 3"], turn: Float[Tensor, "n 3"]) -> "ToolPose":
        """Displaced, and turned by a rotation vector (rad); both in the world frame."""
        return ToolPose(
            position=self.position + translation_m, rotation=compose(matrix_from_vector(turn), self.rotation)
        )


class PoseServo:
    """Joint targets that take the tool to a commanded pose and hold it there.

    What a step leaves undone is done in the next one: the error between the commanded pose and the one that the
    commanded joints reach is fed back, so that neither damping nor the pull towards home moves a tool that is told to
    stay.
    """

    def __init__(
        self,
        chain: SerialChain,
        config: ServoConfig,
        *,
        limits_rad: Float[Tensor, "j 2"],
        home_rad: Float[Tensor, " j"],
    ) -> None:
        self.config, self.chain = config, chain
        self._lower, self._upper = limits_rad.unbind(-1)
        self._home = home_rad
        device = home_rad.device
        self._damping = config.damping**2 * torch.eye(6, dtype=torch.float64, device=device)
        self._leash_sine = sin(config.leash_turn_rad)
        self._weight = torch.tensor([1.0] * 3 + [config.rotation_weight] * 3, device=device)

    def within_leash(self, targets_rad: Float[Tensor, "n j"], joints_rad: Float[Tensor, "n j"]) -> Float[Tensor, "n j"]:
        """Joint targets that an arm which is blocked at ``joints_rad`` has not run away from."""
        leash = self.config.leash_rad
        return targets_rad.clamp(joints_rad - leash, joints_rad + leash)

    def anchored(self, pose: ToolPose, reached: ChainPose) -> ToolPose:
        """``pose``, no farther than the leash from what the commanded joints reach."""
        error = self._error(pose, reached)
        away_m = error[:, :3].norm(dim=-1, keepdim=True).clamp_min(self.config.leash_m)
        lost = error[:, 3:].norm(dim=-1) > self._leash_sine
        return ToolPose(
            position=torch.lerp(reached.position, pose.position, self.config.leash_m / away_m),
            rotation=torch.where(lost[:, None, None], reached.rotation, pose.rotation),
        )

    def follow(self, pose: ToolPose, reached: ChainPose, targets_rad: Float[Tensor, "n j"]) -> Float[Tensor, "n j"]:
        """The next joint targets on the way to ``pose`` from ``targets_rad``, which reach ``reached``."""
        step = self._joint_step(reached.jacobian, self._weight * self._error(pose, reached), targets_rad)
        fastest = step.abs().amax(-1, keepdim=True).clamp_min(self.config.max_turn_rad)
        return self.limited(targets_rad + step * (self.config.max_turn_rad / fastest))

    def limited(self, targets_rad: Float[Tensor, "n j"]) -> Float[Tensor, "n j"]:
        """Joint targets within the joints' range."""
        return targets_rad.clamp(self._lower, self._upper)

    def _error(self, pose: ToolPose, reached: ChainPose) -> Float[Tensor, "n 6"]:
        """What is left to do: metres, then the sine of the angle times its axis (Luh, Walker & Paul 1980)."""
        turn = torch.linalg.cross(reached.rotation, pose.rotation, dim=1).sum(-1) / 2
        return torch.cat((pose.position - reached.position, turn), -1)

    def _joint_step(
        self, jacobian: Float[Tensor, "n 6 j"], error: Float[Tensor, "n 6"], targets_rad: Float[Tensor, "n j"]
    ) -> Float[Tensor, "n j"]:
        """J⁺e + (1 − J⁺J)·posture, J⁺ = Jᵀ(JJᵀ + λ²I)⁻¹, with weighted rows of J.

        Solved in float64, which no setting rounds and which squares of small singular values need; there the order of
        sums, which depends on the number of worlds, does not show.
        """
        rows = (self._weight[:, None] * jacobian).double()
        posture = self.config.posture_gain * (self._home - targets_rad).double()
        gram = torch.baddbmm(self._damping.expand(len(rows), 6, 6), rows, rows.mT)
        factor, _ = torch.linalg.cholesky_ex(gram)
        solved = torch.cholesky_solve((error - rotate(rows, posture))[..., None], factor)
        return (posture + (rows * solved).sum(1)).float()
