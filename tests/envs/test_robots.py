"""Every robot against MuJoCo, published numbers and the tasks' experts; the mesh Panda against the primitive one."""

import dataclasses
import importlib.util
import math
import sys

import mujoco
import numpy as np
import pytest
import torch

from envs.control.modes import DeltaPose
from envs.control.servo import PoseServo, ServoConfig, ToolPose
from envs.kinematics import SerialChain
from envs.robots import PANDA, PANDA_MESH, ROBOTS, SO100, UR5E, make_robot
from envs.robots.meshes import cache_folder
from envs.scenes.tabletop import Tabletop
from envs.specs import STATE_KEY, depth_key, image_key
from envs.tasks import make_task
from envs.vector import TaskEnv

ORIGINAL_MESHES = dataclasses.replace(PANDA_MESH, face_budget=None)
POINTING_DOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
needs_meshes = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("robosuite", "open3d")),
    reason="the mesh Panda needs the extras robosuite and open3d",
)
needs_robosuite = pytest.mark.skipif(
    importlib.util.find_spec("robosuite") is None, reason="the original meshes need the extra robosuite"
)
# The mesh Panda has the primitive one's kinematics, which is tested below.
primitive_arms = pytest.mark.parametrize("arm", [PANDA, UR5E, SO100], ids=lambda arm: arm.name)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """An empty cache for meshes, filled by the first test that needs one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield cache_folder()


def _scene(arm):
    return Tabletop(arm, make_task("reach").props).model


def _chain(arm):
    model = _scene(arm)
    joints = [arm.prefix + joint for joint in arm.joints]
    return model, joints, SerialChain(model, joints, arm.prefix + arm.tool_site, "cpu")


def _limits(model, joints):
    return torch.tensor(model.jnt_range[[model.joint(joint).id for joint in joints]], dtype=torch.float32)


@primitive_arms
def test_pose_and_jacobian_equal_mujoco(arm):
    model, joints, chain = _chain(arm)
    data = mujoco.MjData(model)
    site = model.site(arm.prefix + arm.tool_site).id
    columns = [model.joint(joint).dofadr[0] for joint in joints]
    angles = torch.rand(20, len(joints), generator=torch.Generator().manual_seed(1)) * 4 - 2
    pose = chain.pose_and_jacobian(angles)
    for i, row in enumerate(angles.numpy()):
        data.qpos[[model.joint(joint).qposadr[0] for joint in joints]] = row
        mujoco.mj_kinematics(model, data)
        mujoco.mj_comPos(model, data)
        linear, angular = np.zeros((3, model.nv)), np.zeros((3, model.nv))
        mujoco.mj_jacSite(model, data, linear, angular, site)
        np.testing.assert_allclose(pose.position[i].numpy(), data.site_xpos[site], atol=3e-6)
        np.testing.assert_allclose(pose.rotation[i].numpy().ravel(), data.site_xmat[site], atol=3e-6)
        expected = np.concatenate((linear, angular))[:, columns]
        np.testing.assert_allclose(pose.jacobian[i].numpy(), expected, atol=4e-6)


@primitive_arms
def test_what_a_gripper_says_of_its_fingers_is_so_in_the_scene(arm):
    """From the corners of the closed fingers' boxes, in the tool's frame."""
    model, gripper = _scene(arm), arm.gripper
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    tool = data.site(arm.prefix + gripper.tool_site)
    corners = {}
    for body in (gripper.left_finger, gripper.right_finger, gripper.hand):
        box = model.geom(arm.prefix + body)
        assert box.bodyid[0] == model.body(arm.prefix + body).id
        signs = np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
        seen = data.geom(arm.prefix + body)
        in_world = seen.xpos + signs * box.size @ seen.xmat.reshape(3, 3).T
        corners[body] = (in_world - tool.xpos) @ tool.xmat.reshape(3, 3)
    left, right = corners[gripper.left_finger], corners[gripper.right_finger]
    outer = left[left[:, 1].argmax()]
    np.testing.assert_allclose(right[:, 1].min(), -outer[1], atol=1e-9)
    np.testing.assert_allclose(gripper.corner_m, np.hypot(outer[0], outer[1]), atol=1e-9)
    np.testing.assert_allclose(np.tan(gripper.corner_rad), outer[1] / abs(outer[0]), atol=1e-9)
    np.testing.assert_allclose((gripper.finger_width_m, gripper.finger_thickness_m), (2 * abs(outer[0]), outer[1]))
    np.testing.assert_allclose(gripper.fingertip_m, left[:, 2].max(), atol=1e-9)
    slides = [model.joint(arm.prefix + finger) for finger in gripper.fingers]
    assert sum(slide.range[1] for slide in slides) == gripper.opening_m
    bodies = [model.body(arm.prefix + finger).id for finger in (gripper.left_finger, gripper.right_finger)]
    assert [slide.bodyid[0] for slide in slides] == bodies


def test_ur5e_is_the_published_denavit_hartenberg_chain():
    """Universal Robots' table: a, d (m) and α per joint; its base frame is ours turned by half a turn about z."""
    table = (
        (0.0, 0.1625, math.pi / 2),
        (-0.425, 0.0, 0.0),
        (-0.3922, 0.0, 0.0),
        (0.0, 0.1333, math.pi / 2),
        (0.0, 0.0997, -math.pi / 2),
        (0.0, 0.0996, 0.0),
    )
    _, _, chain = _chain(UR5E)
    angles = torch.rand(10, 6, generator=torch.Generator().manual_seed(2)) * 6 - 3
    position, rotation = chain.pose(angles)
    for i, row in enumerate(angles.tolist()):
        flange = np.diag([-1.0, -1.0, 1.0, 1.0])
        for theta, (a, d, alpha) in zip(row, table, strict=True):
            (c, s), (ca, sa) = ((math.cos(angle), math.sin(angle)) for angle in (theta, alpha))
            flange = flange @ np.array(
                [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
            )
        np.testing.assert_allclose(rotation[i, :, 2].numpy(), flange[:3, 2], atol=1e-5)
        gripper_m = 0.115
        np.testing.assert_allclose(position[i].numpy(), flange[:3, 3] + gripper_m * flange[:3, 2], atol=1e-5)


@primitive_arms
def test_every_arm_starts_where_the_panda_does(arm):
    """Over the middle of the table, pointing straight down, fingers opening along the world's y axis."""
    model, joints, chain = _chain(arm)
    home = torch.tensor([arm.home_rad])
    position, rotation = chain.pose(home)
    torch.testing.assert_close(position[0], torch.tensor([0.5118, 0.0, 0.2443]), atol=5e-4, rtol=0)
    torch.testing.assert_close(rotation[0], POINTING_DOWN, atol=5e-4, rtol=0)
    low, high = _limits(model, joints).unbind(-1)
    assert bool(((home > low + 0.1) & (home < high - 0.1)).all())
    data = mujoco.MjData(model)
    data.qpos[[model.joint(joint).qposadr[0] for joint in joints]] = arm.home_rad
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    axis = data.xaxis[model.joint(arm.prefix + arm.fingers[0]).id]
    np.testing.assert_allclose(np.abs(axis), [0, 1, 0], atol=1e-3)


def driven(arm, servo: ServoConfig | None = None) -> DeltaPose:
    """The arm's controller, with nothing that could stand in its way."""
    model, joints, chain = _chain(arm)
    limits, home = _limits(model, joints), torch.tensor(arm.home_rad)
    return DeltaPose(PoseServo(chain, servo or arm.servo, limits_rad=limits, home_rad=home), gripper_open_m=0.04)


def standing(chain: SerialChain, joints_rad: torch.Tensor) -> ToolPose:
    """What is commanded of arms that stand still."""
    position, rotation = chain.pose(joints_rad)
    return ToolPose(position=position, rotation=rotation)


@primitive_arms
def test_every_arm_reaches_the_workspace_pointing_down(arm):
    """The corners and the middle of x 0.30 … 0.66 m, |y| ≤ 0.27 m, from the table up to 0.30 m."""
    corners = torch.cartesian_prod(
        torch.tensor([0.30, 0.48, 0.66]), torch.tensor([-0.27, 0.0, 0.27]), torch.tensor([0.02, 0.15, 0.30])
    )
    _, _, chain = _chain(arm)
    home = torch.tensor(arm.home_rad)
    controller = driven(arm)
    command = torch.cat((home, torch.tensor([0.04]))).repeat(len(corners), 1)
    pose = standing(chain, command[:, :-1])
    for _ in range(80):
        position, _ = chain.pose(command[:, :-1])
        action = torch.cat(((corners - position).clamp(-0.03, 0.03), torch.zeros(len(corners), 4)), -1)
        command, pose = controller.targets(action, command[:, :-1], command, pose)
    position, rotation = chain.pose(command[:, :-1])
    assert float((position - corners).norm(dim=-1).max()) < 0.01
    tilt_deg = torch.rad2deg(torch.arccos((-rotation[:, 2, 2]).clamp(-1, 1)))
    assert float(tilt_deg.max()) < 6


@primitive_arms
@pytest.mark.parametrize("task", ["reach", "pick", "place"])
def test_experts_need_not_know_the_robot(arm, task):
    env = TaskEnv(task, 12, arm=arm, render=False)
    env.reset(list(range(12)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 11
    env.close()


@primitive_arms
def test_state_action_and_limits_are_the_robots(arm):
    env = TaskEnv("reach", 1, arm=arm, render=False, max_episode_steps=200)
    observation = env.reset([0])
    spec = env.embodiment
    assert (spec.name, spec.state_dim, spec.action_dim) == (arm.name, 10 + len(arm.joints), 7)
    torch.testing.assert_close(observation[STATE_KEY][0, 10:], torch.tensor(arm.home_rad))
    assert float(observation[STATE_KEY][0, 9]) == pytest.approx(arm.opening_m)
    assert spec.state[9].high == arm.opening_m
    limits = _limits(env.world.model, [arm.prefix + joint for joint in arm.joints])
    for dimension, (low, high) in zip(spec.state[10:], limits.tolist(), strict=True):
        assert dimension.low <= low < high <= dimension.high
    outwards = torch.tensor([[0.04, 0.02, 0.04, 0.0, 0.1, 0.1, 1.0]])
    for _ in range(60):
        env.step(outwards)
        assert bool((env.world.command[0, :-1] >= limits[:, 0]).all())
        assert bool((env.world.command[0, :-1] <= limits[:, 1]).all())
    env.close()


def test_where_five_joints_cannot_do_both_position_wins():
    """A turn that the arm cannot make displaces the tool little; with equal weights it would drag it along."""
    _, _, chain = _chain(SO100)
    home = torch.tensor(SO100.home_rad)
    drift_m = {}
    for weight in (1.0, SO100.servo.rotation_weight):
        controller = driven(SO100, dataclasses.replace(SO100.servo, rotation_weight=weight))
        turns = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        turns = 0.05 * turns / turns.norm(dim=-1, keepdim=True)
        action = torch.cat((torch.zeros(50, 3), turns, torch.zeros(50, 1)), -1)
        command = torch.cat((home, torch.tensor([0.04]))).repeat(50, 1)
        pose = standing(chain, command[:, :-1])
        for _ in range(15):
            command, pose = controller.targets(action, command[:, :-1], command, pose)
        drift = chain.pose(command[:, :-1])[0] - chain.pose(home[None])[0]
        drift_m[weight] = float(drift.norm(dim=-1).median())
    assert drift_m[SO100.servo.rotation_weight] < 0.001 and drift_m[1.0] > 0.01


@pytest.mark.parametrize("engine", ["cpu", "warp"])
@pytest.mark.parametrize(
    "arm", [PANDA, UR5E, SO100, pytest.param(ORIGINAL_MESHES, marks=needs_robosuite)], ids=lambda a: a.name
)
def test_what_only_collides_is_seen_by_no_camera(arm, engine):
    """Guards of the links, and all that collides of the mesh Panda; the rest of the arm is seen."""
    if engine == "warp":
        pytest.importorskip("mujoco_warp", reason="needs the extra: pip install 'vla-stack[warp]'")
    env = TaskEnv("reach", 1, engine=engine, arm=arm, image_size_px=(64, 64), segmentation=True)
    env.reset([0])
    images, model = env.world.render(torch.tensor([True], device=env.world.device)), env.world.model
    pictures = [image.segmentation for image in images.values() if image.segmentation is not None]
    seen = set(torch.cat([picture.flatten() for picture in pictures]).tolist()) - {-1}
    env.close()
    hidden = {i for i in range(model.ngeom) if model.geom_group[i] >= 3}
    of_arm = {i for i in range(model.ngeom) if model.body(model.geom_bodyid[i]).name.startswith(arm.prefix)}
    assert len(hidden & of_arm) >= 4 and not seen & hidden
    assert len(seen & of_arm) >= 5


def test_robots_by_name():
    assert make_robot("ur5e") is UR5E and set(ROBOTS) == {"panda", "panda_mesh", "ur5e", "so100"}
    with pytest.raises(ValueError, match=r"unknown robot 'ur10'; expected one of panda, panda_mesh, ur5e, so100"):
        make_robot("ur10")


@needs_meshes
def test_mesh_panda_moves_as_the_primitive_one_and_looks_different(cache):
    envs = [TaskEnv("place", 2, arm=arm, image_size_px=(64, 64), max_episode_steps=400) for arm in (PANDA, PANDA_MESH)]
    first = [env.reset([4, 5])[image_key("front")] for env in envs]
    assert float((first[0] != first[1]).any(-1).float().mean()) > 0.03
    primitive, mesh = envs
    assert primitive.embodiment == mesh.embodiment
    start = primitive.sense().position
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        # Noise about the expert's moves, with a gripper that opens and closes at random: many contacts, no success.
        action = primitive.expert_action() + 0.02 * torch.randn(2, 7, generator=generator)
        action[:, 6] = torch.randint(0, 2, (2,), generator=generator)
        results = [env.step(action) for env in envs]
        assert bool((results[0].steps == 1).all())
        assert torch.equal(primitive.world.qpos, mesh.world.qpos)
    assert float((primitive.sense().position - start).norm(dim=-1).max()) > 0.01
    for env in envs:
        env.close()


@needs_meshes
def test_decimated_panda_looks_like_the_original(cache):
    """Depth from both cameras: a tenth of the faces, the same outside."""
    seen, faces = [], []
    for budget in (None, 10_000):
        arm = dataclasses.replace(PANDA_MESH, face_budget=budget)
        env = TaskEnv("reach", 1, arm=arm, image_size_px=(96, 96), depth=True)
        observation = env.reset([0])
        seen.append(torch.stack([observation[depth_key(camera)] for camera in ("front", "wrist")]))
        faces.append(env.world.model.nmeshface)
        env.close()
    assert faces[0] > 130_000 and 9_900 < faces[1] <= 10_000
    assert float(((seen[0] - seen[1]).abs() > 0.003).float().mean()) < 0.005


@needs_meshes
def test_decimation_happens_once(cache, monkeypatch):
    arm = dataclasses.replace(PANDA_MESH, face_budget=3000)

    def files():
        return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in cache.glob("panda-*-3000/*")}

    assert not files()
    assert arm.build().compile().nmeshface <= 3000
    written = files()
    assert len(written) > 10
    monkeypatch.setitem(sys.modules, "open3d", None)
    assert arm.build().compile().nmeshface <= 3000
    assert files() == written
    assert [entry.name for entry in cache.iterdir() if entry.name.startswith(".")] == []


@needs_meshes
def test_a_budget_that_cannot_be_kept_leaves_no_cache(cache):
    before = set(cache.parent.rglob("*"))
    with pytest.raises(ValueError, match="expected a face budget of at least 16 for each of 23 pieces, got 100"):
        dataclasses.replace(PANDA_MESH, face_budget=100).build()
    assert set(cache.parent.rglob("*")) - before <= {cache}


def test_missing_robosuite_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "robosuite", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla-stack\[robosuite,open3d\]'"):
        TaskEnv("reach", 1, arm=make_robot("panda_mesh"), render=False)


@needs_meshes
def test_missing_open3d_is_named(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(ModuleNotFoundError, match=r"needs Open3D: pip install 'vla-stack\[robosuite,open3d\]'"):
        dataclasses.replace(PANDA_MESH, face_budget=2500).build()
    assert not list(cache.glob("panda-*-2500"))
