"""What demonstrations give: decisions to learn from, and the classifier whose word is taken."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from envs.specs import ACTION_KEY, TASK_KEY, EmbodimentSpec
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTOR_KEY, PHASE_KEY, TIME_KEY
from rl.fume.agent import RefinedAgent
from rl.fume.config import FumeConfig
from rl.fume.replay import Demonstrated
from rl.rewards.classifier import SuccessClassifier, train_classifier
from rl.rewards.config import LabConfig
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import SavedHead
from rl.rewards.lab import calibrate_on
from rl.rewards.traces import Trace
from vla.observation import ActionChunk
from vla.strict_json import finite

_AT_ONCE, _EVERY = 256, 2
_NOT_SEEN = (ACTION_KEY, PHASE_KEY, ACTOR_KEY, TIME_KEY)
_OTHER_WAY = "other way"


def check_demonstrations(datasets: Sequence[DemonstrationDataset], ways: Sequence[str], robot: EmbodimentSpec) -> None:
    """``ValueError`` unless there are demonstrations of every one of ``ways``, of the policy's robot."""
    if not datasets:
        raise ValueError("name the demonstrations to learn from: --data DATASET (vla collect records some)")
    there = {record.task for dataset in datasets for record in dataset.records}
    if missing := [way for way in ways if way not in there]:
        raise ValueError(
            f"expected demonstrations of {' and '.join(ways)}, got those of {', '.join(sorted(there)) or 'nothing'}: "
            f"vla collect {' '.join(missing)}"
        )
    ours = _numbers(robot)
    for dataset in datasets:
        if (theirs := _numbers(dataset.embodiment)) != ours:
            raise ValueError(f"the policy is for {ours}; the demonstrations in {dataset.path} are of {theirs}")


def _numbers(embodiment: EmbodimentSpec) -> str:
    state, action = (", ".join(dim.name for dim in dims) for dims in (embodiment.state, embodiment.action))
    return f"{embodiment.name} (state {state}; action {action})"


def demonstrated(
    datasets: Sequence[DemonstrationDataset], agent: RefinedAgent, *, discount: float, earned: float
) -> Demonstrated:
    """Every frame as a decision, looked at once."""
    looked: list[Mapping[str, Tensor]] = []
    actions: list[Tensor] = []
    valid: list[Tensor] = []
    left: list[Tensor] = []
    for dataset in datasets:
        texts = [record.instruction for record in dataset.records for _ in range(record.length)]
        for first in range(0, dataset.num_frames, _AT_ONCE):
            frames = np.arange(first, min(first + _AT_ONCE, dataset.num_frames))
            shown: dict[str, Any] = {
                key: torch.from_numpy(dataset.read(key, frames)) for key in dataset.keys if key not in _NOT_SEEN
            }
            looked.append(agent.look({**shown, TASK_KEY: [texts[frame] for frame in frames]}))
        ends = torch.from_numpy(dataset.end_frames)
        frame = torch.arange(dataset.num_frames)
        end = ends[torch.searchsorted(ends, frame, right=True)]
        steps = frame[:, None] + torch.arange(agent.horizon)
        told = torch.from_numpy(dataset.load(ACTION_KEY)).float()[torch.minimum(steps, end[:, None] - 1)]
        actions.append(agent.normalized(told))
        valid.append(steps < end[:, None])
        left.append(end - frame)
    return Demonstrated(
        looked={name: torch.cat([part[name] for part in looked]) for name in looked[0]},
        chunk=ActionChunk(actions=torch.cat(actions), valid=torch.cat(valid)),
        left=torch.cat(left),
        execute=agent.execute,
        discount=discount,
        earned=earned,
    )


def fitted_classifier(
    datasets: Sequence[DemonstrationDataset], features: FrozenFeatures, config: FumeConfig
) -> SavedHead:
    """A classifier of the demonstrations' frames, with a threshold from those that it was not fitted to.

    What is seen in a demonstration, and asked of the other way, is not done: each is also judged by the sentence of
    another task that has most words in common with its own.
    """
    traces = [Trace.of_episode(dataset.episode(i), _EVERY) for dataset in datasets for i in range(len(dataset))]
    told = traces + [trace.told(_opposite(trace, traces), _OTHER_WAY) for trace in traces]
    apart = [i % config.held_out == 0 for i in range(len(traces))] * 2
    learned = [trace for trace, out in zip(told, apart, strict=True) if not out]
    held_out = [trace for trace, out in zip(told, apart, strict=True) if out]
    saved = train_classifier(learned, features, config.head)
    lab = LabConfig(precision=config.precision, votes=config.votes)
    chosen = calibrate_on(SuccessClassifier(features, saved.head), held_out, lab)
    known = finite({"calibration": asdict(chosen), "votes": config.votes})
    return replace(saved, about={**saved.about, **known})


def _opposite(trace: Trace, traces: Sequence[Trace]) -> Trace:
    words = set(trace.goal.split())
    others = [other for other in traces if other.task != trace.task]
    if not others:
        raise ValueError(f"expected demonstrations of two tasks that undo each other, got those of {trace.task} alone")
    return max(others, key=lambda other: len(words & set(other.goal.split())))


def threshold_of(saved: SavedHead, ways: Sequence[str]) -> tuple[float, int]:
    """From which score on a classifier's word is taken, and how many decisions vote.

    ``ValueError`` where it learned other tasks than ``ways``, and where no score was precise enough.
    """
    known, chosen = saved.about.get("tasks", ()), saved.about.get("calibration")
    if missing := [way for way in ways if way not in known]:
        raise ValueError(
            f"the classifier has learned {', '.join(known) or 'nothing'}, expected one of {' and '.join(ways)}: "
            f"vla reward train classifier --tasks {' '.join(ways)} (it lacks {', '.join(missing)})"
        )
    if not chosen or chosen.get("threshold") is None:
        raise ValueError(
            "the classifier has no threshold: none of its scores was precise enough on the episodes that were held "
            "out; ask for less (--fume.precision), or give it more demonstrations"
        )
    return float(chosen["threshold"]), int(saved.about.get("votes", 1))
