"""A sentence encoder of transformers, from a folder or the hub: sentences to unit vectors."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

_CONFIG_FILE = "config.json"


def check_encoder(name: Path) -> None:
    """``ValueError`` where ``name`` is neither a folder with a model in it nor what might be one's id on the hub."""
    if (name / _CONFIG_FILE).is_file():
        return
    if name.exists() or name.is_absolute() or len(name.parts) > 2 or ".." in name.parts:
        state = f"it has no {_CONFIG_FILE}" if name.is_dir() else "there is no such folder"
        raise ValueError(f"expected a folder with a sentence encoder of transformers at {name}, but {state}")


class SentenceEncoder:
    """The mean of the last layer's hidden states over a sentence's tokens, as unit vectors.

    This is how sentence-transformers uses most encoders of sentences, such as all-MiniLM-L6-v2 (arXiv 1908.10084).
    ``name`` is a folder, from which alone is read then, or an id on the hub. ``fingerprint`` is a hash of its weights.
    Raises ``ValueError`` where there is no such model.
    """

    def __init__(self, name: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        check_encoder(name)
        local = name.is_dir()
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(name), local_files_only=local)
            self._model = AutoModel.from_pretrained(str(name), local_files_only=local).eval()
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"expected a sentence encoder of transformers at {name}: {error}") from error
        self.dim: int = self._model.config.hidden_size
        digest = hashlib.sha256()
        for weight in self._model.state_dict().values():
            digest.update(weight.contiguous().view(-1).view(torch.uint8).numpy())
        self.fingerprint = digest.hexdigest()

    @torch.no_grad()
    def embed(self, sentences: Sequence[str]) -> Float[Tensor, "n e"]:
        """One batch. ``ValueError`` that names a sentence which is longer than the model's window."""
        tokens = self._tokenizer(list(sentences), padding=True, truncation=False, return_tensors="pt")
        window = self._model.config.max_position_embeddings
        mask = tokens["attention_mask"]
        if mask.shape[1] > window:
            longest = sentences[int(mask.sum(dim=1).argmax())]
            raise ValueError(f"expected sentences of at most {window} tokens (the teacher's), got {longest!r}")
        hidden = self._model(**tokens).last_hidden_state.float()
        real = mask[..., None].float()
        return torch.nn.functional.normalize((hidden * real).sum(dim=1) / real.sum(dim=1), dim=-1)
