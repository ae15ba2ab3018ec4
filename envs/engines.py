"""The physics engines by name: C MuJoCo on threads, and MuJoCo Warp on a GPU or the CPU."""

from typing import Literal, get_args

import mujoco

import envs.forking  # noqa: F401  (what a forked child may do is settled before there is an environment)
from envs.backends.capacity import Capacity
from envs.world import RenderConfig, World

Engine = Literal["cpu", "warp"]
ENGINES: tuple[str, ...] = get_args(Engine)
RENDER_LIMIT_S = 30.0
"""A busy machine is slow; a driver that hangs stays so."""


def make_world(
    engine: Engine,
    model: mujoco.MjModel,
    num_worlds: int,
    render: RenderConfig,
    fields: tuple[str, ...],
    *,
    threads: int | None = None,
    device: str | None = None,
    capacity: Capacity | None = None,
    render_limit_s: float = RENDER_LIMIT_S,
) -> World:
    """``num_worlds`` worlds of ``model``; only the chosen engine is imported.

    ``threads``, and ``render_limit_s`` after which a process that draws nothing counts as hung, are for the cpu engine;
    ``device`` (such as ``cuda:0``) and ``capacity`` are for warp. ``ValueError`` names the engines there are, or the
    one that a setting is for; ``ModuleNotFoundError`` says what to install.
    """
    if engine not in ENGINES:
        raise ValueError(f"unknown engine {engine!r}; expected one of {', '.join(ENGINES)}")
    if engine == "cpu" and device not in (None, "cpu"):
        raise ValueError(f"the cpu engine runs on the CPU, got device {device!r}; a device is for the warp engine")
    if engine == "cpu" and capacity is not None:
        raise ValueError(f"the cpu engine reserves no memory, got {capacity}; a capacity is for the warp engine")
    if engine == "warp" and threads is not None:
        raise ValueError(f"the warp engine has no threads to choose, got {threads}; threads are for the cpu engine")
    if engine == "warp":
        from envs.backends.warp import WarpWorld

        return WarpWorld(model, num_worlds, render, fields, device=device, capacity=capacity)
    from envs.backends.cpu import CpuWorld

    return CpuWorld(model, num_worlds, render, fields, threads=threads, render_limit_s=render_limit_s)
