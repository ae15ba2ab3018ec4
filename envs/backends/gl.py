"""Rendering with MuJoCo's OpenGL renderer: one thread, one context, many worlds. Free of torch: workers import it."""

import importlib
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float32, Int32, UInt8

from envs.graphics import RenderingUnavailableError, explain_failure, find_backend, wanted_backend
from envs.rendering import NOTHING, RenderConfig, camera_ids


def make_gl_context(width_px: int, height_px: int) -> Any:
    """An off-screen OpenGL context: what ``MUJOCO_GL`` asks for, else EGL, or OSMesa where EGL is missing.

    One is chosen beforehand, for PyOpenGL cannot change once it has begun. :class:`RenderingUnavailableError` says why
    there is none.
    """
    backend = wanted_backend() or find_backend() or "egl"
    try:
        context_class = importlib.import_module(f"mujoco.{backend}").GLContext
        context_class._context = None  # its destructor asks for this also where its constructor failed
        context = context_class(width_px, height_px)
        context.make_current()
    except Exception as error:  # drivers, PyOpenGL and MuJoCo fail in many ways
        raise RenderingUnavailableError(f"cannot render: {explain_failure(backend, error)}") from error
    return context


@dataclass(frozen=True)
class Pictures:
    """Buffers that :class:`Renderer` draws into, with or without an axis of worlds behind that of the cameras.

    Rows come top first; ``depth_m`` runs along the optical axis, 0 where nothing was hit; ``geoms`` are geom indices;
    ``T_world_cam`` is in the OpenCV frame.
    """

    rgb: UInt8[np.ndarray, "c *n h w 3"]
    depth_m: Float32[np.ndarray, "c *n h w"] | None
    geoms: Int32[np.ndarray, "c *n h w"] | None
    T_world_cam: Float32[np.ndarray, "c *n 4 4"]

    def of_world(self, world: int) -> "Pictures":
        """Views of one world's buffers."""
        depth_m = None if self.depth_m is None else self.depth_m[:, world]
        geoms = None if self.geoms is None else self.geoms[:, world]
        return Pictures(self.rgb[:, world], depth_m, geoms, self.T_world_cam[:, world])


class Renderer:
    """Draws worlds of one scene from its cameras, in the OpenGL context that is current in this thread.

    Several may share one context; call :meth:`activate` when another has drawn in between. ``model`` is written into.
    ``shown`` chooses groups of geoms and sites; by default MuJoCo's own.
    """

    def __init__(self, model: mujoco.MjModel, render: RenderConfig, shown: mujoco.MjvOption | None = None) -> None:
        profile = render.profile
        self._cameras = [_fixed_camera(i) for i in camera_ids(model, render.cameras)]
        model.vis.global_.offwidth, model.vis.global_.offheight = render.width_px, render.height_px
        model.vis.quality.offsamples, model.vis.quality.shadowsize = profile.samples, profile.shadow_size
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self.activate()
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + model.ntendon + 64)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = profile.shadow_size > 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = profile.reflections
        self._option, self._perturb = shown or mujoco.MjvOption(), mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, render.width_px, render.height_px)
        shape = (render.height_px, render.width_px)
        self._rgb, self._depth = np.zeros((*shape, 3), np.uint8), np.zeros(shape, np.float32)
        extent = model.stat.extent
        self._near_m, self._far_m = model.vis.map.znear * extent, model.vis.map.zfar * extent
        self._data = mujoco.MjData(model)

    def activate(self) -> None:
        """Direct drawing in the current context into this renderer's buffer."""
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)

    def draw(self, model: mujoco.MjModel, qpos: np.ndarray, pictures: Pictures) -> None:
        """Draw one world from every camera into its ``pictures``."""
        self._data.qpos[:] = qpos
        mujoco.mj_kinematics(model, self._data)
        mujoco.mj_camlight(model, self._data)
        self.draw_data(model, self._data, pictures)

    def draw_data(self, model: mujoco.MjModel, data: mujoco.MjData, pictures: Pictures) -> None:
        """As :meth:`draw`, of ``data`` with kinematics up to date; MuJoCo's headlight stays with the first camera."""
        for i, camera in enumerate(self._cameras):
            if i == 0:
                mujoco.mjv_updateScene(
                    model, data, self._option, self._perturb, camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
                )
            else:
                mujoco.mjv_updateCamera(model, data, camera, self._scene)
            depth = None if pictures.depth_m is None else self._depth
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(self._rgb, depth, self._viewport, self._context)
            pictures.rgb[i] = self._rgb[::-1]  # OpenGL's rows come bottom first
            if pictures.depth_m is not None:
                pictures.depth_m[i] = metres(self._depth[::-1], self._near_m, self._far_m)
            if pictures.geoms is not None:
                pictures.geoms[i] = self._draw_geoms()[::-1]
            # MuJoCo's cameras look along −z with y up; OpenCV's along +z with y down.
            axes = data.cam_xmat[camera.fixedcamid].reshape(3, 3)
            pictures.T_world_cam[i, :3, :3] = axes * np.array([1.0, -1.0, -1.0])
            pictures.T_world_cam[i, :3, 3] = data.cam_xpos[camera.fixedcamid]

    def _draw_geoms(self) -> Int32[np.ndarray, "h w"]:
        """The same view once more, every geom painted in the number of its place in the scene; rows bottom first."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        mujoco.mjr_readPixels(self._rgb, None, self._viewport, self._context)
        places = self._rgb.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        geom_of_place = np.full(self._scene.ngeom + 1, NOTHING, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of_place[geom.segid + 1] = geom.objid
        return geom_of_place[places]

    def close(self) -> None:
        """Free the context's things; the thread that made them must call this, in the context they were made in."""
        self._context.free()


def metres(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Metres from reversed window depth (1 at ``near_m``, 0 at ``far_m``); 0 where nothing was hit."""
    with np.errstate(invalid="ignore"):
        distance = near_m * far_m / (near_m + depth * (far_m - near_m))
    return np.where(depth > 0, distance, 0).astype(np.float32)


def _fixed_camera(index: int) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, index
    return camera
