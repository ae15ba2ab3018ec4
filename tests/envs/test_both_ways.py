"""Worlds that go both ways: nothing is reset when the task turns round, and success ends nothing."""

import pytest
import torch

from envs.specs import STATE_KEY, TASK_KEY, TURNS, image_key
from envs.tasks import make_task
from envs.tasks.both_ways import BACKWARD, BothWays, both_ways
from envs.vector import TaskEnv

WORLDS = 6


@pytest.mark.parametrize("name", BACKWARD)
def test_an_expert_goes_there_and_back_where_nobody_resets(name):
    env = TaskEnv(both_ways(name), WORLDS, render=False, threads=1)
    env.reset(list(range(WORLDS)))
    first, turns = env.task_names, torch.zeros(WORLDS, dtype=torch.long)
    assert set(first) == {name, BACKWARD[name]}
    for _ in range(170):
        moved = env.step(env.expert_action())
        assert not moved.ended and not bool(moved.success.any())
        done = env.stages_done[:, 0]
        turns += done
        env.turn(done)
        assert not bool(env.stages_done.any())
    assert int(turns.min()) >= 3
    expected = [way if even else BACKWARD.get(way, name) for way, even in zip(first, (turns % 2 == 0), strict=True)]
    assert env.task_names == expected
    env.close()


def test_turning_round_changes_what_is_asked_and_nothing_else():
    env = TaskEnv(both_ways("open-drawer"), 3, threads=1, image_size_px=(32, 32))
    env.reset([0, 1, 2])
    before = env.step_chunk(torch.zeros(3, 2, 7)).observation
    names, goals = env.task_names, env.goals
    kept = env.snapshot()
    after = env.turn(torch.tensor([True, False, True]))
    assert all(torch.equal(after[key], before[key]) for key in (STATE_KEY, image_key("front")))
    assert [a == b for a, b in zip(env.task_names, names, strict=True)] == [False, True, False]
    assert [a == b for a, b in zip(env.goals, goals, strict=True)] == [False, True, False]
    assert [a == b for a, b in zip(after[TASK_KEY], before[TASK_KEY], strict=True)] == [False, True, False]
    said = list(after[TASK_KEY])
    turned = env.snapshot()
    assert env.restore(kept)[TASK_KEY] == before[TASK_KEY] and env.task_names == names
    assert env.restore(turned)[TASK_KEY] == said
    env.close()


def test_a_world_is_put_back_after_so_many_steps_and_when_its_things_are_out_of_reach():
    env = TaskEnv(both_ways("open-door"), 2, render=False, threads=1)
    env.reset([0, 1])
    env.task.max_episode_steps = 5
    ended = [env.step(torch.zeros(2, 7)).ended for _ in range(5)]
    assert ended == [[], [], [], [], [0, 1]] and TURNS in env.capabilities
    env.reset([2, 3])
    sensed = env.sense()
    sensed.position[1, 0, 0] = 1.5
    layout = env.task.advance(sensed, env.layout, torch.ones(2, dtype=torch.bool))
    assert env.task.horizon_steps(layout).tolist() == [5, 0]
    env.close()


def test_what_does_not_undo_is_refused():
    with pytest.raises(ValueError, match="reach and open-door are not about the same things"):
        BothWays(make_task("reach"), make_task("open-door"))
    with pytest.raises(ValueError, match="expected one of open-drawer, open-door"):
        both_ways("close-door")
    env = TaskEnv("door", 1, render=False, threads=1)
    env.reset([0])
    with pytest.raises(ValueError, match="door has no way back"):
        env.turn(torch.ones(1, dtype=torch.bool))
    env.close()
