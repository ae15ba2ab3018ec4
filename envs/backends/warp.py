"""MuJoCo Warp: thousands of worlds on a GPU, the same program on a CPU."""

import math
from collections.abc import Sequence
from functools import partial

import mujoco
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

try:
    import mujoco_warp  # noqa: F401  (the modules below need it, and Warp with it)
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"the warp engine needs {error.name}: pip install 'vla-stack[warp]'") from error

from envs.backends.capacity import Capacity
from envs.backends.warp_graphs import Graphs, start_warp
from envs.backends.warp_kernels import LOSSES, NEED_CONTACTS, NEED_FLAGS, NEED_ROWS
from envs.backends.warp_render import WarpRenderer, camera_ids
from envs.backends.warp_simulation import Simulation
from envs.world import CameraImages, CapacityError, RenderConfig, World

_COMPUTED = frozenset({"dof_M0"})
"""Fields of an ``MjModel`` that MuJoCo Warp does without, computing what they hold: setting them does nothing."""
_MOVES_STATIC_GEOMS = frozenset({"body_pos", "body_quat", "geom_pos", "geom_quat"})


class WarpWorld(World):
    """n worlds on one device, in float32.

    A control step is one recorded graph: hold the command, step ``substeps`` times, put back what must not move. The
    solver's warm start is zero at every control step, so that a world's future depends on its state alone. The host
    waits for the device once per control step, to read whether ``capacity`` sufficed.

    ``device`` is CUDA's where there is one; ``capacity`` is counted from the scene, see :meth:`Capacity.of`;
    ``graphs`` False launches every kernel by itself, for debugging. The first world of a scene compiles its kernels
    (about half a minute; they are kept in Warp's cache folder).

    Fields are raw, as in ``MjModel``: who changes ``geom_size`` must also change ``geom_rbound`` and ``geom_aabb``,
    and who changes ``body_mass`` the ``body_inertia``.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_worlds: int,
        render: RenderConfig,
        fields: tuple[str, ...] = (),
        *,
        device: str | torch.device | None = None,
        capacity: Capacity | None = None,
        graphs: bool = True,
    ) -> None:
        if num_worlds < 1:
            raise ValueError(f"num_worlds must be at least 1, got {num_worlds}")
        camera_ids(model, render.cameras)  # an unknown name should not wait for the first image
        self.model, self.num_worlds = model, num_worlds
        self.device = _device(device)
        self.capacity = capacity or Capacity.of(model)
        self._fields, self._render = frozenset(fields), render
        self._graphs = Graphs(start_warp(self.device), record=graphs)
        self._renderer: WarpRenderer | None = None
        self._simulation: Simulation | None = None
        self._graphs.directly(self._make_simulation)

    @property
    def qpos(self) -> Float[Tensor, "n q"]:
        return self._open().qpos.clone()

    @property
    def qvel(self) -> Float[Tensor, "n v"]:
        return self._open().qvel.clone()

    @property
    def command(self) -> Float[Tensor, "n u"]:
        return self._open().ctrl.clone()

    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Bool[Tensor, " n"]:
        simulation = self._open()
        simulation.target.copy_(command)
        simulation.active.copy_(mask)
        self._graphs.run(("step", substeps), partial(simulation.control_step, substeps))
        self._check_capacity(simulation.need.tolist())  # waits for the device
        return simulation.diverged & mask

    def reset(self, qpos: Float[Tensor, "n q"], command: Float[Tensor, "n u"], mask: Bool[Tensor, " n"]) -> None:
        simulation = self._open()
        _assign(simulation.qpos, mask, qpos)
        _assign(simulation.ctrl, mask, command)
        for state in (simulation.qvel, simulation.act, simulation.time_s):
            _assign(state, mask, state.new_zeros(()))

    def push(self, change: Float[Tensor, "n v"]) -> None:
        self._open().qvel.add_(change)

    def set_field(
        self, name: str, index: Int[Tensor, " k"] | Sequence[int], values: Tensor, mask: Bool[Tensor, " n"]
    ) -> None:
        simulation = self._open()
        if name not in self._fields:
            raise ValueError(
                f"{name} cannot be set per world; the fields named at the start are {sorted(self._fields)}"
            )
        if name in _COMPUTED:
            return
        field = simulation.field(name)
        rows = torch.as_tensor(index, device=self.device)
        old = field[:, rows]
        if values.shape[:2] != old.shape[:2] or values.numel() != old.numel():
            raise ValueError(f"expected values of {name} of shape {tuple(old.shape)}, got {tuple(values.shape)}")
        _assign(old, mask, values.to(old).reshape(old.shape))
        field[:, rows] = old
        if name in _MOVES_STATIC_GEOMS:
            self._graphs.run("place", simulation.place_static_geoms)

    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        simulation = self._open()
        if not self._render.cameras:
            return {}
        if self._renderer is None:
            self._renderer = WarpRenderer(self.model, simulation, self._render, self._fields, self._graphs)
        return self._renderer.draw(mask)

    def close(self) -> None:
        self._simulation = self._renderer = None
        self._graphs.clear()

    def _open(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the environment is closed; make a new one")
        return self._simulation

    def _make_simulation(self) -> None:
        simulation = Simulation(self.model, self.num_worlds, self._fields - _COMPUTED, self.capacity)
        simulation.place_static_geoms()
        simulation.control_step(1)  # compiles its kernels; no world is active, so none moves
        self._simulation = simulation

    def _check_capacity(self, need: list[int]) -> None:
        if not need[NEED_FLAGS] & LOSSES:
            return
        have = self.capacity
        contacts = max(math.ceil(need[NEED_CONTACTS] / self.num_worlds), have.contacts_per_world)
        rows = max(need[NEED_ROWS], have.rows_per_world)
        raise CapacityError(
            f"contacts or constraint rows were lost and the step was undone: at least contacts_per_world={contacts} "
            f"(near pairs count) and rows_per_world={rows} are needed, {have} is reserved; raise these in "
            "WarpWorld(..., capacity=Capacity(...))"
        )


def _device(device: str | torch.device | None) -> torch.device:
    """``device`` with its index; CUDA's current one, or the CPU, when None."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def _assign(state: Tensor, mask: Bool[Tensor, " n"], values: Tensor) -> None:
    """Overwrite the worlds of ``mask`` in place, without asking the device which they are."""
    state.copy_(torch.where(mask.reshape(-1, *(1,) * (state.dim() - 1)), values, state))
