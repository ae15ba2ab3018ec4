"""Rendering with MuJoCo's OpenGL renderer: one thread, one context, many worlds."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from jaxtyping import Float, Int32, UInt8

from envs.world import RenderConfig

NOTHING = -1
"""Segmentation where no geom was hit."""


class RenderingUnavailableError(RuntimeError):
    """No OpenGL context can be made on this machine."""


def make_gl_context(width_px: int, height_px: int) -> Any:
    """An off-screen OpenGL context: EGL, or OSMesa where EGL is missing."""
    failures = []
    for name in ("egl", "osmesa"):
        try:
            if name == "egl":
                from mujoco.egl import GLContext
            else:
                from mujoco.osmesa import GLContext
            context = GLContext(width_px, height_px)
            context.make_current()
            return context
        except (ImportError, AttributeError, RuntimeError, OSError) as error:
            failures.append(f"{name}: {error}")
    raise RenderingUnavailableError(
        "cannot render: no OpenGL context. On Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri "
        f"libosmesa6. Tried {'; '.join(failures)}"
    )


@dataclass(frozen=True)
class Pictures:
    """Buffers that :class:`Renderer` draws into, with or without a leading axis of worlds.

    Rows come bottom first; ``depth`` is the reversed window depth, which :func:`metres` turns into a distance;
    ``geoms`` are geom indices; ``poses`` are MuJoCo's camera frames in the world.
    """

    rgb: UInt8[np.ndarray, "*n c h w 3"]
    depth: Float[np.ndarray, "*n c h w"] | None
    geoms: Int32[np.ndarray, "*n c h w"] | None
    poses: Float[np.ndarray, "*n c 4 4"]

    def of_world(self, world: int) -> "Pictures":
        """Views of one world's buffers."""
        depth = None if self.depth is None else self.depth[world]
        geoms = None if self.geoms is None else self.geoms[world]
        return Pictures(self.rgb[world], depth, geoms, self.poses[world])


class Renderer:
    """Draws worlds of one scene from its cameras. Use from one thread only: the GL context belongs to it."""

    def __init__(self, model: mujoco.MjModel, render: RenderConfig) -> None:
        profile = render.profile
        self._cameras = [_fixed_camera(model, name) for name in render.cameras]
        self._gl = make_gl_context(render.width_px, render.height_px)
        model.vis.global_.offwidth, model.vis.global_.offheight = render.width_px, render.height_px
        model.vis.quality.offsamples, model.vis.quality.shadowsize = profile.samples, profile.shadow_size
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 64)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = profile.shadow_size > 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = profile.reflections
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, render.width_px, render.height_px)
        self._codes = np.zeros((render.height_px, render.width_px, 3), np.uint8)
        self._data = mujoco.MjData(model)

    def draw(self, model: mujoco.MjModel, qpos: np.ndarray, pictures: Pictures) -> None:
        """Draw one world from every camera into its ``pictures``."""
        data = self._data
        data.qpos[:] = qpos
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        for i, camera in enumerate(self._cameras):
            if i == 0:
                mujoco.mjv_updateScene(
                    model, data, self._option, self._perturb, camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
                )
            else:
                mujoco.mjv_updateCamera(model, data, camera, self._scene)
            depth = None if pictures.depth is None else pictures.depth[i]
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(pictures.rgb[i], depth, self._viewport, self._context)
            if pictures.geoms is not None:
                pictures.geoms[i] = self._draw_geoms()
            pictures.poses[i, :3, :3] = data.cam_xmat[camera.fixedcamid].reshape(3, 3)
            pictures.poses[i, :3, 3] = data.cam_xpos[camera.fixedcamid]

    def _draw_geoms(self) -> Int32[np.ndarray, "h w"]:
        """The same view once more, every geom painted in the number of its place in the scene."""
        flags = self._scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        mujoco.mjr_render(self._viewport, self._scene, self._context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        mujoco.mjr_readPixels(self._codes, None, self._viewport, self._context)
        places = self._codes.astype(np.int32) @ np.array([1, 1 << 8, 1 << 16], np.int32)
        geom_of_place = np.full(self._scene.ngeom + 1, NOTHING, np.int32)
        for geom in self._scene.geoms[: self._scene.ngeom]:
            if geom.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of_place[geom.segid + 1] = geom.objid
        return geom_of_place[places]

    def close(self) -> None:
        """Free the context; the thread that made it must call this."""
        self._context.free()
        self._gl.free()


def metres(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Metres from reversed window depth (1 at ``near_m``, 0 at ``far_m``); 0 where nothing was hit."""
    with np.errstate(invalid="ignore"):
        distance = near_m * far_m / (near_m + depth * (far_m - near_m))
    return np.where(depth > 0, distance, 0).astype(np.float32)


def _fixed_camera(model: mujoco.MjModel, name: str) -> mujoco.MjvCamera:
    camera = mujoco.MjvCamera()
    camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
    camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if camera.fixedcamid < 0:
        raise KeyError(f"no camera {name!r}; the scene has {[model.camera(i).name for i in range(model.ncam)]}")
    return camera


class RenderThread:
    """A thread that owns one :class:`Renderer` and draws what it is handed."""

    def __init__(self, make_renderer: Callable[[], Renderer], name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[Renderer], None], Future[None]] | None] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(make_renderer,), name=name, daemon=True)
        self._thread.start()
        self._ready.result()

    @property
    def alive(self) -> bool:
        """Whether the thread still takes jobs."""
        return self._thread.is_alive()

    def submit(self, job: Callable[[Renderer], None]) -> "Future[None]":
        """Run ``job`` on the thread; :meth:`finish` waits for it."""
        future: Future[None] = Future()
        self._jobs.put((job, future))
        return future

    def finish(self, future: "Future[None]") -> None:
        """Wait for a submitted job and raise its exception, if any; ``RuntimeError`` if the thread has died."""
        while not wait((future,), timeout=1.0).done:
            if not self.alive and not future.done():
                raise RuntimeError(
                    f"thread {self._thread.name!r} died while it was rendering; the next call starts another one"
                )
        future.result()

    def close(self) -> None:
        """Finish what is queued and free the context."""
        self._jobs.put(None)
        self._thread.join()

    def _serve(self, make_renderer: Callable[[], Renderer]) -> None:
        try:
            renderer = make_renderer()
            del make_renderer
        except BaseException as error:
            self._ready.set_exception(error)
            return
        self._ready.set_result(None)
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                job(renderer)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(None)
            del item, job, future  # while waiting for the next job, hold on to nothing of the last
        renderer.close()
