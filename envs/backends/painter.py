"""The pictures of the cpu engine's worlds, drawn by the render processes that this process shares out."""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from envs.backends.canvas import Canvas
from envs.backends.render_pool import render_pool
from envs.world import CameraImages, RenderConfig


class Painter:
    """Draws worlds whose models are ``models`` (copies of ``template`` that differ in ``fields``) on up to
    ``most_workers`` processes at once; a process that draws no world within ``limit_s`` seconds counts as hung.

    Memory is taken and processes are started with the first picture.
    """

    def __init__(
        self,
        template: mujoco.MjModel,
        models: Sequence[mujoco.MjModel],
        render: RenderConfig,
        fields: tuple[str, ...],
        *,
        most_workers: int,
        limit_s: float,
    ) -> None:
        self._template, self._models = template, models
        self._render, self._fields = render, fields
        self._most_workers, self._limit_s = most_workers, limit_s
        self._canvas: Canvas | None = None
        self._changed = np.ones(len(models), dtype=bool)

    def note_change(self, worlds: Int[np.ndarray, " k"]) -> None:
        """The models of these worlds were written into."""
        self._changed[worlds] = True

    def draw(self, worlds: Int[np.ndarray, " k"], qpos: Float[np.ndarray, "n q"]) -> dict[str, CameraImages]:
        """Images of all worlds by camera, those of ``worlds`` drawn anew from their rows of ``qpos``.

        Errors as for ``RenderPool.draw``.
        """
        if not self._render.cameras:
            return {}
        if self._canvas is None:
            self._canvas = Canvas.make(self._template, len(self._models), self._render, self._fields)
        canvas = self._canvas
        if len(worlds):
            canvas.qpos[worlds] = qpos[worlds]
            self._copy_fields(canvas, worlds[self._changed[worlds]])
            render_pool().draw(canvas, worlds, self._most_workers, self._limit_s)
        return {name: _images(canvas, camera) for camera, name in enumerate(self._render.cameras)}

    def close(self) -> None:
        """Free the memory, here and in the processes; safe to call twice."""
        if self._canvas is not None:
            render_pool().forget(self._canvas)
        self._canvas = None

    def _copy_fields(self, canvas: Canvas, worlds: Int[np.ndarray, " k"]) -> None:
        for name, values in canvas.fields.items():
            for world in worlds:
                values[world] = getattr(self._models[world], name)
        self._changed[worlds] = False


def _images(canvas: Canvas, camera: int) -> CameraImages:
    """A camera's images; copies, because the next drawing overwrites the canvas."""
    pictures = canvas.pictures
    return CameraImages(
        rgb=_copied(pictures.rgb[camera]),
        depth_m=None if pictures.depth_m is None else _copied(pictures.depth_m[camera]),
        segmentation=None if pictures.geoms is None else _copied(pictures.geoms[camera]),
        T_world_cam=_copied(pictures.T_world_cam[camera]),
    )


def _copied(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.copy())
