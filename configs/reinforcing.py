"""From the settings of a run of learning from reward to a policy that can learn, and the worlds that it learns in."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.environments import expand_tasks, make_task_env, seen_as
from configs.evaluating import evaluator_for
from configs.rl import Config
from configs.serialization import to_json
from envs.specs import ENVIRONMENT_STATE_KEY, EmbodimentSpec
from policies.training.group import Group

if TYPE_CHECKING:
    from envs.vector import TaskEnv
    from policies.state_policy import StatePolicy
    from policies.vla_policy import VLAPolicy
    from rl.agent import Agent
    from rl.learner import RLLearner, Weigh
    from rl.rewards.reward import Reward


def starting_policy(config: Config, run_dir: Path | None = None) -> "VLAPolicy | StatePolicy | None":
    """The policy to start from, or that of ``run_dir`` to go on with, with a distribution; None for a state policy that
    has learned nothing, which needs a look at its worlds first.

    ``ValueError`` where there is nothing to start from, or no distribution to be had; ``CheckpointError`` where the
    policy is not whole.
    """
    from policies.state_policy import StatePolicy, is_state_policy
    from policies.vla_policy import VLAPolicy, find_policy
    from rl.vla_agent import with_distribution

    source = run_dir or config.policy
    if source is None and config.state is None:
        raise ValueError("name the policy to start from: --policy RUN (vla train makes one)")
    if source is None:
        return None
    device, folder = Group.here().device(config.rl.device), find_policy(source)
    if is_state_policy(folder):
        return StatePolicy.load(folder, device, config.rl.execute)
    return with_distribution(VLAPolicy.load(folder, device), config.rl.std)


def check(config: Config) -> None:
    """``ValueError`` or ``CheckpointError`` unless there is a policy that can learn with these settings."""
    from rl.sharing import worlds_of

    processes = max(config.rl.processes, Group.here().size)
    worlds_of(config.rl, Group(size=processes, local_size=processes))
    tasks = expand_tasks(config.tasks)
    if config.rl.weigh_tasks and len(tasks) < 2:
        raise ValueError(f"rl.weigh_tasks chooses among several tasks, got {', '.join(tasks)} alone")
    policy = starting_policy(config)
    if config.evaluate.every and (policy is None or not policy.embodiment.cameras):
        _check_numbers(config)
    if policy is None:
        return
    if policy.embodiment.cameras:
        seen_as(policy.embodiment, config.env)
    if (evaluator := evaluator_for(config.evaluate, policy.embodiment, config.tasks)) is not None:
        evaluator.check()


def _check_numbers(config: Config) -> None:
    """``ValueError`` where a state policy would be tried out in worlds that are told in other numbers than its own are:
    those of several tasks tell of the things of all of them.
    """
    learned = "+".join(expand_tasks(config.tasks))
    expected = _numbers(config, learned)
    for task in expand_tasks(config.evaluate.tasks or config.tasks):
        if (size := _numbers(config, task)) != expected:
            raise ValueError(
                f"a policy of numbers cannot be evaluated on {task} while it learns {learned}: expected worlds of "
                f"{expected} numbers, got {size}; leave out evaluate.every, or learn one task"
            )


def _numbers(config: Config, task: str) -> int:
    """How many the simulator knows of a world of ``task``."""
    env = make_task_env(task, 1, stream="learn", config=config.env, render=False, privileged=True)
    try:
        return env.reset([0])[ENVIRONMENT_STATE_KEY].shape[1]
    finally:
        env.close()


def worlds_for(
    config: Config, policy: "VLAPolicy | StatePolicy | None", num_envs: int
) -> "tuple[TaskEnv, Weigh | None]":
    """``num_envs`` worlds of all tasks together, as the policy sees them; and what sets how often each is drawn.

    A state policy sees no pictures, and what the simulator knows.
    """
    from envs.tasks.mixture import Mixture
    from policies.vla_policy import VLAPolicy

    sees = isinstance(policy, VLAPolicy)
    env = make_task_env(
        "+".join(expand_tasks(config.tasks)),
        num_envs,
        stream="learn",
        split=config.split,
        config=seen_as(policy.embodiment, config.env) if sees else config.env,
        arm_start_rad=config.arm_start_rad,
        reward=config.reward,
        discount=config.rl.discount,
        render=sees,
        privileged=not sees,
    )
    task = env.task
    if not isinstance(task, Mixture):
        return env, None

    def weigh(weights: Sequence[float]) -> None:
        task.weights = tuple(weights)

    return env, weigh


def agent_for(config: Config, policy: "VLAPolicy | StatePolicy | None", env: "TaskEnv") -> "Agent[Any]":
    """What learns."""
    from policies.training.seeding import Draw, seed_everything
    from policies.vla_policy import VLAPolicy
    from rl.state_agent import StateAgent, fresh_policy
    from rl.vla_agent import VLAAgent

    if isinstance(policy, VLAPolicy):
        return VLAAgent(policy, frozen=config.rl.frozen, execute=config.rl.execute)
    if policy is None:
        assert config.state is not None
        seed_everything(config.rl.seed, 0, Draw.INITIAL_WEIGHTS)
        policy = fresh_policy(config.state, env, device=Group.here().device(config.rl.device))
    return StateAgent(policy)


def learner_for(
    config: Config,
    policy: "VLAPolicy | StatePolicy | None",
    worlds: "tuple[TaskEnv, Weigh | None]",
    legs: Sequence[int],
) -> "RLLearner":
    """What improves ``policy`` in ``worlds``."""
    from rl.learner import RLLearner

    env, weigh = worlds
    agent = agent_for(config, policy, env)
    return RLLearner(
        config.rl,
        agent,
        env,
        tasks=expand_tasks(config.tasks),
        legs=legs,
        rewards=rewards_for(config, env.embodiment),
        weigh=weigh,
        about={"env": _about_worlds(config)},
        evaluator=evaluator_for(config.evaluate, agent.embodiment, config.tasks),
    )


def rewards_for(config: Config, robot: EmbodimentSpec) -> "list[Reward]":
    """What is paid beside the environment's own reward, as potentials, so that lingering earns nothing."""
    from configs.goals import goal_describer

    if not config.learned_rewards:
        return []
    from rl.rewards.making import make_scorer
    from rl.rewards.reward import Shaped, Weighed

    camera = robot.cameras[0]
    about: dict[str, Any] = {
        "cameras": robot.camera_names,
        "image_size_px": (camera.height_px, camera.width_px),
        "describe": goal_describer(expand_tasks(config.tasks)),
    }
    scorers = [make_scorer(name, config.scorer, **about) for name in config.learned_rewards]
    return [Weighed([(config.learned_weight, Shaped(scorer, config.rl.discount)) for scorer in scorers])]


def _about_worlds(config: Config) -> dict[str, Any]:
    """What decides an episode of a seed, JSON-ready."""
    plain = type(config.env)()
    same = replace(config.env, threads=plain.threads, render_limit_s=plain.render_limit_s)
    more: dict[str, Any] = {"reward": config.reward, "split": config.split, "arm_start_rad": config.arm_start_rad}
    if config.learned_rewards:
        more |= {"learned": list(config.learned_rewards), "weight": config.learned_weight}
    return {**to_json(same), **more}
