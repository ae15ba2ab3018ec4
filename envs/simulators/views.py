"""Pictures of another project's MuJoCo scene: upright, calibrated, and drawn only when somebody looks.

The simulators' own renderers hand out pictures upside down and without calibration; here our renderer draws their
models. Free of torch, because worker processes import it.
"""

import atexit
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float

from envs.backends.gl import Pictures, Renderer, make_gl_context
from envs.rendering import FAST, RenderConfig, RenderProfile
from envs.simulators.seeing import ProfileName, Seeing
from envs.specs import depth_key, extrinsics_key, image_key, intrinsics_key, segmentation_key

AS_GIVEN = -1
"""In a render profile: what the scene's own author chose."""
STOCK = RenderProfile(name="stock", shadow_size=AS_GIVEN, samples=AS_GIVEN, reflections=True)
"""What the simulator's authors see; the profile of scores that are to be compared with others'."""
PROFILES: dict[ProfileName, RenderProfile] = {"stock": STOCK, "fast": FAST}
_ROLLED = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Half a turn about the optical axis."""


class Views:
    """The cameras of one world. ``cameras`` maps our names to those in the model.

    Cameras named in ``rolled`` hang head down in the scene: their pictures are turned by half a turn, and so is the
    frame that is reported for them. Groups of geoms in ``hidden`` are not drawn.
    """

    def __init__(
        self,
        seeing: Seeing,
        cameras: Mapping[str, str],
        *,
        rolled: frozenset[str] = frozenset(),
        hidden: tuple[int, ...] = (),
    ) -> None:
        self._seeing, self._cameras, self._rolled = seeing, dict(cameras), rolled
        self._shown = mujoco.MjvOption()
        self._shown.geomgroup[list(hidden)] = 0
        self._renderer: Renderer | None = None
        self._model: mujoco.MjModel | None = None

    def draw(self, model: mujoco.MjModel, data: mujoco.MjData) -> dict[str, Any]:
        """Pictures and calibration by the keys of :mod:`envs.specs`, of ``data`` with kinematics up to date."""
        if not self._seeing.render:
            return {}
        _shared_context().make_current()
        renderer = self._renderer_of(model)
        renderer.activate()
        pictures = self._empty()
        renderer.draw_data(model, data, pictures)
        observation: dict[str, Any] = {}
        for i, (name, called) in enumerate(self._cameras.items()):
            turned = slice(None, None, -1 if name in self._rolled else None)
            roll = _ROLLED if name in self._rolled else np.eye(4)
            observation[image_key(name)] = np.ascontiguousarray(pictures.rgb[i][turned, turned])
            if pictures.depth_m is not None:
                observation[depth_key(name)] = np.ascontiguousarray(pictures.depth_m[i][turned, turned])
            if pictures.geoms is not None:
                observation[segmentation_key(name)] = np.ascontiguousarray(pictures.geoms[i][turned, turned])
            observation[intrinsics_key(name)] = pinhole(float(model.camera(called).fovy[0]), self._seeing.image_size_px)
            observation[extrinsics_key(name)] = (pictures.T_world_cam[i] @ roll).astype(np.float32)
        return observation

    def close(self) -> None:
        """Free what the renderer holds; safe to call twice."""
        if self._renderer is not None:
            _shared_context().make_current()
            self._renderer.close()
        self._renderer = self._model = None

    def _renderer_of(self, model: mujoco.MjModel) -> Renderer:
        """The renderer of ``model``: made anew when an episode brought another one."""
        if self._renderer is None or self._model is not model:
            self.close()
            self._renderer = Renderer(model, self._config(model), self._shown)
            self._model = model
        return self._renderer

    def _config(self, model: mujoco.MjModel) -> RenderConfig:
        profile, quality, side = PROFILES[self._seeing.profile], model.vis.quality, self._seeing.image_size_px
        if profile.samples == AS_GIVEN:
            profile = replace(profile, samples=int(quality.offsamples), shadow_size=int(quality.shadowsize))
        return RenderConfig(
            cameras=tuple(self._cameras.values()),
            height_px=side,
            width_px=side,
            depth=self._seeing.depth,
            segmentation=self._seeing.segmentation,
            profile=profile,
        )

    def _empty(self) -> Pictures:
        shape = (len(self._cameras), self._seeing.image_size_px, self._seeing.image_size_px)
        frames = np.zeros((shape[0], 4, 4), np.float32)
        frames[:, 3, 3] = 1
        return Pictures(
            rgb=np.zeros((*shape, 3), np.uint8),
            depth_m=np.zeros(shape, np.float32) if self._seeing.depth else None,
            geoms=np.zeros(shape, np.int32) if self._seeing.segmentation else None,
            T_world_cam=frames,
        )


def pinhole(fovy_deg: float, side_px: int) -> Float[np.ndarray, "3 3"]:
    """K of a MuJoCo camera with a square picture: square pixels, the principal point at its centre."""
    focal_px = 0.5 * side_px / np.tan(np.deg2rad(fovy_deg / 2))
    return np.array([[focal_px, 0, side_px / 2], [0, focal_px, side_px / 2], [0, 0, 1]], np.float32)


@cache
def _shared_context() -> Any:
    """One OpenGL context for all worlds of this process."""
    context = make_gl_context(16, 16)
    atexit.register(context.free)  # later, half of what it needs is gone
    return context
