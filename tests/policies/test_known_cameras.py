"""Policies that know their cameras: calibration goes with the pictures, from the store and from the robot."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from point_mass import PointMassEnv

from envs.specs import CALIBRATED, image_key, intrinsics_key
from policies.data.dataset import DemonstrationDataset
from policies.data.windows import WindowConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.inputs import TrainingInputs
from policies.imitation.trainer import train
from policies.network_input import network_intrinsics
from policies.training.augment import AugmentConfig, Disturbance
from policies.vla_policy import VLAPolicy
from vla.backbones.views import surface_rays


def knowing():
    network = tiny_network()
    return replace(network, backbone=replace(network.backbone, use_cameras=True))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def policy(store, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    train(run_dir, tiny_training(), knowing(), [store], show_progress=False)
    return VLAPolicy.load(run_dir)


def test_recordings_hold_how_cameras_saw(store):
    episode = DemonstrationDataset(store).episode(0)
    env = PointMassEnv(1)
    expected = env.reset([0])[intrinsics_key("front")][0]
    assert np.array_equal(episode.cameras["front"].intrinsics[0], expected)


def test_the_network_learns_with_its_cameras_and_acts_with_them(policy):
    assert any(weight.abs().sum() > 0 for weight in policy.vla.backbone.sightlines.parameters())
    observation = PointMassEnv(3).reset([0, 1, 2])
    chunk = policy.predict_chunk(observation)
    del observation[intrinsics_key("front")]
    assert chunk.shape == (3, 4, 2)
    with pytest.raises(ValueError, match=r"must know its cameras: expected 'observation.cameras.front.intrinsics'"):
        policy.predict_chunk(observation)


def test_a_camera_that_is_nowhere_is_refused(policy):
    observation = PointMassEnv(2).reset([0, 1])
    observation[intrinsics_key("front")][1, 0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"cameras.front.intrinsics is not finite"):
        policy.predict_chunk(observation)


def test_a_store_that_does_not_say_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(PointMassEnv, "capabilities", PointMassEnv.capabilities - {CALIBRATED})
    store = record(tmp_path / "store", seeds=range(2))
    with pytest.raises(ValueError, match="is to know its cameras"):
        train(tmp_path / "run", tiny_training(), knowing(), [store], show_progress=False)


def test_resized_pictures_have_resized_cameras():
    K = torch.tensor([[20.0, 0, 8], [0, 30.0, 6], [0, 0, 1]])
    point = torch.tensor([0.1, -0.2, 1.5])
    before, after = K @ point, network_intrinsics(K, (12, 16), (24, 64)) @ point
    assert torch.allclose(after[:2], before[:2] * torch.tensor([4.0, 2.0])) and after[2] == before[2]


def test_a_shifted_picture_has_a_shifted_camera():
    """The brightest pixel stays on the same line of sight, wherever the picture is moved."""
    n, size_px = 8, (20, 30)
    drawn = Disturbance.draw(AugmentConfig(shift_fraction=0.2), n, 0, 0)
    images = torch.zeros(n, 3, *size_px)
    images[:, :, 9, 14] = 1.0
    rows, columns = np.unravel_index(drawn.apply(images).sum(1).flatten(1).argmax(1).numpy(), size_px)
    pixel = torch.tensor(np.stack([columns + 0.5, rows + 0.5], axis=1), dtype=torch.float32)
    K = torch.tensor([[25.0, 0, 15], [0, 25.0, 10], [0, 0, 1]]).repeat(n, 1, 1)
    down = torch.tensor([[1.0, 0, 0, 0.3], [0, -1, 0, 0.1], [0, 0, -1, 0.8], [0, 0, 0, 1]]).repeat(n, 1, 1)
    lines = surface_rays(pixel[:, None], drawn.of_cameras(K, size_px), down)
    there = surface_rays(torch.tensor([14.5, 9.5]).expand(n, 1, 2), K, down)
    assert len(set(zip(rows.tolist(), columns.tolist(), strict=True))) > 3
    torch.testing.assert_close(lines, there)


def test_training_and_acting_see_the_same_cameras(store, policy):
    demonstrations = Demonstrations([store], WindowConfig(horizon=4, geometry=True))
    batch = demonstrations.sample(np.arange(3))
    still = AugmentConfig(shift_fraction=0, brightness=0, contrast=0, saturation=0, channel_gain=0)
    inputs = TrainingInputs(policy.vla, demonstrations.instructions, still, 0, demonstrations.embodiment)
    learned, _ = inputs(batch, 0, policy.normalization)
    env = PointMassEnv(1)
    observation = env.reset([0])
    seen = policy._network_observation(observation)
    assert torch.equal(seen.intrinsics[0], learned.intrinsics[0])
    assert torch.equal(seen.T_world_cam[0], learned.T_world_cam[0])
    assert torch.equal(observation[image_key("front")][0].float() / 255, seen.images[0, 0, 0].permute(1, 2, 0))
