"""The vocabulary of FAST: which runs of coefficients are one token (Pertsch et al. 2025, arXiv 2501.09747, §V)."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

_FIRST = 0xE000
"""Symbols are characters of Unicode's private use area, of which there are 6,400: no library takes them for more."""
_LARGEST_ALPHABET = 6400
PROCESSOR_FILE, TOKENIZER_FILE = "processor_config.json", "tokenizer.json"


@dataclass(frozen=True, kw_only=True)
class FastVocabulary:
    """Byte-pair encoding (BPE) of rows of whole numbers.

    ``symbols`` says of every entry which symbol it is alone, −1 where it is none. ``merges`` are triples of entries in
    the order in which they were learned: the third is the first with the second behind. A number x is the symbol
    x − ``lowest``, and what is out of range is the nearest symbol; or, ``bytewise``, the UTF-8 bytes of the character
    of that number, as in published vocabularies, whose entries may end within a number.
    """

    symbols: tuple[int, ...]
    merges: tuple[tuple[int, int, int], ...]
    lowest: int
    bytewise: bool = False

    @classmethod
    def fit(cls, rows: Sequence[Sequence[int]], size: int) -> "FastVocabulary":
        """One of ``size`` entries, made for ``rows``; fewer are used where these hold less that recurs.

        ``ValueError`` where there are no more entries than numbers from the lowest to the highest.
        """
        low, high = (extreme((x for row in rows for x in row), default=0) for extreme in (min, max))
        count = high - low + 1
        if count >= min(size, _LARGEST_ALPHABET):
            raise ValueError(
                f"expected a vocabulary of more entries than there are coefficients, got {size} for {low} … {high}: "
                "choose a smaller scale or a larger vocabulary"
            )
        alphabet = [chr(_FIRST + symbol) for symbol in range(count)]
        tokenizer = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(("".join(alphabet[x - low] for x in row) for row in rows), trainer)
        model = json.loads(tokenizer.to_str())["model"]
        known = {character: symbol for symbol, character in enumerate(alphabet)}
        return cls._of(model["vocab"], model["merges"], known, size, lowest=low, bytewise=False)

    @classmethod
    def load(cls, folder: Path) -> tuple["FastVocabulary", float]:
        """A published vocabulary and its scale: a folder with ``processor_config.json`` (scale, min_token, vocab_size)
        and ``tokenizer.json`` (a byte-level BPE). ``ValueError`` where these are missing or something else.
        """
        try:
            about = json.loads((folder / PROCESSOR_FILE).read_text(encoding="utf-8"))
            model = json.loads((folder / TOKENIZER_FILE).read_text(encoding="utf-8"))["model"]
            known = {character: byte for byte, character in enumerate(_byte_characters())}
            lowest, scale, size = int(about["min_token"]), float(about["scale"]), int(about["vocab_size"])
            vocabulary = cls._of(model["vocab"], model["merges"], known, size, lowest=lowest, bytewise=True)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a FAST vocabulary in {folder}: {PROCESSOR_FILE} with scale, min_token and vocab_size, and "
                f"{TOKENIZER_FILE} with a BPE model: {error!r}"
            ) from error
        return vocabulary, scale

    @classmethod
    def _of(
        cls,
        entries: dict[str, int],
        merges: Iterable[str | Sequence[str]],
        known: dict[str, int],
        size: int,
        *,
        lowest: int,
        bytewise: bool,
    ) -> "FastVocabulary":
        if max(entries.values()) >= size:
            raise ValueError(f"expected at most {size} entries, got {max(entries.values()) + 1}")
        symbols = [-1] * size
        for text, entry in entries.items():
            symbols[entry] = known.get(text, -1)
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
        triples = tuple((entries[a], entries[b], entries[a + b]) for a, b in pairs)
        return cls(symbols=tuple(symbols), merges=triples, lowest=lowest, bytewise=bytewise)

    def encode(self, rows: Sequence[Sequence[int]]) -> list[list[int]]:
        """The entries of each row."""
        texts = ["".join(self._character(x - self.lowest) for x in row) for row in rows]
        return [encoding.ids for encoding in self._tokenizer.encode_batch(texts, add_special_tokens=False)]

    def decode(self, entries: Iterable[int]) -> list[int]:
        """The numbers that entries stand for. What is unused stands for none, bytes that are no character for 0."""
        symbols = [symbol for entry in entries for symbol in self.expansions[entry]]
        if not self.bytewise:
            return [symbol + self.lowest for symbol in symbols]
        text = bytes(symbols).decode("utf-8", errors="replace")
        return [0 if character == "\ufffd" else ord(character) + self.lowest for character in text]

    @cached_property
    def expansions(self) -> tuple[tuple[int, ...], ...]:
        """The symbols that each entry stands for; none for one that is unused."""
        found: list[tuple[int, ...]] = [() if symbol < 0 else (symbol,) for symbol in self.symbols]
        for first, second, both in self.merges:
            found[both] = found[first] + found[second]
        return tuple(found)

    @cached_property
    def begun(self) -> tuple[int, ...]:
        """How many numbers begin in each entry."""
        return tuple(sum(not self.bytewise or s >> 6 != 0b10 for s in symbols) for symbols in self.expansions)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        texts = ["".join(map(self._written, symbols)) for symbols in self.expansions]
        entries = {text: entry for entry, text in reversed(list(enumerate(texts))) if text}
        tokenizer = Tokenizer(models.BPE(entries, [(texts[first], texts[second]) for first, second, _ in self.merges]))
        if self.bytewise:
            tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        return tokenizer

    def _character(self, number: int) -> str:
        """What stands for a number, counted from the lowest, in a text."""
        return chr(max(number, 0)) if self.bytewise else chr(_FIRST + min(max(number, 0), max(self.symbols)))

    def _written(self, symbol: int) -> str:
        """What stands for a symbol in the texts of entries."""
        return _byte_characters()[symbol] if self.bytewise else chr(_FIRST + symbol)


@lru_cache
def _byte_characters() -> list[str]:
    """The printable character that stands for each byte in byte-level BPE: itself, or else the next from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(256 + others.index(byte)) for byte in range(256)]
