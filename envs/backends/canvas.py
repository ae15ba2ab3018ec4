"""What a world and the processes that draw it share: one block of memory for a scene, what it shows, and the pictures.

The block is anonymous (``memfd_create``): it has no name that a killed program could leave behind, does not count
against the size of ``/dev/shm``, and is freed with the last process that has it open.
"""

import itertools
import math
import mmap
import os
import pickle
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from envs.backends.gl import Pictures
from envs.rendering import NOTHING, RenderConfig

_ALIGNMENT_BYTES = 64
_numbers = itertools.count()


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Where an array lies in the block."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def end(self) -> int:
        """The first byte behind it."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All that another process needs, beside the block's file descriptor, to see a canvas."""

    number: int
    """Tells the canvases of a process apart."""
    render: RenderConfig
    fields: tuple[str, ...]
    slots: tuple[Slot, ...]


class Canvas:
    """Views of the block, the same in every process that holds it.

    ``fields`` hold, for every world, the values of those fields of the model that
    may differ between worlds; ``qpos (n, q)`` is what to draw; ``order (n,)`` which worlds, in this order, and
    ``progress (n,)`` how many of a share of that order are drawn, kept where the share starts.
    """

    def __init__(self, plan: Plan, descriptor: int) -> None:
        self.plan, self.descriptor = plan, descriptor
        block = mmap.mmap(descriptor, plan.slots[-1].end)
        views = {slot.name: _view(block, slot) for slot in plan.slots}
        self._model = views["model"]
        self.qpos, self.order, self.progress = views["qpos"], views["order"], views["progress"]
        self.fields = {name: views[name] for name in plan.fields}
        self.pictures = Pictures(views["rgb"], views.get("depth_m"), views.get("geoms"), views["T_world_cam"])

    @classmethod
    def make(cls, model: mujoco.MjModel, num_worlds: int, render: RenderConfig, fields: tuple[str, ...]) -> "Canvas":
        """A canvas for ``num_worlds`` worlds of ``model``, which all look like it, with blank pictures."""
        pickled = np.frombuffer(pickle.dumps(model), np.uint8)
        shape = (len(render.cameras), num_worlds, render.height_px, render.width_px)
        wanted: dict[str, tuple[Any, tuple[int, ...]]] = {
            "model": (np.uint8, pickled.shape),
            "qpos": (np.float64, (num_worlds, model.nq)),
            "order": (np.int64, (num_worlds,)),
            "progress": (np.int64, (num_worlds,)),
            "rgb": (np.uint8, (*shape, 3)),
            "T_world_cam": (np.float32, (*shape[:2], 4, 4)),
        }
        if render.depth:
            wanted["depth_m"] = (np.float32, shape)
        if render.segmentation:
            wanted["geoms"] = (np.int32, shape)
        templates = {name: getattr(model, name) for name in fields}
        wanted |= {name: (each.dtype, (num_worlds, *each.shape)) for name, each in templates.items()}
        plan = Plan(number=next(_numbers), render=render, fields=fields, slots=_laid_out(wanted))
        descriptor = os.memfd_create("canvas")
        os.truncate(descriptor, plan.slots[-1].end)
        canvas = cls(plan, descriptor)
        canvas._model[:] = pickled
        canvas.qpos[:] = model.qpos0
        for name, value in templates.items():
            canvas.fields[name][:] = value
        canvas.pictures.T_world_cam[:] = np.eye(4)
        if canvas.pictures.geoms is not None:
            canvas.pictures.geoms[:] = NOTHING
        return canvas

    def load_model(self) -> mujoco.MjModel:
        """A copy of the template."""
        return pickle.loads(self._model.tobytes())


def _laid_out(wanted: dict[str, tuple[Any, tuple[int, ...]]]) -> tuple[Slot, ...]:
    """One behind the other, each on a cache line of its own."""
    slots, end = [], 0
    for name, (dtype, shape) in wanted.items():
        offset = math.ceil(end / _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
        slots.append(Slot(name=name, dtype=np.dtype(dtype).str, shape=shape, offset=offset))
        end = slots[-1].end
    return tuple(slots)


def _view(block: mmap.mmap, slot: Slot) -> np.ndarray:
    return np.frombuffer(block, slot.dtype, math.prod(slot.shape), slot.offset).reshape(slot.shape)
