"""Plans to a keyframe: they end there, keep within their speed, and go over what is between."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from policies.straight_motion import StraightMotion, rotation_vector
from vla.observation import Keyframe

MOTION = StraightMotion()
START_M = torch.tensor([[0.4, 0.0, 0.3], [0.5, 0.1, 0.02]])
GOAL_M = torch.tensor([[0.5, -0.1, 0.02], [0.45, -0.15, 0.1]])
TURNED = torch.tensor(Rotation.from_rotvec([[0, 0, 0.5], [0.1, -0.2, 0.3]]).as_matrix(), dtype=torch.float32)
STILL = torch.eye(3).repeat(2, 1, 1)


def keyframe(clearance=0.0, gripper=0.0, after=1.0):
    bits = {
        name: torch.full((2,), x)
        for name, x in (("clearance", clearance), ("gripper", gripper), ("gripper_after", after))
    }
    return Keyframe(position_m=GOAL_M, rotation=TURNED, **bits)


def test_rotation_vectors_are_those_of_scipy():
    vectors = np.random.default_rng(0).normal(size=(200, 3))
    vectors[:3] = [[0, 0, 0], [np.pi - 1e-4, 0, 0], [0, 1e-6, 0]]
    matrices = torch.tensor(Rotation.from_rotvec(vectors).as_matrix(), dtype=torch.float32)
    expected = torch.tensor(Rotation.from_matrix(matrices.double().numpy()).as_rotvec(), dtype=torch.float32)
    torch.testing.assert_close(rotation_vector(matrices), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("clearance", [0.0, 1.0])
def test_a_plan_ends_at_its_keyframe_within_its_speed(clearance):
    actions, length = MOTION.plan(START_M, STILL, keyframe(clearance), 40)
    torch.testing.assert_close(START_M + actions[:, :, :3].sum(1), GOAL_M, atol=1e-5, rtol=0)
    turned = STILL
    for k in range(40):
        turned = torch.tensor(Rotation.from_rotvec(actions[:, k, 3:6]).as_matrix(), dtype=torch.float32) @ turned
    torch.testing.assert_close(turned, TURNED, atol=1e-4, rtol=0)
    assert float(actions[:, :, :3].norm(dim=-1).max()) <= MOTION.speed_m + 1e-5
    assert float(actions[:, :, 3:6].norm(dim=-1).max()) <= MOTION.turn_rad + 1e-5
    for world, steps in enumerate(length.tolist()):
        moving = actions[world, :, :6].abs().sum(-1) > 1e-6
        assert int(moving.nonzero().max()) + 1 == steps - MOTION.settle_steps - MOTION.grip_steps
        assert actions[world, : steps - MOTION.grip_steps, 6].tolist() == [0.0] * (steps - MOTION.grip_steps)
        assert actions[world, steps - MOTION.grip_steps : steps, 6].tolist() == [1.0] * MOTION.grip_steps


def test_a_way_with_clearance_rises_first_and_comes_down_at_last():
    actions, _ = MOTION.plan(START_M, STILL, keyframe(1.0), 40)
    place_m = START_M[:, None] + actions[:, :, :3].cumsum(1)
    height_m = place_m[1, :, 2]
    far = (place_m[1, :, :2] - GOAL_M[1, :2]).norm(dim=-1) > 0.04
    away = (place_m[1, :, :2] - START_M[1, :2]).norm(dim=-1) > 0.04
    assert bool((height_m[far & away] > GOAL_M[1, 2] + MOTION.hover_m - 0.01).all()) and bool((far & away).any())
    straight, _ = MOTION.plan(START_M, STILL, keyframe(0.0), 40)
    assert float((START_M[1, 2] + straight[1, :, 2].cumsum(0)).max()) <= GOAL_M[1, 2] + 1e-5


def test_a_way_that_is_too_long_is_cut_off_before_the_gripper_moves():
    far = replace(keyframe(), position_m=GOAL_M + torch.tensor([0.0, -1.0, 0.0]))
    actions, length = MOTION.plan(START_M, STILL, far, 12)
    assert length.tolist() == [12, 12] and not bool(actions[:, :, 6].any())
    assert not bool(actions[:, -MOTION.settle_steps :, :6].any())
    with pytest.raises(ValueError, match="more than 4 steps, got 4"):
        MOTION.plan(START_M, STILL, far, 4)


def test_a_gripper_that_stays_as_it_is_takes_no_time():
    _, changing = MOTION.plan(START_M, STILL, keyframe(after=1.0), 40)
    actions, staying = MOTION.plan(START_M, STILL, keyframe(gripper=1.0, after=1.0), 40)
    assert (changing - staying).tolist() == [MOTION.grip_steps] * 2 and bool((actions[:, :, 6] == 1).all())
