"""The byte-level sub-word tokenizer of ``nano``: 2,048 entries, shipped with the package.

Its entries are the 256 bytes, so that any text tokenises; pieces of words that byte-pair encoding (Sennrich et al.,
2016, https://arxiv.org/abs/1508.07909) finds in a list of words, ``nano_words.txt``; and the listed words, as many as
there is room for. A word is cut into the longest entries from its beginning on (as in WordPiece, Wu et al., 2016,
https://arxiv.org/abs/1609.08144). So a listed word is one token without the half words that merging would need, and
"hammers" begins as "hammer" does.

``python -m vla.backbones.tokenizer`` rewrites ``nano_tokenizer.json``; the result is the same every time.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import (
    Encoding,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

TOKENIZER_PATH = Path(__file__).with_name("nano_tokenizer.json")
WORDS_PATH = Path(__file__).with_name("nano_words.txt")
VOCABULARY_SIZE = 2048
PIECES = 300
"""How many entries are pieces of words: with fewer, rare words fall apart; with more, fewer words are whole."""
PAD, START, END = SPECIAL = ("<pad>", "<s>", "</s>")
_LONGEST_BYTES = 32
"""Longer words are cut up beforehand: looking for the longest entries takes time that is cubic in the length."""


class NanoTokenizer:
    """Lower-cases, cuts into the longest entries, and starts with ``<s>``; texts of any length stay whole.

    Text never yields special tokens: "<pad>" in an instruction is five letters and signs like any others. Raises
    ``FileNotFoundError`` when ``path`` is missing, ``ValueError`` when a special token is missing there.
    """

    def __init__(self, path: Path = TOKENIZER_PATH) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"expected a tokenizer file at {path}")
        self._tokenizer = Tokenizer.from_file(str(path))
        self.fingerprint = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        """What tokens mean to a network: those of two tokenizers are the same just if this is equal."""
        self._tokenizer.encode_special_tokens = True
        self.pad_id, self.start_id, self.end_id = (self._special(token) for token in SPECIAL)

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token), padded to the longest of ``texts``.

        If ``ended``, each text has ``</s>`` behind it.
        """
        end = [self.end_id] if ended else []
        rows = [torch.tensor(encoding.ids + end) for encoding in self._encoded(texts)]
        ids = pad_sequence(rows, batch_first=True, padding_value=self.pad_id)
        lengths = torch.tensor([len(row) for row in rows])
        return ids, torch.arange(ids.shape[1]) < lengths[:, None]

    def decode(self, ids: Int[Tensor, " n"] | Sequence[int]) -> str:
        """The text of one row of ids up to the first ``</s>``, without special tokens; lower-cased as it was encoded.

        Bytes that are not UTF-8 become U+FFFD. ``ValueError`` for ids that are not in the vocabulary.
        """
        row = torch.as_tensor(ids, dtype=torch.long)
        if row.ndim != 1 or (len(row) and not 0 <= int(row.min()) <= int(row.max()) < self.vocabulary_size):
            raise ValueError(f"expected one row of ids in 0 … {self.vocabulary_size - 1}, got {ids!r}")
        ended = (row == self.end_id).nonzero()
        told = row[: int(ended[0])] if len(ended) else row
        return self._tokenizer.decode(told.tolist()).removeprefix(" ")

    def longest(self, texts: Sequence[str]) -> int:
        """How many tokens the longest of ``texts`` has."""
        return max(len(encoding.ids) for encoding in self._encoded(texts))

    def beyond(self, text: str, tokens: int) -> str:
        """What the first ``tokens`` tokens do not hold of ``text``, from the first word that is not whole in them."""
        (encoding,) = self._encoded([text])
        if len(encoding.ids) <= tokens:
            return ""
        cut = encoding.offsets[tokens][0]
        begun = "" if text[cut : cut + 1].isspace() else re.split(r"\s", text[:cut])[-1]
        return text[cut - len(begun) :].strip()

    def _special(self, token: str) -> int:
        found = self._tokenizer.token_to_id(token)
        if found is None:
            raise ValueError(f"expected a tokenizer with the tokens {', '.join(SPECIAL)}, got one without {token}")
        return found

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        if isinstance(texts, str) or not texts:
            raise ValueError(f"expected a non-empty list of texts, got {texts!r}")
        return self._tokenizer.encode_batch(list(texts))


def listed_words() -> list[str]:
    """The words of ``nano_words.txt``, those first that are most wanted."""
    lines = WORDS_PATH.read_text(encoding="utf-8").splitlines()
    return [word for line in lines if not line.startswith("#") for word in line.split()]


def train_tokenizer() -> Tokenizer:
    """Make the vocabulary from :func:`listed_words`: special tokens, bytes, pieces, words."""
    words = listed_words()
    learned = _empty(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=len(SPECIAL) + 256 + PIECES,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learned.train_from_iterator(words, trainer)
    entries = sorted(learned.get_vocab().items(), key=lambda entry: entry[1])
    vocabulary = dict(entries)
    for word in words:
        for part, _ in _bytewise().pre_tokenize_str(word):
            if len(vocabulary) < VOCABULARY_SIZE:
                vocabulary.setdefault(part, len(vocabulary))

    tokenizer = _empty(models.WordPiece(vocabulary, continuing_subword_prefix=""))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [_bytewise(), pre_tokenizers.Split(Regex(f".{{1,{_LONGEST_BYTES}}}"), "isolated")]
    )
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, vocabulary[START])]
    )
    return tokenizer


def _empty(model: models.Model) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = _bytewise()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _bytewise() -> pre_tokenizers.ByteLevel:
    """Cuts text into words with the spaces before them, each byte as one printable character."""
    return pre_tokenizers.ByteLevel(add_prefix_space=True)


if __name__ == "__main__":
    train_tokenizer().save(str(TOKENIZER_PATH))
