"""The arrays of n worlds on one device, and the launches that step them."""

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from jaxtyping import Float
from torch import Tensor

from envs.backends import warp_kernels as kernels
from envs.backends.capacity import Capacity


class Simulation:
    """Model and data of MuJoCo Warp with what a control step needs beside them; make it on the current Warp device.

    ``qpos``, ``qvel``, ``act``, ``time_s`` and ``ctrl`` share memory with the engine, as do the inputs of
    :meth:`control_step`, ``target`` and ``active``, and its results, ``diverged`` and ``need``. None of them may be
    replaced, since recorded graphs hold their addresses.
    """

    def __init__(self, model: mujoco.MjModel, num_worlds: int, fields: frozenset[str], capacity: Capacity) -> None:
        self.model = mjw.put_model(model, batch_sizes=dict.fromkeys(fields, num_worlds))
        self.model.opt.warn_overflow = False  # an exception says it
        self.data = mjw.make_data(model, num_worlds, nconmax=capacity.contacts_per_world, njmax=capacity.rows_per_world)
        data = self.data
        self.qpos, self.qvel, self.act = (wp.to_torch(a) for a in (data.qpos, data.qvel, data.act))
        self.time_s, self.ctrl = wp.to_torch(data.time), wp.to_torch(data.ctrl)
        self._state = [data.qpos, data.qvel, data.act, data.time.reshape((num_worlds, 1))]
        self._saved = [wp.clone(array) for array in self._state]
        self._home = wp.clone(data.qpos)
        self._target = wp.zeros_like(data.ctrl)
        self._active, self._diverged, self._kept = (wp.zeros(num_worlds, dtype=wp.bool) for _ in range(3))
        self._need = wp.zeros(3, dtype=int)
        self.target, self.active = wp.to_torch(self._target), wp.to_torch(self._active)
        self.diverged, self.need = wp.to_torch(self._diverged), wp.to_torch(self._need)
        static = model.body_weldid[model.geom_bodyid] == 0
        static &= model.body_mocapid[model.body_rootid[model.geom_bodyid]] < 0
        self._static_geoms = wp.array(np.flatnonzero(static), dtype=int)

    def control_step(self, substeps: int) -> None:
        """Hold ``target`` for ``substeps`` timesteps in the ``active`` worlds.

        Those that are not active or ``diverged`` end in the state they began with, and all of them do if contacts or
        rows were lost; ``need`` then says how many there were.
        """
        data = self.data
        for buffer in (self._need, self._diverged, data.overflow, data.qacc, data.qacc_warmstart):
            buffer.zero_()
        for saved, current in zip(self._saved, self._state, strict=True):
            wp.copy(saved, current)
        wp.launch(kernels.set_command, data.ctrl.shape, [self._active, self._target, data.ctrl])
        self._contain(remember=True)
        for _ in range(substeps):
            mjw.step(self.model, data)
            self._contain(remember=False)
            counts = [data.nefc, data.ncollision, data.nacon, data.overflow]
            wp.launch(kernels.measure, data.nworld, [*counts, self._need])
        choice = [self._active, self._diverged, self._need, kernels.LOSSES]
        wp.launch(kernels.choose_kept, data.nworld, [*choice, self._kept])
        for saved, current in zip(self._saved, self._state, strict=True):
            wp.launch(kernels.restore, current.shape, [self._kept, saved, current])

    def place_static_geoms(self) -> None:
        """Put geoms fixed to the world where the model's fields say; the engine itself does so only once."""
        model, data = self.model, self.data
        mjw.kinematics(model, data)
        fields = [model.geom_bodyid, model.geom_pos, model.geom_quat]
        poses = [data.xpos, data.xmat, data.geom_xpos, data.geom_xmat]
        shape = (data.nworld, len(self._static_geoms))
        wp.launch(kernels.place_static_geoms, shape, [self._static_geoms, *fields, *poses])

    def field(self, name: str) -> Float[Tensor, "n ..."]:
        """A field of the model that was batched, sharing its memory."""
        return wp.to_torch(getattr(self.model, name))

    def _contain(self, *, remember: bool) -> None:
        data = self.data
        state = [data.qpos, data.qvel, data.qacc, self._home, data.act, data.qacc_warmstart]
        wp.launch(kernels.contain, data.nworld, [*state, remember, self._diverged])
