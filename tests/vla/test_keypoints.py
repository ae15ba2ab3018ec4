"""Heatmaps to positions and points, against numbers worked out by hand and against projection."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vla.backbones.keypoints import (
    KeypointEncoder,
    expected_depth,
    expected_position,
    spread,
)
from vla.backbones.views import Views
from vla.spatial.projection import unproject


def over_cells(logits):
    return logits.flatten(2).softmax(-1).view_as(logits)


def test_a_single_hot_cell_is_found_at_its_centre():
    logits = torch.zeros(1, 1, 2, 4)
    logits[0, 0, 1, 0] = 100.0
    position = expected_position(over_cells(logits))
    torch.testing.assert_close(position, torch.tensor([[[-0.75, 0.5]]]))  # x of column 0 of 4, y of row 1 of 2


def test_two_cells_are_weighted_by_their_probability():
    # Logits 0 and ln 3 give 1/4 and 3/4; columns 0 and 2 of 3 lie at −2/3 and 2/3.
    logits = torch.full((1, 1, 1, 3), -1e9)
    logits[0, 0, 0] = torch.tensor([0.0, -1e9, math.log(3.0)])
    heatmap = over_cells(logits)
    position = expected_position(heatmap)
    torch.testing.assert_close(position[0, 0], torch.tensor([1 / 3, 0.0]))
    variance = 0.25 * (2 / 3 + 1 / 3) ** 2 + 0.75 * (2 / 3 - 1 / 3) ** 2
    torch.testing.assert_close(spread(heatmap, position)[0, 0, 0], torch.tensor(math.sqrt(variance)))


def test_depth_is_averaged_over_the_pixels_that_have_one():
    heatmap = torch.tensor([[[[0.5, 0.5]]]])
    depth_m = torch.tensor([[[1.0, 3.0, 0.0, 8.0], [0.0, 0.0, 0.0, 0.0]]])  # cells: two of four, one of four readings
    depth, share = expected_depth(heatmap, depth_m)
    torch.testing.assert_close(share.squeeze(), torch.tensor(3 / 8))
    torch.testing.assert_close(depth.squeeze(), torch.tensor((1.0 + 3.0 + 8.0) / 3))


def test_no_reading_gives_zero_depth_and_share():
    depth, share = expected_depth(torch.full((1, 2, 2, 2), 0.25), torch.zeros(1, 4, 4))
    assert depth.abs().max() == 0 and share.abs().max() == 0


def look_at(position, angles):
    """A rigid T_world_cam from Euler angles, in float64."""
    cx, cy, cz = (torch.cos(torch.tensor(a, dtype=torch.float64)) for a in angles)
    sx, sy, sz = (torch.sin(torch.tensor(a, dtype=torch.float64)) for a in angles)
    one, zero = torch.ones_like(cx), torch.zeros_like(cx)
    rx = torch.stack([one, zero, zero, zero, cx, -sx, zero, sx, cx]).view(3, 3)
    ry = torch.stack([cy, zero, sy, zero, one, zero, -sy, zero, cy]).view(3, 3)
    rz = torch.stack([cz, -sz, zero, sz, cz, zero, zero, zero, one]).view(3, 3)
    T = torch.eye(4, dtype=torch.float64)
    T[:3, :3], T[:3, 3] = rz @ ry @ rx, torch.tensor(position, dtype=torch.float64)
    return T


coordinate = st.floats(-2, 2)


@settings(max_examples=50, deadline=None)
@given(
    st.tuples(coordinate, coordinate, coordinate),
    st.tuples(coordinate, coordinate, coordinate),
    st.tuples(coordinate, coordinate, st.floats(0.1, 5)),
)
def test_unproject_undoes_projection(position, angles, point_cam):
    T_world_cam = look_at(position, angles)
    K = torch.tensor([[50.0, 0, 31], [0, 60.0, 33], [0, 0, 1]], dtype=torch.float64)
    point_cam = torch.tensor(point_cam, dtype=torch.float64)
    point_world = (T_world_cam @ torch.cat([point_cam, point_cam.new_ones(1)]))[:3]
    u, v, depth = K @ point_cam
    pixel = torch.stack([u, v]).view(1, 1, 2) / depth
    back = unproject(pixel, depth.view(1, 1, 1), K[None], T_world_cam[None])
    torch.testing.assert_close(back[0, 0], point_world, atol=1e-9, rtol=1e-9)


def readable_encoder(keypoints):
    """An encoder with depth whose tokens are the eight numbers themselves."""
    encoder = KeypointEncoder(4, keypoints, 8, per_token=1, use_depth=True)
    with torch.no_grad():
        encoder.position.weight.copy_(torch.eye(8))
        for parameter in (encoder.position.bias, encoder.content.weight, encoder.content.bias):
            parameter.zero_()
    return encoder


def test_heatmaps_match_the_formula():
    encoder = KeypointEncoder(4, 2, 8, per_token=1, use_depth=False)
    maps, condition = torch.randn(1, 4, 2, 2), torch.randn(1, 8)
    _, position = encoder(maps, condition)

    def normalised(x):
        return (x - x.mean()) / (x.var(unbiased=False) + 1e-5).sqrt()

    for k, query in enumerate(encoder.query(condition)[0].view(2, 4)):
        cells = [normalised(maps[0, :, i, j]) for i in range(2) for j in range(2)]
        logits = torch.stack([6.0 * normalised(query) @ cell / 2.0 for cell in cells])
        p = logits.softmax(0)
        expected = torch.stack([0.5 * (p[1] + p[3] - p[0] - p[2]), 0.5 * (p[2] + p[3] - p[0] - p[1])])
        torch.testing.assert_close(position[0, k], expected)


def test_tokens_carry_the_world_point_behind_the_heatmap():
    encoder = readable_encoder(1)
    like, unlike = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.tensor([-1.0, -1.0, 1.0, 1.0])
    with torch.no_grad():
        encoder.query[-1].weight.zero_()
        encoder.query[-1].bias.copy_(like)
        encoder.log_sharpness.fill_(math.log(100.0))
    maps = unlike[None, :, None, None].repeat(1, 1, 4, 4)
    maps[0, :, 2, 3] = like  # centre of that cell: pixel (14, 10) of 16
    T_world_cam = look_at((0.5, -1.0, 2.0), (0.3, -0.2, 1.0)).float()
    K = torch.tensor([[20.0, 0, 8], [0, 20.0, 8], [0, 0, 1]])
    views = Views(
        size_px=(16, 16), depth_m=torch.full((1, 16, 16), 1.5), intrinsics=K[None], T_world_cam=T_world_cam[None]
    )
    token, position = encoder(maps, torch.zeros(1, 8), views)
    point_cam = torch.tensor([(14 - 8) / 20 * 1.5, (10 - 8) / 20 * 1.5, 1.5, 1.0])
    torch.testing.assert_close(position[0, 0], torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(token[0, 0, 3:5], torch.tensor([1.5, 1.0]))
    torch.testing.assert_close(token[0, 0, 5:], (T_world_cam @ point_cam)[:3])


@pytest.mark.parametrize("calibrated", [True, False])
def test_no_reading_or_no_calibration_gives_the_origin(calibrated):
    encoder = readable_encoder(2)
    cameras = {"intrinsics": torch.eye(3)[None], "T_world_cam": torch.eye(4)[None]} if calibrated else {}
    depth_m = torch.zeros(1, 8, 8) if calibrated else torch.ones(1, 8, 8)
    token, _ = encoder(torch.randn(1, 4, 4, 4), torch.randn(1, 8), Views(size_px=(16, 16), depth_m=depth_m, **cameras))
    assert token[..., 5:].abs().max() == 0
