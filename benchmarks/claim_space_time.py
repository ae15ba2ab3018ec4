"""The methods of the rows about where in space and when in time what a policy sees was: 4D-VLA's (arXiv 2506.22242)."""

from dataclasses import replace
from typing import Any

from claim_methods import USUAL_TASKS, Method, Part, Recording, shipped

from configs.presets import nano_bridge
from vla.backbones.nano import NanoConfig

SIX_VIEWS = Recording(
    name="reach-pick-place-views",
    tasks=USUAL_TASKS,
    depth=True,
    parts=(Part(perturbation="multiview:train_views"),),
)
"""Each episode seen from one of six sides, with depth."""
MEMORY_TASKS = Recording(name="memory", tasks=("recall", "press-times"))


def _seeing(batch_size: int, **fields: Any) -> Method:
    """The default policy from the shipped eye with fields of its backbone changed, in batches of ``batch_size``."""
    policy = shipped(nano_bridge())
    assert isinstance(policy.backbone, NanoConfig)
    backbone, train = replace(policy.backbone, **fields), replace(policy.train, batch_size=batch_size)
    return Method(policy=replace(policy, backbone=backbone, train=train))


_ALL_VIEWS, _MOMENTS = 64, 32
"""Batch sizes: three moments are three times the pictures."""

SPACE = {
    "pictures alone": _seeing(_ALL_VIEWS),
    "known cameras": _seeing(_ALL_VIEWS, use_cameras=True),
    "points in the world": _seeing(_ALL_VIEWS, use_points=True),
}
TIME = {
    "the present alone": _seeing(_MOMENTS),
    "the last three moments": _seeing(_MOMENTS, frames=3, frame_gap=4, use_times=True),
    "a memory bank of three": _seeing(
        _MOMENTS, frames=3, frame_gap=4, frame_sampling="memory_bank", frame_memory=10, use_times=True
    ),
    "three moments far apart": _seeing(_MOMENTS, frames=3, frame_gap=16, use_times=True),
}
"""Of moments every 4 control steps (0.2 s) the last three, or those of the last ten that differ; or every 16 steps."""
