"""What goes wrong with the arm: other servos, commands that come late or wrong."""

from collections.abc import Sequence

import mujoco
import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.perturbations.effect import Effect, draw, normal, read, sometimes
from envs.perturbations.felt import LONGEST_LATENCY
from envs.perturbations.running import Running
from envs.perturbations.spec import ActionNoise, Gains, Latency, Perturbation
from envs.random import EpisodeRandom
from envs.scenes.layout import Layout
from envs.scenes.tabletop import Tabletop
from envs.specs import Dimension
from envs.world import World


class Servos(Effect):
    """Stiffness and damping of the arm's joints; the gripper's stay.

    A position servo's force is gainprm[0] · command + biasprm[1] · angle + biasprm[2] · speed.
    """

    fields = ("actuator_gainprm", "actuator_biasprm")

    def __init__(self, config: Gains, given: Perturbation) -> None:
        self._config, self._given = config, given

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        joints = [model.joint(scene.arm.prefix + joint).id for joint in scene.arm.joints]
        of_joint = model.actuator_trntype == mujoco.mjtTrn.mjTRN_JOINT
        self._ids = [i for i in range(model.nu) if of_joint[i] and model.actuator_trnid[i, 0] in joints]
        self._gain, self._bias = (read(model, name, device)[self._ids] for name in self.fields)

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        stiffness, damping = (
            sometimes(self._given, "gains", random, draw(random, f"gains_{name}", span), 1.0)
            for name, span in (("stiffness", self._config.stiffness), ("damping", self._config.damping))
        )
        gain, bias = (built.repeat(len(random), 1, 1) for built in (self._gain, self._bias))
        gain[..., 0] *= stiffness
        bias[..., 1] *= stiffness
        bias[..., 2] *= damping
        world.set_field("actuator_gainprm", self._ids, gain, worlds)
        world.set_field("actuator_biasprm", self._ids, bias, worlds)


class Delay(Running):
    """Commands take effect some steps after they were given."""

    history_steps = LONGEST_LATENCY

    def __init__(self, config: Latency, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        low, high = self._config.steps
        late = low + random.integers("latency", 1, high - low + 1)[:, 0]
        return {"steps": sometimes(self._given, "latency", random, late, 0)}

    def delayed(self, actions: Float[Tensor, "n a"], history: Float[Tensor, "n l a"]) -> Float[Tensor, "n a"]:
        """Of ``actions`` and those before them, newest first, the ones that are due."""
        given = torch.cat((actions[:, None], history), 1)
        return torch.take_along_dim(given, self.numbers["steps"][:, None, None], 1)[:, 0]


class Tremor(Running):
    """Normal noise on what the arm executes."""

    def __init__(self, config: ActionNoise, given: Perturbation) -> None:
        super().__init__()
        self._config, self._given = config, given

    def bind(self, scene: Tabletop, action: Sequence[Dimension]) -> None:
        """Look up the range of each dimension; those that are not relative are exempt."""
        halves = [(dimension.high - dimension.low) / 2 if dimension.relative else 0.0 for dimension in action]
        self._halves = torch.tensor(halves, device=scene.home_rad.device)

    def drawn(self, random: EpisodeRandom) -> dict[str, Tensor]:
        std = draw(random, "action_noise", self._config.std)[:, 0]
        return {"std": sometimes(self._given, "action_noise", random, std, 0.0)}

    def shaken(
        self, actions: Float[Tensor, "n a"], random: EpisodeRandom, steps: Int[Tensor, " n"]
    ) -> Float[Tensor, "n a"]:
        """``actions`` with the noise of the moment."""
        noise = normal(random.at(steps), "action_noise", actions.shape[1])
        return actions + self.numbers["std"][:, None] * self._halves * noise
