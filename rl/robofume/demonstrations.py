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
from rl.rewards.classifier import (
    UNDONE_SHARE,
    Calibration,
    calibrate,
    fit_frames,
    frames_of,
    saved_classifier,
    vote_scores,
)
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import SavedHead
from rl.rewards.traces import Trace, apart
from rl.robofume.agent import RefinedAgent
from rl.robofume.config import RoboFuMEConfig
from rl.robofume.replay import Demonstrated
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
    datasets: Sequence[DemonstrationDataset], features: FrozenFeatures, config: RoboFuMEConfig
) -> SavedHead:
    """A classifier of the demonstrations' frames, with a threshold from what others say that were fitted without each.

    What is seen at the end of a demonstration, and asked of the other way, is not done: that part is also judged by the
    sentence of another task that has most words in common with its own. At its beginning that other task may well be
    done: nothing is learned from there. ``ValueError`` for fewer demonstrations than folds.
    """
    own = [Trace.of_episode(dataset.episode(i), _EVERY) for dataset in datasets for i in range(len(dataset))]
    if len(own) < config.folds:
        raise ValueError(f"expected at least as many demonstrations as robofume.folds, {config.folds}, got {len(own)}")
    ends = [trace.told(_opposite(trace, own), _OTHER_WAY).since(_late(trace)) for trace in own]
    told = [*own, *ends]
    rows = frames_of(told, features)
    chosen = _calibrated(told, apart(rows, told), config)
    saved = saved_classifier(fit_frames(rows, told, config.head), rows, told, features, config.head)
    known = finite({"calibration": asdict(chosen), "votes": config.votes})
    return replace(saved, about={**saved.about, **known})


def _late(trace: Trace) -> int:
    """The first frame that is no longer surely undone."""
    return int(UNDONE_SHARE * len(trace))


def _calibrated(told: Sequence[Trace], rows: Sequence[Tensor], config: RoboFuMEConfig) -> Calibration:
    """What is not done: demonstrations before their end, and that end asked of the other way, which make up the second
    half of what is ``told``. Each is scored by a head that was fitted without the demonstration.
    """
    count = len(told) // 2
    scores, success = [], []
    for out in range(config.folds):
        learned = [i for i in range(len(told)) if i % count % config.folds != out]
        head = fit_frames(torch.cat([rows[i] for i in learned]), [told[i] for i in learned], config.head)
        for i in range(out, count, config.folds):
            said, late = head(rows[i])[:, 0], _late(told[i])
            parts = said[:late], said[late:], head(rows[count + i])[:, 0]
            scores += [float(vote_scores(part, min(config.votes, len(part))).max()) for part in parts]
            success += [False, True, False]
    return calibrate(scores, success, config.precision)


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
            "the classifier has no threshold: none of its scores was precise enough on what it had not been "
            "fitted to; ask for less (--robofume.precision), or give it more demonstrations"
        )
    return float(chosen["threshold"]), int(saved.about.get("votes", 1))
