"""Lines of sight in the world, against projection, and a network that is told of them."""

from dataclasses import replace

import pytest
import torch
from vla_inputs import SIZE_PX, STATE_DIM, TINY, random_observation, with_depth

from vla.backbones.nano_config import NanoConfig
from vla.backbones.views import REACH_M, STEEPEST_SLOPE, Views, surface_rays

K = torch.tensor([[60.0, 0, 30], [0, 55.0, 20], [0, 0, 1]])


def looking_down(generator):
    """A camera about a metre above the table that looks more or less down."""
    down = torch.tensor([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]])
    turn = torch.linalg.matrix_exp((lambda a: a - a.mT)(0.3 * torch.randn(3, 3, generator=generator)))
    pose = torch.eye(4)
    pose[:3, :3] = turn @ down
    pose[:3, 3] = torch.tensor([0.3, -0.2, 1.2]) + 0.1 * torch.randn(3, generator=generator)
    return pose


@pytest.mark.parametrize("seed", range(5))
def test_a_point_lies_on_the_line_of_sight_of_its_pixel(seed):
    generator = torch.Generator().manual_seed(seed)
    pose = looking_down(generator)
    point = torch.tensor([0.3, -0.2, 0.1]) + 0.1 * torch.randn(6, 3, generator=generator)
    seen = (point - pose[:3, 3]) @ pose[:3, :3]  # in the camera's frame
    pixel = (seen @ K.mT)[:, :2] / seen[:, 2:]
    line = surface_rays(pixel[None], K[None], pose[None])[0]
    torch.testing.assert_close(line[:, :2] + point[:, 2:] * line[:, 2:], point[:, :2], atol=1e-5, rtol=0)


def test_lines_that_do_not_fall_are_cut_off():
    level = torch.tensor([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1], [0, 0, 0, 1]])  # looks along x, 1 m high
    line = surface_rays(torch.tensor([[[30.0, 20.0], [30.0, 0.0]]]), K[None], level[None])
    assert line.isfinite().all()
    assert line[..., :2].abs().max() <= REACH_M and line[..., 2:].norm(dim=-1).max() <= STEEPEST_SLOPE + 1e-4


def test_places_become_pixels_of_the_picture():
    views = Views(size_px=(40, 60))
    torch.testing.assert_close(
        views.pixel(torch.tensor([[[-1.0, -1], [0, 0], [1, 1]]])).view(-1), torch.tensor([0.0, 0, 30, 20, 60, 40])
    )
    with pytest.raises(ValueError, match="calibrated"):
        views.rays(torch.zeros(1, 1, 2))


class TestANetworkThatKnowsItsCameras:
    def build(self, **fields):
        torch.manual_seed(0)
        config = NanoConfig(**{**TINY, **fields})
        return config.build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX, waypoint_dim=3).eval()

    def observation(self, network):
        torch.manual_seed(1)
        observation = with_depth(random_observation(network))
        pose = torch.stack([looking_down(torch.Generator().manual_seed(i)) for i in range(2)])
        return replace(observation, depth=None, T_world_cam=pose.expand_as(observation.T_world_cam).clone())

    def test_sees_at_first_what_it_saw_without(self):
        without, network = self.build(), self.build(use_cameras=True)
        network.load_state_dict(without.state_dict(), strict=False)
        observation = self.observation(network)
        expected, found = without(observation), network(observation)
        assert torch.equal(found.hidden, expected.hidden) and torch.equal(found.waypoint, expected.waypoint)

    @torch.no_grad()
    def test_heeds_where_they_stand_once_it_has_learned_to(self):
        network = self.build(use_cameras=True)
        for weight in network.sightlines.parameters():
            weight.normal_()
        observation = self.observation(network)
        moved = observation.T_world_cam.clone()
        moved[:, :, 0, 0, 3] += 0.1
        before, after = network(observation), network(replace(observation, T_world_cam=moved))
        assert not torch.allclose(before.waypoint, after.waypoint, atol=1e-3)
        assert not torch.allclose(before.hidden[-1, :, -1], after.hidden[-1, :, -1], atol=1e-4)

    def test_every_line_of_sight_can_be_learned_from(self):
        network = self.build(use_cameras=True)
        features = network(self.observation(network))
        (features.waypoint.sum() + features.hidden[-1].square().sum()).backward()
        assert all(weight.grad.abs().sum() > 0 for weight in network.sightlines.parameters())

    def test_a_missing_view_and_its_camera_have_no_influence(self):
        network = self.build(use_cameras=True)
        observation = self.observation(network)
        mask = observation.view_mask.clone()
        mask[..., 1] = False
        broken = observation.T_world_cam.clone()
        broken[..., 1, :, :] = float("nan")
        kept, other = replace(observation, view_mask=mask), replace(observation, view_mask=mask, T_world_cam=broken)
        assert torch.equal(network(kept).waypoint, network(other).waypoint)

    def test_refuses_cameras_without_calibration(self):
        network = self.build(use_cameras=True)
        observation = self.observation(network)
        with pytest.raises(ValueError, match="expected calibrated cameras"):
            network(replace(observation, intrinsics=None))
        with pytest.raises(ValueError, match="expected T_world_cam of shape"):
            network(replace(observation, T_world_cam=observation.T_world_cam[:, :, :1]))
