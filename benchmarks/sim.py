"""Simulation speed: environment steps per second with and without pictures, beside robosuite's Lift in the same run.

    python benchmarks/sim.py [--json PATH] [--seconds 4] [--worlds 1 16 64]

A step is one 20 Hz control step (10 physics steps here, 25 in robosuite). Both sides take uniformly random actions.
"RGB-D" renders colour and depth of two cameras (front and wrist) after every step.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch
from report import print_table, write_json

from envs.vector import TaskEnv

SIZES_PX = (84, 128)
PEER_CAMERAS = ("frontview", "robot0_eye_in_hand")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each row is timed")
    parser.add_argument("--worlds", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--task", default="place")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = ours(arguments.task, arguments.worlds, arguments.seconds)
    rows += robosuite_lift(arguments.seconds)
    for row in rows:
        best = max(r["steps_per_s"] for r in rows if r["what"] == row["what"] and r["stack"] == "vla")
        row["vla_best_over_this"] = round(best / row["steps_per_s"], 1)
    print_table(rows)
    if arguments.json:
        write_json(arguments.json, "sim", {"rows": rows}, seeds=[0])


def ours(task: str, worlds: list[int], seconds: float) -> list[dict]:
    """Steps per second over all worlds of our environment."""
    rows = []
    for what, settings in cases().items():
        for n in worlds:
            env = TaskEnv(task, n, max_episode_steps=10**9, **settings)
            generator = torch.Generator().manual_seed(0)
            low, high = (torch.tensor(side) for side in (env.embodiment.action_low, env.embodiment.action_high))
            env.reset(list(range(n)))

            def step(env: TaskEnv = env, n: int = n, low: torch.Tensor = low, high: torch.Tensor = high) -> None:
                env.step(low + (high - low) * torch.rand(n, 7, generator=generator))  # noqa: B023

            rows.append({"stack": "vla", "what": what, "worlds": n, "steps_per_s": round(n * rate(step, seconds), 1)})
            env.close()
    return rows


def cases() -> dict[str, dict]:
    pictures = {f"RGB-D 2×{size} px": {"image_size_px": (size, size), "depth": True} for size in SIZES_PX}
    return {"state": {"render": False}, **pictures}


def robosuite_lift(seconds: float) -> list[dict]:
    """The same for robosuite's Lift: as it comes, and with multisampling, shadows and reflections off."""
    try:
        import robosuite
    except ImportError:
        print("robosuite is not installed (pip install 'vla-stack[robosuite]'): no peer in this run")
        return []
    rows = []
    for what, size in [("state", None), *((f"RGB-D 2×{size} px", size) for size in SIZES_PX)]:
        for label, fast in (("robosuite Lift, stock", False), ("robosuite Lift, fastest", True)):
            if size is None and fast:
                continue
            env = robosuite.make(
                "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=size is not None,
                use_camera_obs=size is not None, camera_names=list(PEER_CAMERAS), camera_depths=True,
                camera_heights=size or 84, camera_widths=size or 84, control_freq=20, horizon=10**9, ignore_done=True,
            )  # fmt: skip
            env.reset()
            if fast:
                make_fastest(env)
            low, high = env.action_spec
            draw = torch.Generator().manual_seed(0)

            def step(env=env, low=low, high=high, draw=draw) -> None:  # noqa: ANN001
                env.step(low + (high - low) * torch.rand(len(low), generator=draw).numpy())

            rows.append({"stack": label, "what": what, "worlds": 1, "steps_per_s": round(rate(step, seconds), 1)})
            env.close()
    return rows


def make_fastest(env) -> None:  # noqa: ANN001
    """Its fastest settings, which change the pixels."""
    import mujoco

    context = env.sim._render_context_offscreen
    context.model.vis.quality.offsamples = 0
    context.scn.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    context.scn.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    context.con.free()
    context.con = mujoco.MjrContext(context.model._model, mujoco.mjtFontScale.mjFONTSCALE_150)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context.con)


def rate(step: Callable[[], None], seconds: float) -> float:
    """Calls per second, after one call that is not counted."""
    step()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        calls += 1
    return calls / elapsed


if __name__ == "__main__":
    main()
