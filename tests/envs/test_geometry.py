"""Rotations, kinematics and random draws against MuJoCo and against their definitions."""

import mujoco
import numpy as np
import pytest
import torch

from envs.kinematics import SerialChain
from envs.random import EpisodeRandom, _mixed, _mixed_on_host
from envs.robots.panda import PANDA
from envs.rotations import (
    compose,
    matrix_from_quat,
    matrix_from_vector,
    quat_from_yaw,
    quat_multiply,
    rotate,
    rotation_vector,
    yaw_from_quat,
)
from envs.scenes.regions import TABLE
from envs.scenes.tabletop import Tabletop
from envs.specs import STREAMS
from envs.tasks.choice import blocks


def _random_quats(n: int) -> torch.Tensor:
    quats = torch.randn(n, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return quats / quats.norm(dim=-1, keepdim=True)


def test_matrix_from_quat_equals_mujoco():
    quats = _random_quats(50)
    expected = np.zeros((50, 9))
    for row, quat in zip(expected, quats.numpy(), strict=True):
        mujoco.mju_quat2Mat(row, quat)
    np.testing.assert_allclose(matrix_from_quat(quats).flatten(1).numpy(), expected, atol=1e-12)


def test_yaw_turns_x_towards_y():
    matrix = matrix_from_quat(quat_from_yaw(torch.tensor(torch.pi / 2)))
    assert torch.allclose(matrix[:, 0], torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)


def test_products_and_logarithms_of_rotations_equal_mujoco():
    a, b = _random_quats(60).split(30)
    matrices = matrix_from_quat(a)
    for i in range(30):
        product, vector = np.zeros(4), np.zeros(3)
        mujoco.mju_mulQuat(product, a[i].numpy(), b[i].numpy())
        mujoco.mju_quat2Vel(vector, a[i].numpy(), 1.0)
        np.testing.assert_allclose(quat_multiply(a[i], b[i]).numpy(), product, atol=1e-12)
        np.testing.assert_allclose(rotation_vector(matrices[i]).numpy(), vector, atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-7, torch.pi - 1e-6, torch.pi])
def test_the_logarithm_holds_at_no_turn_and_at_half_a_turn(angle):
    axis = torch.nn.functional.normalize(torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64))
    quat = torch.cat((torch.tensor([[np.cos(angle / 2)]]), axis * np.sin(angle / 2)), -1)
    found = rotation_vector(matrix_from_quat(quat))
    assert torch.allclose(found, angle * axis, atol=1e-5) or torch.allclose(found, -angle * axis, atol=1e-5)


def test_yaw_is_read_back_from_a_tilted_body():
    yaw = torch.linspace(-3, 3, 7)
    tilt = torch.tensor([np.cos(0.2), 0.0, np.sin(0.2), 0.0], dtype=torch.float32).expand(7, 4)
    assert torch.allclose(yaw_from_quat(quat_multiply(quat_from_yaw(yaw), tilt)), yaw, atol=1e-6)


def test_chain_pose_and_jacobian_equal_mujoco():
    model = Tabletop(PANDA, blocks(TABLE, 1)).model
    data = mujoco.MjData(model)
    joints = [PANDA.prefix + joint for joint in PANDA.joints]
    chain = SerialChain(model, joints, PANDA.prefix + PANDA.tool_site, "cpu")
    angles = torch.rand(20, 7, generator=torch.Generator().manual_seed(1)) * 4 - 2
    pose = chain.pose_and_jacobian(angles)
    site = model.site(PANDA.prefix + PANDA.tool_site).id
    columns = [model.joint(joint).dofadr[0] for joint in joints]
    for i, row in enumerate(angles.numpy()):
        data.qpos[[model.joint(joint).qposadr[0] for joint in joints]] = row
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        np.testing.assert_allclose(pose.position[i].numpy(), data.site_xpos[site], atol=2e-6)
        np.testing.assert_allclose(pose.rotation[i].numpy().ravel(), data.site_xmat[site], atol=2e-6)
        expected = np.concatenate((linear, angular))[:, columns]
        np.testing.assert_allclose(pose.jacobian[i].numpy(), expected, atol=4e-6)


def test_chain_refuses_joints_that_are_not_on_the_way():
    model = Tabletop(PANDA, blocks(TABLE, 1)).model
    with pytest.raises(ValueError, match="expected joints"):
        SerialChain(model, ["block0"], PANDA.prefix + PANDA.tool_site, "cpu")


def test_turns_by_a_vector_are_the_inverse_of_its_logarithm():
    vectors = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vectors *= torch.linspace(0, 3.1, 40)[:, None] / vectors.norm(dim=-1, keepdim=True)
    matrices = matrix_from_vector(vectors)
    assert torch.allclose(rotation_vector(matrices), vectors, atol=1e-9)
    assert torch.allclose(
        compose(matrices, matrices.mT), torch.eye(3, dtype=torch.float64).expand(40, 3, 3), atol=1e-12
    )
    assert torch.allclose(rotate(matrices, vectors), vectors, atol=1e-9)


def test_streams_never_meet():
    """Any seed of one stream begins in another state than any seed of another, however far they are counted."""
    seeds = torch.cat((torch.arange(50_000), torch.tensor([2**40, 2**61 - 1])))
    states = [EpisodeRandom(seeds, stream)._state for stream in STREAMS]
    assert len(torch.cat(states).unique()) == len(STREAMS) * len(seeds)
    first, second = (EpisodeRandom(torch.tensor([7]), stream).uniform("x", 4) for stream in STREAMS[:2])
    assert not torch.equal(first, second)


def test_the_host_mixes_as_devices_do():
    golden = 0x9E3779B97F4A7C15 - 2**64
    states = torch.cat((torch.tensor([0, 1, -1, 2**63 - 1, -(2**63), golden]), torch.arange(1000) * 0x1234567))
    assert torch.equal(_mixed_on_host(states), _mixed(states))
    # The first numbers of the authors' generator that starts at 1234567 (Vigna's splitmix64.c).
    seeds = torch.tensor([1234567])
    expected = [6457827717110365317, 3203168211198807973]
    assert [int(_mixed(seeds)), int(_mixed(seeds + golden))] == expected


def test_draws_in_one_go_equal_those_by_name():
    random = EpisodeRandom(torch.arange(5), "learn")
    together = random.uniforms((("a", 2), ("b", 3)))
    assert torch.equal(together[0], random.uniform("a", 2)) and torch.equal(together[1], random.uniform("b", 3))


def test_attempts_and_steps_have_draws_of_their_own():
    random = EpisodeRandom(torch.arange(4))
    several = random.attempts(6).uniform("x", 1).reshape(4, 6)
    assert len(several.unique()) == 24
    assert torch.equal(random.take(torch.tensor([2])).attempts(2, first=3).uniform("x", 1)[:, 0], several[2, 3:5])
    moments = torch.stack([random.at(torch.full((4,), step)).uniform("x", 1) for step in range(5)])
    assert len(moments.unique()) == 20


def test_draws_depend_on_seed_and_name_alone():
    together = EpisodeRandom(torch.tensor([5, 6, 7]))
    alone = EpisodeRandom(torch.tensor([6]))
    assert torch.equal(together.uniform("x", 4)[1], alone.uniform("x", 4)[0])
    assert not torch.equal(alone.uniform("x", 4), alone.uniform("y", 4))
    assert torch.equal(alone.uniform("x", 8)[:, :4], alone.uniform("x", 4))


def test_draws_are_uniform_and_uncorrelated():
    draws = EpisodeRandom(torch.arange(20_000)).uniform("x", 3)
    assert bool(((draws >= 0) & (draws < 1)).all())
    # Mean of 20,000 uniforms has a standard error of 0.002; correlations of 0.007.
    assert torch.allclose(draws.mean(0), torch.full((3,), 0.5), atol=0.01)
    assert torch.allclose(draws.var(0), torch.full((3,), 1 / 12), atol=0.003)
    assert bool((torch.corrcoef(draws.T) - torch.eye(3)).abs().max() < 0.035)
    deciles = torch.histc(draws[:, 0], bins=10, min=0, max=1) / 20_000
    assert torch.allclose(deciles, torch.full((10,), 0.1), atol=0.012)


def test_permutations_hold_every_index_once():
    order = EpisodeRandom(torch.arange(100)).permutation("p", 6)
    assert torch.equal(order.sort(dim=1).values, torch.arange(6).expand(100, 6))
