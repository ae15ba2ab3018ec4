"""A frozen text encoder of transformers in the place of ``nano``'s own: sentences come in as what it makes of them."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from vla.backbones.text import averages, pooling
from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pretrained import check_hash, load_weights, read_architecture, write_files
from vla.backbones.vlm.words import INSTRUCTION, PromptTokenizer, frame_of
from vla.checkpoint import CheckpointError

FOLDER, WORDS_FILE = "text", "words.json"
"""Where a policy's folder keeps architecture and tokenizer, and in it the hash of how the tokenizer cuts texts."""


@dataclass(frozen=True, kw_only=True)
class TextParts:
    """A text encoder in memory; ``sha256`` is that of its weights."""

    model: Any
    tokenizer: PromptTokenizer
    sha256: str


def text_tokenizer(folder: Path) -> PromptTokenizer:
    """Cuts sentences as the encoder in ``folder`` learned them; ``CheckpointError`` where there is no tokenizer."""
    first, last = frame_of(folder)
    return PromptTokenizer(folder, f"{first}{INSTRUCTION}{last}")


def open_text(checkpoint: str, sha256: str, saved: Path | None) -> TextParts:
    """The encoder that ``checkpoint`` names, a folder or an id on the hub. With the folder of a ``saved`` policy its
    architecture and tokenizer are those in there.

    ``CheckpointError`` where something is missing, damaged or, with a ``sha256``, another model's; ``ValueError`` for a
    model that encodes no texts.
    """
    base = locate(checkpoint)
    folder = base if saved is None else saved / FOLDER
    architecture = read_architecture(folder)
    if getattr(architecture, "is_encoder_decoder", False) or not hasattr(architecture, "hidden_size"):
        raise ValueError(
            f"expected an encoder of texts at {checkpoint}, such as a BERT, got a {architecture.model_type}"
        )
    tokenizer = text_tokenizer(folder)
    if saved is not None:
        _check_words(tokenizer, folder / WORDS_FILE)
    model = load_weights(base, architecture, unused="pooler.")
    model.pooler = None
    if (size := tokenizer.size) > (rows := model.get_input_embeddings().num_embeddings):
        raise ValueError(f"the tokenizer is of another model: it has {size} tokens, the network's embedding {rows}")
    return TextParts(model=model, tokenizer=tokenizer, sha256=check_hash(model, sha256, base))


def save_text(parts: TextParts, directory: Path) -> None:
    """Write architecture and tokenizer into a policy's folder; :func:`open_text` reads them back."""
    content = {"vocabulary": parts.tokenizer.fingerprint}
    write_files(directory / FOLDER, parts.model.config, parts.tokenizer, WORDS_FILE, content)


class PretrainedText(nn.Module):
    """Tokens are the encoder's last hidden states, brought to ``width``; what is pooled of them is learned.

    Each sentence is read once, on its own, and what comes of it is kept for the next time: the encoder does not learn.
    ``max_tokens`` is the longest that may come; ``ValueError`` where the encoder cannot take that many.
    """

    capacity = 1024
    """Sentences that are kept."""

    def __init__(self, model: Any, max_tokens: int, width: int) -> None:
        super().__init__()
        if max_tokens > (most := getattr(model.config, "max_position_embeddings", max_tokens)):
            raise ValueError(f"expected a text window of at most {most} tokens (the encoder's), got {max_tokens}")
        self.model = model.requires_grad_(False)
        self.project = nn.Sequential(nn.LayerNorm(model.config.hidden_size), nn.Linear(model.config.hidden_size, width))
        self.pool_score, self.pool_out = pooling(width)
        self._known: dict[tuple[int, ...], Float[Tensor, "n e"]] = {}

    @property
    def words(self) -> Float[Tensor, "c d"]:
        """``TypeError``: words have no embeddings here of the network's own width."""
        raise TypeError("a network with a pretrained text encoder reads, and cannot tell anything")

    def forward(
        self, ids: Int[Tensor, "b n"], mask: Bool[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b n d"], Float[Tensor, "b d"]]:
        """Tokens and pooled vector; padding has no influence on real tokens nor on the vector."""
        lengths = mask.sum(dim=1).tolist()
        rows = [self._read(tuple(row[:length])) for row, length in zip(ids.tolist(), lengths, strict=True)]
        hidden = nn.functional.pad(pad_sequence(rows, batch_first=True), (0, 0, 0, ids.shape[1] - max(lengths)))
        x = self.project(hidden.to(ids.device))
        return x, self.pool_out(averages(x, self.pool_score(x), mask))

    def _read(self, ids: tuple[int, ...]) -> Float[Tensor, "n e"]:
        if ids not in self._known:
            if len(self._known) >= self.capacity:
                self._known.clear()
            device = self.pool_score.weight.device
            with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
                found = self.model(input_ids=torch.tensor([ids or (0,)], device=device))
            self._known[ids] = found.last_hidden_state[0, : len(ids)].float()
        return self._known[ids]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "PretrainedText":
        self._known.clear()
        return super()._apply(fn, recurse)


def _check_words(tokenizer: PromptTokenizer, path: Path) -> None:
    """``CheckpointError`` unless the tokenizer is the one whose hash was written to ``path``."""
    try:
        vocabulary = json.loads(path.read_text(encoding="utf-8"))["vocabulary"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}") from error
    tokenizer.check_cuts_like(vocabulary, path.parent)
