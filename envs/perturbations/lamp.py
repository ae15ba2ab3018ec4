"""How the lamp shines."""

import mujoco
import torch
from jaxtyping import Int
from torch import Tensor

from envs.perturbations.effect import Effect, draw, read, sign, sometimes
from envs.perturbations.spec import LampColour, LampShift, Perturbation
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, quat_about
from envs.scenes.layout import Layout
from envs.scenes.tabletop import LAMP, Tabletop
from envs.world import World


class Lamp(Effect):
    """Another colour, strength or direction of the lamp; the light that goes with the cameras stays."""

    def __init__(self, config: LampColour | LampShift, given: Perturbation) -> None:
        self._config, self._given = config, given
        self.fields = ("light_diffuse",) if isinstance(config, LampColour) else ("light_diffuse", "light_dir")

    def bind(self, scene: Tabletop) -> None:
        model, device = scene.model, scene.home_rad.device
        self._id = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_LIGHT, LAMP)
        self._diffuse = read(model, "light_diffuse", device)[self._id]
        self._direction = read(model, "light_dir", device)[self._id]

    def apply(self, world: World, layout: Layout, random: EpisodeRandom, worlds: Int[Tensor, " k"]) -> None:
        match self._config:
            case LampColour(rgb=span):
                diffuse = draw(random, "lamp_rgb", span, 3)
            case LampShift() as config:
                diffuse = self._diffuse + draw(random, "lamp_shift", config.shift, 3) * sign(random, "lamp_side", 3)
                tilt, heading = draw(random, "lamp_tilt", config.tilt_rad), draw(random, "lamp_heading", (0.0, 6.2832))
                axis = torch.cat((heading.cos(), heading.sin(), torch.zeros_like(heading)), -1)
                turned = matrix_from_quat(quat_about(axis, tilt[:, 0])) @ self._direction
                turned = sometimes(self._given, "light", random, turned, self._direction)
                world.set_field("light_dir", [self._id], turned[:, None], worlds)
        diffuse = sometimes(self._given, "light", random, diffuse, self._diffuse)
        world.set_field("light_diffuse", [self._id], diffuse[:, None], worlds)
