"""Other simulators' tasks, as one call per environment step: what our speed is compared with.

``size_px`` None steps without pictures. Each has its own meshes, cameras and physics steps per control step.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

ROBOSUITE_CAMERAS = ("frontview", "robot0_eye_in_hand")


def robosuite_lift(size_px: int | None, fastest: bool) -> Callable[[], None]:
    """robosuite's Lift, two cameras with depth, 20 Hz; *fastest* is without multisampling, shadows and reflections."""
    import robosuite

    env = robosuite.make(
        "Lift", robots="Panda", has_renderer=False, has_offscreen_renderer=size_px is not None,
        use_camera_obs=size_px is not None, camera_names=list(ROBOSUITE_CAMERAS), camera_depths=True,
        camera_heights=size_px or 84, camera_widths=size_px or 84, control_freq=20, horizon=10**9, ignore_done=True,
    )  # fmt: skip
    env.reset()
    if fastest and size_px is not None:
        _make_fastest(env)
    low, high = env.action_spec
    random = np.random.default_rng(0)
    return lambda: env.step(low + (high - low) * random.random(len(low)))


def fetch_pick_and_place(size_px: int | None) -> Callable[[], None]:
    """gymnasium-robotics' FetchPickAndPlace, one camera without depth."""
    import gymnasium
    import gymnasium_robotics

    gymnasium.register_envs(gymnasium_robotics)
    return _gymnasium_step("FetchPickAndPlace-v4", size_px)


def metaworld_pick_place(size_px: int | None) -> Callable[[], None]:
    """Meta-World's pick-place-v3, camera corner2 without depth."""
    import metaworld  # noqa: F401  registers its tasks

    return _gymnasium_step("Meta-World/MT1", size_px, env_name="pick-place-v3", camera_name="corner2")


def _gymnasium_step(name: str, size_px: int | None, **settings: Any) -> Callable[[], None]:
    import gymnasium

    pictures = {} if size_px is None else {"render_mode": "rgb_array", "width": size_px, "height": size_px}
    env = gymnasium.make(name, max_episode_steps=10**9, disable_env_checker=True, **pictures, **settings)
    env.reset(seed=0)
    env.action_space.seed(0)
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps % 400 == 0:
            env.reset()
        env.step(env.action_space.sample())
        if size_px is not None:
            env.render()

    return step


def _make_fastest(env: Any) -> None:
    """robosuite's fastest settings, which change the pixels."""
    import mujoco

    context = env.sim._render_context_offscreen
    context.model.vis.quality.offsamples = 0
    context.scn.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    context.scn.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    context.con.free()
    context.con = mujoco.MjrContext(context.model._model, mujoco.mjtFontScale.mjFONTSCALE_150)
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context.con)


PEERS: dict[str, Callable[[int | None], Callable[[], None]]] = {
    "robosuite Lift, stock": partial(robosuite_lift, fastest=False),
    "robosuite Lift, fastest": partial(robosuite_lift, fastest=True),
    "FetchPickAndPlace": fetch_pick_and_place,
    "Meta-World pick-place": metaworld_pick_place,
}
