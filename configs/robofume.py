"""From the settings of fine-tuning without resets to what learns, and the worlds that it learns in."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.environments import make_task_env, seen_as
from configs.evaluating import evaluator_for
from configs.rl import Config
from configs.serialization import to_json
from configs.worlds import EnvConfig
from policies.training.group import Group
from rl.robofume.config import RoboFuMEConfig

if TYPE_CHECKING:
    from envs.specs import EmbodimentSpec
    from envs.vector import TaskEnv
    from policies.data.dataset import DemonstrationDataset
    from policies.vla_policy import VLAPolicy
    from rl.rewards.head import SavedHead
    from rl.robofume.attempts import Word
    from rl.robofume.learner import RoboFuMELearner

CLASSIFIER_FOLDER = "classifier"
"""Of a run's directory: whose word is taken in it."""


def settings_of(config: Config) -> RoboFuMEConfig:
    """Those of a run without resets."""
    assert config.robofume is not None
    return config.robofume


def ways_of(config: Config) -> tuple[str, str]:
    """The task, and what undoes it; ``ValueError`` for several tasks, and for one that nothing undoes."""
    from envs.tasks.both_ways import both_ways

    if len(config.tasks) != 1:
        raise ValueError(f"name one task, which another one undoes (--tasks open-drawer), got {' '.join(config.tasks)}")
    task = both_ways(config.tasks[0])
    return task.forward.name, task.backward.name


def starting_robofume(config: Config, run_dir: Path | None = None) -> "VLAPolicy":
    """The policy to start from, or that of ``run_dir`` to go on with, with what is to learn on top of it.

    ``ValueError`` where there is none, or none that can be refined; ``CheckpointError`` where it is not whole.
    """
    from policies.state_policy import is_state_policy
    from policies.training.seeding import Draw, seed_everything
    from policies.vla_policy import VLAPolicy, find_policy
    from rl.robofume.agent import refined

    source = run_dir or config.policy
    if source is None:
        raise ValueError("name the policy to start from: --policy RUN (vla train makes one)")
    folder = find_policy(source)
    if is_state_policy(folder):
        raise ValueError(f"{source} is a policy of numbers; expected one that sees pictures, as vla train makes")
    policy = VLAPolicy.load(folder, Group.here().device(config.rl.device))
    seed_everything(config.rl.seed, 0, Draw.INITIAL_WEIGHTS)
    return refined(policy, std=config.rl.std, width=settings_of(config).refined)


def check_robofume(config: Config) -> None:
    """``ValueError`` or ``CheckpointError`` unless a run with these settings can begin: policy, demonstrations, task,
    classifier and worlds fit together.
    """
    from envs.tasks.both_ways import both_ways
    from policies.evaluation import check_robot
    from rl.rewards.features import FrozenFeatures
    from rl.robofume.demonstrations import check_demonstrations

    ways, policy = ways_of(config), starting_robofume(config)
    _check_rest(config)
    seen_as(policy.embodiment, config.env)
    datasets = _datasets(config)
    check_demonstrations(datasets, ways, policy.embodiment)
    with closing(make_task_env(both_ways(ways[0]), 1, stream="learn", config=config.env, render=False)) as env:
        check_robot(policy.embodiment, env)
    if config.classifier is not None:
        _word_of(config, ways, _saved(config.classifier))
    elif settings_of(config).judge == "classifier":
        FrozenFeatures().check(datasets[0].embodiment)
    if (evaluator := evaluator_for(config.evaluate, policy.embodiment, ways)) is not None:
        evaluator.check()


def _check_rest(config: Config) -> None:
    """``ValueError`` for settings of other ways to learn, rather than leave them unheeded."""
    robofume = settings_of(config)
    if config.rl.processes != 1 or Group.here().size != 1:
        raise ValueError("fine-tuning without resets runs in one process: leave out rl.processes")
    if config.rl.weigh_tasks or config.rl.staleness or config.reward != "sparse" or config.arm_start_rad:
        raise ValueError("rl.weigh_tasks, rl.staleness, reward and arm_start_rad mean nothing without resets")
    if robofume.offline > config.rl.iterations:
        raise ValueError(
            f"robofume.offline {robofume.offline} of the iterations are to learn from demonstrations alone, and "
            f"rl.iterations is {config.rl.iterations}"
        )
    if robofume.judge == "simulator" and config.classifier is not None:
        raise ValueError("the simulator is to judge, and a classifier is named: leave one of them out")


def robofume_worlds(config: Config, policy: "VLAPolicy") -> "TaskEnv":
    """Worlds of the task and of what undoes it, as the policy sees them."""
    from envs.tasks.both_ways import both_ways

    task = both_ways(config.tasks[0])
    env = seen_as(policy.embodiment, config.env)
    return make_task_env(task, config.rl.num_envs, stream="learn", split=config.split, config=env)


def robofume_learner(
    config: Config, policy: "VLAPolicy", env: "TaskEnv", run_dir: Path, legs: Sequence[int]
) -> "RoboFuMELearner":
    """What refines ``policy`` in ``env``. The classifier lies in ``run_dir``, where it is fitted first."""
    from rl.robofume.agent import RefinedAgent
    from rl.robofume.attempts import SimulatorsWord
    from rl.robofume.demonstrations import check_demonstrations, demonstrated
    from rl.robofume.learner import RoboFuMELearner

    robofume, ways, datasets = settings_of(config), ways_of(config), _datasets(config)
    agent = RefinedAgent(policy, execute=config.rl.execute)
    check_demonstrations(datasets, ways, agent.embodiment)
    word: Word = SimulatorsWord(env)
    if robofume.judge == "classifier":
        word = _word_of(config, ways, _classifier(config, datasets, env.embodiment, run_dir))
    known = demonstrated(datasets, agent, discount=config.rl.discount, earned=robofume.calql.reward)
    return RoboFuMELearner(
        config.rl,
        robofume,
        agent,
        env,
        known,
        word,
        ways=ways,
        legs=legs,
        about={"env": _about_worlds(config), "data": {"fingerprints": [each.fingerprint for each in datasets]}},
        evaluator=evaluator_for(config.evaluate, agent.embodiment, ways),
    )


def _datasets(config: Config) -> "list[DemonstrationDataset]":
    from policies.data.dataset import DemonstrationDataset

    return [DemonstrationDataset(path, failures=False) for path in config.data]


def _classifier(
    config: Config, datasets: "Sequence[DemonstrationDataset]", robot: "EmbodimentSpec", run_dir: Path
) -> "SavedHead":
    """The one that is named, or that of the run, which is fitted to the demonstrations at its beginning."""
    from rl.rewards.features import FrozenFeatures
    from rl.rewards.head import HEAD_FILE
    from rl.robofume.demonstrations import fitted_classifier

    if config.classifier is not None:
        return _saved(config.classifier)
    folder = run_dir / CLASSIFIER_FOLDER
    if (folder / HEAD_FILE).is_file():
        return _saved(folder)
    features = FrozenFeatures(device=config.rl.device)
    features.check(robot)
    saved = fitted_classifier(datasets, features, settings_of(config))
    saved.save(folder)
    return saved


def _saved(folder: Path) -> "SavedHead":
    from rl.rewards.head import load_head

    saved = load_head(folder)
    if saved.kind != "classifier":
        raise ValueError(f"{folder} holds a reward of the kind {saved.kind!r}, expected a classifier")
    return saved


def _word_of(config: Config, ways: Sequence[str], saved: "SavedHead") -> "Word":
    import torch

    from rl.rewards.classifier import SuccessClassifier, SuccessReward
    from rl.rewards.features import FrozenFeatures
    from rl.robofume.demonstrations import threshold_of

    threshold, votes = threshold_of(saved, ways)
    features = FrozenFeatures(saved.base_folder, torch.device(config.rl.device))
    return SuccessReward(SuccessClassifier(features, saved.head), threshold, votes)


def _about_worlds(config: Config) -> dict[str, Any]:
    """What decides an episode of a seed, JSON-ready."""
    plain = EnvConfig()
    same = replace(config.env, threads=plain.threads, render_limit_s=plain.render_limit_s)
    named = None if config.classifier is None else str(config.classifier)
    return {**to_json(same), "split": config.split, "classifier": named}
