"""MuJoCo Warp: thousands of worlds on a GPU, the same program on a CPU."""

import math
from collections.abc import Mapping, Sequence
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
from envs.backends.warp_render import WarpRenderer
from envs.backends.warp_simulation import Simulation
from envs.rendering import camera_ids
from envs.world import CameraImages, Lost, RenderConfig, World, touch_sensors

_COMPUTED = frozenset({"dof_M0"})
"""Fields of an ``MjModel`` that MuJoCo Warp does without, computing what they hold: setting them does nothing."""
_MOVES_STATIC_GEOMS = frozenset({"body_pos", "body_quat", "geom_pos", "geom_quat"})


class WarpWorld(World):
    """n worlds on one device, in float32.

    A control step is one recorded graph: hold the command, step ``substeps`` times, put back what must not move. On a
    CPU, where recording a launch takes longer than replaying it, one substep is recorded, and replayed. The solver's
    warm start is zero at every control step, so that a world's future depends on its state alone. The host waits for
    the device in :meth:`capacity_needed` alone.

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
        self.fields, self._render = frozenset(fields), render
        sensors = torch.arange(len(touch_sensors(model)), device=self.device)
        self._touch_word, self._touch_shift = sensors // 32, sensors % 32
        self._known_rows: dict[tuple[int, ...], Tensor] = {}
        self._static_geoms_moved = False
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

    @property
    def touches(self) -> Bool[Tensor, "n s"]:
        return (self._open().touch_words[:, self._touch_word] >> self._touch_shift & 1).bool()

    def step(self, command: Float[Tensor, "n u"], substeps: int, mask: Bool[Tensor, " n"]) -> Lost:
        simulation = self._open()
        simulation.target.copy_(command)
        simulation.active.copy_(mask)
        self._place_static_geoms(simulation)
        if self.device.type == "cuda":
            self._graphs.run(("step", substeps), partial(simulation.control_step, substeps))
        else:
            self._graphs.run("begin", simulation.begin)
            for _ in range(substeps):
                self._graphs.run("substep", simulation.substep)
            self._graphs.run("end", simulation.end)
        return Lost(simulation.diverged & mask, simulation.crowded & mask)

    def put(
        self,
        worlds: Int[Tensor, " k"],
        qpos: Float[Tensor, "k q"],
        command: Float[Tensor, "k u"],
        qvel: Float[Tensor, "k v"] | None = None,
    ) -> None:
        simulation = self._open()
        simulation.qpos.index_copy_(0, worlds, qpos)
        simulation.ctrl.index_copy_(0, worlds, command)
        for state in (simulation.qvel, simulation.act, simulation.time_s, simulation.touch_words):
            state.index_fill_(0, worlds, 0)
        if qvel is not None:
            simulation.qvel.index_copy_(0, worlds, qvel)

    def push(self, change: Float[Tensor, "n v"]) -> None:
        self._open().qvel.add_(change)

    def set_field(
        self, name: str, index: Int[Tensor, " m"] | Sequence[int], values: Tensor, worlds: Int[Tensor, " k"] | None
    ) -> None:
        simulation = self._open()
        self._check_field(name)
        if name in _COMPUTED:
            return
        field, rows = simulation.field(name), self._rows(index)
        count = self.num_worlds if worlds is None else len(worlds)
        shape = (count, len(rows), *field.shape[2:])
        if values.shape[:2] != shape[:2] or values.numel() != math.prod(shape):
            raise ValueError(f"expected values of {name} of shape {shape}, got {tuple(values.shape)}")
        place = (slice(None), rows) if worlds is None else (worlds[:, None], rows)
        field[place] = values.to(field).reshape(shape)
        self._static_geoms_moved |= name in _MOVES_STATIC_GEOMS

    def snapshot(self) -> dict[str, Tensor]:
        simulation = self._open()
        fields = {f"field.{name}": simulation.field(name).clone() for name in sorted(self.fields - _COMPUTED)}
        return fields | {name: tensor.clone() for name, tensor in _state(simulation).items()}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        simulation = self._open()
        for name, tensor in _state(simulation).items():
            tensor.copy_(tensors[name])
        for name in self.fields - _COMPUTED:
            simulation.field(name).copy_(tensors[f"field.{name}"])
        self._static_geoms_moved = True

    def capacity_needed(self) -> str:
        rows, contacts = self._open().need.tolist()
        have = self.capacity
        contacts = max(math.ceil((contacts - have.contacts_shared) / self.num_worlds), have.contacts_per_world)
        return (
            f"at least contacts_per_world={contacts} (near pairs count) and "
            f"rows_per_world={max(rows, have.rows_per_world)} are needed, {have} is reserved; raise these with "
            "capacity=Capacity(...), or --env.contacts-per-world and --env.rows-per-world"
        )

    def render(self, mask: Bool[Tensor, " n"]) -> dict[str, CameraImages]:
        simulation = self._open()
        if not self._render.cameras:
            return {}
        self._place_static_geoms(simulation)
        if self._renderer is None:
            self._renderer = WarpRenderer(self.model, simulation, self._render, self.fields, self._graphs)
        return self._renderer.draw(mask)

    def close(self) -> None:
        self._simulation = self._renderer = None
        self._graphs.clear()

    def _open(self) -> Simulation:
        if self._simulation is None:
            raise RuntimeError("the environment is closed; make a new one")
        return self._simulation

    def _make_simulation(self) -> None:
        simulation = Simulation(self.model, self.num_worlds, self.fields - _COMPUTED, self.capacity)
        simulation.place_static_geoms()
        simulation.control_step(1)  # compiles its kernels; no world is active, so none moves
        self._simulation = simulation

    def _place_static_geoms(self, simulation: Simulation) -> None:
        if self._static_geoms_moved:
            self._graphs.run("place", simulation.place_static_geoms)
            self._static_geoms_moved = False

    def _rows(self, index: Int[Tensor, " m"] | Sequence[int]) -> Int[Tensor, " m"]:
        """An index on the device; lists are copied there once."""
        if isinstance(index, Tensor):
            return index
        key = tuple(index)
        if key not in self._known_rows:
            self._known_rows[key] = torch.tensor(key, device=self.device)
        return self._known_rows[key]


def _state(simulation: Simulation) -> dict[str, Tensor]:
    """What a world is beside its fields; shares the engine's memory."""
    names = ("qpos", "qvel", "act", "time_s", "ctrl", "touch_words")
    return {name: getattr(simulation, name) for name in names}


def _device(device: str | torch.device | None) -> torch.device:
    """``device`` with its index; CUDA's current one, or the CPU, when None."""
    chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if chosen.type == "cuda" and chosen.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return chosen
