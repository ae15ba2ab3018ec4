"""A small network on frozen features: how it learns from labels, and how it is kept."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from rl.rewards.config import HeadConfig
from vla.base import load_base
from vla.checkpoint import CheckpointError, read_weights, write_weights
from vla.durable import write_text_atomically
from vla.shipped import FOLDER
from vla.strict_json import strict_json

HEAD_FILE, WEIGHTS_FILE = "reward.json", "reward.safetensors"
FORMAT_VERSION = 1


class Head(nn.Module):
    """Features, scaled as those that it learned from, to ``outputs`` logits."""

    def __init__(self, features: int, outputs: int, config: HeadConfig) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("scale", torch.ones(features))
        self.layers = nn.Sequential(
            nn.Linear(features, config.width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.width, config.width),
            nn.GELU(),
            nn.Linear(config.width, outputs),
        )

    def scaled_for(self, features: Float[Tensor, "n d"]) -> None:
        """Take mean and deviation of what it is to learn from."""
        self.get_buffer("mean").copy_(features.mean(dim=0))
        self.get_buffer("scale").copy_(features.std(dim=0, correction=0).clamp(min=1e-3))

    def forward(self, features: Float[Tensor, "b d"]) -> Float[Tensor, "b o"]:
        return self.layers((features - self.get_buffer("mean")) / self.get_buffer("scale"))


def fit_head(
    features: Float[Tensor, "n d"],
    labels: Float[Tensor, "n o"],
    weights: Float[Tensor, "n o"],
    config: HeadConfig,
) -> Head:
    """A head that has learned ``labels`` (0 … 1) by cross-entropy, each counted by its weight; the same for one seed.

    ``ValueError`` where there is nothing to learn from.
    """
    if not len(features) or not bool((weights > 0).any(dim=0).all()):
        raise ValueError(
            f"expected labels with a weight for each of {labels.shape[1]} outputs, got {len(features)} rows"
        )
    generator = torch.Generator().manual_seed(config.seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(config.seed)
        head = Head(features.shape[1], labels.shape[1], config)
        head.scaled_for(features)
        optimizer = torch.optim.AdamW(head.parameters(), lr=config.lr, weight_decay=config.weight_decay)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, config.steps)
        for _ in range(config.steps):
            rows = torch.randint(len(features), (min(config.batch_size, len(features)),), generator=generator)
            loss = functional.binary_cross_entropy_with_logits(
                head(features[rows]), labels[rows], weights[rows], reduction="sum"
            )
            optimizer.zero_grad()
            (loss / weights[rows].sum().clamp(min=1e-6)).backward()
            optimizer.step()
            schedule.step()
    return head.eval().requires_grad_(False)


@dataclass(frozen=True, kw_only=True)
class SavedHead:
    """A head as it lies in a folder: what ``kind`` of reward it is, on which backbone, and whatever else it says."""

    kind: str
    head: Head
    config: HeadConfig
    features: int
    outputs: int
    base_folder: Path
    base_sha256: str
    about: Mapping[str, Any]

    def save(self, directory: Path) -> None:
        """:func:`load_head` is the inverse."""
        sizes = {"features": self.features, "outputs": self.outputs}
        content = {"kind": self.kind, "config": asdict(self.config), **sizes, "about": dict(self.about)}
        save_learned(directory, self.head, content, self.base_folder, self.base_sha256)


def load_head(directory: Path) -> SavedHead:
    """What :meth:`SavedHead.save` wrote; ``CheckpointError`` where it is missing, damaged, or its backbone another."""
    content, folder = read_learned(directory)
    try:
        config = HeadConfig(**content["config"])
        head = Head(content["features"], content["outputs"], config)
        about = content["about"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"expected a learned reward at {directory / HEAD_FILE}: {error!r}") from error
    head.load_state_dict(read_weights(directory / WEIGHTS_FILE, head.state_dict()))
    return SavedHead(
        kind=content["kind"],
        head=head.eval().requires_grad_(False),
        config=config,
        features=content["features"],
        outputs=content["outputs"],
        base_folder=folder,
        base_sha256=content["base_sha256"],
        about=about,
    )


def save_learned(
    directory: Path, network: nn.Module, content: Mapping[str, Any], base_folder: Path, base_sha256: str
) -> None:
    """Weights first, then what they mean; :func:`read_learned` gives that back."""
    directory.mkdir(parents=True, exist_ok=True)
    write_weights(directory / WEIGHTS_FILE, network.state_dict())
    base = {"base": "shipped" if base_folder == FOLDER else str(base_folder), "base_sha256": base_sha256}
    known = {"format_version": FORMAT_VERSION, **content, **base}
    write_text_atomically(directory / HEAD_FILE, strict_json(known, indent=2) + "\n")


def read_learned(directory: Path) -> tuple[dict[str, Any], Path]:
    """What is said of a learned reward, its ``kind`` among it, and the folder of the backbone that it learned on.

    ``CheckpointError`` where it is missing or damaged, or that backbone is another one now.
    """
    path = directory / HEAD_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format_version"] != FORMAT_VERSION:
            raise ValueError(f"this version reads format {FORMAT_VERSION}, got {content['format_version']!r}")
        folder = FOLDER if content["base"] == "shipped" else Path(content["base"])
        sha256, _ = content["base_sha256"], content["kind"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"expected a learned reward at {path}: {error!r}") from error
    if (found := load_base(folder).sha256) != sha256:
        raise CheckpointError(
            f"the reward learned on another backbone: {folder} has the hash {found}, expected {sha256}"
        )
    return content, folder
