"""The delta end-effector controller: 7-D actions in, joint position targets out.

Damped least squares (Nakamura & Hanafusa 1986; Wampler 1986) with a posture term in the null space, batched in torch;
the same code drives every backend.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from envs.kinematics import SerialChain


@dataclass(frozen=True, kw_only=True)
class DeltaPoseConfig:
    """Limits and gains of :class:`DeltaPoseController`.

    ``damping`` is λ of the least squares (m, rad); ``posture_gain`` the share of the way home that the arm's
    spare freedom goes per step; ``leash_rad`` how far a commanded joint may be from the real one. ``rotation_weight``
    is how many metres a radian of the tool counts for where an arm cannot do both: below 1, position wins.
    """

    max_translation_m: float = 0.04
    max_rotation_rad: float = 0.2
    damping: float = 0.05
    posture_gain: float = 0.1
    leash_rad: float = 0.25
    rotation_weight: float = 1.0


class DeltaPoseController:
    """Moves the tool frame by a small pose difference per control step.

    An action is ``(dx, dy, dz)`` in metres, a rotation vector ``(rx, ry, rz)`` in radians, both in the world frame,
    and a gripper command 0 (open) … 1 (closed). The difference is added to the *commanded* pose, so that a chunk of
    actions adds up to the same displacement whatever the servo's lag; ``leash_rad`` keeps the command from running
    away from an arm that is blocked.
    """

    def __init__(
        self,
        chain: SerialChain,
        *,
        lower_rad: Float[Tensor, " j"],
        upper_rad: Float[Tensor, " j"],
        home_rad: Float[Tensor, " j"],
        gripper_open_m: float,
        config: DeltaPoseConfig,
    ) -> None:
        self.config = config
        self._chain = chain
        self._lower, self._upper, self._home = lower_rad, upper_rad, home_rad
        self._gripper_open_m = gripper_open_m
        self._eye6 = torch.eye(6, device=home_rad.device)
        self._weight = torch.tensor([1.0] * 3 + [config.rotation_weight] * 3, device=home_rad.device)

    def targets(
        self, action: Float[Tensor, "n 7"], joints_rad: Float[Tensor, "n j"], command: Float[Tensor, "n u"]
    ) -> Float[Tensor, "n u"]:
        """The next actuator targets: joint angles (rad), then the finger opening (m).

        ``joints_rad`` is where the arm is, ``command`` the targets now in force.
        """
        limits = self.config
        goal = command[:, :-1]
        goal = torch.minimum(torch.maximum(goal, joints_rad - limits.leash_rad), joints_rad + limits.leash_rad)
        jacobian = self._chain.pose_and_jacobian(goal).jacobian
        step = torch.cat(
            (
                action[:, 0:3].clamp(-limits.max_translation_m, limits.max_translation_m),
                action[:, 3:6].clamp(-limits.max_rotation_rad, limits.max_rotation_rad),
            ),
            -1,
        )
        goal = (goal + self._joint_step(jacobian, step, goal)).clamp(self._lower, self._upper)
        opening = self._gripper_open_m * (1 - action[:, 6:7].clamp(0, 1))
        return torch.cat((goal, opening), -1)

    def _joint_step(
        self, jacobian: Float[Tensor, "n 6 j"], step: Float[Tensor, "n 6"], goal: Float[Tensor, "n j"]
    ) -> Float[Tensor, "n j"]:
        """J⁺·step + (1 − J⁺J)·posture, J⁺ = Jᵀ(JJᵀ + λ²I)⁻¹, with weighted rows of J and step."""
        jacobian, step = self._weight[:, None] * jacobian, self._weight * step
        transpose = jacobian.transpose(1, 2)
        gram = jacobian @ transpose + self.config.damping**2 * self._eye6
        posture = self.config.posture_gain * (self._home - goal)
        residual = step - (jacobian @ posture[..., None]).squeeze(-1)
        return posture + (transpose @ torch.linalg.solve(gram, residual[..., None])).squeeze(-1)
