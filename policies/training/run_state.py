"""What a run must remember to go on as if it had never stopped, and whether it may go on at all."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from policies.training.checkpoint import CheckpointError, TrainingState
from policies.training.learner import Learner
from policies.training.metrics import RunningMean
from policies.training.sharding import overwrite, put_together, shared_out_as

CARRIED = "carried/"
NOTHING: Mapping[str, Tensor] = MappingProxyType({})


def capture(
    learner: Learner[Any], step: int, running: RunningMean, carried: Mapping[str, Tensor] = NOTHING
) -> TrainingState:
    """All that a run needs to go on after ``step`` steps; ``carried`` is the learner's, of all processes.

    If the network is shared out, its parts are put together on the host, one after the other, and all processes ask.
    """
    tensors = {f"{group}/{name}": value for group, values in _groups(learner).items() for name, value in values.items()}
    for index, moments in learner.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in moments.items()}
    if learner.shared_out:
        tensors = {name: put_together(value).cpu() for name, value in tensors.items()}
    tensors |= {f"{CARRIED}{name}": value for name, value in carried.items()}
    progress = {
        "running": running.state(),
        "legs": list(learner.legs),
        "settings": learner.settings(),
        **learner.memory(),
    }
    return TrainingState(step=step, tensors=tensors, progress=progress)


def restore(learner: Learner[Any], state: TrainingState) -> None:
    """Put ``learner`` back to ``state``; ``CheckpointError`` if that came of other settings or data."""
    check_settings(state.progress["settings"], learner.settings())
    for group, values in _groups(learner).items():
        for name, value in values.items():
            overwrite(value, state.tensors[f"{group}/{name}"])
    learner.recall(state.progress)
    learner.take_back({k.removeprefix(CARRIED): v for k, v in state.tensors.items() if k.startswith(CARRIED)})
    learning = [parameter for group in learner.optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in state.tensors.items():
        kind, _, rest = key.partition("/")
        if kind == "optimizer":
            index, _, name = rest.partition("/")
            kept = shared_out_as(learning[int(index)], value) if value.ndim else value  # the step's is a number
            moments.setdefault(int(index), {})[name] = kept
    groups = learner.optimizer.state_dict()["param_groups"]
    learner.optimizer.load_state_dict({"state": moments, "param_groups": groups})


def _groups(learner: Learner[Any]) -> dict[str, Mapping[str, Tensor]]:
    """The tensors of a learner by kind and name, its optimiser's apart."""
    return {
        "weights": learner.parameters,
        "average": learner.average.values,
        "buffers": dict(learner.model.named_buffers()),
    }


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


def check_settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """``CheckpointError`` that names every setting which differs; what a part is made of is compared by name."""
    changed: list[str] = []
    for part in dict.fromkeys([*now, *then]):
        before, after = then.get(part), now.get(part)
        if not (isinstance(before, Mapping) and isinstance(after, Mapping)):
            before, after, place = {part: before}, {part: after}, ""
        else:
            place = f"{part}."
        changed += [
            f"{place}{name}: {before.get(name)!r} then, {after.get(name)!r} now"
            for name in sorted(before.keys() | after.keys())
            if before.get(name) != after.get(name)
        ]
    if changed:
        raise CheckpointError("the run cannot go on with other settings:\n  " + "\n  ".join(changed))
