"""Keyframes against a walk through the episodes, frame by frame."""

import numpy as np
import pytest

from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from policies.data.keyframes import goals, leads_over, next_keyframe, since_segment_start, strokes

ROBOT = EmbodimentSpec(
    name="toy",
    control_rate_hz=10,
    state=(Dimension(name="x", unit="m", low=-1, high=1),),
    action=(
        Dimension(name="dx", unit="m", low=-1, high=1),
        Dimension(name="gripper", unit="1", low=0, high=1, frame="gripper"),
    ),
    cameras=(CameraSpec(name="front", height_px=8, width_px=8),),
)


def walked(closed, ends):
    """The next keyframe of each frame, by looking ahead one frame at a time."""
    answer = []
    for frame in range(len(closed)):
        last = next(end for end in ends if end > frame) - 1
        ahead = frame + 1
        while ahead < last and closed[ahead] == closed[ahead - 1]:
            ahead += 1
        answer.append(min(ahead, last))
    return answer


@pytest.mark.parametrize("seed", range(20))
def test_next_keyframe_is_where_the_gripper_changes_or_the_episode_ends(seed):
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, 12, size=6))
    closed = rng.random(ends[-1]) < 0.3
    actions = np.stack([rng.normal(size=ends[-1]), closed * 0.8 + 0.1], axis=1).astype(np.float32)
    assert next_keyframe(actions, ends, ROBOT).tolist() == walked(closed.tolist(), ends.tolist())


def test_motions_begin_after_keyframes():
    closed = np.array([0, 0, 1, 1, 0, 0, 0, 0])
    actions = np.stack([np.zeros(8), closed], axis=1).astype(np.float32)
    keyframes = next_keyframe(actions, np.array([6, 8]), ROBOT)
    assert keyframes.tolist() == [2, 2, 4, 4, 5, 5, 7, 7]
    assert since_segment_start(keyframes).tolist() == [0, 1, 0, 1, 0, 1, 0, 1]


def test_a_way_leads_over_something_where_it_is_higher_than_the_straight_one():
    along = np.linspace(0, 1, 11)
    straight = np.stack([0.3 * along, 0.1 * along, 0.2 - 0.2 * along], axis=1)
    arch = straight + np.array([0, 0, 0.1]) * np.sin(np.pi * along)[:, None]
    sideways = straight + np.array([0.1, -0.1, 0]) * np.sin(np.pi * along)[:, None]
    below = straight - np.array([0, 0, 0.1]) * np.sin(np.pi * along)[:, None]
    ends = np.full(11, 10)
    assert leads_over(arch, ends)[:3].all() and not leads_over(arch, ends)[-3:].any()
    for way in (straight, below, straight[:1].repeat(11, axis=0)):
        assert not leads_over(way, ends).any()
    assert not leads_over(sideways * [1, 1, 0], ends).any()


ARM = EmbodimentSpec(
    name="arm",
    control_rate_hz=10,
    state=tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1, high=1, frame="world") for axis in "xyz"),
    action=(
        *(Dimension(name=f"d{axis}", unit="m", low=-1, high=1) for axis in "xyz"),
        Dimension(name="gripper", unit="1", low=0, high=1, frame="gripper"),
    ),
    cameras=ROBOT.cameras,
)


def recorded(moves, closed):
    """Actions, and where the tool was before each."""
    moves = np.array(moves, float)
    actions = np.concatenate([moves, np.array(closed, float)[:, None]], axis=1).astype(np.float32)
    return actions, np.array([0.4, 0.0, 0.2]) + moves.cumsum(axis=0) - moves


def test_a_goal_is_where_the_tool_stands_while_the_gripper_closes():
    """It comes nearer for two steps after the command changes; frames until then still aim there, with open fingers."""
    down, slow, still, up = (0, 0, -0.03), (0, 0, -0.01), (0, 0, 0), (0, 0, 0.03)
    actions, tool_m = recorded([down, down, down, slow, slow, still, up, up], [0, 0, 0, 1, 1, 1, 1, 1])
    found = goals(actions, tool_m, np.array([8]), ARM)
    assert found.keyframe.tolist() == [3, 3, 3, 3, 3, 7, 7, 7]
    assert found.reached.tolist() == [5, 5, 5, 5, 5, 7, 7, 7]
    assert actions[found.way, 3].tolist() == [0, 0, 0, 0, 0, 1, 1, 1]


def test_a_push_begins_and_ends_with_a_goal():
    """Down, along, back a little and up; and neither a straight way down nor a disturbance along is a push."""
    down, along, back, up = (0, 0, -0.045), (0.04, 0, 0), (-0.01, 0, 0.005), (0, 0, 0.04)
    moves = [down] * 4 + [along] * 4 + [back, up, up, up]
    actions, tool_m = recorded(moves, [1] * 12)
    ends = np.array([12])
    assert strokes(actions, tool_m, next_keyframe(actions, ends, ARM)).tolist() == [4, 8]
    found = goals(actions, tool_m, ends, ARM)
    assert found.keyframe.tolist() == [4] * 4 + [8] * 4 + [11] * 4 and found.reached.tolist() == found.keyframe.tolist()
    creeping = (0.01, 0, 0)
    longer, longer_m = recorded([down] * 3 + [along] * 4 + [creeping] * 4 + [back, up, up, up], [1] * 15)
    found = goals(longer, longer_m, np.array([15]), ARM)
    assert found.reached.tolist() == [3] * 3 + [11] * 6 + [14] * 6, "who is 2 cm before a goal has reached it"
    slanting, straight_m = recorded([(0.03, 0, -0.02)] * 12, [1] * 12)
    assert strokes(slanting, straight_m, next_keyframe(slanting, ends, ARM)).size == 0
    actions[4:8, :2] = 0  # it was pushed along, and not told to
    assert strokes(actions, tool_m, next_keyframe(actions, ends, ARM)).size == 0
