"""What a run must remember to go on as if it had never stopped, and whether it may go on at all."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from policies.imitation.checkpoint import CheckpointError, TrainingState
from policies.imitation.config import FREE_TO_CHANGE
from policies.imitation.learner import Learner
from policies.imitation.metrics import RunningMean
from policies.processors import Normalization
from vla.strict_json import strict_json


def capture(learner: Learner, step: int, running: RunningMean) -> TrainingState:
    """All that a run needs to go on after ``step`` steps."""
    tensors: dict[str, Tensor] = {}
    for prefix, group in (("weights", learner.parameters), ("average", learner.average.values)):
        tensors |= {f"{prefix}/{name}": value for name, value in group.items()}
    tensors |= {f"buffers/{name}": value for name, value in learner.vla.named_buffers()}
    for index, moments in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    progress = {
        "running": running.state(),
        "legs": list(learner.legs),
        "normalization": learner.normalization.to_dict(),
        "settings": settings(learner),
    }
    return TrainingState(step=step, tensors=tensors, progress=progress)


@torch.no_grad()
def restore(learner: Learner, state: TrainingState) -> None:
    """Put ``learner`` back to ``state``; ``CheckpointError`` if that came of other settings or data."""
    check_settings(state.progress["settings"], settings(learner))
    for prefix, group in (
        ("weights", learner.parameters),
        ("average", learner.average.values),
        ("buffers", dict(learner.vla.named_buffers())),
    ):
        for name, value in group.items():
            value.copy_(state.tensors[f"{prefix}/{name}"])
    learner.normalization = Normalization.from_dict(state.progress["normalization"])
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in state.tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            index, _, name = rest.partition("/")
            moments.setdefault(int(index), {})[name] = value
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def legs_to(steps: int, state: TrainingState | None) -> tuple[int, ...]:
    """The legs of a run that is to end after ``steps`` steps and goes on from ``state``, if from any.

    A finished run may be lengthened, by a leg of its own. ``CheckpointError`` for one that has not come to its end,
    since its schedule was laid out for that, and for one that is to end earlier.
    """
    if state is None:
        return (steps,)
    legs = tuple(state.progress["legs"])
    if steps == legs[-1]:
        return legs
    if steps > legs[-1] == state.step:
        return (*legs, steps)
    reason = (
        f"its newest whole checkpoint is that of step {state.step}; finish it first, then lengthen it"
        if steps > legs[-1]
        else "it can be lengthened, not shortened"
    )
    raise CheckpointError(
        f"the run cannot go on with other settings:\n  train.steps: {legs[-1]} then, {steps} now: {reason}"
    )


def settings(learner: Learner) -> dict[str, Any]:
    """What decides the numbers of a run beside its legs, JSON-ready."""
    left_out = FREE_TO_CHANGE | {"steps"}
    train = {name: value for name, value in asdict(learner.config).items() if name not in left_out}
    data = [
        {"episodes": len(dataset), "frames": dataset.num_frames, "fingerprint": dataset.fingerprint}
        for dataset in learner.demonstrations.datasets
    ]
    return json.loads(strict_json({"train": train, "vla": learner.vla.config.to_dict(), "data": data}))


def check_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """``CheckpointError`` that names every setting which differs."""
    changed = [
        f"{part}.{name}: {then[part].get(name)!r} then, {now[part].get(name)!r} now"
        for part in ("train", "vla")
        for name in sorted(then[part].keys() | now[part].keys())
        if then[part].get(name) != now[part].get(name)
    ]
    if then["data"] != now["data"]:
        changed.append(f"data: {then['data']} then, {now['data']} now")
    if changed:
        raise CheckpointError("the run cannot go on with other settings:\n  " + "\n  ".join(changed))
