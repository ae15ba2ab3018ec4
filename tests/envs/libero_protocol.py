"""LIBERO played as its users' evaluation scripts play it, with nothing of ours: what ours is to be equal to.

Run by LIBERO's Python: ``python -I libero_protocol.py BENCHMARK TASK STATE SEED STEPS OUT.npz``. A scene is made anew
at each reset, and pictures come from the environment's own observations.
"""

import os
import sys

import numpy as np


def main(name, index, state, seed, steps, out):
    import libero.libero as package

    package._assets_path_cache = package.get_libero_path("assets")
    from libero.libero import benchmark
    from libero.libero.envs import OffScreenRenderEnv

    suite = benchmark.get_benchmark(name)()
    env = OffScreenRenderEnv(
        bddl_file_name=suite.get_task_bddl_file_path(index), camera_heights=256, camera_widths=256, camera_depths=True
    )
    env.seed(seed)
    env.reset()
    seen = env.set_init_state(suite.get_task_init_states(index)[state])
    kept = {"initial": env.get_sim_state()}
    for _ in range(10):
        seen, _, _, _ = env.step([0.0] * 6 + [-1.0])
    actions = np.random.default_rng(3).uniform(-1, 1, (steps, 7))
    physics = [env.get_sim_state()]
    for action in actions:
        seen, _, _, _ = env.step(action)
        physics.append(env.get_sim_state())
    kept |= {"physics": np.stack(physics), "actions": actions}
    kept |= {name: seen[name] for name in ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")}
    kept |= {name: seen[name] for name in ("agentview_image", "robot0_eye_in_hand_image", "agentview_depth")}
    visible = env.sim.model.vis.map
    kept["near_far_m"] = np.array([visible.znear, visible.zfar]) * env.sim.model.stat.extent
    kept["language"] = suite.get_task(index).language
    np.savez(out, **kept)
    os._exit(0)


if __name__ == "__main__":
    name, *numbers, out = sys.argv[1:]
    main(name, *map(int, numbers), out)
