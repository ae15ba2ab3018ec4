"""The planner, told the goals that the expert itself would go for: what a policy that aims can do at best."""

import numpy as np
import pytest
import torch

from configs.environments import make_env
from configs.worlds import EnvConfig
from envs.specs import STATE_KEY
from policies.data.keyframes import goals, leads_over, tool_dims
from policies.keyframe_policy import MOTION
from policies.keyframe_targets import pose_dims, tool_rotation
from vla.observation import Keyframe

EPISODES, AHEAD = 4, 120


def rolled(env, state):
    """States and actions of the expert from here to the end of each world's episode; the worlds stay where they are."""
    start, states, actions, length = env.snapshot(), [state], [], torch.full((EPISODES,), AHEAD)
    for step in range(AHEAD):
        actions.append(env.expert_action().clone())
        moved = env.step(actions[-1])
        states.append(moved.observation[STATE_KEY].clone())
        for world in moved.ended:
            length[world] = min(int(length[world]), step + 1)
        if bool((length <= step + 1).all()):
            break
    env.restore(start)
    n = len(actions)
    return torch.stack(states[:n], 1).numpy(), torch.stack(actions, 1).numpy(), length.clamp(max=n).tolist()


def next_goal(states, actions, embodiment):
    tool = list(tool_dims(embodiment))
    found = goals(actions, states[:, tool], np.array([len(actions)]), embodiment)
    over = leads_over(states[:, tool], found.reached)[0]
    there = states[found.reached[0]].copy()
    if found.keyframe[0] == len(actions) - 1:
        there[tool] += actions[-1, :3]
    return there, actions[found.way[0], -1], actions[found.keyframe[0], -1], float(over)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["reach", "push", "pick", "place", "stack", "button", "drawer"])
def test_the_experts_goals_and_planned_ways_do_a_task(task):
    env = make_env(task, EPISODES, stream="evaluate", config=EnvConfig(threads=1), render=False)
    try:
        position, axes = pose_dims(env.embodiment)
        state = env.reset(list(range(EPISODES)))[STATE_KEY].clone()
        running, won = torch.ones(EPISODES, dtype=torch.bool), torch.zeros(EPISODES, dtype=torch.bool)
        while bool(running.any()):
            rolls = zip(*rolled(env, state), strict=True)
            found = [next_goal(s[:length], a[:length], env.embodiment) for s, a, length in rolls]
            there = torch.tensor(np.stack([each[0] for each in found]))
            way, after, over = (torch.tensor([float(each[i]) for each in found]) for i in (1, 2, 3))
            aim = Keyframe(
                position_m=there[:, list(position)],
                rotation=tool_rotation(there, axes),
                gripper=way,
                gripper_after=after,
                clearance=over,
            )
            actions, length = MOTION.plan(state[:, list(position)], tool_rotation(state, axes), aim, 20)
            for step in range(int(length.max())):
                moved = env.step(actions[:, step])
                state = moved.observation[STATE_KEY].clone()
                for world in moved.ended:
                    won[world] |= running[world] & moved.success[world]
                    running[world] = False
        assert bool(won.all())
    finally:
        env.close()
