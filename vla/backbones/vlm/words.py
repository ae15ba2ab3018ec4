"""From instructions to a pretrained model's tokens and back, in the frame of a prompt."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from vla.backbones.vlm.quiet import quiet
from vla.checkpoint import CheckpointError

INSTRUCTION, IMAGES = "{instruction}", "{images}"
_SPECIAL = re.compile(r"<[^<>\s]+>")


def split_prompt(prompt: str) -> tuple[str, str, str]:
    """What of ``prompt`` comes before the images, between them and the instruction, and after the instruction.

    ``ValueError`` for one without the instruction, and for one that has it before the images.
    """
    before, images, rest = prompt.partition(IMAGES)
    if not images:
        before, rest = "", prompt
    head, instruction, tail = rest.partition(INSTRUCTION)
    if not instruction or INSTRUCTION in before + tail or IMAGES in rest:
        raise ValueError(f"expected a prompt with {INSTRUCTION} once, after {IMAGES} if it names them, got {prompt!r}")
    return before, head, tail


def frame_of(folder: Path) -> tuple[str, str]:
    """The tokens that begin and end a text for the tokenizer in ``folder``, in BERT's names or in those of language
    models; empty where it has none.
    """
    tokenizer = _read(folder)
    return tokenizer.cls_token or tokenizer.bos_token or "", tokenizer.sep_token or tokenizer.eos_token or ""


class PromptTokenizer:
    """Cuts prompts into tokens with the tokenizer saved in ``folder``.

    ``opening`` are the tokens before all images. A beginning-of-sequence token, if the tokenizer begins texts with one,
    stands first of all, or first of the text after the images with ``begins_text``. ``fingerprint`` is a hash of how
    instructions are cut. ``CheckpointError`` where there is no tokenizer.
    """

    def __init__(self, folder: Path, prompt: str, *, begins_text: bool = False) -> None:
        before, self._head, self._tail = split_prompt(prompt)
        self._tokenizer = _read(folder)
        backend = self._tokenizer.backend_tokenizer
        backend.no_padding()
        backend.no_truncation()
        begin = self._beginning()
        self._text_begin = begin if begins_text else []
        self.opening: list[int] = ([] if begins_text else begin) + self._ids(before)
        said = f"{backend.to_str()}\n{prompt}\n{begins_text}"
        self.fingerprint = hashlib.sha256(said.encode()).hexdigest()

    @property
    def size(self) -> int:
        """One more than the highest token id."""
        return max(self._tokenizer.get_vocab().values()) + 1

    @property
    def end_id(self) -> int:
        """The token that ends a text; ``TypeError`` where the tokenizer has none."""
        if self._tokenizer.eos_token_id is None:
            raise TypeError("the tokenizer has no token that ends a text")
        return self._tokenizer.eos_token_id

    def encode(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Ids and mask (True = real token) of prompts with these instructions, padded to the longest.

        Texts that are ``ended`` are told by the model itself: they stand without the prompt, and the token that ends
        them comes last.
        """
        if isinstance(texts, str) or not texts:
            raise ValueError(f"expected a non-empty list of texts, got {texts!r}")
        rows = [[*self._ids(text), self.end_id] if ended else self._prompt(text) for text in texts]
        ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        mask = torch.zeros_like(ids, dtype=torch.bool)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row, dtype=torch.long)
            mask[i, : len(row)] = True
        return ids, mask

    def decode(self, ids: Sequence[int]) -> str:
        """The text up to the first token that ends one."""
        whole = list(ids)
        upto = whole.index(self.end_id) if self.end_id in whole else len(whole)
        return self._tokenizer.decode(whole[:upto], skip_special_tokens=True).strip()

    def longest(self, texts: Sequence[str]) -> int:
        """How many tokens the longest prompt with one of ``texts`` has."""
        return max(len(self._prompt(text)) for text in texts)

    def beyond(self, text: str, tokens: int) -> str:
        """What the first ``tokens`` tokens of the prompt do not hold of ``text``, from the first word that is not whole
        in them; where they hold all of it, what they lack of the prompt's end.
        """
        whole = f"{self._head}{text}{self._tail}"
        encoding = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
        kept = tokens - len(self._text_begin)
        if len(encoding["input_ids"]) <= kept:
            return ""
        cut = encoding["offset_mapping"][max(kept, 0)][0] - len(self._head)
        if cut >= len(text):
            return self._tail[cut - len(text) :].strip() or self._tail.strip()
        cut = max(cut, 0)
        begun = "" if text[cut : cut + 1].isspace() else re.split(r"\s", text[:cut])[-1]
        return text[cut - len(begun) :].strip()

    def wrapping(self, text: str) -> list[int]:
        """The tokens that stand around an image; ``CheckpointError`` where the tokenizer lacks one of them."""
        vocabulary = self._tokenizer.get_vocab()
        if lacking := [token for token in _SPECIAL.findall(text) if token not in vocabulary]:
            raise CheckpointError(f"the tokenizer is of another model: it lacks {', '.join(lacking)}")
        return self._ids(text)

    def check_cuts_like(self, fingerprint: str, folder: Path) -> None:
        """``CheckpointError`` unless it is the tokenizer of that ``fingerprint``, which a policy learned with."""
        if self.fingerprint != fingerprint:
            raise CheckpointError(
                f"the tokenizer in {folder} cuts texts otherwise ({self.fingerprint[:12]}…) "
                f"than the one that the policy learned with ({fingerprint[:12]}…)"
            )

    def save(self, folder: Path) -> None:
        """Write the tokenizer's files, from which one with the same prompt cuts texts alike."""
        self._tokenizer.save_pretrained(str(folder))

    def _prompt(self, text: str) -> list[int]:
        return [*self._text_begin, *self._ids(f"{self._head}{text}{self._tail}")]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False)["input_ids"] if text else []

    def _beginning(self) -> list[int]:
        """The token that the tokenizer begins every text with, if with any."""
        ids = self._tokenizer("a")["input_ids"]
        return ids[:1] if ids[:1] == [self._tokenizer.bos_token_id] else []


def _read(folder: Path) -> Any:
    """The tokenizer in ``folder``; ``CheckpointError`` where there is none of the fast kind."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        tokenizer.backend_tokenizer  # noqa: B018
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise CheckpointError(f"expected a tokenizer of transformers in {folder}: {error}") from error
    if not set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens):
        raise CheckpointError(
            f"expected a tokenizer of transformers in {folder}: it has no words, so files are missing"
        )
    return tokenizer
