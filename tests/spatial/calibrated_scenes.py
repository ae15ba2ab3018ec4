"""Calibrated cameras about a small scene, and depth pictures of it that say where every pixel's point is."""

import torch

SIDE_PX = 24


def looking_at(eye_m, target_m):
    """T_world_cam of an OpenCV camera with its picture upright."""
    eye, target = torch.tensor(eye_m), torch.tensor(target_m)
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 0, 1])), dim=0)
    pose = torch.eye(4)
    pose[:3, :3] = torch.stack([right, torch.linalg.cross(forward, right), forward], dim=1)
    pose[:3, 3] = eye
    return pose


def two_cameras(scenes, side_px=SIDE_PX):
    """Intrinsics and poses (b, 2, ...) of two cameras that look at the origin, a little else in each scene."""
    K = torch.tensor([[1.1 * side_px, 0, side_px / 2 + 0.3], [0, 1.2 * side_px, side_px / 2 - 0.7], [0, 0, 1]])
    poses = [
        torch.stack(
            [looking_at((1.0, 0.1 * i, 0.8), (0.0, 0, 0)), looking_at((-0.2, -1.0, 0.6 + 0.1 * i), (0.0, 0, 0))]
        )
        for i in range(scenes)
    ]
    return K.expand(scenes, 2, 3, 3), torch.stack(poses)


def pictures(scenes, generator, side_px=SIDE_PX, channels=3):
    """Random colours, and depths of 0.7 … 1.5 m of which a tenth have no reading."""
    colours = torch.rand(scenes, 2, channels, side_px, side_px, generator=generator)
    depth_m = 0.7 + 0.8 * torch.rand(scenes, 2, side_px, side_px, generator=generator)
    return colours, depth_m * (torch.rand(depth_m.shape, generator=generator) > 0.1)
