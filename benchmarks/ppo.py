"""Stable-baselines3's PPO on our tasks, from privileged state with the dense reward: can the worlds be learned in?

    vla bench ppo [--tasks reach pick] [--seeds 0 1 2] [--steps 1000000] [--worlds 64] [--films FOLDER] [--json PATH]

Every policy learns in the stream "learn" and is evaluated, acting without noise, on episodes of the stream "evaluate"
that it never saw. Potentials are paid with a discount of 1: then a potential is worth its discounted sum, being near
pays in every step, and success still pays more (``--matched`` pays them with the learner's own discount instead: then
no policy that never succeeds is better than another, once the critic knows the potential, and PPO does not find the
first success). With ``--films``, one WebP of six evaluated episodes per task and training seed: what was learned
should be looked at, because a reward that can be cheated is cheated.
"""

import argparse
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from report import home_path, machine, print_table, write_json
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

from configs.terminal import ending_with_the_reader
from envs.sb3 import StableBaselinesEnv
from envs.specs import Stream, image_key
from envs.vector import TaskEnv
from policies.intervals import wilson

DISCOUNT = 0.97
FILM_PX, FILM_EPISODES, FILM_STEP_MS = 144, 6, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["reach", "pick"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--worlds", type=int, default=64)
    parser.add_argument("--episodes", type=int, default=100, help="evaluated per training seed")
    parser.add_argument("--matched", action="store_true", help="shape with the learner's own discount")
    parser.add_argument("--films", type=home_path, help="folder for films of evaluated episodes")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    rows = []
    for task in arguments.tasks:
        for seed in arguments.seeds:
            rows.append(trained_and_evaluated(task, seed, arguments))
            print_table(rows[-1:])
    print()
    print_table(rows)
    if arguments.json:
        write_json(arguments.json, "ppo", {"rows": rows, "steps": arguments.steps}, seeds=arguments.seeds)


def make(task: str, worlds: int, stream: Stream, *, discount: float = 1.0, render: bool = False) -> TaskEnv:
    """Worlds whose observation holds what the simulator knows, and no words."""
    return TaskEnv(
        task,
        worlds,
        stream=stream,
        reward="dense",
        discount=discount,
        privileged=True,
        language=False,
        render=render,
        image_size_px=(FILM_PX, FILM_PX),
    )


def trained_and_evaluated(task: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """One training run, and what became of it."""
    env = make(task, arguments.worlds, "learn", discount=DISCOUNT if arguments.matched else 1.0)
    normalized = VecNormalize(StableBaselinesEnv(env, seed=seed * 10**9), norm_reward=False, gamma=DISCOUNT)
    curve = LearningCurve()
    with closing(normalized):
        model = PPO(
            "MultiInputPolicy",
            normalized,
            n_steps=2048 // arguments.worlds,
            batch_size=256,
            n_epochs=5,
            gamma=DISCOUNT,
            learning_rate=5e-4,
            target_kl=0.05,
            policy_kwargs={"net_arch": [128, 128], "log_std_init": -1.0},
            seed=seed,
            device="cpu",
        )
        began = time.perf_counter()
        model.learn(arguments.steps, callback=curve)
        seconds = time.perf_counter() - began
    normalized.training = False
    success, lengths = evaluated(task, model, normalized, arguments.episodes)
    if arguments.films:
        film(task, model, normalized, arguments.films / f"ppo-{task}-{seed}.webp")
    rate = wilson(sum(success), len(success))
    return {
        "task": task,
        "seed": seed,
        "shaped with": DISCOUNT if arguments.matched else 1.0,
        "success": f"{sum(success)}/{len(success)}",
        "95 % interval": f"{rate.lo:.1%} … {rate.hi:.1%}",
        "mean steps": float(np.mean(lengths)),
        "90 % after steps": curve.reached,
        "steps/s": round(arguments.steps / seconds),
    }


class LearningCurve(BaseCallback):
    """Notes when nine of ten of the last 200 episodes first succeeded."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: int | None = None
        self._ends: list[bool] = []

    def _on_step(self) -> bool:
        self._ends += [info["is_success"] for info in self.locals["infos"] if "is_success" in info]
        self._ends = self._ends[-200:]
        if self.reached is None and len(self._ends) == 200 and sum(self._ends) >= 180:
            self.reached = self.num_timesteps
        return True


def evaluated(task: str, model: PPO, normalized: VecNormalize, episodes: int) -> tuple[list[bool], list[int]]:
    """Success and length of one episode per seed of the stream "evaluate"."""
    env = make(task, episodes, "evaluate")
    learner = StableBaselinesEnv(env, stream="evaluate")
    with closing(env):
        observation, lengths = env.reset(list(range(episodes))), torch.zeros(episodes, dtype=torch.long)
        for _ in range(env.max_episode_steps):
            moved = env.step(chosen(model, normalized, learner, observation))
            observation, lengths = moved.observation, lengths + moved.steps
        return moved.success.tolist(), lengths.tolist()


def chosen(model: PPO, normalized: VecNormalize, learner: StableBaselinesEnv, observation: dict[str, Any]) -> Any:
    """The policy's mean action, in the environment's units."""
    arrays = normalized.normalize_obs(learner.seen(observation))
    action, _ = model.predict({key: arrays[key] for key in model.observation_space.spaces}, deterministic=True)
    return learner.unscaled(action)


def film(task: str, model: PPO, normalized: VecNormalize, path: Path) -> None:
    """The front camera of the first evaluated episodes, side by side."""
    env = make(task, FILM_EPISODES, "evaluate", render=True)
    learner = StableBaselinesEnv(env, stream="evaluate")
    with closing(env):
        observation, frames = env.reset(list(range(FILM_EPISODES))), []
        for _ in range(env.max_episode_steps):
            frames.append(side_by_side(observation[image_key("front")]))
            moved = env.step(chosen(model, normalized, learner, observation))
            observation = moved.observation
            if not bool(moved.steps.any()):
                break
    path.parent.mkdir(parents=True, exist_ok=True)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=FILM_STEP_MS, loop=0, quality=60)


def side_by_side(pictures: torch.Tensor) -> Image.Image:
    return Image.fromarray(torch.cat(list(pictures), dim=1).cpu().numpy())


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
