"""Images of every world at once, by MuJoCo Warp's ray tracer."""

import copy

import mujoco
import mujoco_warp as mjw
import numpy as np
import torch
import warp as wp
from jaxtyping import Bool, Float
from torch import Tensor

from envs.backends.warp_graphs import Graphs
from envs.backends.warp_simulation import Simulation
from envs.batch import where_worlds
from envs.rendering import NOTHING, camera_ids
from envs.world import CameraImages, RenderConfig

_BLACK = (0.0, 0.0, 0.0, 1.0)
_HIDDEN_GROUP = 5
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
        self._shown: dict[str, CameraImages] | None = None
        device = wp.device_to_torch(simulation.data.qpos.device)
        self._ids = torch.tensor(self._camera_ids, device=device)
        self._rgb_channels = torch.tensor([2, 1, 0], device=device)
        # MuJoCo's cameras look along −z with y up; OpenCV's along +z with y down.
        self._flip = torch.tensor([1.0, -1.0, -1.0], device=device)
        self._last_row = torch.tensor([0.0, 0.0, 0.0, 1.0], device=device)

    def draw(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        """Images by camera name, the caller's own; worlds outside ``mask`` show what they last showed."""
        self._graphs.run("render", self._program)
        names = self._render.cameras
        shown = self._shown or dict.fromkeys(names)
        self._shown = {name: self._seen(camera, mask, shown[name]) for camera, name in enumerate(names)}
        return {name: images.copied() for name, images in self._shown.items()}

    def _program(self) -> None:
        mjw.kinematics(self._model, self._data)
        mjw.camlight(self._model, self._data)
        mjw.refit_bvh(self._model, self._data, self._context)
        mjw.render(self._model, self._data, self._context)

    def _seen(self, camera: int, mask: Bool[Tensor, " n"], shown: CameraImages | None) -> CameraImages:
        """What the ``camera``-th one sees in the worlds of ``mask``, and what it has ``shown`` elsewhere."""
        render, context, place = self._render, self._context, self._places[camera]
        shape = (self._data.nworld, len(render.cameras), render.height_px, render.width_px)
        depth = segmentation = None
        bgra = wp.to_torch(context.rgb_data.view(wp.int32)).view(torch.uint8).view(*shape, 4)
        rgb = _chosen(mask, bgra[:, place][..., self._rgb_channels], shown and shown.rgb)
        if render.depth:
            depth = _chosen(mask, wp.to_torch(context.depth_data).view(shape)[:, place], shown and shown.depth_m)
        if render.segmentation:
            geom, kind = wp.to_torch(context.seg_data).view(*shape, 2)[:, place].unbind(-1)
            found = torch.where(kind == int(mujoco.mjtObj.mjOBJ_GEOM), geom, NOTHING)
            segmentation = _chosen(mask, found, shown and shown.segmentation)
        poses = self._poses[:, camera]
        return CameraImages(
            rgb=rgb,
            depth_m=depth,
            segmentation=segmentation,
            T_world_cam=_chosen(mask, poses, shown and shown.T_world_cam),
        )

    @property
    def _poses(self) -> Float[Tensor, "n c 4 4"]:
        """``T_world_cam`` of every camera in every world."""
        rotation = wp.to_torch(self._data.cam_xmat)[:, self._ids] * self._flip
        rigid = torch.cat((rotation, wp.to_torch(self._data.cam_xpos)[:, self._ids, :, None]), -1)
        return torch.cat((rigid, self._last_row.expand(*rigid.shape[:2], 1, 4)), -2)


def _chosen(mask: Bool[Tensor, " n"], fresh: Tensor, shown: Tensor | None) -> Tensor:
    """A new tensor: ``fresh`` in the worlds of ``mask``, what was ``shown`` elsewhere."""
    if shown is None:
        return fresh.clone()
    return where_worlds(mask, fresh, shown)


def _without_hidden(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy whose wholly transparent geoms are in a group that is not drawn, as OpenGL does not draw them."""
    drawn = copy.copy(model)
    bare = model.geom_matid < 0
    alpha = np.where(bare, model.geom_rgba[:, 3], 1.0)
    alpha[~bare] = model.mat_rgba[model.geom_matid[~bare], 3]
    drawn.geom_group[alpha == 0] = _HIDDEN_GROUP
    return drawn
