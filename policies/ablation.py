"""Observations in which the pictures show nothing, to see whether a policy needs them."""

from collections.abc import Mapping
from typing import Any

import torch

from envs.specs import depth_key, image_key, segmentation_key

NOTHING = {image_key(""): 0, depth_key(""): 0, segmentation_key(""): -1}
"""What a picture that shows nothing is full of, by the beginning of its key: black, no hit, no geom."""


def without_pictures(observation: Mapping[str, Any]) -> dict[str, Any]:
    """``observation`` whose pictures show nothing; it still says where the cameras stand."""
    return {key: _emptied(key, value) for key, value in observation.items()}


def _emptied(key: str, value: Any) -> Any:
    for beginning, nothing in NOTHING.items():
        if key.startswith(beginning):
            return torch.full_like(value, nothing)
    return value
