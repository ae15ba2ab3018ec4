"""Colours, noise and cameras: what pictures show is what the configs say."""

import colorsys
import math
from dataclasses import replace

import pytest
import torch
from perturbed_worlds import FRONT, SEEDS, field_of, start

from envs.perturbations import Perturbation, axes
from envs.perturbations.colour import hsv_from_rgb, rgb_from_hsv
from envs.perturbations.looks import _shaded
from envs.perturbations.spec import (
    NOISES,
    CameraJitter,
    CameraOrbit,
    FieldOfView,
    SensorNoise,
    Shade,
)
from envs.props.colours import BRIGHT, COLOURS
from envs.random import EpisodeRandom
from envs.rotations import matrix_from_quat, rotation_vector
from envs.specs import STATE_KEY, depth_key, extrinsics_key, intrinsics_key


@pytest.fixture(scope="module")
def base():
    env, observation = start(None)
    yield env, observation
    env.close()


def test_colours_agree_with_the_standard_library_and_shades_keep_their_name():
    rgb = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    hsv = hsv_from_rgb(rgb)
    for colour, (hue, saturation, value) in zip(rgb.tolist(), hsv.tolist(), strict=True):
        wanted = colorsys.rgb_to_hsv(*colour)
        assert (hue / (2 * math.pi), saturation, value) == pytest.approx(wanted, abs=1e-5)
    assert torch.allclose(rgb_from_hsv(hsv), rgb, atol=1e-5)
    palette = torch.tensor([COLOURS[name] for name in BRIGHT])
    shades = _shaded(palette.expand(400, -1, 3), range(len(BRIGHT)), Shade(), EpisodeRandom(torch.arange(400)))
    apart = hsv_from_rgb(shades)[..., None, 0] - hsv_from_rgb(palette)[:, 0]
    nearest = torch.remainder(apart + math.pi, 2 * math.pi).sub(math.pi).abs().argmin(-1)
    assert torch.equal(nearest, torch.arange(len(BRIGHT)).expand(400, -1))
    assert shades.min() >= 0 and shades.max() <= 1 and shades.std(0).max() > 0.03


def test_noise_depends_on_seed_and_step_alone():
    perturbation = Perturbation(noise=SensorNoise(severity=(0.5, 0.5)))
    env, first = start(perturbation, seeds=list(range(12)), image_size_px=(24, 24))
    action = env.expert_action()
    second = env.step_chunk(action[:, None].repeat(1, 3, 1)).observation
    single, _ = start(perturbation, seeds=[7], image_size_px=(24, 24))
    for _ in range(3):
        alone = single.step(action[7:8]).observation
    assert torch.equal(second[FRONT][7:8], alone[FRONT]) and torch.allclose(
        second[STATE_KEY][7:8], alone[STATE_KEY], atol=1e-6
    )
    assert not torch.equal(first[FRONT], second[FRONT])
    env.close()
    single.close()


@pytest.mark.parametrize("kind", NOISES)
def test_each_noise_spoils_more_the_more_severe(base, kind):
    errors = []
    for severity in (0.0, 0.3, 1.0):
        env, seen = start(Perturbation(noise=SensorNoise(severity=(severity, severity), kinds=(kind,))))
        errors.append((seen[FRONT].int() - base[1][FRONT].int()).abs().float().mean().item())
        for key in (STATE_KEY, extrinsics_key("front")):
            assert torch.equal(seen[key], base[1][key])
        env.close()
    assert errors[0] < 0.01 and errors[0] < errors[1] < errors[2] and errors[2] > 2


def test_views_look_at_the_same_point_and_held_out_ones_are_new():
    views = {name: p.camera.azimuths_rad for name, p in axes("multiview").items()}
    assert len(views["train_views"]) == len(views["held_out_views"]) == 6
    assert not set(views["train_views"]) & set(views["held_out_views"])
    for name, azimuths in views.items():
        env, seen = start(axes("multiview")[name], seeds=list(range(40)), image_size_px=(16, 16))
        pose = seen[extrinsics_key("front")]
        position, forward = pose[:, :3, 3], pose[:, :3, 2]
        target = position - position[:, 2:] / forward[:, 2:] * forward
        assert target.std(0).max() < 1e-4
        around = (position - target)[:, :2]
        azimuth = torch.atan2(around[:, 1], around[:, 0])
        known = torch.tensor(azimuths)
        assert (azimuth[:, None] - known).abs().amin(1).max() < 1e-3
        assert set((azimuth[:, None] - known).abs().argmin(1).tolist()) == set(range(6))
        assert torch.equal(seen[intrinsics_key("front")][0], seen[intrinsics_key("front")][1])
        env.close()


def _pose_of_model(env, camera):
    """Position (n, 3) and rotation (n, 3, 3) of a camera in its parent's frame, as set."""
    i = env.world.model.camera(camera).id
    return field_of(env, "cam_pos")[:, i], matrix_from_quat(field_of(env, "cam_quat")[:, i])


@pytest.mark.parametrize("axis, camera", [("camera", "front"), ("wrist_camera", "panda/wrist")])
def test_a_camera_moves_along_and_turns_about_its_own_axes(axis, camera):
    """In its own frame it stays within the box that the config gives, and reaches the corners; angles likewise."""
    jitter = CameraJitter(translation_m=0.05, rotation_rad=0.04)
    env, _ = start(replace(Perturbation(), **{axis: jitter}), seeds=list(range(300)), render=False)
    built = env.world.model.camera(camera)
    frame = matrix_from_quat(torch.tensor(built.quat, dtype=torch.float32))
    position, rotation = _pose_of_model(env, camera)
    env.close()
    moved = (position - torch.tensor(built.pos, dtype=torch.float32)) @ frame
    assert moved.abs().max() < 0.05 + 1e-6 and moved.abs().amax(0).min() > 0.048
    turned = rotation_vector(frame.T @ rotation)
    assert turned.abs().max() < 0.042 and turned.abs().amax(0).min() > 0.038


def test_intrinsics_are_exact_whatever_precision_is_set():
    env, plain = start(Perturbation(field_of_view=FieldOfView(factor=(0.7, 1.3))), image_size_px=(16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = env.reset(SEEDS)
    key = intrinsics_key("front")
    assert cast[key].dtype == torch.float32 and torch.equal(cast[key], plain[key])
    env.close()


def test_the_orbit_goes_up_and_away_as_it_says():
    orbit = CameraOrbit(azimuth_rad=(0.3, 0.3), elevation_rad=(0.2, 0.2), distance=(1.5, 1.5), roll_rad=(0.1, 0.1))
    plain, seen = start(None, seeds=[0, 1, 2, 3, 4, 5, 6, 7], image_size_px=(16, 16))
    env, other = start(Perturbation(camera=orbit), seeds=[0, 1, 2, 3, 4, 5, 6, 7], image_size_px=(16, 16))
    found = []
    for pose in (seen[extrinsics_key("front")], other[extrinsics_key("front")]):
        position, forward = pose[:, :3, 3], pose[:, :3, 2]
        arm = position[:, 2:] / forward[:, 2:] * forward
        flat = arm[:, :2].norm(dim=-1)
        found.append((torch.atan2(arm[:, 1], arm[:, 0]), torch.atan2(arm[:, 2], flat), arm.norm(dim=-1), pose[:, 2, 0]))
    (azimuth, elevation, distance, tilt), (azimuth_, elevation_, distance_, tilt_) = found
    assert torch.allclose((azimuth_ - azimuth).abs(), torch.tensor(0.3), atol=1e-4)
    assert torch.allclose(elevation_ - elevation, torch.tensor(0.2), atol=1e-4)
    assert torch.allclose(distance_ / distance, torch.tensor(1.5), atol=1e-4)
    assert tilt.abs().max() < 1e-5 and tilt_.abs().min() > 0.03
    assert len({round(value, 2) for value in azimuth_.tolist()}) == len({value > 0 for value in tilt_.tolist()}) == 2
    env.close()
    plain.close()


@pytest.mark.parametrize("engine", ["cpu", "warp"])
def test_intrinsics_follow_the_field_of_view(engine):
    """Corners of the table are seen where the intrinsics say: depth, taken back to the world, is the table's plane."""
    if engine == "warp":
        pytest.importorskip("mujoco_warp")
    settings = {"device": "cpu"} if engine == "warp" else {}
    wide = Perturbation(field_of_view=FieldOfView(factor=(0.7, 1.3)))
    env, seen = start(wide, engine=engine, depth=True, **settings)
    intrinsics, pose = seen[intrinsics_key("front")], seen[extrinsics_key("front")]
    assert intrinsics[:, 0, 0].std() > 1 and torch.equal(intrinsics[:, :, 2], intrinsics[:1, :, 2].expand(3, 3))
    plain = 24 / math.tan(math.radians(21))
    wanted = 24 / (torch.deg2rad(field_of(env, "cam_fovy")[:, env.world.model.camera("front").id]).cpu() / 2).tan()
    assert torch.allclose(intrinsics[:, 0, 0], wanted, rtol=1e-5) and not torch.allclose(wanted, torch.tensor(plain))
    pixels = torch.stack(torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="xy"), -1)
    rays = torch.cat((pixels, torch.ones(48, 48, 1)), -1) @ torch.linalg.inv(intrinsics)[:, None].mT
    depth = seen[depth_key("front")]
    points = (rays * depth[..., None]) @ pose[:, None, :3, :3].mT + pose[:, None, None, :3, 3]
    height = points[..., 2][(depth > 0) & (depth < 2)]
    assert ((height.abs() < 2e-3) | ((height + 0.75).abs() < 1e-2)).float().mean() > 0.6
    wrist = intrinsics_key("wrist")
    assert torch.equal(seen[wrist][0], seen[wrist][1])
    env.close()
