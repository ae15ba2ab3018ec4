"""VLA-RL's process reward (arXiv 2505.18719): which moments of successful episodes matter, without anybody's labels.

An episode is cut where a gripper command changes, and within a part the moments at which the tool nearly stands still
are its keyframes. The paper lets a model learn which frames lead to one, and adds the probability to the reward. Here
the same keyframes also divide an episode into steps of equal worth, and the share of them that is behind is learned as
well: it grows along an episode, as a potential has to, where "leads to a keyframe" rises and falls with each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from envs.specs import EmbodimentSpec
from policies.data.dataset import DemonstrationDataset
from policies.data.keyframes import next_keyframe
from rl.rewards.config import OUTPUTS, HeadConfig, LabelConfig, Output
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import Head, SavedHead, fit_head
from rl.rewards.traces import Trace, batches


class ProcessLabels(NamedTuple):
    """Of each frame of an episode: the share of its keyframes that is behind (0 … 1), and whether it leads to one."""

    progress: Float[np.ndarray, " t"]
    leading: Bool[np.ndarray, " t"]


def keyframes(
    state: Float[np.ndarray, "t d"], actions: Float[np.ndarray, "t a"], embodiment: EmbodimentSpec, config: LabelConfig
) -> Int[np.ndarray, " k"]:
    """The keyframes of one episode, ascending; its last frame is always one."""
    ends = np.unique(next_keyframe(actions, np.array([len(actions)]), embodiment))
    speed, found, begin = tool_speed(state, embodiment), [], 0
    for end in ends.tolist():
        found += [*_standstills(speed, begin, end, config), end]
        begin = end
    return np.array(found, dtype=np.int64)


def tool_speed(state: Float[np.ndarray, "t d"], embodiment: EmbodimentSpec) -> Float[np.ndarray, " t"]:
    """Metres that the tool goes per frame, from the numbers of the state that are places in the world."""
    places = [i for i, dim in enumerate(embodiment.state) if (dim.unit, dim.frame) == ("m", "world")]
    if not places:
        raise ValueError(f"{embodiment.name} does not sense where its tool is: no number of its state is a place")
    moved = np.linalg.norm(np.diff(state[:, places], axis=0), axis=1)
    return np.append(moved, moved[-1:] if len(moved) else 0.0)


def process_labels(found: Int[np.ndarray, " k"], length: int, leading: int) -> ProcessLabels:
    """Labels of ``length`` frames from their keyframes; between two, progress grows evenly with time."""
    share = np.arange(1, len(found) + 1) / len(found)
    frames = np.arange(length)
    progress = np.interp(frames, np.append(0, found), np.append(0.0, share)) if found[0] else np.ones(length)
    leads = np.zeros(length, dtype=bool)
    for keyframe in found.tolist():
        leads[max(0, keyframe - leading + 1) : keyframe + 1] = True
    return ProcessLabels(progress, leads)


class ProcessReward:
    """What a head says of frozen features: ``progress`` (0 … 1, a potential), or the paper's ``leading``."""

    def __init__(self, features: FrozenFeatures, head: Head, output: Output = "progress") -> None:
        self.name = f"process-{output}"
        self._features, self._head, self._output = features, head.to(features.device), OUTPUTS.index(output)

    @torch.inference_mode()
    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, " n"]:
        return self._head(self._features(observation, goals))[:, self._output].sigmoid().clone()


def train_process(
    dataset: DemonstrationDataset, features: FrozenFeatures, labels: LabelConfig, config: HeadConfig
) -> SavedHead:
    """Learn from the successful episodes of a store; ``ValueError`` where there is none, or the robot is another."""
    features.check(dataset.embodiment)
    chosen = [number for number, record in enumerate(dataset.records) if record.success]
    if not chosen:
        raise ValueError(f"{dataset.path} has no successful episodes to learn from")
    traces, targets = [], []
    for number in chosen:
        episode = dataset.episode(number)
        found = keyframes(episode.state, episode.actions, dataset.embodiment, labels)
        known = process_labels(found, len(episode), labels.leading)
        trace = Trace.of_episode(episode, labels.every)
        traces.append(trace)
        targets.append(torch.from_numpy(np.stack([known.progress, known.leading], axis=1)).float()[trace.steps])
    rng = np.random.default_rng(config.seed)
    wrong = _swapped(traces, labels.swapped, rng)
    rows = torch.cat([features(*batch) for batch in batches([*traces, *wrong])])
    aims = torch.cat([*targets, torch.zeros(sum(map(len, wrong)), len(OUTPUTS))])
    head = fit_head(rows.cpu(), aims, torch.ones_like(aims), config)
    return SavedHead(
        kind="process",
        head=head,
        config=config,
        features=rows.shape[1],
        outputs=len(OUTPUTS),
        base_folder=features.folder,
        base_sha256=features.base.sha256,
        about={"episodes": len(chosen), "frames": len(rows), "dataset": dataset.fingerprint, "labels": asdict(labels)},
    )


def _standstills(speed: Float[np.ndarray, " t"], begin: int, end: int, config: LabelConfig) -> list[int]:
    """Frames between ``begin`` and ``end`` at which the tool nearly stands still, away from both."""
    part = speed[begin : end + 1]
    found: list[int] = []
    for frame in range(begin + config.apart, end - config.apart + 1):
        slowest = speed[max(begin, frame - config.apart) : min(end, frame + config.apart) + 1].min()
        far = not found or frame - found[-1] >= config.apart
        if speed[frame] <= config.slow * part.max() and speed[frame] == slowest and far:
            found.append(frame)
    return found


def _swapped(traces: Sequence[Trace], share: float, rng: np.random.Generator) -> list[Trace]:
    """A share of the episodes, each told the instruction of another one that is worded otherwise."""
    found = []
    for trace in traces:
        other = traces[int(rng.integers(len(traces)))]
        if rng.random() < share and other.goal != trace.goal:
            found.append(trace.told(other, "other goal"))
    return found
