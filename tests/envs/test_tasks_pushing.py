"""Tasks that push things over the table: push, slide and pushT."""

import copy
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch

from envs.props.block import CUBE_HALF_M
from envs.props.colours import COLOUR_NAMES
from envs.props.mat import MAT_HALF_M
from envs.props.slider import RAIL_REACH_M
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_yaw, quat_from_yaw
from envs.specs import TASK_KEY
from envs.tasks import make_task
from envs.tasks.planar import LEAN, Flat, Rim, best_pushes
from envs.tasks.push_t import COVERED, covered
from envs.vector import TaskEnv

NAMES = ("push", "slide", "pushT")


def started(name, seeds):
    """A task's layout and what is sensed of it at the start, without physics."""
    env = TaskEnv(name, len(seeds), render=False)
    env.reset(seeds)
    sensed, layout = env.sense(), env.layout
    env.close()
    return env.task, sensed, layout


def moved(sensed, slots, position):
    """``sensed`` with each world's thing in ``slots`` at ``position``."""
    new = sensed.position.clone()
    new[torch.arange(len(slots)), slots] = position
    return replace(sensed, position=new)


@pytest.mark.parametrize("name", NAMES)
def test_things_start_apart(name):
    env = TaskEnv(name, 200, render=False)
    observation = env.reset(list(range(200)))
    assert not bool(env.task.success(env.sense(), env.layout).any())
    model = copy.deepcopy(env.world.model)
    data = mujoco.MjData(model)
    table = model.geom("table_top").id
    for world in range(200):
        data.qpos[:] = env.world.qpos[world].numpy()
        standing = [slot for slot, prop in enumerate(env.task.props) if prop.motion != "free"]
        for slot in standing:
            model.body(env.task.props[slot].name).pos = env.layout.position[world, slot].numpy()
            model.body(env.task.props[slot].name).quat = env.layout.quat[world, slot].numpy()
        mujoco.mj_forward(model, data)
        assert all(table in pair for pair in data.contact.geom), f"world {world} starts with things in contact"
    assert len(set(observation[TASK_KEY])) > 1
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_things_stay_where_they_are(name):
    env = TaskEnv(name, 60, render=False)
    env.reset(list(range(60)))
    start = env.sense()
    for _ in range(20):
        env.step(torch.zeros(60, 7))
    end = env.sense()
    present = env.layout.present
    assert float((end.position - start.position).norm(dim=-1)[present].max()) < 1e-3
    assert float((end.opening - start.opening).abs().max()) < 1e-4
    assert float((end.quat - start.quat).abs()[present].max()) < 1e-2
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_phrasing_names_the_things_that_are_meant(name):
    task = make_task(name)
    layout = task.sample(EpisodeRandom(torch.arange(300)))
    assert len(task.phrasings.train) >= 5 and len(task.phrasings.held_out) >= 3
    assert not set(task.phrasings.train) & set(task.phrasings.held_out)
    nouns = {"block": "cube", "mat": "mat", "knob": "knob", "tee": "T", "mark": "mark"}
    for split in ("train", "held_out"):
        sentences = task.instructions(layout, split)
        for role, slots in layout.roles.items():
            assert bool(layout.of(layout.present, role).all())
            coloured = len(slots.unique()) > 1
            assert coloured == (role not in ("tee", "mark"))
            for colour, sentence in zip(layout.of(layout.colour, role).tolist(), sentences, strict=True):
                assert f"{COLOUR_NAMES[colour] if coloured else 'the'} {nouns[role]}" in sentence
        if "side" in layout.draws:
            for side, sentence in zip(layout.draws["side"].tolist(), sentences, strict=True):
                assert ("left" in sentence) == (side > 0) and ("right" in sentence) == (side < 0)


def test_push_is_done_when_the_cube_lies_inside_its_mat():
    task, sensed, layout = started("push", list(range(8)))
    block, mat = layout.roles["block"], layout.of(layout.position, "mat")

    def done(dx, dy, z=CUBE_HALF_M):
        return task.success(moved(sensed, block, mat + torch.tensor([dx, dy, z])), layout)

    inside = MAT_HALF_M - 0.002
    assert bool(done(inside, -inside).all())
    assert not bool(done(inside + 0.004, 0.0).any()) and not bool(done(0.0, -inside - 0.004).any())
    assert not bool(done(0.0, 0.0, z=0.05).any())  # still in the air
    mats = layout.slots(["mat0", "mat1"])
    other = layout.position[torch.arange(8), mats.sum() - layout.roles["mat"]]
    other[:, 2] = CUBE_HALF_M
    assert not bool(task.success(moved(sensed, block, other), layout).any())
    wrong_cube = (block + 1) % 2
    assert not bool(task.success(moved(sensed, wrong_cube, mat), layout).any())


def test_slide_is_done_at_the_named_end_of_the_named_rail():
    task, sensed, layout = started("slide", list(range(16)))
    knob, side = layout.roles["knob"], layout.draws["side"]

    def done(slots, opening):
        at = sensed.opening.clone()
        at[torch.arange(16), slots] = opening
        return task.success(replace(sensed, opening=at), layout)

    assert bool(done(knob, side * (RAIL_REACH_M - 0.008)).all())
    assert not bool(done(knob, side * (RAIL_REACH_M - 0.012)).any())
    assert not bool(done(knob, -side * RAIL_REACH_M).any())
    assert not bool(done(1 - knob, side * RAIL_REACH_M).any())


def test_a_knob_moved_to_the_left_is_further_left():
    """The signs of ``side``, of the joint and of the world's y axis (the robot's left) agree."""
    env = TaskEnv("slide", 30, render=False)
    env.reset(list(range(30)))
    knob, side = env.layout.roles["knob"], env.layout.draws["side"]
    before = env.sense().opening[torch.arange(30), knob]
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 28
    world = int(last.success.nonzero()[0, 0])
    model, data = env.world.model, mujoco.MjData(env.world.model)
    data.qpos[:] = env.world.qpos[world].numpy()
    name = env.task.props[int(knob[world])].name
    mujoco.mj_kinematics(model, data)
    y_m = float(data.geom(name).xpos[1])
    assert (y_m > 0) == bool(side[world] > 0)
    assert ((env.sense().opening[torch.arange(30), knob] - before) * side > 0)[last.success].all()
    env.close()


def test_push_t_is_done_when_the_t_covers_its_mark():
    task, sensed, layout = started("pushT", list(range(8)))
    tee = layout.roles["tee"]

    def done(dx, dy, yaw_rad, dz=0.0):
        position = layout.of(layout.position, "mark") + torch.tensor([dx, dy, 0.02 + dz])
        at = moved(sensed, tee, position)
        quat = at.quat.clone()
        quat[:, 0] = quat_from_yaw(torch.tensor(yaw_rad))
        return task.success(replace(at, quat=quat), layout)

    assert bool(done(0.0, 0.0, 0.0).all()) and bool(done(0.003, -0.003, 0.03).all())
    assert not bool(done(0.012, 0.0, 0.0).any()) and not bool(done(0.0, -0.012, 0.0).any())
    assert not bool(done(0.0, 0.0, 0.3).any()) and not bool(done(0.0, 0.0, torch.pi).any())
    assert not bool(done(0.0, 0.0, 0.0, dz=0.02).any())  # still in the air


def test_the_share_covered_agrees_with_a_fine_raster_of_the_built_boxes():
    """An independent count, on a half-millimetre raster of the table, of points in the compiled geoms of T and mark."""
    env = TaskEnv("pushT", 1, render=False)
    env.reset([0])
    model = env.world.model
    data = mujoco.MjData(model)
    generator = torch.Generator().manual_seed(0)
    offset = 0.05 * torch.randn(24, 3, generator=generator) * torch.linspace(0, 1, 24)[:, None]
    turns = matrix_from_yaw(8 * offset[:, 2] + 0.4), matrix_from_yaw(torch.full((24,), 0.4))
    tee = Flat(position=offset[:, :2] + 0.5, rotation=turns[0][:, :2, :2])
    mark = Flat(position=torch.full((24, 2), 0.5), rotation=turns[1][:, :2, :2])
    raster = np.stack(np.meshgrid(*(np.arange(-0.15, 0.15, 5e-4) + 0.5,) * 2), -1).reshape(-1, 2)

    def inside(name):
        hit = np.zeros(len(raster), bool)
        for part in ("bar", "stem"):
            geom = data.geom(f"{name}/{part}")
            local = (raster - geom.xpos[:2]) @ geom.xmat.reshape(3, 3)[:2, :2]
            hit |= (np.abs(local) < model.geom(f"{name}/{part}").size[:2]).all(-1)
        return hit

    model.body("mark").pos[:2], model.body("mark").quat[:] = 0.5, quat_from_yaw(mark.yaw_rad[0]).numpy()
    expected = []
    for world in range(24):
        start = model.joint("tee").qposadr[0]
        data.qpos[start : start + 2] = tee.position[world].numpy()
        data.qpos[start + 3 : start + 7] = quat_from_yaw(tee.yaw_rad[world]).numpy()
        mujoco.mj_kinematics(model, data)
        expected.append((inside("tee") & inside("mark")).sum() / inside("mark").sum())
    share = torch.tensor(np.array(expected), dtype=torch.float32)
    assert torch.allclose(covered(tee.seen_from(mark)), share, atol=0.008)
    assert float(share.max()) > COVERED > 0.5 > float(share.min())
    env.close()


def test_the_best_push_from_each_point_beats_every_sampled_one():
    generator = torch.Generator().manual_seed(0)
    angle = 6.3 * torch.rand(9, generator=generator)
    inward = torch.stack((angle.cos(), angle.sin()), -1)
    rim = Rim(point=0.08 * torch.randn(9, 2, generator=generator), inward=inward)
    left, lever_m = 0.05 * torch.randn(40, 3, generator=generator), 0.06
    best = (left[:, None] - best_pushes(left, rim, lever_m)).norm(dim=-1)
    for lean in torch.linspace(-LEAN, LEAN, 41):
        force = rim.inward + lean * rim.along
        torque = rim.point[:, 0] * force[:, 1] - rim.point[:, 1] * force[:, 0]
        twist = torch.cat((force, torque[:, None] / lever_m), -1)
        for length in torch.linspace(0, 0.15, 61):
            left_over = (left[:, None] - length * twist / twist.norm(dim=-1, keepdim=True)).norm(dim=-1)
            assert bool((best <= left_over + 1e-6).all())


def test_the_t_is_pushed_and_never_lifted_or_gripped():
    env = TaskEnv("pushT", 20, render=False)
    env.reset(list(range(20)))
    highest = torch.zeros(20)
    for _ in range(env.max_episode_steps):
        action = env.expert_action()
        assert bool((action[:, 6] == 1).all())
        last = env.step(action)
        highest = torch.maximum(highest, env.layout.of(env.sense().position, "tee")[:, 2])
        if bool(last.terminated.all()):
            break
    assert int(last.success.sum()) >= 19 and float(highest.median()) < 0.03
    env.close()


@pytest.mark.parametrize("name", ["push", "slide", pytest.param("pushT", marks=pytest.mark.slow)])
def test_experts_recover_from_being_pushed_off_their_path(name):
    env = TaskEnv(name, 40, render=False)
    env.reset(list(range(40)))
    generator = torch.Generator().manual_seed(0)
    for step in range(env.max_episode_steps):
        action = env.expert_action()
        if step % 8 == 0:
            action[:, :3] += 0.015 * torch.randn(40, 3, generator=generator)
        last = env.step(action)
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 36
    env.close()
