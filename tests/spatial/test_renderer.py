"""Pictures of clouds against a loop over points, and what must not change them."""

import math

import numpy as np
import pytest
import torch
from calibrated_scenes import pictures, two_cameras

from vla.spatial.cloud import Cloud, fuse
from vla.spatial.projection import CubeViews, PerspectiveCameras
from vla.spatial.renderer import render


def random_scenes(scenes=3, n=200, seed=0):
    """Points in and about a cube of half a metre about somewhere; every fourth depth along z is shared by many."""
    generator = torch.Generator().manual_seed(seed)
    points = 1.2 * torch.rand(scenes, n, 3, generator=generator) - 0.6
    points[:, ::4] = (points[:, ::4] * 4).round() / 4
    cloud = Cloud(
        points=points + torch.tensor([0.1, 0.2, 0.3]),
        features=torch.rand(scenes, n, 4, generator=generator),
        mask=torch.rand(scenes, n, generator=generator) > 0.2,
    )
    centre = torch.tensor([0.1, 0.2, 0.3]).expand(scenes, 3)
    return cloud, CubeViews(centre_m=centre, half_m=torch.full((scenes,), 0.5))


def painted(cloud, cameras, side, radius, row):
    """One scene's pictures, from the farthest point to the nearest; of those equally near, the first comes last."""
    projected = cameras.project(cloud.points)
    position, depth = projected.position[row].numpy(), projected.depth_m[row].numpy()
    seen = projected.seen[row].numpy() & cloud.mask[row].numpy()
    views, n = depth.shape
    features = np.zeros((views, cloud.features.shape[-1], side, side), np.float32)
    depths, mask = np.zeros((views, side, side), np.float32), np.zeros((views, side, side), bool)
    for view in range(views):
        for point in sorted(range(n), key=lambda i: (-depth[view, i], -i)):
            if not seen[view, point]:
                continue
            u, v = (position[view, point] + np.float32(1)) * np.float32(side / 2)
            own = (min(int(u), side - 1), min(int(v), side - 1))
            for y in range(side):
                for x in range(side):
                    if (x, y) == own or (x + 0.5 - u) ** 2 + (y + 0.5 - v) ** 2 <= radius**2:
                        features[view, :, y, x] = cloud.features[row, point].numpy()
                        depths[view, y, x], mask[view, y, x] = depth[view, point], True
    return features, depths, mask


@pytest.mark.parametrize("radius_px", [0.0, 0.6, 1.344, 2.5])
def test_the_cubes_pictures_are_those_that_a_painter_paints(radius_px):
    cloud, cube = random_scenes(scenes=2, n=60)
    rendered = render(cloud, cube, 15, radius_px)
    for row in range(2):
        features, depth_m, mask = painted(cloud, cube, 15, radius_px, row)
        assert np.array_equal(rendered.mask[row], mask)
        assert np.array_equal(rendered.depth_m[row], depth_m)
        assert np.array_equal(rendered.features[row], features)
    assert rendered.mask.any() and not rendered.mask.all()


def test_perspective_pictures_are_those_that_a_painter_paints():
    generator = torch.Generator().manual_seed(1)
    colours, depth_m = pictures(2, generator, side_px=6)
    K, poses = two_cameras(2, side_px=6)
    cloud = fuse(colours, depth_m, K, poses)
    cameras = PerspectiveCameras(intrinsics=K, T_world_cam=poses, size_px=(6, 6))
    rendered = render(cloud, cameras, 12, 0.8)
    for row in range(2):
        for found, expected in zip(vars(rendered).values(), painted(cloud, cameras, 12, 0.8, row), strict=True):
            assert np.array_equal(found[row], expected)


def test_a_camera_sees_its_own_picture_again():
    colours, depth_m = pictures(1, torch.Generator().manual_seed(2))
    K, poses = two_cameras(1)
    side = depth_m.shape[-1]
    cloud = fuse(colours[:, :1], depth_m[:, :1], K[:, :1], poses[:, :1])
    cameras = PerspectiveCameras(intrinsics=K[:, :1], T_world_cam=poses[:, :1], size_px=(side, side))
    again = render(cloud, cameras, side)
    assert torch.equal(again.mask, depth_m[:, :1] > 0)
    torch.testing.assert_close(again.depth_m, depth_m[:, :1], atol=1e-6, rtol=0)
    assert torch.equal(again.features, colours[:, :1] * again.mask[:, :, None])


def test_which_way_is_up_in_each_picture():
    """One point ahead (x), one to the left (y), one above (z) of the centre of a cube of 1 m."""
    cloud = Cloud(points=0.4 * torch.eye(3)[None], features=torch.eye(3)[None], mask=torch.ones(1, 3, dtype=torch.bool))
    cube = CubeViews(centre_m=torch.zeros(1, 3), half_m=torch.tensor([0.5]))
    rendered = render(cloud, cube, 5)
    assert CubeViews.NAMES == ("top", "front", "right")
    middle, low, high = 2, 0, 4
    places = {  # row, column
        "top": ((low, middle), (middle, low), (middle, middle)),
        "front": ((middle, middle), (middle, high), (low, middle)),
        "right": ((middle, high), (middle, middle), (low, middle)),
    }
    for view, name in enumerate(CubeViews.NAMES):
        for point, (row, column) in enumerate(places[name]):
            assert rendered.features[0, view, point, row, column] == 1, (name, "xyz"[point])
    along = cube.project(cloud.points).depth_m[0]
    torch.testing.assert_close(along, torch.tensor([[0.5, 0.5, 0.1], [0.1, 0.5, 0.5], [0.5, 0.9, 0.5]]))


def test_the_same_bits_twice_and_alone():
    cloud, cube = random_scenes()
    once, twice = render(cloud, cube, 16, 1.0), render(cloud, cube, 16, 1.0)
    part = Cloud(points=cloud.points[1:2], features=cloud.features[1:2], mask=cloud.mask[1:2])
    alone = render(part, CubeViews(centre_m=cube.centre_m[1:2], half_m=cube.half_m[1:2]), 16, 1.0)
    for a, b, c in zip(*(vars(each).values() for each in (once, twice, alone)), strict=True):
        assert torch.equal(a, b) and torch.equal(a[1:2], c)


def test_the_order_of_points_matters_only_between_equals():
    cloud, cube = random_scenes(n=150)
    cloud = Cloud(  # no two equally near
        points=cloud.points + 1e-3 * torch.rand(cloud.points.shape), features=cloud.features, mask=cloud.mask
    )
    order = torch.randperm(150)
    shuffled = Cloud(points=cloud.points[:, order], features=cloud.features[:, order], mask=cloud.mask[:, order])
    a, b = render(cloud, cube, 16, 1.0), render(shuffled, cube, 16, 1.0)
    assert torch.equal(a.features, b.features) and torch.equal(a.depth_m, b.depth_m)
    pair = Cloud(
        points=torch.zeros(1, 2, 3), features=torch.tensor([[[1.0], [2]]]), mask=torch.ones(1, 2, dtype=torch.bool)
    )
    around = CubeViews(centre_m=torch.zeros(1, 3), half_m=torch.ones(1))
    assert (render(pair, around, 3).features[0, :, 0, 1, 1] == 1).all()


def test_masked_points_have_no_influence():
    cloud, cube = random_scenes()
    wild = Cloud(points=cloud.points.clone(), features=cloud.features.clone(), mask=cloud.mask)
    wild.points[~cloud.mask], wild.features[~cloud.mask] = math.nan, math.nan
    features = wild.features.requires_grad_()
    a, b = render(cloud, cube, 16, 1.3), render(wild, cube, 16, 1.3)
    assert torch.equal(a.features, b.features) and torch.equal(a.depth_m, b.depth_m)
    b.features.sum().backward()
    assert (features.grad[~cloud.mask] == 0).all() and features.grad.isfinite().all()


def test_gradients_reach_features_and_through_depth_places():
    cloud, cube = random_scenes(scenes=2)
    cloud.features.requires_grad_(), cloud.points.requires_grad_()
    rendered = render(cloud, cube, 16, 1.0)
    weights = torch.rand_like(rendered.features)
    (rendered.features * weights).sum().backward(retain_graph=True)
    expected = torch.zeros_like(cloud.features)
    with torch.no_grad():
        numbered = Cloud(
            points=cloud.points, features=torch.arange(200.0)[None, :, None].expand(2, 200, 1), mask=cloud.mask
        )
        which = render(numbered, cube, 16, 1.0).features[:, :, 0].long()
    for row, view, y, x in rendered.mask.nonzero().tolist():
        expected[row, which[row, view, y, x]] += weights[row, view, :, y, x]
    torch.testing.assert_close(cloud.features.grad, expected)
    rendered.depth_m[:, 0].sum().backward()  # from the top: higher is nearer
    assert (cloud.points.grad[..., :2] == 0).all() and cloud.points.grad[..., 2].min() <= -1


def test_an_empty_cloud_gives_empty_pictures():
    cloud, cube = random_scenes()
    cloud = cloud.crop(torch.full((3,), 5.0), torch.full((3,), 6.0))
    rendered = render(cloud, cube, 8, 1.0)
    assert not rendered.mask.any() and not rendered.features.any() and not rendered.depth_m.any()


def test_points_on_the_cubes_faces_are_seen_and_those_outside_are_not():
    points = torch.tensor([[[0.5, 0.5, 0.5], [-0.5, -0.5, -0.5], [0.0, 0.0, 0.51]]])
    cube = CubeViews(centre_m=torch.zeros(1, 3), half_m=torch.tensor([0.5]))
    cloud = Cloud(points=points, features=torch.ones(1, 3, 1), mask=torch.ones(1, 3, dtype=torch.bool))
    assert render(cloud, cube, 7).mask.sum(dim=(-1, -2)).tolist() == [[2, 2, 2]]


def test_a_smaller_cube_sees_more_closely():
    cloud, cube = random_scenes()
    target = torch.tensor([[0.2, 0.1, 0.3]]).expand(3, 3)
    near = cube.magnified(target, 4.0)
    assert near.half_m.tolist() == [0.125] * 3 and torch.equal(near.centre_m, target)
    assert near.project(cloud.points).seen.sum() < cube.project(cloud.points).seen.sum()


def test_sides_and_radii_that_make_no_picture_are_refused():
    cloud, cube = random_scenes()
    for side_px, radius_px in ((0, 1.0), (8, -1.0), (8, math.nan)):
        with pytest.raises(ValueError, match="expected a side of 1 px or more"):
            render(cloud, cube, side_px, radius_px)
