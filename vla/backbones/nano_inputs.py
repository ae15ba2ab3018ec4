"""What ``nano`` takes from an observation: shapes that fit, depth and cameras."""

import torch

from vla.backbones.nano_config import NanoConfig
from vla.backbones.views import Views
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
    if config.needs_depth:
        if observation.depth is None:
            what = "use_depth" if config.use_depth else "use_points"
            raise ValueError(f"expected depth images, because the network was built with {what}; got none")
        expected["depth"] = (*image[:3], *image_size_px)
    if config.needs_cameras:
        if observation.intrinsics is None or observation.T_world_cam is None:
            what = "use_cameras" if config.use_cameras else "use_points"
            raise ValueError(f"expected calibrated cameras, because the network was built with {what}; got none")
        expected |= {"intrinsics": (*image[:3], 3, 3), "T_world_cam": (*image[:3], 4, 4)}
    if config.use_times and t > 1:
        if observation.age_s is None:
            raise ValueError("expected the age of each frame, because the network was built with use_times; got none")
        expected["age_s"] = (b, t)
    for name, shape in expected.items():
        given = tuple(getattr(observation, name).shape)
        if given != shape:
            raise ValueError(f"expected {name} of shape {shape}, got {given}")
    if not 1 <= t <= config.frames:
        raise ValueError(f"expected 1…{config.frames} frames per view, got {t}")
    if observation.text.shape[1] > text_window:
        raise ValueError(f"expected at most {text_window} text tokens, got {observation.text.shape[1]}")


def views_of(observation: Observation, config: NanoConfig) -> Views | None:
    """What the network is told of all frames and views beside colours, flattened, with missing views blanked; None
    where nothing.
    """
    if not (config.needs_depth or config.needs_cameras):
        return None
    present = observation.view_mask.flatten()[:, None, None]
    depth_m = intrinsics = T_world_cam = None
    if config.needs_depth and observation.depth is not None:
        depth_m = observation.depth.flatten(0, 2).masked_fill(~present, 0.0)
    if observation.intrinsics is not None and observation.T_world_cam is not None:
        identity = torch.eye(4, device=observation.images.device)
        intrinsics = torch.where(present, observation.intrinsics.flatten(0, 2), identity[:3, :3])
        T_world_cam = torch.where(present, observation.T_world_cam.flatten(0, 2), identity)
    height, width = observation.images.shape[-2:]
    return Views(size_px=(height, width), depth_m=depth_m, intrinsics=intrinsics, T_world_cam=T_world_cam)
