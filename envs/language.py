"""Instructions: phrasings to train on, and phrasings that no demonstration ever contains."""

from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "held_out"]


@dataclass(frozen=True, kw_only=True)
class Phrasings:
    """Templates with a ``{role}`` for each thing that the instruction names, such as ``{block}`` and ``{bin}``."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def choose(self, split: Split, draw: float) -> str:
        """The template for ``draw`` in [0, 1); ``ValueError`` on an unknown split."""
        if split not in ("train", "held_out"):
            raise ValueError(f"split must be 'train' or 'held_out', got {split!r}")
        templates = self.train if split == "train" else self.held_out
        return templates[int(draw * len(templates))]
