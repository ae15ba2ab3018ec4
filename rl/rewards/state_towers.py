"""Towers that have learned states: which pictures show that something is done, and which that it is not.

The towers of the pre-training have learned from tables that an arm stands over (:mod:`rl.rewards.nano_towers`). These
stand on the same frozen backbone, and learned from episodes: see :mod:`rl.rewards.learning_states`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.nn import functional

from rl.rewards.config import HeadConfig
from rl.rewards.head import HEAD_FILE, WEIGHTS_FILE, Head, read_learned, save_learned
from rl.rewards.nano_towers import FrozenTokens
from vla.checkpoint import CheckpointError, read_weights

TOWERS_KIND = "towers"
_SIZES = ("pictures", "sentences", "outputs")


class StateTowers(nn.Module):
    """A tower on the tokens of all pictures together, and one on the vector of a sentence."""

    def __init__(self, pictures: int, sentences: int, outputs: int, config: HeadConfig) -> None:
        super().__init__()
        self.sizes = pictures, sentences, outputs
        self.picture = Head(pictures, outputs, config)
        self.sentence = Head(sentences, outputs, config)
        self.log_temperature = nn.Parameter(torch.tensor(10.0).log())
        self.bias = nn.Parameter(torch.tensor(-4.0))

    def see(self, tokens: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
        return functional.normalize(self.picture(tokens), dim=-1)

    def read(self, sentences: Float[Tensor, "m w"]) -> Float[Tensor, "m e"]:
        return functional.normalize(self.sentence(sentences), dim=-1)

    def forward(self, tokens: Float[Tensor, "n p"], sentences: Float[Tensor, "m w"]) -> Float[Tensor, "n m"]:
        """Logits of belonging together."""
        return self.see(tokens) @ self.read(sentences).T * self.log_temperature.exp() + self.bias


class LearnedTowers:
    """Saved ones at work: they fulfil ``vla.towers.Towers``. Their backbone's cameras are seen at once."""

    name = "state-towers"

    def __init__(self, tokens: FrozenTokens, towers: StateTowers) -> None:
        self.cameras, self.device = tokens.cameras, tokens.device
        self._tokens, self._towers = tokens, towers.to(tokens.device).eval()

    @torch.inference_mode()
    def embed_images(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n e"]:
        return self._towers.see(self._tokens.of_pictures(images)).clone()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        return self._towers.read(self._tokens.of_texts(texts)).clone()


@dataclass(frozen=True, kw_only=True)
class SavedTowers:
    """Towers as they lie in a folder, on which backbone, and whatever else is known of them."""

    towers: StateTowers
    config: HeadConfig
    base_folder: Path
    base_sha256: str
    about: Mapping[str, Any]

    def save(self, directory: Path) -> None:
        """:func:`load_towers` is the inverse."""
        sizes = dict(zip(_SIZES, self.towers.sizes, strict=True))
        content = {"kind": TOWERS_KIND, "config": asdict(self.config), **sizes, "about": dict(self.about)}
        save_learned(directory, self.towers, content, self.base_folder, self.base_sha256)


def load_towers(directory: Path) -> SavedTowers:
    """What :class:`SavedTowers` wrote; ``CheckpointError`` where it is missing or damaged, or the backbone another."""
    content, folder = read_learned(directory)
    try:
        if content["kind"] != TOWERS_KIND:
            raise ValueError(f"it is of the kind {content['kind']!r}")
        config = HeadConfig(**content["config"])
        pictures, sentences, outputs = (content[name] for name in _SIZES)
        towers = StateTowers(pictures, sentences, outputs, config)
        about = content["about"]
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"expected learned towers at {directory / HEAD_FILE}: {error!r}") from error
    towers.load_state_dict(read_weights(directory / WEIGHTS_FILE, towers.state_dict()))
    return SavedTowers(
        towers=towers.eval().requires_grad_(False),
        config=config,
        base_folder=folder,
        base_sha256=content["base_sha256"],
        about=about,
    )
