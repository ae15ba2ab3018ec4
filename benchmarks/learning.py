"""Learning from reward: how fast, beside stable-baselines3, and where the time of a VLA goes.

    vla bench rl [--what pendulum vla] [--seeds 0 1 2] [--steps 150000] [--iterations 4] [--json PATH]

*pendulum*: PPO on Pendulum-v1, two layers of 64 tanh units for the mean, a free spread, and two layers of 64 for the
value (ours GELU, theirs tanh); the same worlds per step, rollouts, minibatches, epochs, rates, discounts and clipping.
Three rows a seed: our learner on pendulums stepped together, stable-baselines3 on the same (what the learner is worth),
and on gymnasium's own, one after another (what its users have). Ours also scales what it sees by its running mean and
deviation, normalises advantages over the rollout rather than the minibatch, and clips the two gradients apart.
*return* is the mean of 100 episodes without noise, on starts that nobody learned from; steps/s are of learning alone,
and seeds take turns. The pendulums are checked against gymnasium's, step by step, before anything is measured.

*vla*: presets of vla rl from a policy of random weights (the shape of nano-bridge), in rendered worlds: decisions per
second, and each part's share of the time of an iteration; acting while learning (nano-ppo-async), the shares of what is
collected meanwhile overlap with the update, and *wait* is what is left to wait for. Iterations in which nothing is
collected beside the update, the first and the last, are not counted.
"""

import argparse
import statistics
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import torch
from pendulum import LENGTH, Pendulums, PendulumsForBaselines, check_against_gymnasium
from report import home_path, known_task, machine, natural, print_table, write_json
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from configs.environments import make_env
from configs.presets import nano_bridge
from configs.reinforcing import learner_for, worlds_for
from configs.rl import PRESETS, Config
from configs.terminal import ending_with_the_reader
from envs.specs import STATE_KEY
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.processors import Normalization, NormalizationMode
from policies.state_policy import StateNetworkConfig
from policies.vla_policy import VLAPolicy
from rl.config import CriticConfig, RLConfig
from rl.learner import RLLearner
from rl.state_agent import StateAgent, fresh_policy
from rl.vla_agent import with_distribution
from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig

ROLLOUT, BATCH, EPOCHS, RATE, DISCOUNT, LAMBDA, CLIP, GRAD_CLIP = 4096, 1024, 10, 2e-3, 0.9, 0.95, 0.2, 0.5
WIDTH, LAYERS = 64, 2
EVALUATED = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=("pendulum", "vla"), default=["pendulum", "vla"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the pendulum")
    parser.add_argument("--steps", type=natural, default=150_000, help="of all pendulums together")
    parser.add_argument("--worlds", type=natural, default=64, help="pendulums stepped at once")
    parser.add_argument("--tasks", type=known_task, nargs="+", default=["reach", "pick", "place"], help="of the VLA")
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["nano-ppo", "nano-ppo-async"])
    parser.add_argument("--iterations", type=natural, default=4, help="of the VLA, counted")
    parser.add_argument("--vla-worlds", type=natural, default=64)
    parser.add_argument("--device", default="cpu", help="where the VLA computes")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    figures: dict[str, Any] = {}
    if "pendulum" in arguments.what:
        figures |= pendulum(arguments)
    if "vla" in arguments.what:
        figures["vla"] = [of_a_vla(preset, arguments) for preset in arguments.presets]
        print()
        print_table(figures["vla"])
    if arguments.json:
        write_json(arguments.json, "rl", figures, seeds=arguments.seeds)


def pendulum(arguments: argparse.Namespace) -> dict[str, Any]:
    """Every row, and what they come to."""
    check_against_gymnasium()
    if ROLLOUT % arguments.worlds:
        raise SystemExit(f"--worlds: expected a divisor of {ROLLOUT}, got {arguments.worlds}")
    rows = [
        measure(seed, arguments.worlds, arguments.steps) for seed in arguments.seeds for measure in (ours, same, stock)
    ]
    print_table(rows)
    whole = summary(rows)
    print()
    print_table(whole)
    return {"pendulum": rows, "pendulum_summary": whole, "steps": arguments.steps, "worlds": arguments.worlds}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each learner: the median speed, the mean return with its standard error, how many times as fast ours is."""
    found = []
    for name in dict.fromkeys(row["learner"] for row in rows):
        own = [row for row in rows if row["learner"] == name]
        returns = [row["return"] for row in own]
        error = statistics.stdev(returns) / len(returns) ** 0.5 if len(returns) > 1 else None
        speed = statistics.median(row["steps/s"] for row in own)
        found.append({"learner": name, "steps/s": speed, "return": statistics.mean(returns), "standard error": error})
    return [{**row, "ours is faster by": round(found[0]["steps/s"] / row["steps/s"], 2)} for row in found]


def ours(seed: int, worlds: int, steps: int) -> dict[str, Any]:
    """Our learner."""
    env = Pendulums(worlds)
    torch.manual_seed(seed)
    policy = fresh_policy(StateNetworkConfig(width=WIDTH, layers=LAYERS, std=0.5), env)  # of ±2 Nm: 1 Nm, as theirs
    config = RLConfig(
        iterations=-(-steps // ROLLOUT),
        num_envs=worlds,
        decisions=ROLLOUT // worlds,
        discount=DISCOUNT,
        lam=LAMBDA,
        clip_low=CLIP,
        clip_high=CLIP,
        epochs=EPOCHS,
        minibatches=ROLLOUT // BATCH,
        target_kl=None,
        critic=CriticConfig(width=WIDTH, layers=LAYERS, lr=RATE, warmup=0, weight=1.0, huber=None, norm=False),
        frozen=(),
        lr=RATE,
        grad_clip=GRAD_CLIP,
        seed=seed,
    )
    learner = RLLearner(config, StateAgent(policy), env)
    began = time.perf_counter()
    for step in range(config.iterations):
        learner.step(step)
    seconds = time.perf_counter() - began
    act = lambda seen: policy.predict_chunk({STATE_KEY: seen})[:, 0]  # noqa: E731
    return row("ours, pendulums together", seed, config.iterations * ROLLOUT / seconds, returned(act))


def same(seed: int, worlds: int, steps: int) -> dict[str, Any]:
    """Stable-baselines3 on our pendulums."""
    return of_baselines("stable-baselines3, pendulums together", PendulumsForBaselines(worlds, seed), seed, steps)


def stock(seed: int, worlds: int, steps: int) -> dict[str, Any]:
    """Stable-baselines3 on gymnasium's."""
    env = DummyVecEnv([lambda: gymnasium.make("Pendulum-v1")] * worlds)
    return of_baselines("stable-baselines3, gymnasium's", env, seed, steps)


def of_baselines(name: str, env: VecEnv, seed: int, steps: int) -> dict[str, Any]:
    """Of stable-baselines3's PPO."""
    with closing(env):
        model = PPO(
            "MlpPolicy",
            env,
            n_steps=ROLLOUT // env.num_envs,
            batch_size=BATCH,
            n_epochs=EPOCHS,
            gamma=DISCOUNT,
            gae_lambda=LAMBDA,
            learning_rate=RATE,
            clip_range=CLIP,
            max_grad_norm=GRAD_CLIP,
            policy_kwargs={"net_arch": [WIDTH] * LAYERS},
            seed=seed,
            device="cpu",
        )
        began = time.perf_counter()
        model.learn(-(-steps // ROLLOUT) * ROLLOUT)
        seconds = time.perf_counter() - began
        act = lambda seen: torch.from_numpy(model.predict(seen.numpy(), deterministic=True)[0])  # noqa: E731
        return row(name, seed, model.num_timesteps / seconds, returned(act))


def row(name: str, seed: int, rate: float, mean: float) -> dict[str, Any]:
    return {"learner": name, "seed": seed, "steps/s": round(rate), "return": round(mean, 1)}


def returned(act: Any) -> float:
    """The mean return of episodes of the stream "evaluate"; ``act`` maps what is seen to torques."""
    env = Pendulums(EVALUATED, stream="evaluate")
    seen, total = env.reset(list(range(EVALUATED)))[STATE_KEY], torch.zeros(EVALUATED)
    for _ in range(LENGTH):
        moved = env.step(act(seen))
        seen, total = moved.observation[STATE_KEY], total + moved.reward
    return float(total.mean())


def of_a_vla(preset: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Decisions per second of a preset, and shares of the time; medians over the counted iterations."""
    made = PRESETS[preset]()
    rl = replace(
        made.rl,
        iterations=arguments.iterations + (2 if made.rl.staleness else 1),
        num_envs=arguments.vla_worlds,
        critic=replace(made.rl.critic, warmup=0),
        device=arguments.device,
        threads=0,
    )
    config = replace(made, tasks=tuple(arguments.tasks), rl=rl)
    policy = with_distribution(random_policy(config, arguments.device), rl.std)
    worlds = worlds_for(config, policy, rl.num_envs)
    with closing(worlds[0]):
        timings = timed(learner_for(config, policy, worlds, ()), rl.iterations)
    names = dict.fromkeys(name for each in timings for name in each)
    medians = {name: statistics.median(each.get(name, 0.0) for each in timings) for name in names}
    return {"preset": preset, "worlds": rl.num_envs, **{name: round(x, 3) for name, x in medians.items()}}


def timed(learner: RLLearner, iterations: int) -> list[dict[str, float]]:
    """The learner's own times of each iteration but the first."""
    found = []
    try:
        for step in range(iterations):
            learner.step(step)
            found.append(learner.timings())
    finally:
        learner.close()
    return found[1:-1] if learner.config.staleness else found[1:]  # nothing is collected in the last one any more


def random_policy(config: Config, device: str) -> VLAPolicy:
    """One of the shape of nano-bridge for the robot of the worlds, that has learned nothing."""
    with closing(make_env("reach", 1, stream="learn", config=config.env)) as env:
        robot = env.embodiment
    preset, draws = nano_bridge(), np.random.default_rng(0)
    sizes = {"state": robot.state_dim, "action": robot.action_dim}
    fields = {name: FieldStatistics.of(draws.uniform(-1, 1, size=(50, size))) for name, size in sizes.items()}
    statistics_ = DatasetStatistics(episodes=1, frames=50, **fields)
    modes = {"state": NormalizationMode.MEAN_STD, "action": NormalizationMode.MIN_MAX}
    torch.manual_seed(0)
    network = VLAConfig(
        backbone=NanoConfig(weights="fresh"),
        head=preset.head,
        cameras=robot.camera_names,
        image_size_px=(config.env.image_size_px,) * 2,
        state_dim=robot.state_dim,
        action_dim=robot.action_dim,
        horizon=preset.horizon,
    )
    normalization = Normalization.from_statistics(statistics_, robot, **modes)
    return VLAPolicy(network.build().to(device), normalization, robot)


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
