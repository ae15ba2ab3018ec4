"""Rendering with MuJoCo's OpenGL renderer: one thread, one context, many worlds."""

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import mujoco
import numpy as np

from envs.world import RenderProfile


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


class Renderer:
    """Draws worlds of one scene from its cameras. Use from one thread only: the GL context belongs to it."""

    def __init__(
        self, model: mujoco.MjModel, cameras: tuple[str, ...], height_px: int, width_px: int, profile: RenderProfile
    ) -> None:
        self._height_px, self._width_px = height_px, width_px
        self._gl = make_gl_context(width_px, height_px)
        model.vis.global_.offwidth, model.vis.global_.offheight = width_px, height_px
        model.vis.quality.offsamples, model.vis.quality.shadowsize = profile.samples, profile.shadow_size
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + 64)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = profile.shadow_size > 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = profile.reflections
        self._option, self._perturb = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._viewport = mujoco.MjrRect(0, 0, width_px, height_px)
        self._data = mujoco.MjData(model)
        self._cameras = []
        for name in cameras:
            camera = mujoco.MjvCamera()
            camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
            camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
            self._cameras.append(camera)

    def draw(
        self,
        model: mujoco.MjModel,
        qpos: np.ndarray,
        rgb: np.ndarray,
        depth: np.ndarray | None,
        poses: np.ndarray,
    ) -> None:
        """Draw one world from every camera into ``rgb (c, h, w, 3)``, raw ``depth (c, h, w)`` and ``poses (c, 4, 4)``.

        Rows come bottom first and depth is the reversed window depth; :func:`metres` and a flip mend both in batch.
        """
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
            mujoco.mjr_render(self._viewport, self._scene, self._context)
            mujoco.mjr_readPixels(rgb[i], None if depth is None else depth[i], self._viewport, self._context)
            poses[i, :3, :3] = data.cam_xmat[camera.fixedcamid].reshape(3, 3)
            poses[i, :3, 3] = data.cam_xpos[camera.fixedcamid]

    def close(self) -> None:
        """Free the context; the thread that made it must call this."""
        self._context.free()
        self._gl.free()


def metres(depth: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Metres from reversed window depth (1 at ``near_m``, 0 at ``far_m``); 0 where nothing was hit."""
    with np.errstate(invalid="ignore"):
        distance = near_m * far_m / (near_m + depth * (far_m - near_m))
    return np.where(depth > 0, distance, 0).astype(np.float32)


class RenderThread:
    """A thread that owns one :class:`Renderer` and draws what it is handed."""

    def __init__(self, make_renderer: Callable[[], Renderer], name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[Renderer], None], Future[None]] | None] = queue.SimpleQueue()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._serve, args=(make_renderer,), name=name, daemon=True)
        self._thread.start()
        self._ready.result()

    def submit(self, job: Callable[[Renderer], None]) -> "Future[None]":
        """Run ``job`` on the thread; its exception, if any, is the future's."""
        future: Future[None] = Future()
        self._jobs.put((job, future))
        return future

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
