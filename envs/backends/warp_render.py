"""Images of every world at once, by MuJoCo Warp's ray tracer."""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from jaxtyping import Bool, Float, Int32, UInt8
from torch import Tensor

from envs.backends.warp_graphs import Graphs
from envs.backends.warp_simulation import Simulation
from envs.world import CameraImages, RenderConfig

_BLACK = (0.0, 0.0, 0.0, 1.0)
_HIDDEN_GROUP = 5
NOTHING = -1
"""In a segmentation: no geom was hit."""
_INTRINSICS = frozenset({"cam_fovy", "cam_intrinsic"})


class WarpRenderer:
    """One ray per pixel from each camera of ``render``; shadows where its profile has them.

    A ray tracer has neither the multisampling nor the reflections of a profile, and blends nothing: a geom is opaque
    unless the template makes it wholly transparent, which hides it. There is no near or far plane.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        simulation: Simulation,
        render: RenderConfig,
        fields: frozenset[str],
        graphs: Graphs,
    ) -> None:
        self._model, self._data = simulation.model, simulation.data
        self._render, self._graphs = render, graphs
        self._camera_ids = camera_ids(model, render.cameras)
        chosen = [i in self._camera_ids for i in range(model.ncam)]
        self._places = [sum(chosen[:i]) for i in self._camera_ids]  # the engine keeps cameras in the model's order
        skyboxes = model.ntex and bool((model.tex_type == mujoco.mjtTexture.mjTEXTURE_SKYBOX).any())

        def make() -> None:
            self._context = mjw.create_render_context(
                _without_hidden(model),
                nworld=self._data.nworld,
                cam_res=(render.width_px, render.height_px),
                render_rgb=True,
                render_depth=render.depth,
                render_seg=render.segmentation,
                use_shadows=render.profile.shadow_size > 0,
                cam_active=chosen,
                background_color=_BLACK,
                render_skybox=bool(skyboxes),
                use_precomputed_rays=fields.isdisjoint(_INTRINSICS),
            )

        graphs.directly(make)
        graphs.directly(self._program)  # compiles what drawing needs
        self._shown: Pictures | None = None

    def draw(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        """Images by camera name; worlds outside ``mask`` show what they last showed."""
        self._graphs.run("render", self._program)
        fresh = self._read()
        self._shown = fresh if self._shown is None else fresh.where(mask, self._shown)
        return {name: self._shown.of_camera(i) for i, name in enumerate(self._render.cameras)}

    def _program(self) -> None:
        mjw.kinematics(self._model, self._data)
        mjw.camlight(self._model, self._data)
        mjw.refit_bvh(self._model, self._data, self._context)
        mjw.render(self._model, self._data, self._context)

    def _read(self) -> "Pictures":
        """Fresh tensors from the context's buffers, cameras in the order of the configuration."""
        render, context = self._render, self._context
        shape = (self._data.nworld, len(render.cameras), render.height_px, render.width_px)
        bgra = wp.to_torch(context.rgb_data.view(wp.int32)).view(torch.uint8).view(*shape, 4)
        depth = segmentation = None
        if render.depth:
            depth = wp.to_torch(context.depth_data).view(shape)[:, self._places]
        if render.segmentation:
            geom, kind = wp.to_torch(context.seg_data).view(*shape, 2)[:, self._places].unbind(-1)
            segmentation = torch.where(kind == int(mujoco.mjtObj.mjOBJ_GEOM), geom, NOTHING)
        ids = self._camera_ids
        poses = torch.zeros(*shape[:2], 4, 4, device=bgra.device)
        # MuJoCo's cameras look along −z with y up; OpenCV's along +z with y down.
        flip = torch.tensor([1.0, -1.0, -1.0], device=bgra.device)
        poses[..., :3, :3] = wp.to_torch(self._data.cam_xmat)[:, ids] * flip
        poses[..., :3, 3] = wp.to_torch(self._data.cam_xpos)[:, ids]
        poses[..., 3, 3] = 1
        return Pictures(bgra[:, self._places][..., :3].flip(-1), depth, segmentation, poses)


@dataclass(frozen=True)
class Pictures:
    """What c cameras saw in n worlds; as in :class:`CameraImages`, with an axis for the camera."""

    rgb: UInt8[Tensor, "n c h w 3"]
    depth_m: Float[Tensor, "n c h w"] | None
    segmentation: Int32[Tensor, "n c h w"] | None
    T_world_cam: Float[Tensor, "n c 4 4"]

    def where(self, mask: Bool[Tensor, " n"], other: "Pictures") -> "Pictures":
        """These pictures in the worlds of ``mask``, those of ``other`` elsewhere."""

        def choose(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            return None if mine is None else torch.where(mask.reshape(-1, *(1,) * (mine.dim() - 1)), mine, theirs)

        return Pictures(**{field.name: choose(field.name) for field in dataclasses.fields(self)})

    def of_camera(self, i: int) -> CameraImages:
        """Copies of what camera ``i`` saw."""
        return CameraImages(
            rgb=self.rgb[:, i].clone(),
            depth_m=None if self.depth_m is None else self.depth_m[:, i].clone(),
            segmentation=None if self.segmentation is None else self.segmentation[:, i].clone(),
            T_world_cam=self.T_world_cam[:, i].clone(),
        )


def camera_ids(model: mujoco.MjModel, names: tuple[str, ...]) -> list[int]:
    """Where the cameras stand in the model; ``KeyError`` names the cameras there are."""
    known = [model.camera(i).name for i in range(model.ncam)]
    for name in names:
        if name not in known:
            raise KeyError(f"no camera {name!r}; the scene has {known}")
    return [known.index(name) for name in names]


def _without_hidden(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy whose wholly transparent geoms are in a group that is not drawn, as OpenGL does not draw them."""
    drawn = copy.copy(model)
    bare = model.geom_matid < 0
    alpha = np.where(bare, model.geom_rgba[:, 3], 1.0)
    alpha[~bare] = model.mat_rgba[model.geom_matid[~bare], 3]
    drawn.geom_group[alpha == 0] = _HIDDEN_GROUP
    return drawn
