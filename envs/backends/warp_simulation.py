"""The arrays of n worlds on one device, and the launches that step them."""

import copy

import mujoco
import mujoco_warp as mjw
import numpy as np
import warp as wp
from jaxtyping import Float
from torch import Tensor

from envs.backends import warp_kernels as kernels
from envs.backends.capacity import Capacity
from envs.world import touch_sensors


class Simulation:
    """Model and data of MuJoCo Warp with what a control step needs beside them; make it on the current Warp device.

    ``qpos``, ``qvel``, ``act``, ``time_s`` and ``ctrl`` share memory with the engine, as do the inputs of
    :meth:`control_step`, ``target`` and ``active``, and its results, ``diverged``, ``crowded``, ``need`` and the bits
    of ``touch_words``. None of them may be replaced, since recorded graphs hold their addresses.
    """

    def __init__(self, model: mujoco.MjModel, num_worlds: int, fields: frozenset[str], capacity: Capacity) -> None:
        self.model = mjw.put_model(_made_alike(model), batch_sizes=dict.fromkeys(fields, num_worlds))
        self.model.opt.warn_overflow = False  # the flags say it
        room = capacity.contacts_per_world * num_worlds + capacity.contacts_shared
        self.data = mjw.make_data(model, num_worlds, naconmax=room, njmax=capacity.rows_per_world)
        data = self.data
        self.qpos, self.qvel, self.act = (wp.to_torch(a) for a in (data.qpos, data.qvel, data.act))
        self.time_s, self.ctrl = wp.to_torch(data.time), wp.to_torch(data.ctrl)
        self._state = [data.qpos, data.qvel, data.act, data.time.reshape((num_worlds, 1))]
        self._saved = [wp.clone(array) for array in self._state]
        self._home = wp.clone(data.qpos)
        self._target = wp.zeros_like(data.ctrl)
        flags = [wp.zeros(num_worlds, dtype=wp.bool) for _ in range(4)]
        self._active, self._diverged, self._crowded, self._kept = flags
        self._need = wp.zeros(2, dtype=int)
        self.target, self.active = wp.to_torch(self._target), wp.to_torch(self._active)
        self.diverged, self.crowded, self.need = (wp.to_torch(a) for a in (self._diverged, self._crowded, self._need))
        self._ones, self._others = (wp.array(bits, dtype=int) for bits in touch_bits(model))
        words = (num_worlds, self._ones.shape[1])
        self._touches, self._fresh_touches = wp.zeros(words, dtype=int), wp.zeros(words, dtype=int)
        self.touch_words = wp.to_torch(self._touches)
        static = model.body_weldid[model.geom_bodyid] == 0
        static &= model.body_mocapid[model.body_rootid[model.geom_bodyid]] < 0
        self._static_geoms = wp.array(np.flatnonzero(static), dtype=int)

    def control_step(self, substeps: int) -> None:
        """Hold ``target`` for ``substeps`` timesteps in the ``active`` worlds.

        Those that are not active, that ``diverged`` or that were ``crowded`` (contacts or rows were lost; ``need`` says
        how many there were) end in the state they began with.
        """
        self.begin()
        for _ in range(substeps):
            self.substep()
        self.end()

    def begin(self) -> None:
        """What a control step does before its substeps."""
        data = self.data
        cleared = (self._need, self._diverged, self._crowded, self._fresh_touches)
        for buffer in (*cleared, data.overflow, data.qacc, data.qacc_warmstart):
            buffer.zero_()
        for saved, current in zip(self._saved, self._state, strict=True):
            wp.copy(saved, current)
        wp.launch(kernels.set_command, data.ctrl.shape, [self._active, self._target, data.ctrl])
        self._contain(remember=True)

    def substep(self) -> None:
        """One timestep of every world."""
        data = self.data
        mjw.step(self.model, data)
        self._contain(remember=False)
        counts = [data.nefc, data.ncollision, data.nacon, data.overflow]
        wp.launch(kernels.measure, data.nworld, [*counts, self._need, self._crowded])

    def end(self) -> None:
        """What a control step does after its substeps."""
        data, contact = self.data, self.data.contact
        where = [data.nacon, contact.dist, contact.includemargin, contact.geom, contact.worldid]
        wp.launch(kernels.find_touches, data.naconmax, [*where, self._ones, self._others, self._fresh_touches])
        wp.launch(kernels.choose_kept, data.nworld, [self._active, self._diverged, self._crowded, self._kept])
        wp.launch(kernels.renew, self._touches.shape, [self._kept, self._fresh_touches, self._touches])
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


def touch_bits(model: mujoco.MjModel) -> tuple[np.ndarray, np.ndarray]:
    """By geom, the bits of the touch sensors that have it on their one and on their other side, in words of 32."""
    sensors = touch_sensors(model)
    ones, others = (np.zeros((model.ngeom, 32 * max(1, -(-len(sensors) // 32))), bool) for _ in range(2))
    for bit, sensor in enumerate(sensors):
        ones[_geoms(model, model.sensor_objtype[sensor], model.sensor_objid[sensor]), bit] = True
        others[_geoms(model, model.sensor_reftype[sensor], model.sensor_refid[sensor]), bit] = True
    return _packed(ones), _packed(others)


def _packed(bits: np.ndarray) -> np.ndarray:
    return np.packbits(bits, axis=1, bitorder="little").view(np.int32)


def _geoms(model: mujoco.MjModel, kind: int, body: int) -> np.ndarray:
    """The geoms of a body, or of it and all below it."""
    if kind == mujoco.mjtObj.mjOBJ_BODY:
        return np.flatnonzero(model.geom_bodyid == body)
    if kind != mujoco.mjtObj.mjOBJ_XBODY:
        raise ValueError(f"a touch sensor is between bodies or their subtrees, got object type {kind}")
    below = np.zeros(model.nbody, bool)
    below[body] = True
    for child in range(body + 1, model.nbody):
        below[child] = below[model.body_parentid[child]]
    return np.flatnonzero(below[model.geom_bodyid])


def _made_alike(model: mujoco.MjModel) -> mujoco.MjModel:
    """A copy that Warp steps as C MuJoCo steps ``model``.

    Boxes touch boxes in the points of the primitive test, as they do there; in those of the general convex one, which
    is Warp's default for them, a cube on another trembles by millimetres. (In float32 the primitive test has a fault of
    its own: a box on a larger one that is turned against it by 20° or more may take an edge for a face, and bounce.)
    Sensors are not evaluated: each would go over all contacts of all worlds at every step.
    """
    alike = copy.copy(model)
    alike.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_NATIVECCD | mujoco.mjtDisableBit.mjDSBL_SENSOR
    return alike
