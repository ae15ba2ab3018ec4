"""The byte-level BPE tokenizer of ``nano``: 512 entries, shipped with the package.

``python -m vla.backbones.tokenizer`` trains it again from the sentences below and rewrites
``nano_tokenizer.json``; the result is the same every time. Any text tokenises, because every byte has
an entry; words of table-top instructions are one entry each.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from itertools import product, takewhile
from pathlib import Path

import torch
from jaxtyping import Bool, Int
from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor

TOKENIZER_PATH = Path(__file__).with_name("nano_tokenizer.json")
VOCABULARY_SIZE = 512
PAD, START = "<pad>", "<s>"


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split(", "))


COLOURS = _words("red, green, blue, yellow, orange, purple, pink, cyan, white, black, grey, brown, magenta")
SHAPES = _words("cube, block, ball, cylinder, box, mug, bowl, plate, object, can")
PLACES = _words("bin, tray, drawer, shelf, target, zone, pad, table, box, basket")
PICK_VERBS = _words("pick up, lift, grasp, grab, raise, take, hold, get")
TOUCH_VERBS = _words("reach, touch, go to, move to, tap, push, poke, point at, press, approach")
PLACE_VERBS = _words("put, place, drop, set, move, bring, carry, stack, insert, lay")
PREPOSITIONS = _words(
    "into, in, inside, on, onto, on top of, next to, behind, left of, right of, in front of, under, near"
)
DEVICES = _words("open the, close the, pull the, push the, slide the, turn on the, turn off the, press the, rotate the")
DEVICE_NAMES = _words("drawer, door, button, handle, switch, knob, lid, lever, cabinet, window, tap")
NUMBERS = _words(
    "zero, one, two, three, four, five, six, seven, eight, nine, ten, first, second, third, last, left, right, middle"
)
PHRASES = (
    "please {}",
    "can you {}?",
    "now {}, then stop.",
    "{} with the gripper",
    "robot, {} from the table",
    "could you {} and let go",
    "use your hand to {}",
    "{} without touching the other one",
)


class NanoTokenizer:
    """Lower-cases, splits into byte-level BPE entries, and starts with ``<s>``; texts of any length stay whole.

    Raises ``FileNotFoundError`` when ``path`` is missing.
    """

    def __init__(self, path: Path = TOKENIZER_PATH) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"expected a tokenizer file at {path}")
        self._tokenizer = Tokenizer.from_file(str(path))
        self.fingerprint = hashlib.sha256(self._tokenizer.to_str().encode()).hexdigest()
        """What tokens mean to a network: those of two tokenizers are the same just if this is equal."""
        self.end_id = self._tokenizer.token_to_id(PAD) or 0
        """Ends what is told; padding serves for it, and is real where it does."""
        self._tokenizer.enable_padding(pad_id=self.end_id, pad_token=PAD)

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, texts: Sequence[str], ended: bool = False) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
        """Token ids and mask (True = real token), padded to the longest of ``texts``; with ``end_id`` if ``ended``."""
        encodings = self._encoded(texts)
        ids = torch.tensor([encoding.ids for encoding in encodings])
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], dtype=torch.bool)
        if ended:
            ids = torch.nn.functional.pad(ids, (0, 1), value=self.end_id)
            mask = torch.nn.functional.pad(mask, (1, 0), value=True)
        return ids, mask

    def decode(self, ids: Sequence[int]) -> str:
        """The text of tokens up to ``end_id``."""
        told = list(takewhile(lambda token: token != self.end_id, ids))
        return self._tokenizer.decode(told, skip_special_tokens=True).strip()

    def longest(self, texts: Sequence[str]) -> int:
        """How many tokens the longest of ``texts`` has."""
        return len(self._encoded(texts)[0].ids)

    def beyond(self, text: str, tokens: int) -> str:
        """What the first ``tokens`` tokens do not hold of ``text``, from the first word that is not whole in them."""
        (encoding,) = self._encoded([text])
        if len(encoding.ids) <= tokens:
            return ""
        cut = encoding.offsets[tokens][0]
        begun = "" if text[cut : cut + 1].isspace() else re.split(r"\s", text[:cut])[-1]
        return text[cut - len(begun) :].strip()

    def _encoded(self, texts: Sequence[str]) -> list[Encoding]:
        """All of one length."""
        if isinstance(texts, str) or not texts:
            raise ValueError(f"expected a non-empty list of texts, got {texts!r}")
        return self._tokenizer.encode_batch(list(texts))


def instruction_sentences() -> Iterator[str]:
    """Table-top instructions from which the vocabulary is learned, in a fixed order."""
    for index, (verb, colour, shape) in enumerate(product(PICK_VERBS + TOUCH_VERBS, COLOURS, SHAPES)):
        sentence = f"{verb} the {colour} {shape}"
        yield sentence
        yield PHRASES[index % len(PHRASES)].format(sentence)
    for index, (verb, preposition, place, colour) in enumerate(product(PLACE_VERBS, PREPOSITIONS, PLACES, COLOURS)):
        shape, other = SHAPES[index % len(SHAPES)], COLOURS[(index // 3) % len(COLOURS)]
        yield f"{verb} the {colour} {shape} {preposition} the {other} {place}"
    yield from (f"{verb} {colour} {device}" for verb, colour, device in product(DEVICES, COLOURS, DEVICE_NAMES))
    yield from (f"{number} {shape} of {other}" for number, shape, other in product(NUMBERS, SHAPES, NUMBERS))


def train_tokenizer() -> Tokenizer:
    """Learn the vocabulary from :func:`instruction_sentences`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[PAD, START],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(instruction_sentences(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A", special_tokens=[(START, tokenizer.token_to_id(START))]
    )
    return tokenizer


if __name__ == "__main__":
    train_tokenizer().save(str(TOKENIZER_PATH))
