"""What ``nano`` takes from an observation: shapes that fit, and depth with its cameras."""

import torch

from vla.backbones.keypoints import DepthViews
from vla.backbones.nano_config import NanoConfig
from vla.observation import Observation


def check_shapes(
    observation: Observation,
    config: NanoConfig,
    *,
    views: int,
    image_size_px: tuple[int, int],
    state_dim: int,
    text_window: int,
) -> None:
    """Raise ``ValueError`` that says which shape was expected and which came."""
    b, t = observation.images.shape[:2]
    image = (b, t, views, 3, *image_size_px)
    expected = {"images": image, "view_mask": image[:3], "state": (b, state_dim)}
    if config.use_depth:
        if observation.depth is None:
            raise ValueError("expected depth images, because the network was built with use_depth; got none")
        expected["depth"] = (*image[:3], *image_size_px)
    for name, shape in expected.items():
        given = tuple(getattr(observation, name).shape)
        if given != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {given}")
    if not 1 <= t <= config.frames:
        raise ValueError(f"expected 1…{config.frames} frames per view, got {t}")
    if observation.text.shape[1] > text_window:
        raise ValueError(f"expected at most {text_window} text tokens, got {observation.text.shape[1]}")


def depth_views(observation: Observation) -> DepthViews | None:
    """Depth and calibration of all frames and views, flattened, with missing views blanked; None without depth."""
    if observation.depth is None:
        return None
    view_mask = observation.view_mask.flatten()
    depth_m = observation.depth.flatten(0, 2).masked_fill(~view_mask[:, None, None], 0.0)
    if observation.intrinsics is None or observation.T_world_cam is None:
        return DepthViews(depth_m=depth_m)
    identity = torch.eye(4, dtype=depth_m.dtype, device=depth_m.device)
    present = view_mask[:, None, None]
    intrinsics = torch.where(present, observation.intrinsics.flatten(0, 2), identity[:3, :3])
    T_world_cam = torch.where(present, observation.T_world_cam.flatten(0, 2), identity)
    return DepthViews(depth_m=depth_m, intrinsics=intrinsics, T_world_cam=T_world_cam)
