"""The methods of the rows about where in space and when in time what a policy sees was: 4D-VLA's (arXiv 2506.22242)."""

from dataclasses import replace
from typing import Any

from claim_methods import USUAL_TASKS, Method, Part, Recording, seeing

SIX_VIEWS = Recording(
    name="reach-pick-place-views",
    tasks=USUAL_TASKS,
    depth=True,
    parts=(Part(perturbation="multiview:train_views"),),
)
"""Each episode seen from one of six sides, with depth."""
MEMORY_TASKS = Recording(name="memory", tasks=("recall", "press-times"))
MOMENTS_BATCH = 32
"""Three moments are three times the pictures."""


def _remembering(**fields: Any) -> Method:
    """:func:`seeing` in batches of ``MOMENTS_BATCH``."""
    method = seeing(**fields)
    return replace(method, policy=replace(method.policy, train=replace(method.policy.train, batch_size=MOMENTS_BATCH)))


SPACE = {
    "pictures alone": seeing(),
    "known cameras": seeing(use_cameras=True),
    "points in the world": seeing(use_points=True),
}
TIME = {
    "the present alone": _remembering(),
    "the last three moments": _remembering(frames=3, frame_gap=4, use_times=True),
    "a memory bank of three": _remembering(
        frames=3, frame_gap=4, frame_sampling="memory_bank", frame_memory=10, use_times=True
    ),
    "three moments far apart": _remembering(frames=3, frame_gap=16, use_times=True),
}
"""Of moments every 4 control steps (0.2 s) the last three, or those of the last ten that differ; or every 16 steps."""
