"""Several tasks in one vector environment: every episode is exactly one of them."""

from collections import Counter

import pytest
import torch

from envs.specs import ENVIRONMENT_STATE_KEY, TASK_KEY
from envs.suites import find_task
from envs.tasks.mixture import Mixture
from envs.vector import TaskEnv


def played(env: TaskEnv, seeds: list[int]):
    observation = env.reset(seeds)
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
    return observation, last


@pytest.mark.slow
def test_experts_of_all_tasks_succeed_side_by_side():
    env = TaskEnv("reach+place+drawer+sort+tabletop-long/store", 60, render=False)
    observation, last = played(env, list(range(60)))
    assert set(Counter(env.task_names).values()) <= set(range(5, 25)) and len(set(env.task_names)) == 5
    assert int(last.success.sum()) >= 58
    solved = last.success
    assert bool(env.stages_done[solved].all())
    assert len(set(observation[TASK_KEY])) > 30
    env.close()


@pytest.mark.slow
def test_an_episode_is_what_it_would_be_alone():
    """Same things at the same places, same words, same moves and same end as in the task's own environment."""
    mixed = TaskEnv("pick+button+tabletop-goal/store-red", 12, render=False)
    observation, last = played(mixed, list(range(12)))
    for world, name in enumerate(mixed.task_names):
        alone = TaskEnv(name, 1, render=False)
        own, end = played(alone, [world])
        assert own[TASK_KEY][0] == observation[TASK_KEY][world]
        member = mixed.task._members[[task.name for task in mixed.task.tasks].index(name)]
        there, here = mixed.layout.position[world][list(member.slots)], alone.layout.position[0]
        present = alone.layout.present[0]
        assert torch.equal(there[present], here[present])
        assert bool(end.success[0]) == bool(last.success[world])
        alone.close()
    mixed.close()


def test_a_task_ends_by_its_own_horizon():
    env = TaskEnv("reach+place", 8, render=False)
    env.reset(list(range(8)))
    horizon = {"reach": find_task("reach").max_episode_steps, "place": find_task("place").max_episode_steps}
    last = env.step_chunk(torch.zeros(8, max(horizon.values()), 7))
    assert bool(last.truncated.all())
    assert last.steps.tolist() == [horizon[name] for name in env.task_names]
    env.close()


def test_weights_decide_and_may_move_while_running():
    task = Mixture([find_task("reach"), find_task("pick")], weights=[3, 1])
    env = TaskEnv(task, 400, render=False, language=False)
    env.reset(list(range(400)))
    assert 270 < Counter(env.task_names)["reach"] < 330
    task.weights = [0, 1]
    mask = torch.arange(400) < 200
    before = env.task_names[200:]
    env.reset(list(range(400)), mask)
    assert set(env.task_names[:200]) == {"pick"} and env.task_names[200:] == before
    with pytest.raises(ValueError, match="expected 2 weights"):
        task.weights = [1, -1]
    env.close()


def test_things_alike_are_there_once():
    joined = find_task("reach+pick+place")
    assert [prop.name for prop in joined.props] == [*(f"block{i}" for i in range(4)), "bin0", "bin1"]
    goals = find_task("tabletop-goal+tabletop-goal/bin-red")
    assert len(goals.tasks) == 10 and len(goals.props) == len(goals.tasks[0].props)
    with pytest.raises(ValueError, match="needs different tasks"):
        Mixture([find_task("reach"), find_task("reach")])


def test_what_is_known_of_the_things_is_as_wide_for_every_task():
    env = TaskEnv("stack+slide+sort", 6, render=False, privileged=True)
    observation = env.reset(list(range(6)))
    assert observation[ENVIRONMENT_STATE_KEY].shape == (6, env.privileged_dim)
    assert env.step(env.expert_action()).observation[ENVIRONMENT_STATE_KEY].isfinite().all()
    env.close()
