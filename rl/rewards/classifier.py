"""Is it done? RoboFuME's success classifier (arXiv 2310.15145), votes over frames, and a threshold that can be trusted.

The paper asks a fine-tuned vision-language model and takes p(yes) > p(no) for an answer. In its deployments most of
what was called a success was none in two of three tasks, so here the answer is a score, several frames vote, and the
threshold is chosen on episodes that nothing was learned from.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from envs.specs import Transition, image_key
from policies.intervals import Interval, wilson
from rl.rewards.config import HeadConfig
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import Head, SavedHead, fit_head
from rl.rewards.reward import Scorer, merged
from rl.rewards.traces import Trace, batches
from vla.backbones.vlm.answering import YesOrNo

DONE_FRAMES = 2
"""The last frames of a success count as done: success is judged after some steps in which it has held."""
UNDONE_SHARE = 0.8
"""Of a success, frames before this share of it count as not done; those between are not learned from."""


class SuccessClassifier:
    """The log-odds of "done" that a head makes of frozen features."""

    name = "classifier"

    def __init__(self, features: FrozenFeatures, head: Head) -> None:
        self._features, self._head = features, head.to(features.device)

    @torch.inference_mode()
    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, " n"]:
        return self._head(self._features(observation, goals))[:, 0].clone()


class AskedClassifier:
    """The log-odds of "yes" over "no" of a pretrained vision-language model, shown what ``cameras`` show, that is asked
    whether the goal is reached.
    """

    name = "asked"

    def __init__(self, model: YesOrNo, cameras: Sequence[str]) -> None:
        self._model, self._cameras = model, tuple(cameras)

    def __call__(self, observation: Mapping[str, Any], goals: Sequence[str]) -> Float[Tensor, " n"]:
        views: UInt8[Tensor, "n v h w 3"] = torch.stack([observation[image_key(name)] for name in self._cameras], 1)
        return self._model.margin(views, goals)


def train_classifier(traces: Sequence[Trace], features: FrozenFeatures, config: HeadConfig) -> SavedHead:
    """Learn which frames show that it is done. Either answer counts half, however many frames it has.

    ``ValueError`` where there are no successes, or nothing but successes.
    """
    rows = frames_of(traces, features)
    return saved_classifier(fit_frames(rows, traces, config), rows, traces, features, config)


def frames_of(traces: Sequence[Trace], features: FrozenFeatures) -> Float[Tensor, "n d"]:
    """What the backbone makes of every frame of all ``traces``, in their order, on the host."""
    return torch.cat([features(*batch) for batch in batches(traces)]).cpu()


def fit_frames(rows: Float[Tensor, "n d"], traces: Sequence[Trace], config: HeadConfig) -> Head:
    """A head that has learned which of the frames ``rows`` of ``traces`` are done; errors: :func:`train_classifier`."""
    labels, known = (torch.cat(part) for part in zip(*(done_labels(trace) for trace in traces), strict=True))
    yes, no = labels & known, ~labels & known
    if not bool(yes.any()) or not bool(no.any()):
        raise ValueError(
            f"expected frames that are done and frames that are not, got {int(yes.sum())}, {int(no.sum())}"
        )
    weights = yes / yes.sum() + no / no.sum()
    return fit_head(rows, labels.float()[:, None], weights[:, None] * len(rows) / 2, config)


def saved_classifier(
    head: Head, rows: Float[Tensor, "n d"], traces: Sequence[Trace], features: FrozenFeatures, config: HeadConfig
) -> SavedHead:
    """``head``, with what there is to say of the frames that it has learned from."""
    kinds = sorted({trace.kind for trace in traces})
    done = sum(int((done & known).sum()) for done, known in map(done_labels, traces))
    return SavedHead(
        kind="classifier",
        head=head,
        config=config,
        features=rows.shape[1],
        outputs=1,
        base_folder=features.folder,
        base_sha256=features.base.sha256,
        about={
            "episodes": len(traces),
            "frames": len(rows),
            "done": done,
            "kinds": {kind: sum(trace.kind == kind for trace in traces) for kind in kinds},
            "tasks": sorted({trace.task for trace in traces}),
        },
    )


def done_labels(trace: Trace) -> tuple[Bool[Tensor, " t"], Bool[Tensor, " t"]]:
    """Which frames show that it is done, and of which frames that is known."""
    done = torch.zeros(len(trace), dtype=torch.bool)
    known = torch.ones_like(done)
    if trace.success:
        done[-DONE_FRAMES:] = True
        known[int(UNDONE_SHARE * len(trace)) :] = False
    return done, known | done


def vote_scores(scores: Float[Tensor, " t"], votes: int) -> Float[Tensor, " t"]:
    """What more than half of the last ``votes`` frames reach at each frame; −∞ before there are so many."""
    if votes < 1:
        raise ValueError(f"expected at least one vote, got {votes}")
    waiting = scores.new_full((min(votes - 1, len(scores)),), -math.inf)
    if len(scores) < votes:
        return waiting[: len(scores)].new_full((len(scores),), -math.inf)
    reached = scores.unfold(0, votes, 1).topk(votes // 2 + 1, dim=1).values[:, -1]
    return torch.cat([waiting, reached])


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A score from which on "done" is believed, and what that came to on the episodes that chose it.

    ``precision`` is the share of successes among episodes that were believed, ``recall`` the share of successes that
    were. Both hold for that mixture of successes and failures. An infinite threshold believes nothing: no score was
    precise enough, and ``reached`` is False.
    """

    threshold: float
    wanted: float
    precision: Interval
    recall: Interval

    @property
    def reached(self) -> bool:
        return math.isfinite(self.threshold)


def calibrate(scores: Sequence[float], success: Sequence[bool], wanted: float) -> Calibration:
    """The lowest threshold from which on so many of the episodes believed are successes as is ``wanted``.

    ``scores`` are the highest of each episode; the lowest such threshold believes the most successes. ``ValueError``
    for no episodes, and a precision outside of 0 … 1.
    """
    if len(scores) != len(success) or not scores:
        raise ValueError(f"expected a score for each of some episodes, got {len(scores)} and {len(success)}")
    if not 0 < wanted <= 1:
        raise ValueError(f"expected a precision in 0 … 1 that is not 0, got {wanted}")
    threshold = math.inf
    for candidate in sorted({score for score in scores if math.isfinite(score)}, reverse=True):
        believed = [won for score, won in zip(scores, success, strict=True) if score >= candidate]
        if sum(believed) >= wanted * len(believed):
            threshold = candidate
    return Calibration(
        threshold=threshold,
        wanted=wanted,
        precision=precision_of(scores, success, threshold),
        recall=recall_of(scores, success, threshold),
    )


def precision_of(scores: Sequence[float], success: Sequence[bool], threshold: float) -> Interval:
    """The share of successes among the episodes that reach the threshold."""
    believed = [won for score, won in zip(scores, success, strict=True) if score >= threshold]
    return wilson(sum(believed), len(believed))


def recall_of(scores: Sequence[float], success: Sequence[bool], threshold: float) -> Interval:
    """The share of the successes that reach the threshold."""
    won = [score >= threshold for score, won in zip(scores, success, strict=True) if won]
    return wilson(sum(won), len(won))


def false_positives(scores: Sequence[float], success: Sequence[bool], threshold: float) -> Interval:
    """The share of the failures that reach the threshold."""
    lost = [score >= threshold for score, won in zip(scores, success, strict=True) if not won]
    return wilson(sum(lost), len(lost))


class SuccessReward:
    """Pays 1 once in an episode, when more than half of the last ``votes`` decisions reach ``threshold``.

    ``succeeded`` are the worlds in which that has happened: RoboFuME ends their episodes.
    """

    def __init__(self, scorer: Scorer, threshold: float, votes: int = 3) -> None:
        if votes < 1:
            raise ValueError(f"expected at least one vote, got {votes}")
        self.name, self._scorer, self._threshold, self._votes = f"{scorer.name}-success", scorer, threshold, votes
        self._goals: list[str] = []
        self._last = torch.zeros(0, votes, dtype=torch.bool)
        self.succeeded: Bool[Tensor, " n"] = torch.zeros(0, dtype=torch.bool)

    def start(
        self, observation: Mapping[str, Any], goals: Sequence[str], mask: Bool[Tensor, " n"] | None = None
    ) -> None:
        self._goals = merged(self._goals, goals, mask)
        if mask is None or not len(self._last):
            self._last = torch.zeros(len(goals), self._votes, dtype=torch.bool)
            self.succeeded = torch.zeros(len(goals), dtype=torch.bool)
            return
        begins = mask.to(self._last.device)
        self._last = self._last & ~begins[:, None]
        self.succeeded = self.succeeded & ~begins

    def __call__(self, before: Mapping[str, Any], transition: Transition) -> Float[Tensor, " n"]:
        device = transition.reward.device
        believed = (self._scorer(transition.observation, self._goals) >= self._threshold).to(device)
        last, moved = self._last.to(device), transition.steps > 0
        last = torch.where(moved[:, None], torch.cat([last[:, 1:], believed[:, None]], dim=1), last)
        now = moved & (last.sum(dim=1) > self._votes // 2) & ~self.succeeded.to(device)
        self._last, self.succeeded = last, self.succeeded.to(device) | now
        return now.float()

    @property
    def scores(self) -> Float[Tensor, " n"]:
        """1 where it has paid."""
        return self.succeeded.float()

    def memory(self) -> dict[str, Tensor]:
        return {"votes": self._last, "succeeded": self.succeeded}

    def remember(self, memory: Mapping[str, Tensor], goals: Sequence[str]) -> None:
        self._goals, self._last, self.succeeded = list(goals), memory["votes"], memory["succeeded"]
