"""Instructions: phrasings to train on, and phrasings that no demonstration ever contains."""

import re
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, kw_only=True)
class Phrasings:
    """Templates with a ``{role}`` for each thing that the instruction names, such as ``{block}`` and ``{bin}``."""

    train: tuple[str, ...]
    held_out: tuple[str, ...]

    def saying(self, role: str, words: str) -> "Phrasings":
        """The same with ``words`` in place of ``{role}``."""
        train, held_out = (
            tuple(sentence.replace(f"{{{role}}}", words) for sentence in part) for part in (self.train, self.held_out)
        )
        return Phrasings(train=train, held_out=held_out)

    def choose(self, split: Split, draw: float) -> str:
        """The template for ``draw`` in [0, 1); ``ValueError`` on an unknown split."""
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        templates = self.train if split == "train" else self.held_out
        return templates[int(draw * len(templates))]

    def read(self, sentence: str) -> dict[str, str] | None:
        """What ``sentence`` calls each role, by the template that leaves the fewest letters to them; None if it fits
        none.
        """
        readings = (_read(template, sentence) for template in (*self.train, *self.held_out))
        return min(
            (each for each in readings if each is not None),
            key=lambda words: len("".join(words.values())),
            default=None,
        )


def _read(template: str, sentence: str) -> dict[str, str] | None:
    parts = re.split(r"\{(\w+)\}", template)
    pattern = "".join(f"(?P<{part}>.+)" if i % 2 else re.escape(part) for i, part in enumerate(parts))
    found = re.fullmatch(pattern, sentence)
    return found.groupdict() if found else None
