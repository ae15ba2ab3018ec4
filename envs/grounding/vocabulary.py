"""What things are called, and which words and pairs of words training never says.

*Held out* are, by rule, the nouns that ``envs.perturbations.words`` tests with, of the same kinds of things; a colour's
last name; and of colours and kinds together those that :func:`held_out_pair` says. A policy that starts from a network
trained on these sentences is so still tested in words that it has never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from envs.language import Split
from envs.perturbations.words import THINGS
from envs.props.colours import COLOUR_NAMES


@dataclass(frozen=True, kw_only=True)
class Words:
    """Words for one kind of thing or one colour: those to train on, and those that training never says."""

    train: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        return self.train + self.held_out

    def chosen(self, split: Split, random: Random) -> tuple[str, bool]:
        """One of the words, mostly the first, and whether training must not say it."""
        choices = self.train if split == "train" else self.all
        word = choices[0] if random.random() < 0.4 else random.choice(choices)
        return word, word in self.held_out


def _thing(noun: str, *more: str, held_out: tuple[str, ...] = ()) -> Words:
    """A kind by the noun of its tasks, its other training words, and what perturbed instructions call it."""
    return Words(train=(noun, *more), held_out=(*THINGS.get(noun, ()), *held_out))


NOUNS: Mapping[str, Words] = {
    "cube": _thing("cube"),
    "die": _thing("die"),
    "ball": _thing("ball", "marble"),
    "cylinder": _thing("cylinder", "drum"),
    "post": _thing("post", "short pole"),
    "tile": _thing("tile", "flat piece"),
    "bar": _thing("block", "long block"),
    "peg": _thing("peg", "dowel"),
    "tee": _thing("T", "tee"),
    "mark": _thing("mark", "painted tee"),
    "mat": _thing("mat", "flat square"),
    "bin": _thing("bin", "tub"),
    "socket": _thing("socket", "hollow post"),
    "box": _thing("box", held_out=("lid",)),
    "button": _thing("button", "push button"),
    "drawer": _thing("drawer", "pull-out"),
    "door": _thing("door", "flap"),
    "slider": _thing("knob", "sliding knob"),
    "drawer knob": _thing("knob", "round knob"),
    "door handle": _thing("handle", "upright handle"),
    "rail": _thing("rail", "black rail"),
    "drawer case": _thing("case", "casing", held_out=("housing",)),
    "door case": _thing("case", "casing", held_out=("housing",)),
    "stem": _thing("stem", "leg", held_out=("shaft",)),
    "crossbar": _thing("crossbar", "top", held_out=("crosspiece",)),
}
"""By kind. The first word is the tasks' own."""
OWNERS: Mapping[str, str] = {
    "drawer knob": "drawer",
    "door handle": "door",
    "rail": "slider",
    "drawer case": "drawer",
    "door case": "door",
    "stem": "tee",
    "crossbar": "tee",
}
"""Kinds that are parts, and of what."""
_ALSO: Mapping[str, tuple[str, ...]] = {
    "block": ("cube", "die", "post", "tile", "peg", "socket", "box"),
    "long block": ("post", "peg", "tile"),
    "flat piece": ("mat", "mark"),
    "hollow post": ("post",),
    "short pole": ("peg", "cylinder", "door handle"),
    "box": ("bin", "drawer case", "door case", "socket"),
    "tub": ("drawer",),
    "T": ("mark",),
    "tee": ("mark",),
    "top": ("drawer case", "door case"),
    "bar": ("crossbar", "rail", "stem"),
    "panel": ("drawer",),
    "plate": ("mat",),
    "slab": ("bar",),
    "brick": ("cube", "die", "socket"),
    "pin": ("post", "door handle"),
    "rod": ("post", "bar", "stem"),
    "pillar": ("peg", "cylinder"),
    "column": ("peg", "cylinder"),
    "holder": ("bin",),
    "receptacle": ("bin", "drawer"),
    "container": ("drawer", "socket", "box"),
    "tray": ("drawer",),
    "cabinet": ("drawer case", "door case", "door"),
    "compartment": ("drawer case", "door case", "bin"),
    "can": ("bin",),
    "tin": ("bin",),
    "shaft": ("rail",),
    "leg": ("post",),
    "pad": ("button",),
    "letter T": ("mark",),
    "T-shaped piece": ("mark",),
    "outline": ("mat",),
    "guide": ("mark",),
}
"""What else a listener might take a word for. A sentence is not said where one of these stands there too."""

_COLOUR_WORDS: Mapping[str, tuple[str, ...]] = {
    "red": ("red", "scarlet", "crimson"),
    "green": ("green", "leaf green", "emerald"),
    "blue": ("blue", "dark blue", "navy"),
    "yellow": ("yellow", "bright yellow", "golden"),
    "purple": ("purple", "violet", "plum"),
    "cyan": ("cyan", "light blue", "turquoise"),
    "white": ("white", "snow white"),
    "black": ("black", "pitch black"),
    "grey": ("grey", "gray"),
    "brown": ("brown", "chestnut"),
}
COLOUR_WORDS: Mapping[str, Words] = {
    name: Words(train=words[:-1], held_out=words[-1:]) for name, words in _COLOUR_WORDS.items()
}
"""By colour of ``envs.props.colours``."""
COLOURLESS = ("drawer case", "door case", "rail")
"""Parts that no colour is said of: wood, and what is dark whatever the thing's colour."""
RELATION_WORDS: Mapping[str, Words] = {
    "left": Words(train=("left of", "to the left of"), held_out=("on the left-hand side of",)),
    "right": Words(train=("right of", "to the right of"), held_out=("on the right-hand side of",)),
    "in front": Words(train=("in front of", "nearer to the robot than"), held_out=("on the near side of",)),
    "behind": Words(train=("behind", "farther from the robot than"), held_out=("on the far side of",)),
    "next to": Words(train=("next to", "beside"), held_out=("right by",)),
    "inside": Words(train=("in", "inside"), held_out=("lying in",)),
    "on top": Words(train=("on", "on top of"), held_out=("resting on",)),
}
"""Words for ``envs.grounding.relations.RELATIONS``, as many for each."""
RANK_WORDS: Mapping[str, Words] = {
    "leftmost": Words(train=("leftmost {0}", "{0} farthest to the left"), held_out=("{0} furthest left",)),
    "rightmost": Words(train=("rightmost {0}", "{0} farthest to the right"), held_out=("{0} furthest right",)),
    "nearest": Words(train=("{0} nearest to the robot", "nearest {0}"), held_out=("{0} closest to the arm",)),
    "farthest": Words(train=("{0} farthest from the robot", "farthest {0}"), held_out=("most distant {0}",)),
}
"""Words for the first by ``envs.grounding.relations.RANKS``."""
HELD_OUT_STATES = ("shut", "fallen")
_EVERY = 9
_KINDS = tuple(NOUNS)


def held_out_pair(colour: str, kind: str) -> bool:
    """Is this colour of this kind withheld? Training never says the two of one thing: every ninth pair, so that
    each colour and each kind is said in other pairs.
    """
    return (2 * COLOUR_NAMES.index(colour) + _KINDS.index(kind)) % _EVERY == 0


def _readings() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for kind, words in NOUNS.items():
        for word in words.all:
            found.setdefault(word, set()).add(kind)
    for word, kinds in _ALSO.items():
        found.setdefault(word, set()).update(kinds)
    return {word: frozenset(kinds) for word, kinds in found.items()}


CALLED: Mapping[str, frozenset[str]] = {
    word: frozenset(kind for kind, words in NOUNS.items() if word in words.all)
    for word in {word for words in NOUNS.values() for word in words.all}
}
"""By noun: the kinds that are called so."""
READINGS: Mapping[str, frozenset[str]] = _readings()
"""By noun: the kinds that it might mean. It names a thing only where no other of these stands."""
COLOUR_READINGS: Mapping[str, frozenset[str]] = {
    word: frozenset({name, "blue"} if word == "light blue" else {name})
    for name, each in COLOUR_WORDS.items()
    for word in each.all
}
"""By colour word: the colours that it might mean; "light blue" might be a blue."""
