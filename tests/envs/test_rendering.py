"""What the cpu engine's pictures show, and how environments share the processes that draw them."""

import threading

import mujoco
import numpy as np
import pytest
import torch
from mujoco.rendering.classic import gl_context

from configs.worlds import find_perturbation
from envs.backends.cpu import CpuWorld
from envs.backends.gl import Pictures, Renderer, make_gl_context
from envs.backends.render_pool import render_pool
from envs.specs import depth_key, image_key, segmentation_key
from envs.vector import TaskEnv
from envs.world import QUALITY, RenderConfig

ALL = torch.ones(3, dtype=torch.bool)


@pytest.fixture
def perturbed():
    """Three worlds in which everything that a preset can change differs."""
    env = TaskEnv(
        "place",
        3,
        image_size_px=(48, 64),
        depth=True,
        segmentation=True,
        perturbation=find_perturbation("colosseum-14:all"),
        threads=2,
    )
    yield env
    env.close()


def camera_of(model, name):
    camera = mujoco.MjvCamera()
    camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, model.camera(name).id
    return camera


def test_pictures_equal_those_of_mujocos_own_renderer(perturbed, monkeypatch):
    perturbed.reset([0, 1, 2])
    monkeypatch.setattr(gl_context, "GLContext", make_gl_context)
    images = perturbed.world.render(ALL)
    for world, model in enumerate(perturbed.world._models):
        data = mujoco.MjData(model)
        data.qpos[:] = perturbed.world._state[world, 1 : 1 + model.nq]
        mujoco.mj_forward(model, data)
        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        with mujoco.Renderer(model, 48, 64) as reference:
            reference.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
            reference.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = False
            for place, (name, seen) in enumerate(images.items()):
                if place == 0:
                    reference.update_scene(data, name)
                else:  # the light that goes with a camera stays with the first
                    mujoco.mjv_updateCamera(model, data, camera_of(model, name), reference.scene)
                np.testing.assert_array_equal(seen.rgb[world], reference.render())
                reference.enable_segmentation_rendering()
                ids, kinds = reference.render().transpose(2, 0, 1)
                np.testing.assert_array_equal(
                    seen.segmentation[world], np.where(kinds == mujoco.mjtObj.mjOBJ_GEOM, ids, -1)
                )
                reference.disable_segmentation_rendering()
                reference.enable_depth_rendering()
                depth_m, ours_m = reference.render(), seen.depth_m[world].numpy()
                reference.disable_depth_rendering()
                # the same window depth, turned into metres by another formula: they differ in the last bits
                np.testing.assert_allclose(ours_m[ours_m > 0], depth_m[ours_m > 0], rtol=1e-5)


@pytest.mark.parametrize("profile", [None, QUALITY])
def test_pictures_equal_those_drawn_in_this_process_to_the_last_bit(perturbed, profile):
    perturbed.reset([0, 1, 2])
    world = perturbed.world
    render = RenderConfig(
        cameras=("panda/wrist", "front"), height_px=40, width_px=56, depth=True, segmentation=True
    ) if profile is None else RenderConfig(cameras=("front",), height_px=40, width_px=56, profile=profile)  # fmt: skip
    drawn = CpuWorld(world.model, 3, render, threads=2)
    drawn.put(torch.arange(3), world.qpos, world.command)
    images = drawn.render(ALL)
    gl = make_gl_context(1, 1)
    renderer = Renderer(drawn._models[0], render)
    shape = (len(render.cameras), 40, 56)
    pictures = Pictures(
        np.zeros((*shape, 3), np.uint8),
        np.zeros(shape, np.float32) if render.depth else None,
        np.zeros(shape, np.int32) if render.segmentation else None,
        np.zeros((shape[0], 4, 4), np.float32),
    )
    for each in range(3):
        renderer.draw(drawn._models[each], drawn._state[each, 1 : 1 + world.model.nq], pictures)
        for camera, name in enumerate(render.cameras):
            np.testing.assert_array_equal(images[name].rgb[each], pictures.rgb[camera])
            np.testing.assert_array_equal(images[name].T_world_cam[each, :3], pictures.T_world_cam[camera, :3])
            if render.depth:
                np.testing.assert_array_equal(images[name].depth_m[each], pictures.depth_m[camera])
                np.testing.assert_array_equal(images[name].segmentation[each], pictures.geoms[camera])
    renderer.close()
    gl.free()
    drawn.close()


def test_fields_set_between_two_pictures_show_in_the_second(perturbed):
    perturbed.reset([0, 1, 2])
    world = perturbed.world
    before = world.render(ALL)["front"].rgb
    camera = world.model.camera("front").id
    only = torch.tensor([1])
    here = torch.from_numpy(world._models[1].cam_pos[None, [camera]].copy())
    world.set_field("cam_pos", [camera], here + 0.05, only)
    after = world.render(ALL)["front"].rgb
    assert [bool(torch.equal(a, b)) for a, b in zip(before, after, strict=True)] == [True, False, True]
    world.set_field("cam_pos", [camera], here, only)
    assert torch.equal(world.render(ALL)["front"].rgb, before)


def test_worlds_outside_the_mask_keep_their_picture_and_no_picture_changes_later(perturbed):
    first = perturbed.reset([0, 1, 2])
    keys = [key(camera) for camera in ("front", "wrist") for key in (image_key, depth_key, segmentation_key)]
    kept = {key: first[key].clone() for key in keys}
    second = perturbed.reset([3, 4, 5], mask=torch.tensor([False, True, False]))
    for key in keys:
        assert torch.equal(first[key], kept[key])
        assert torch.equal(second[key][[0, 2]], kept[key][[0, 2]])
        assert not torch.equal(second[key][1], kept[key][1])


def test_environments_share_the_processes_and_do_not_disturb_each_other():
    tasks = ("reach", "stack", "drawer")
    alone = []
    for task in tasks:
        env = TaskEnv(task, 2, threads=2)
        alone.append(env.reset([7, 8])[image_key("front")])
        env.close()
    pids = render_pool().pids
    envs = [TaskEnv(task, 2, threads=2) for task in tasks]
    for _ in range(2):
        for env, expected in zip(envs, alone, strict=True):
            assert torch.equal(env.reset([7, 8])[image_key("front")], expected)
    assert render_pool().pids == pids
    for env in envs:
        env.close()


def test_threads_may_draw_environments_of_their_own_at_once():
    envs = [TaskEnv("stack", 2, threads=1) for _ in range(4)]
    expected = [env.reset([i, i + 1])[image_key("front")] for i, env in enumerate(envs)]
    wrong: list[int] = []

    def draw(i: int) -> None:
        for _ in range(10):
            if not torch.equal(envs[i].reset([i, i + 1])[image_key("front")], expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    for env in envs:
        env.close()


def test_an_unknown_camera_is_named():
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><camera name='front'/></worldbody></mujoco>")
    world = CpuWorld(model, 1, RenderConfig(cameras=("side",), height_px=8, width_px=8))
    with pytest.raises(KeyError, match=r"no camera 'side'; the scene has \['front'\]"):
        world.render(torch.ones(1, dtype=torch.bool))
    world.close()
