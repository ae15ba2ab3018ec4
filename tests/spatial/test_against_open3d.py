"""Clouds and pictures against Open3D's: its unprojection, its projection, its rays through a mesh, its voxels."""

import numpy as np
import pytest
import torch
from calibrated_scenes import looking_at, pictures, two_cameras

from vla.spatial.cloud import Cloud, fuse
from vla.spatial.projection import CubeViews, PerspectiveCameras
from vla.spatial.renderer import render

open3d = pytest.importorskip("open3d", reason="needs the extra open3d", exc_type=ImportError)

SIDE_PX = 40
CENTRE_M, HALF_M = (0.4, 0.1, 0.2), 0.3


@pytest.fixture
def world():
    """A ring and a box, turned, in the cube; rays can be cast through it."""
    ring = open3d.geometry.TriangleMesh.create_torus(0.12, 0.05)
    ring.rotate(ring.get_rotation_matrix_from_xyz((0.5, 0.3, 0.1)), (0, 0, 0)).translate(CENTRE_M)
    box = open3d.geometry.TriangleMesh.create_box(0.2, 0.1, 0.15)
    box.rotate(box.get_rotation_matrix_from_xyz((0.2, 0.4, 0.9)), (0, 0, 0)).translate(np.array(CENTRE_M) - 0.2)
    scene = open3d.t.geometry.RaycastingScene()
    for mesh in (ring, box):
        scene.add_triangles(open3d.t.geometry.TriangleMesh.from_legacy(mesh))
    return scene


def depth_of(scene, K, pose, side_px=SIDE_PX):
    """Along the optical axis; 0 where a ray meets nothing. Open3D's pixels, like ours, have their centres at a half."""
    rays = open3d.t.geometry.RaycastingScene.create_rays_pinhole(
        K.double().numpy(), np.linalg.inv(pose.double().numpy()), side_px, side_px
    )
    hit = torch.from_numpy(scene.cast_rays(rays)["t_hit"].numpy())
    return torch.where(hit.isinf(), 0.0, hit)


def rgbd_scene(scene):
    """Two cameras' depth of the world, in random colours."""
    K, _ = two_cameras(1, side_px=SIDE_PX)
    poses = torch.stack([looking_at((1.1, 0.2, 0.9), CENTRE_M), looking_at((0.3, -0.7, 0.7), CENTRE_M)])[None]
    depth_m = torch.stack([depth_of(scene, K[0, view], poses[0, view]) for view in range(2)])[None]
    colours = torch.randint(0, 256, (1, 2, 3, SIDE_PX, SIDE_PX)) / 255
    return colours, depth_m, K, poses


def pinhole(K):
    """Open3D's images have the centre of the first pixel at (0, 0)."""
    fx, fy, cx, cy = (float(K[i, j]) for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
    return open3d.camera.PinholeCameraIntrinsic(SIDE_PX, SIDE_PX, fx, fy, cx - 0.5, cy - 0.5)


def open3ds_cloud(colours, depth_m, K, pose):
    rgb = (255 * colours).round().to(torch.uint8).movedim(0, -1).contiguous().numpy()
    pair = open3d.geometry.RGBDImage.create_from_color_and_depth(
        open3d.geometry.Image(rgb),
        open3d.geometry.Image(depth_m.numpy()),
        depth_scale=1.0,
        depth_trunc=100.0,
        convert_rgb_to_intensity=False,
    )
    return open3d.geometry.PointCloud.create_from_rgbd_image(pair, pinhole(K), np.linalg.inv(pose.double().numpy()))


def test_the_fused_cloud_is_open3ds(world):
    colours, depth_m, K, poses = rgbd_scene(world)
    ours = fuse(colours, depth_m, K, poses)
    theirs = [open3ds_cloud(colours[0, v], depth_m[0, v], K[0, v], poses[0, v]) for v in range(2)]
    assert ours.mask.sum() > 300
    points = np.concatenate([np.asarray(each.points) for each in theirs])
    np.testing.assert_allclose(ours.points[ours.mask], points, atol=2e-6)
    np.testing.assert_allclose(ours.features[ours.mask], np.concatenate([each.colors for each in theirs]), atol=1e-6)


def test_fused_points_lie_on_the_mesh(world):
    cloud = fuse(*rgbd_scene(world))
    distance = world.compute_distance(open3d.core.Tensor(cloud.points[cloud.mask].numpy())).numpy()
    assert distance.max() < 1e-5


def test_the_orthographic_pictures_are_those_of_rays_through_the_mesh(world):
    """The cloud has what each ray meets, from in front and from behind, in any order; the nearest must be seen."""
    cube = CubeViews(centre_m=torch.tensor([CENTRE_M]), half_m=torch.tensor([HALF_M]))
    corner_m = np.array(CENTRE_M)
    across = (2 * np.arange(SIDE_PX) + 1) / SIDE_PX - 1
    y, x = (HALF_M * grid for grid in np.meshgrid(across, across, indexing="ij"))
    axes = {  # right, down and ahead in the picture, as the docstring says in words
        "top": ((0, -1, 0), (-1, 0, 0), (0, 0, -1)),
        "front": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
        "right": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
    }
    for view, name in enumerate(CubeViews.NAMES):
        right, down, ahead = (np.array(axis, dtype=np.float64) for axis in axes[name])
        middle = corner_m + x[..., None] * right + y[..., None] * down
        start, end = middle - HALF_M * ahead, middle + HALF_M * ahead
        there, back = (
            world.cast_rays(np.concatenate([origin, np.broadcast_to(way, origin.shape)], -1).astype(np.float32))
            for origin, way in ((start, ahead), (end, -ahead))
        )
        depth_m = there["t_hit"].numpy()
        hit = np.isfinite(depth_m) & (depth_m <= 2 * HALF_M)
        near = start + np.where(hit, depth_m, 0)[..., None] * ahead
        far = end - np.where(hit, back["t_hit"].numpy(), 0)[..., None] * ahead
        points = torch.from_numpy(np.concatenate([near[hit], far[hit]])).float()
        order = torch.randperm(len(points))
        cloud = Cloud(points=points[order][None], features=points[order][None], mask=torch.ones(1, len(points)) > 0)
        rendered = render(cloud, cube, SIDE_PX)
        assert np.array_equal(rendered.mask[0, view], hit) and 100 < hit.sum() < hit.size
        np.testing.assert_allclose(rendered.depth_m[0, view][hit], depth_m[hit], atol=1e-5)


def test_perspective_pictures_are_open3ds_projection(world):
    colours, depth_m, K, poses = rgbd_scene(world)
    cloud = fuse(colours, depth_m, K, poses)
    seen_from = looking_at((0.8, -0.6, 0.8), CENTRE_M)
    cameras = PerspectiveCameras(intrinsics=K[:, :1], T_world_cam=seen_from[None, None], size_px=(SIDE_PX, SIDE_PX))
    ours = render(cloud, cameras, SIDE_PX).depth_m[0, 0].numpy()
    theirs = open3d.t.geometry.PointCloud(cloud.points[cloud.mask].numpy()).project_to_depth_image(
        SIDE_PX,
        SIDE_PX,
        open3d.core.Tensor(pinhole(K[0, 0]).intrinsic_matrix),
        open3d.core.Tensor(np.linalg.inv(seen_from.double().numpy())),
        depth_scale=1.0,
        depth_max=10.0,
    )
    theirs = np.asarray(theirs.to_legacy())
    assert (ours > 0).sum() > 200
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_voxels_are_open3ds():
    """Its lattice starts half a voxel below the lowest point of all, so that one has to lie in the middle of ours."""
    colours, depth_m = pictures(1, torch.Generator().manual_seed(0))
    cloud = fuse(colours, depth_m, *two_cameras(1))
    size_m, points = 0.05, cloud.points[cloud.mask]
    lowest = ((points.min(dim=0).values / size_m).floor() - 0.5) * size_m
    points = torch.cat([lowest[None], points])
    features = torch.cat([torch.ones(1, 3), cloud.features[cloud.mask]])
    ours = Cloud(points=points[None], features=features[None], mask=torch.ones(1, len(points)) > 0)
    ours = ours.voxel_downsampled(size_m)
    theirs = open3d.geometry.PointCloud(open3d.utility.Vector3dVector(points.double().numpy()))
    theirs.colors = open3d.utility.Vector3dVector(features.double().numpy())
    theirs = theirs.voxel_down_sample(size_m)
    rows = [
        np.concatenate(pair, axis=1) for pair in ((ours.points[0], ours.features[0]), (theirs.points, theirs.colors))
    ]
    found, expected = (each[np.lexsort(each[:, :3].round(5).T)] for each in rows)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found, expected, atol=1e-5)
