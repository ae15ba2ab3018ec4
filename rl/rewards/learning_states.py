"""How towers learn states: by SigLIP's sigmoid loss (arXiv 2303.15343), from frames of episodes that succeed and fail,
and what is to be seen where their goals are reached.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from rl.rewards.classifier import done_labels
from rl.rewards.config import HeadConfig
from rl.rewards.nano_towers import FrozenTokens
from rl.rewards.state_towers import SavedTowers, StateTowers
from rl.rewards.traces import Trace

UNIT_DIM = 128
OTHER_GOAL = "other goal"
FRAMES = 6
"""Of each episode: the last two, and others evenly spread."""
OWN_WEIGHT, OTHER_WEIGHT = 4.0, 0.5
"""What a frame's own goal counts for, and each other goal of its task."""
DONE_SHARE = 0.25
"""Of a batch, frames that are done."""


class Lesson(NamedTuple):
    """Frames and all sentences: which fit (0, 1), and how much each pair counts; 0 where nobody knows."""

    tokens: Float[Tensor, "n p"]
    sentences: Float[Tensor, "m w"]
    fits: Float[Tensor, "n m"]
    weight: Float[Tensor, "n m"]
    done: Bool[Tensor, " n"]


def train_towers(
    traces: Sequence[Trace], tokens: FrozenTokens, describe: Callable[[str], str], config: HeadConfig
) -> SavedTowers:
    """Learn from frames of ``traces`` and what ``describe`` makes of their goals.

    A frame is a yes for its own goal where it shows success, and a no where it shows none; for other goals of its task
    it is a no. ``ValueError`` where there are no successes, or nothing but successes.
    """
    lesson = _lesson(traces, tokens, describe)
    towers = fit_towers(lesson, config)
    kinds = sorted({trace.kind for trace in traces})
    return SavedTowers(
        towers=towers,
        config=config,
        base_folder=tokens.folder,
        base_sha256=tokens.sha256,
        about={
            "episodes": len(traces),
            "frames": len(lesson.tokens),
            "done": int(lesson.done.sum()),
            "kinds": {kind: sum(trace.kind == kind for trace in traces) for kind in kinds},
            "tasks": sorted({trace.task for trace in traces}),
            "sentences": sorted({describe(trace.goal) for trace in traces}),
        },
    )


def fit_towers(lesson: Lesson, config: HeadConfig) -> StateTowers:
    """Towers that have learned a lesson, a quarter of each batch being frames that are done; the same for one seed."""
    done, undone = lesson.done.nonzero()[:, 0], (~lesson.done).nonzero()[:, 0]
    if not len(done) or not len(undone):
        raise ValueError(f"expected frames that are done and frames that are not, got {len(done)}, {len(undone)}")
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(config.seed)
        towers = StateTowers(lesson.tokens.shape[1], lesson.sentences.shape[1], UNIT_DIM, config)
        for head, features in ((towers.picture, lesson.tokens), (towers.sentence, lesson.sentences)):
            head.scaled_for(features)
        optimizer = torch.optim.AdamW(towers.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.lr, config.steps)
        few = max(1, round(DONE_SHARE * config.batch_size))
        for _ in range(config.steps):
            rows = torch.cat(
                [
                    some[torch.randint(len(some), (count,), generator=generator)]
                    for some, count in ((done, few), (undone, max(1, config.batch_size - few)))
                ]
            )
            logits = towers(lesson.tokens[rows], lesson.sentences)
            loss = functional.binary_cross_entropy_with_logits(
                logits, lesson.fits[rows], lesson.weight[rows], reduction="sum"
            )
            optimizer.zero_grad()
            (loss / lesson.weight[rows].sum().clamp(min=1e-6)).backward()
            optimizer.step()
            schedule.step()
    return towers.eval().requires_grad_(False)


def _lesson(traces: Sequence[Trace], tokens: FrozenTokens, describe: Callable[[str], str]) -> Lesson:
    """Episodes that are only told another goal show nothing new, and are left out."""
    shown = [trace for trace in traces if trace.kind != OTHER_GOAL]
    told = [describe(trace.goal) for trace in shown]
    texts = list(dict.fromkeys(told))
    of_task = {text: {t.task for t, said in zip(shown, told, strict=True) if said == text} for text in texts}
    seen, fits, weight, done = [], [], [], []
    for trace, said in zip(shown, told, strict=True):
        labels, known = done_labels(trace)
        frames = _frames(len(trace))
        frames = frames[known[frames]]
        own = torch.tensor([text == said for text in texts])
        beside = torch.tensor([trace.task in of_task[text] for text in texts])
        seen.append(tokens.of_pictures(tokens.views(trace.shown, frames)).cpu())
        fits.append((labels[frames][:, None] & own).float())
        weight.append(torch.where(own, OWN_WEIGHT, OTHER_WEIGHT * beside).expand(len(frames), -1))
        done.append(labels[frames])
    return Lesson(
        tokens=torch.cat(seen),
        sentences=tokens.of_texts(texts).cpu(),
        fits=torch.cat(fits),
        weight=torch.cat(weight),
        done=torch.cat(done),
    )


def _frames(length: int) -> Int[Tensor, " k"]:
    spread = torch.linspace(0, length - 1, min(FRAMES - 1, length)).round().long()
    return torch.cat([spread, torch.tensor([max(0, length - 2)])]).unique()
