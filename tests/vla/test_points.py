"""Points in the world, against projection pixel by pixel, and a network that is told of them and of time."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from vla_inputs import SIZE_PX, STATE_DIM, TINY, random_observation, tiny_config, with_depth

from vla.adopting import adopt_looks
from vla.backbones.moments import Moments
from vla.backbones.nano_config import NanoConfig
from vla.backbones.points import Points, point_map, points_under
from vla.backbones.views import REACH_M, Views
from vla.base import Base, BaseConfig
from vla.saving import load_vla, save_vla
from vla.scaling import StateScale

K = np.array([[60.0, 0, 9], [0, 55.0, 5], [0, 0, 1]])
POSE = np.array([[0.0, -1, 0, 0.4], [-1, 0, 0, 0.1], [0, 0, -1, 1.2], [0, 0, 0, 1]])


def views_with(depth_m, pose=POSE):
    m, *size_px = depth_m.shape
    K_m, pose_m = (torch.tensor(x, dtype=torch.float32).repeat(m, 1, 1) for x in (K, pose))
    return Views(size_px=tuple(size_px), depth_m=depth_m, intrinsics=K_m, T_world_cam=pose_m)


def point_of(column, row, depth_m):
    x, y = (column + 0.5 - K[0, 2]) / K[0, 0], (row + 0.5 - K[1, 2]) / K[1, 1]
    return (POSE @ [x * depth_m, y * depth_m, depth_m, 1.0])[:3]


def test_a_cell_holds_the_mean_point_of_its_readings():
    depth_m = 0.6 + torch.rand(2, 12, 16, generator=torch.Generator().manual_seed(0))
    depth_m[0, 0, 0], depth_m[0, 1, 2], depth_m[0, 2, 1], depth_m[0, 3, 3] = 0.0, float("nan"), -1.0, float("inf")
    depth_m[1, 4:8, 8:12] = 0.0
    found = point_map(views_with(depth_m), 4)
    assert found.shape == (2, 4, 3, 4)
    for picture, i, j in np.ndindex(2, 3, 4):
        cell = [(c, r) for r in range(4 * i, 4 * i + 4) for c in range(4 * j, 4 * j + 4)]
        read = [(c, r, float(depth_m[picture, r, c])) for c, r in cell]
        points = [point_of(c, r, d) for c, r, d in read if np.isfinite(d) and d > 0]
        expected = [*np.mean(points, axis=0), len(points) / 16] if points else [0.0] * 4
        np.testing.assert_allclose(found[picture, :, i, j], expected, atol=1e-5)


def test_what_is_far_away_is_brought_near():
    found = point_map(views_with(torch.full((1, 4, 4), 90.0)), 4)
    assert found[:, :3].abs().max() <= REACH_M
    with pytest.raises(ValueError, match="depth images of calibrated cameras"):
        point_map(Views(size_px=(4, 4)), 4)


def test_a_heatmap_points_at_the_mean_of_what_has_a_depth():
    points = torch.rand(1, 4, 2, 3, generator=torch.Generator().manual_seed(1))
    points[0, :, 1, 2] = 0.0
    heat = torch.zeros(1, 3, 2, 3)
    heat[0, 0, 0, 1], heat[0, 1, 1, 2] = 1.0, 1.0
    heat[0, 2, 0, 0] = heat[0, 2, 1, 2] = 0.5
    found = points_under(heat.log(), points)[0]
    torch.testing.assert_close(found[0], points[0, :, 0, 1])
    assert torch.equal(found[1], torch.zeros(4))
    torch.testing.assert_close(found[2, :3], points[0, :3, 0, 0])
    torch.testing.assert_close(found[2, 3], points[0, 3, 0, 0] / 2)


def test_a_patch_is_told_the_mean_over_its_readings_alone():
    torch.manual_seed(0)
    told = Points(NanoConfig(**TINY), views=1, waypoint_dim=3)
    torch.nn.init.normal_(told.patches.weight)
    points = torch.rand(2, 4, 4, 4)
    points[:, 3, :2, :2] = torch.tensor([[1.0, 0], [0, 0]])
    points[:, 3, 2:, 2:] = 0.0
    patches = told.of_patches(points, (2, 2))
    alone = points[:, :, :1, :1].clone()
    torch.testing.assert_close(patches[:, :1], told.of_patches(alone, (1, 1)))
    assert torch.equal(patches[:, 3], torch.zeros_like(patches[:, 3]))


def test_the_present_adds_nothing_and_the_past_does():
    moments = Moments(8)
    assert not moments(torch.tensor([[3.0, 0.0]])).any()
    torch.nn.init.normal_(moments.embed[-1].weight)
    found = moments(torch.tensor([[1.6, 0.4, 0.0], [0.4, 0.4, 0.0]]))
    assert not found[:, 2].any() and not torch.allclose(found[0, 0], found[0, 1])
    torch.testing.assert_close(found[0, 1], found[1, 0])


NEW = {"use_points": True, "use_times": True, "frames": 2}


class TestANetworkThatKnowsPoints:
    def build(self, **fields):
        torch.manual_seed(0)
        config = NanoConfig(**{**TINY, **fields})
        return config.build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX, waypoint_dim=3).eval()

    def observation(self, network, frames=2):
        torch.manual_seed(1)
        observation = with_depth(random_observation(network, frames=frames))
        age_s = torch.linspace(0.4 * (frames - 1), 0, frames).expand(2, -1)
        return replace(observation, age_s=age_s)

    def woken(self, network):
        with torch.no_grad():
            for module in (network.points, network.moments):
                for weight in module.parameters():
                    weight.normal_()
        return network

    @pytest.mark.parametrize("frames", [1, 2])
    def test_sees_at_first_what_it_saw_without(self, frames):
        without, network = self.build(frames=2), self.build(**NEW)
        network.load_state_dict(without.state_dict(), strict=False)
        observation = self.observation(network, frames)
        expected, found = without(observation), network(observation)
        assert torch.equal(found.hidden, expected.hidden) and torch.equal(found.waypoint, expected.waypoint)

    def test_an_eye_that_sees_the_present_is_taken_over(self):
        """From a base without points and history: the present is seen as it was."""
        eye, network = self.build(), self.build(**NEW)
        with torch.no_grad():
            for weight in eye.parameters():
                weight.add_(0.1 * torch.randn_like(weight))
        meaning = BaseConfig(
            backbone=eye.config,
            vocabulary=eye.vocabulary,
            cameras=("front", "wrist"),
            image_size_px=SIZE_PX,
            state_names=tuple("xyzab"),
            state=StateScale(offset=(0.0,) * 5, scale=(1.0,) * 5),
            waypoint_dims=(0, 1, 2),
        )
        adopt_looks(network, network.config, Base(config=meaning, weights=eye.state_dict(), sha256=""))
        assert torch.equal(network.time_embedding[-1], eye.time_embedding[0])
        assert torch.equal(network.patch_encoder.weight, eye.patch_encoder.weight)

    @torch.no_grad()
    def test_heeds_depth_cameras_and_age_once_it_has_learned_to(self):
        network = self.woken(self.build(**NEW))
        observation = self.observation(network)
        moved = observation.T_world_cam.clone()
        moved[:, :, 0, 0, 3] += 0.1
        farther, older = observation.depth.clone(), observation.age_s.clone()
        farther[:, -1, 0] *= 1.2
        older[:, 0] += 1.0
        before = network(observation)
        for change in ({"T_world_cam": moved}, {"depth": farther}):
            after = network(replace(observation, **change))
            assert not torch.allclose(before.waypoint, after.waypoint, atol=1e-3)
            assert not torch.allclose(before.hidden[-1, :, -1], after.hidden[-1, :, -1], atol=1e-4)
        after = network(replace(observation, age_s=older))
        assert not torch.allclose(before.hidden[-1, :, -1], after.hidden[-1, :, -1], atol=1e-4)

    def test_all_of_it_can_be_learned_from(self):
        network = self.build(**NEW)
        with torch.no_grad():
            network.points.patches.weight.normal_()
            network.moments.embed[-1].weight.normal_()
        features = network(self.observation(network))
        (features.waypoint.sum() + features.hidden[-1].square().sum()).backward()
        for module in (network.points, network.moments):
            assert all(weight.grad.abs().sum() > 0 for weight in module.parameters())

    def test_a_missing_view_and_a_missing_moment_have_no_influence(self):
        network = self.woken(self.build(**NEW))
        observation = self.observation(network)
        mask = observation.view_mask.clone()
        mask[:, -1, 1] = mask[:, 0] = False
        depth, pose = observation.depth.clone(), observation.T_world_cam.clone()
        depth[~mask], pose[~mask] = 7.0, float("nan")
        kept = replace(observation, view_mask=mask)
        other = replace(kept, depth=depth, T_world_cam=pose)
        assert torch.equal(network(kept).waypoint, network(other).waypoint)

    def test_broken_readings_are_none(self):
        network = self.woken(self.build(**NEW))
        observation = self.observation(network)
        hole, broken = observation.depth.clone(), observation.depth.clone()
        hole[..., :9, :], broken[..., :9, :] = 0.0, float("nan")
        found = network(replace(observation, depth=broken))
        assert found.hidden.isfinite().all()
        assert torch.equal(found.hidden, network(replace(observation, depth=hole)).hidden)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"depth": None}, "expected depth images, because the network was built with use_points"),
            ({"intrinsics": None}, "expected calibrated cameras, because the network was built with use_points"),
            ({"age_s": None}, "expected the age of each frame, because the network was built with use_times"),
            ({"age_s": torch.zeros(2, 3)}, r"expected age_s of shape \(2, 2\)"),
        ],
    )
    def test_refuses_what_it_cannot_do_without(self, change, message):
        network = self.build(**NEW)
        with pytest.raises(ValueError, match=message):
            network(replace(self.observation(network), **change))

    def test_refuses_a_longer_history_and_takes_a_shorter_one(self):
        network = self.build(**NEW)
        assert network(self.observation(network, frames=1)).hidden.isfinite().all()
        with pytest.raises(ValueError, match="expected 1…2 frames per view, got 3"):
            network(self.observation(network, frames=3))

    def test_one_pass_over_a_batch_is_that_over_each_sample(self):
        network = self.woken(self.build(**NEW))
        observation = self.observation(network)
        each = [
            network(replace(observation, **{n: x[i : i + 1] for n, x in vars(observation).items() if x is not None}))
            for i in range(2)
        ]
        torch.testing.assert_close(network(observation).waypoint, torch.cat([one.waypoint for one in each]))


def test_a_policy_from_before_there_were_points_loads(tmp_path):
    save_vla(tiny_config().build(), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for name in ("use_points", "use_times", "frame_gap", "frame_sampling", "frame_memory"):
        del config["backbone"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_vla(tmp_path).config == tiny_config()


def test_a_network_with_points_is_saved_and_loaded(tmp_path):
    network = tiny_config(use_points=True, use_times=True, frames=2, frame_gap=4).build()
    save_vla(network, tmp_path)
    again = load_vla(tmp_path)
    assert again.config == network.config and again.config.needs_depth and again.config.needs_cameras
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), again.parameters(), strict=True))
