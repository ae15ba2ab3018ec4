"""Fused clouds against projection, loops and what bad input must do."""

import math
from collections import defaultdict

import numpy as np
import pytest
import torch
from calibrated_scenes import pictures, two_cameras

from vla.spatial.cloud import Cloud, fuse
from vla.spatial.projection import PerspectiveCameras, pixel_centres


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def random_cloud(generator, scenes=2, n=60):
    return Cloud(
        points=torch.randn(scenes, n, 3, generator=generator),
        features=torch.randn(scenes, n, 2, generator=generator),
        mask=torch.rand(scenes, n, generator=generator) > 0.2,
    )


def test_every_point_projects_back_onto_its_pixel(generator):
    colours, depth_m = pictures(3, generator)
    K, poses = two_cameras(3)
    cloud = fuse(colours, depth_m, K, poses)
    projected = PerspectiveCameras(intrinsics=K, T_world_cam=poses, size_px=depth_m.shape[-2:]).project(cloud.points)
    n = depth_m[0, 0].numel()
    for view in range(2):
        there = cloud.mask[:, view * n : (view + 1) * n]
        pixel = (projected.position[:, view, view * n : (view + 1) * n] + 1) / 2 * depth_m.shape[-1]
        expected = pixel_centres(*depth_m.shape[-2:], depth_m).expand_as(pixel)
        torch.testing.assert_close(pixel[there], expected[there], atol=1e-4, rtol=0)
        found_m = projected.depth_m[:, view, view * n : (view + 1) * n]
        torch.testing.assert_close(found_m[there], depth_m[:, view].flatten(1)[there])
        assert projected.seen[:, view, view * n : (view + 1) * n][there].all()
        assert torch.equal(cloud.features[:, view * n : (view + 1) * n], colours[:, view].flatten(2).mT)


def test_pixels_without_depth_and_missing_views_have_no_point(generator):
    colours, depth_m = pictures(1, generator)
    depth_m[0, 0, 0, :5] = torch.tensor([0.0, -1.0, math.nan, math.inf, -math.inf])
    depth_m[0, 1, 0, 0] = 2500.0  # a missing view may hold anything
    K, poses = two_cameras(1)
    K, poses = K.clone(), poses.clone()
    K[0, 1], poses[0, 1] = 0.0, math.nan
    cloud = fuse(colours, depth_m, K, poses, torch.tensor([[True, False]]))
    n = depth_m[0, 0].numel()
    assert not cloud.mask[0, :5].any() and not cloud.mask[0, n:].any()
    assert torch.equal(cloud.mask[0, 5:n], depth_m[0, 0].flatten()[5:] > 0)
    assert cloud.points.isfinite().all()


def test_a_batch_is_its_rows(generator):
    colours, depth_m = pictures(3, generator)
    K, poses = two_cameras(3)
    whole = fuse(colours, depth_m, K, poses)
    alone = fuse(colours[1:2], depth_m[1:2], K[1:2], poses[1:2])
    assert torch.equal(whole.points[1:2], alone.points) and torch.equal(whole.mask[1:2], alone.mask)


def test_millimetres_are_refused(generator):
    colours, depth_m = pictures(1, generator)
    with pytest.raises(ValueError, match=r"depth in metres, up to 100, got 1\d{3}.*millimetres"):
        fuse(colours, 1000 * depth_m, *two_cameras(1))


def test_shapes_that_do_not_agree_are_refused(generator):
    colours, depth_m = pictures(1, generator)
    with pytest.raises(ValueError, match=r"expected depth of shape \(1, 2, 24, 24\).*got \(1, 2, 24, 12\)"):
        fuse(colours, depth_m[..., :12], *two_cameras(1))
    with pytest.raises(ValueError, match="n from 1 on, got points"):
        Cloud(points=torch.zeros(1, 0, 3), features=torch.zeros(1, 0, 3), mask=torch.zeros(1, 0, dtype=torch.bool))


def test_crop_keeps_what_lies_between_the_corners(generator):
    cloud = random_cloud(generator)
    low, high = torch.tensor([-1.0, -0.5, -2]), torch.tensor([0.5, 1.0, 0])
    points = cloud.points.numpy()
    inside = ((points >= low.numpy()) & (points <= high.numpy())).all(-1)
    assert np.array_equal(cloud.crop(low, high).mask, inside & cloud.mask.numpy())
    each = cloud.crop(torch.stack([low, low - 9]), torch.stack([high, high + 9])).mask
    assert np.array_equal(each[0], inside[0] & cloud.mask[0].numpy()) and torch.equal(each[1], cloud.mask[1])


def test_moved_and_moved_back(generator):
    cloud = random_cloud(generator)
    _, poses = two_cameras(2)
    moved = cloud.transformed(poses[:, 0])
    expected = poses[0, 0].numpy() @ np.append(cloud.points[0, 7].numpy(), 1)
    np.testing.assert_allclose(moved.points[0, 7], expected[:3], atol=1e-6)
    torch.testing.assert_close(moved.transformed(poses[:, 0].inverse()).points, cloud.points, atol=1e-5, rtol=1e-5)


def voxel_means(points, features, mask, size_m):
    members = defaultdict(list)
    for point, feature, there in zip(points, features, mask, strict=True):
        if there:
            members[tuple(np.floor(point.astype(np.float64) / size_m))].append(np.concatenate([point, feature]))
    return np.array([np.mean(members[voxel], axis=0) for voxel in sorted(members)])


@pytest.mark.parametrize("size_m", [0.3, 1.0, 50.0])
def test_voxels_hold_the_mean_of_their_points(generator, size_m):
    cloud = random_cloud(generator)
    cloud.points[~cloud.mask] = math.nan
    coarse = cloud.voxel_downsampled(size_m)
    for row in range(2):
        expected = voxel_means(cloud.points[row].numpy(), cloud.features[row].numpy(), cloud.mask[row], size_m)
        found = torch.cat([coarse.points, coarse.features], dim=-1)[row][coarse.mask[row]]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert coarse.mask.sum(dim=1).max() == coarse.mask.shape[1]


def test_gradients_reach_what_voxels_are_made_of(generator):
    cloud = random_cloud(generator)
    features = cloud.features.requires_grad_()
    cloud.voxel_downsampled(0.5).features.sum().backward()
    counted = features.grad[cloud.mask]
    assert (counted > 0).all() and (features.grad[~cloud.mask] == 0).all()


def test_an_empty_cloud_has_no_voxels(generator):
    cloud = random_cloud(generator)
    empty = Cloud(points=cloud.points, features=cloud.features, mask=torch.zeros_like(cloud.mask))
    coarse = empty.voxel_downsampled(0.1)
    assert coarse.mask.shape == (2, 1) and not coarse.mask.any()


def test_voxels_of_no_size_are_refused(generator):
    cloud = random_cloud(generator)
    for size_m in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0 m"):
            cloud.voxel_downsampled(size_m)
    with pytest.raises(ValueError, match="too large"):
        cloud.voxel_downsampled(1e-9)
