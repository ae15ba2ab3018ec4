"""Keyframes against a walk through the episodes, frame by frame."""

import numpy as np
import pytest

from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from policies.data.keyframes import leads_over, next_keyframe, since_segment_start

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
