"""C MuJoCo on a thread pool: the reference engine, and the fast one on a machine without a GPU."""

import copy
import os
import weakref
from collections.abc import Sequence
from functools import partial

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from mujoco import rollout
from torch import Tensor

from envs.backends.gl import Renderer, RenderThread, metres
from envs.world import CameraImages, RenderProfile, World

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS


class CpuWorld(World):
    """n worlds stepped by ``mujoco.rollout`` (which leaves the GIL) and drawn by ``threads`` GL contexts.

    Physics is float64; the solver's warm start is zero at every control step, so that a world's future depends on its
    state alone and not on the thread that happens to step it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        *,
        cameras: tuple[str, ...],
        image_size_px: tuple[int, int],
        depth: bool,
        profile: RenderProfile,
        threads: int | None = None,
    ) -> None:
        self.model = model
        self.num_worlds = num_worlds
        self.device = torch.device("cpu")
        self._threads = threads or min(len(os.sched_getaffinity(0)), num_worlds)
        self._models = [copy.copy(model) for _ in range(num_worlds)]
        self._datas = [mujoco.MjData(model) for _ in range(self._threads)]
        self._pool = rollout.Rollout(nthread=self._threads if self._threads > 1 else 0)
        self._state = np.zeros((num_worlds, mujoco.mj_stateSize(model, _STATE)))
        self._command = np.zeros((num_worlds, model.nu))
        self._cameras, self._size, self._profile = cameras, image_size_px, profile
        self._renderers: list[RenderThread] = []
        self._finalizer = weakref.finalize(self, _release, self._renderers, self._pool)
        height, width = image_size_px
        self._rgb = np.zeros((num_worlds, len(cameras), height, width, 3), np.uint8)
        self._depth = np.zeros((num_worlds, len(cameras), height, width), np.float32) if depth else None
        self._poses = np.zeros((num_worlds, len(cameras), 4, 4), np.float64)
        self._poses[..., 3, 3] = 1

    @property
    def qpos(self) -> Float[Tensor, "n q"]:
        return torch.from_numpy(self._state[:, 1 : 1 + self.model.nq].astype(np.float32))

    @property
    def qvel(self) -> Float[Tensor, "n v"]:
        start = 1 + self.model.nq
        return torch.from_numpy(self._state[:, start : start + self.model.nv].astype(np.float32))

    @property
    def command(self) -> Float[Tensor, "n u"]:
        return torch.from_numpy(self._command.astype(np.float32))

    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> None:
        self._check_open()
        active = mask.numpy().nonzero()[0]
        if len(active) == 0:
            return
        self._command[active] = command.numpy()[active]
        control = np.repeat(self._command[active][:, None], substeps, axis=1)
        states, _ = self._pool.rollout(
            [self._models[i] for i in active], self._datas, self._state[active], control, nstep=substeps
        )
        self._state[active] = np.asarray(states)[:, -1]

    def reset(self, qpos: Float[Tensor, "n q"], command: Float[Tensor, "n u"], mask: Bool[Tensor, " n"]) -> None:
        self._check_open()
        chosen = mask.numpy()
        self._state[chosen] = 0
        self._state[chosen, 1 : 1 + self.model.nq] = qpos.numpy()[chosen]
        self._command[chosen] = command.numpy()[chosen]

    def set_field(
        self, name: str, index: Int[Tensor, " k"] | Sequence[int], values: Tensor, mask: Bool[Tensor, " n"]
    ) -> None:
        rows = np.asarray(index)
        for world in mask.numpy().nonzero()[0]:
            getattr(self._models[world], name)[rows] = values[world].numpy()

    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        self._check_open()
        worlds = mask.numpy().nonzero()[0]
        if not self._renderers:
            self._start_renderers()
        shares = np.array_split(worlds, len(self._renderers))
        jobs = [
            thread.submit(partial(self._draw, share))
            for thread, share in zip(self._renderers, shares, strict=True)
            if len(share)
        ]
        for job in jobs:
            job.result()
        return {name: self._images(camera) for camera, name in enumerate(self._cameras)}

    def close(self) -> None:
        self._finalizer()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RuntimeError("the environment is closed; make a new one")

    def _start_renderers(self) -> None:
        height, width = self._size
        make = partial(_make_renderer, self.model, self._cameras, height, width, self._profile)
        try:
            for i in range(self._threads):
                self._renderers.append(RenderThread(make, f"render-{i}"))
        except BaseException:
            self.close()
            raise

    def _draw(self, worlds: np.ndarray, renderer: Renderer) -> None:
        for world in worlds:
            depth = None if self._depth is None else self._depth[world]
            qpos = self._state[world, 1 : 1 + self.model.nq]
            renderer.draw(self._models[world], qpos, self._rgb[world], depth, self._poses[world])

    def _images(self, camera: int) -> CameraImages:
        extent = self.model.stat.extent
        near_m, far_m = self.model.vis.map.znear * extent, self.model.vis.map.zfar * extent
        depth = None
        if self._depth is not None:
            depth = torch.from_numpy(metres(self._depth[:, camera, ::-1], near_m, far_m))
        # MuJoCo's cameras look along −z with y up; OpenCV's along +z with y down.
        poses = self._poses[:, camera] * np.array([1.0, -1.0, -1.0, 1.0])
        return CameraImages(
            rgb=torch.from_numpy(self._rgb[:, camera, ::-1].copy()),
            depth_m=depth,
            T_world_cam=torch.from_numpy(poses.astype(np.float32)),
        )


def _make_renderer(
    model: mujoco.MjModel, cameras: tuple[str, ...], height_px: int, width_px: int, profile: RenderProfile
) -> Renderer:
    """A renderer with a model of its own, because it writes its settings into it."""
    return Renderer(copy.copy(model), cameras, height_px, width_px, profile)


def _release(renderers: list[RenderThread], pool: rollout.Rollout) -> None:
    """End the threads; they must not hold the world, or it would never be collected."""
    for thread in renderers:
        thread.close()
    renderers.clear()
    pool.close()
