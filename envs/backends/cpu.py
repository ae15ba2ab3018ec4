"""C MuJoCo on a thread pool: the reference engine, and the fast one on a machine without a GPU."""

import copy
import logging
import os
import weakref
from collections.abc import Mapping, Sequence

import mujoco
import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from mujoco import rollout
from torch import Tensor

from envs.backends.painter import Painter
from envs.forking import check_not_inherited
from envs.world import CameraImages, Lost, RenderConfig, World, touch_sensors

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
        self._velocity = self._state[:, 1 + model.nq : 1 + model.nq + model.nv]
        self._command = np.zeros((num_worlds, model.nu))
        self._sensors = np.zeros((num_worlds, model.nsensordata))
        self._touch_sensors = [int(model.sensor_adr[i]) for i in touch_sensors(model)]
        self.fields = frozenset(fields)
        self._painter = Painter(model, self._models, render, fields, most_workers=self._threads, limit_s=render_limit_s)
        self._owner = os.getpid()
        self._finalizer = weakref.finalize(self, _release, self._pool, self._painter, self._owner)

    @property
    def qpos(self) -> Float[Tensor, "n q"]:
        self._check_not_forked()
        return torch.from_numpy(self._state[:, 1 : 1 + self.model.nq].astype(np.float32))

    @property
    def qvel(self) -> Float[Tensor, "n v"]:
        return torch.from_numpy(self._velocity.astype(np.float32))

    @property
    def command(self) -> Float[Tensor, "n u"]:
        self._check_not_forked()
        return torch.from_numpy(self._command.astype(np.float32))

    @property
    def touches(self) -> Bool[Tensor, "n s"]:
        return torch.from_numpy(self._sensors[:, self._touch_sensors] > 0)

    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Lost:
        self._check_open()
        diverged, crowded = (np.zeros(self.num_worlds, dtype=bool) for _ in Lost._fields)
        active = mask.numpy().nonzero()[0]
        if len(active) == 0:
            return Lost(torch.from_numpy(diverged), torch.from_numpy(crowded))
        asked = command.numpy()[active].astype(np.float64)
        before = self._state[active]
        shape = (len(active), substeps)
        states = np.empty((*shape, before.shape[1]))
        sensors = np.empty((*shape, self.model.nsensordata))
        self._pool.rollout(
            [self._models[i] for i in active],
            self._datas,
            before,
            np.repeat(asked[:, None], substeps, axis=1),
            skip_checks=True,
            nstep=substeps,
            initial_warmstart=None,
            state=states,
            sensordata=sensors,
        )
        after = states[:, -1]
        # MuJoCo gives up on a world that blows up: its clock stops early, its state is the template's.
        late_s = before[:, 0] + substeps * self.model.opt.timestep - after[:, 0]
        sound = (np.abs(late_s) < self.model.opt.timestep / 2) & np.isfinite(after).all(axis=1)
        kept = active[sound]
        self._state[kept], self._command[kept] = after[sound], asked[sound]
        self._sensors[kept] = sensors[sound, -1]
        diverged[active[~sound]] = True
        return Lost(torch.from_numpy(diverged), torch.from_numpy(crowded))

    def put(
        self,
        worlds: Int[Tensor, " k"],
        qpos: Float[Tensor, "k q"],
        command: Float[Tensor, "k u"],
        qvel: Float[Tensor, "k v"] | None = None,
    ) -> None:
        self._check_open()
        chosen = worlds.numpy()
        self._state[chosen] = self._sensors[chosen] = 0
        self._state[chosen, 1 : 1 + self.model.nq] = qpos.numpy()
        self._command[chosen] = command.numpy()
        if qvel is not None:
            self._velocity[chosen] = qvel.numpy()

    def push(self, change: Float[Tensor, "n v"]) -> None:
        self._check_open()
        self._velocity += change.numpy()

    def set_field(
        self, name: str, index: Int[Tensor, " m"] | Sequence[int], values: Tensor, worlds: Int[Tensor, " k"] | None
    ) -> None:
        self._check_field(name)
        rows, given = np.asarray(index), values.numpy()
        chosen = np.arange(self.num_worlds) if worlds is None else worlds.numpy()
        self._painter.note_change(chosen)
        for world, value in zip(chosen, given, strict=True):
            getattr(self._models[world], name)[rows] = value

    def snapshot(self) -> dict[str, Tensor]:
        fields = {
            f"field.{name}": torch.from_numpy(np.stack([getattr(model, name) for model in self._models]))
            for name in sorted(self.fields)
        }
        numbers = {"state": self._state, "command": self._command, "sensors": self._sensors}
        return fields | {name: torch.from_numpy(array.copy()) for name, array in numbers.items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        self._check_open()
        for name, array in (("state", self._state), ("command", self._command), ("sensors", self._sensors)):
            array[:] = tensors[name].numpy()
        self._painter.note_change(np.arange(self.num_worlds))
        for name in self.fields:
            for model, value in zip(self._models, tensors[f"field.{name}"].numpy(), strict=True):
                getattr(model, name)[:] = value

    def capacity_needed(self) -> str:
        return "this engine reserves no memory beforehand"

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
        check_not_inherited("this environment", self._owner)


def _log_engine_warnings() -> None:
    """Send MuJoCo's warnings to the log; by default it prints them and leaves a file in the working directory."""
    if mujoco.get_mju_user_warning() is None:
        mujoco.set_mju_user_warning(lambda text: logger.debug("MuJoCo: %s", text))


def _release(pool: rollout.Rollout, painter: Painter, owner: int) -> None:
    """End the threads, except in a forked child, which has none to wait for; nothing here may hold the world itself."""
    if os.getpid() == owner:
        painter.close()
        pool.close()
