"""Episodes that are never learned from, and how well a network does on them."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from policies.data.layout import EpisodeRecord
from policies.data.windows import WindowConfig
from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import Demonstrations, NoEpisodesError
from policies.imitation.inputs import TrainingInputs
from policies.imitation.teaching import Teaching
from policies.processors import Normalization
from policies.training.augment import AugmentConfig
from policies.training.seeding import Draw, seed_everything
from vla.model import VLA
from vla.objectives import LossWeights

PREFIX = "validation_"
"""What the names of numbers begin with that come of episodes which are never learned from."""
UNDISTURBED = AugmentConfig(shift_fraction=0, brightness=0, contrast=0, saturation=0, channel_gain=0)
OVER_WINDOWS = frozenset({"l1_first"})
"""Numbers that are means over windows; all others are means over the windows' valid actions."""


def held_out(record: EpisodeRecord, share: float) -> bool:
    """Whether an episode is among the ``share`` that are never learned from.

    That is a hash of its task and seed, hence of the scene: the same ones stay out whatever else a store holds and
    however they are recorded again, and those of a smaller share are among those of a larger one.
    """
    digest = hashlib.sha256(f"{record.task}\n{record.seed}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < share * 2**64


def learned_from(paths: Sequence[Path], config: TrainConfig, windows: WindowConfig) -> Demonstrations:
    """The episodes that are not held out; ``ValueError`` where those are all."""
    if not config.validation_share:
        return Demonstrations(paths, windows, failures=config.failures, weights=config.task_weights)
    return _part(paths, config, windows, out=False)


class Validation:
    """The losses on fixed windows, spread evenly over the frames of the episodes that are held out."""

    def __init__(
        self,
        paths: Sequence[Path],
        vla: VLA,
        config: TrainConfig,
        windows: WindowConfig,
        teaching: Teaching | None = None,
    ) -> None:
        """Reads the windows. ``ValueError`` where no episode is held out, or an instruction does not fit."""
        demonstrations = _part(paths, config, replace(windows, cache="disk"), out=True)
        self.datasets = demonstrations.datasets
        self.episodes = demonstrations.num_episodes
        self._config = config
        texts, robot = demonstrations.instructions, demonstrations.embodiment
        self._inputs = TrainingInputs(vla, texts, UNDISTURBED, config.seed, robot)
        count = min(config.validation_windows, len(demonstrations))
        frames = np.linspace(0, len(demonstrations) - 1, count).round().astype(np.int64)
        piece = config.batch_size // config.accumulate
        self._frames = [frames[at : at + piece] for at in range(0, count, piece)]
        self._pieces = [demonstrations.sample(each) for each in self._frames]
        self._taught = None if teaching is None else teaching.about(demonstrations)

    @torch.no_grad()
    def losses(self, vla: VLA, normalization: Normalization, weights: LossWeights) -> dict[str, float]:
        """Means over all windows, exact however these are cut into batches, of the loss and of what else there is to
        log. Leaves the network in evaluation mode.
        """
        vla.eval()
        device, bf16 = self._inputs.device, self._config.precision == "bf16"
        seed_everything(self._config.seed, 0, Draw.VALIDATION)
        sums: dict[str, float] = {}
        counts: dict[str, float] = {}
        for frames, batch in zip(self._frames, self._pieces, strict=True):
            observation, target = self._inputs(batch, 0, normalization)
            taught = self._taught.of(frames, batch, normalization, weights.further) if self._taught else {}
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                loss, numbers = vla.loss(observation, target, weights, taught)
            for name, value in {"loss": loss, **numbers}.items():
                valid = target.valid[:, 0] if name in OVER_WINDOWS else target.valid
                count = float(valid.sum())
                sums[name] = sums.get(name, 0.0) + float(value) * count
                counts[name] = counts.get(name, 0.0) + count
        return {PREFIX + name: total / counts[name] for name, total in sums.items()}


def _part(paths: Sequence[Path], config: TrainConfig, windows: WindowConfig, *, out: bool) -> Demonstrations:
    share = config.validation_share
    try:
        return Demonstrations(
            paths,
            windows,
            failures=config.failures,
            keep=lambda record: held_out(record, share) == out,
            weights=None if out else config.task_weights,
        )
    except NoEpisodesError as error:
        left = "to validate on" if out else "to learn from"
        raise ValueError(
            f"a validation_share of {share} leaves no episode {left}: {error}; choose another share"
        ) from error
