"""C MuJoCo on a thread pool: the reference engine, and the fast one on a machine without a GPU."""

import copy
import logging
import os
import weakref
from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from mujoco import rollout
from torch import Tensor

from envs.backends.painter import Painter
from envs.world import CameraImages, RenderConfig, World

_STATE = mujoco.mjtState.mjSTATE_FULLPHYSICS
logger = logging.getLogger(__name__)


class CpuWorld(World):
    """n worlds stepped by ``mujoco.rollout`` (which leaves the GIL) on ``threads`` threads, and drawn by up to as many
    processes, which all worlds of this process share; one that draws nothing for ``render_limit_s`` is replaced.

    Physics is float64; the solver's warm start is zero at every control step, so that a world's future depends on its
    state alone and not on the thread that happens to step it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        render: RenderConfig,
        fields: tuple[str, ...] = (),
        *,
        threads: int | None = None,
        render_limit_s: float = 30.0,
    ) -> None:
        _log_engine_warnings()
        self.model = model
        self.num_worlds = num_worlds
        self.device = torch.device("cpu")
        self._threads = threads or min(len(os.sched_getaffinity(0)), num_worlds)
        self._models = [copy.copy(model) for _ in range(num_worlds)]
        if "geom_size" in fields:  # the trees of bounding boxes inside bodies are made for the template's sizes
            for each in self._models:
                each.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
        self._datas = [mujoco.MjData(model) for _ in range(self._threads)]
        self._pool = rollout.Rollout(nthread=self._threads if self._threads > 1 else 0)
        self._state = np.zeros((num_worlds, mujoco.mj_stateSize(model, _STATE)))
        self._command = np.zeros((num_worlds, model.nu))
        self._fields = frozenset(fields)
        self._painter = Painter(model, self._models, render, fields, most_workers=self._threads, limit_s=render_limit_s)
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _release, self._pool, self._painter, self._owner)

    @property
    def qpos(self) -> Float[Tensor, "n q"]:
        self._check_not_forked()
        return torch.from_numpy(self._state[:, 1 : 1 + self.model.nq].astype(np.float32))

    @property
    def qvel(self) -> Float[Tensor, "n v"]:
        start = 1 + self.model.nq
        return torch.from_numpy(self._state[:, start : start + self.model.nv].astype(np.float32))

    @property
    def command(self) -> Float[Tensor, "n u"]:
        return torch.from_numpy(self._command.astype(np.float32))

    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        self._check_open()
        diverged = torch.zeros(self.num_worlds, dtype=torch.bool)
        active = mask.numpy().nonzero()[0]
        if len(active) == 0:
            return diverged
        self._command[active] = command.numpy()[active]
        control = np.repeat(self._command[active][:, None], substeps, axis=1)
        before = self._state[active]
        states, _ = self._pool.rollout([self._models[i] for i in active], self._datas, before, control, nstep=substeps)
        after = np.asarray(states)[:, -1]
        # MuJoCo gives up on a world that blows up: its clock stops early, its state is the template's.
        late_s = before[:, 0] + substeps * self.model.opt.timestep - after[:, 0]
        sound = (np.abs(late_s) < self.model.opt.timestep / 2) & np.isfinite(after).all(axis=1)
        self._state[active[sound]] = after[sound]
        diverged[active[~sound]] = True
        return diverged

    def reset(self, qpos: Float[Tensor, "n q"], command: Float[Tensor, "n u"], mask: Bool[Tensor, " n"]) -> None:
        self._check_open()
        chosen = mask.numpy()
        self._state[chosen] = 0
        self._state[chosen, 1 : 1 + self.model.nq] = qpos.numpy()[chosen]
        self._command[chosen] = command.numpy()[chosen]

    def set_field(
        self, name: str, index: Int[Tensor, " k"] | Sequence[int], values: Tensor, mask: Bool[Tensor, " n"]
    ) -> None:
        if name not in self._fields:
            raise ValueError(
                f"{name} cannot be set per world; the fields named at the start are {sorted(self._fields)}"
            )
        rows = np.asarray(index)
        self._painter.note_change(mask.numpy())
        for world in mask.numpy().nonzero()[0]:
            getattr(self._models[world], name)[rows] = values[world].numpy()

    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        self._check_open()
        return self._painter.draw(mask.numpy().nonzero()[0], self._state[:, 1 : 1 + self.model.nq])

    def close(self) -> None:
        self._finalizer()

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise RuntimeError("the environment is closed; make a new one")
        self._check_not_forked()

    def _check_not_forked(self) -> None:
        if os.getpid() != self._owner:
            raise RuntimeError(
                "this environment was made before the process forked, and its threads are not here; make environments "
                "in the process that uses them, started with 'spawn' or 'forkserver' (multiprocessing.get_context)"
            )


def _log_engine_warnings() -> None:
    """Send MuJoCo's warnings to the log; by default it prints them and leaves a file in the working directory."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda text: logger.debug("MuJoCo: %s", text))


def _release(pool: rollout.Rollout, painter: Painter, owner: int) -> None:
    """End the threads, except in a forked child, which has none to wait for; nothing here may hold the world itself."""
    if os.getpid() == owner:
        painter.close()
        pool.close()
