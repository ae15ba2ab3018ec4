"""What people say around a thing's name: bare, asked for, ordered, or with a receiver.

Training words are those of the tasks' and of the list "training" of ``envs.perturbations.words``, held-out ones those
that perturbed instructions test.
"""

from collections.abc import Mapping
from random import Random

from envs.grounding.vocabulary import Words
from envs.perturbations.words import ADDRESSED, POLITE

_ANY = Words(
    train=(
        "{0}",
        "touch {0}",
        "reach for {0}",
        "go to {0}",
        "move to {0}",
        "look at {0}",
        "find {0}",
        "show me {0}",
        "point at {0}",
        "where is {0}?",
    ),
    held_out=("tap {0}", "stretch towards {0}", "approach {0}", "make contact with {0}", "which one is {0}?"),
)
_CARRIED = Words(
    train=("pick up {0}", "lift {0}", "grasp {0} and lift it", "take {0}", "raise {0} off the table", "grasp {0}"),
    held_out=("fetch {0}", "grab {0}", "get hold of {0}", "hoist {0}", "collect {0} from the table", "seize {0}"),
)
_HELD = Words(train=("take {0}", "grasp {0}", "close your hand around {0}"), held_out=("grip {0}", "seize {0}"))
_PRESSED = Words(train=("press {0}", "push {0}", "press {0} down", "hit {0}"), held_out=("strike {0}",))
_OPENED = Words(
    train=("open {0}", "pull {0} open", "slide {0} open"), held_out=("draw {0} open", "tug {0} open", "ease {0} open")
)
_CLOSED = Words(
    train=("close {0}", "push {0} shut", "shut {0}"), held_out=("fully close {0}", "shove {0} closed", "press {0} shut")
)
_SWUNG = Words(train=("open {0}", "pull {0} open", "swing {0} open"), held_out=("draw {0} open", "ease {0} open"))
CARRIED = ("cube", "die", "ball", "cylinder", "post", "tile", "bar", "peg", "tee")
_DEEDS: Mapping[str, Words] = {
    **dict.fromkeys(CARRIED, _CARRIED),
    "drawer knob": _HELD,
    "door handle": _HELD,
    "slider": Words(train=("slide {0}", "push {0} along", "move {0}"), held_out=("shift {0}", "ease {0} along")),
    "button": _PRESSED,
}
"""By kind: what is asked of it, beside what may be asked of anything."""
_PUT: Mapping[str, Words] = {
    "into": Words(
        train=("put {0} into {1}", "place {0} in {1}", "drop {0} into {1}", "take {0} and put it into {1}"),
        held_out=("deposit {0} in {1}", "transfer {0} into {1}", "release {0} into {1}"),
    ),
    "onto": Words(
        train=("put {0} on {1}", "place {0} on {1}", "push {0} onto {1}", "move {0} onto {1}"),
        held_out=("deposit {0} on {1}", "shove {0} onto {1}", "lay {0} onto {1}"),
    ),
    "upon": Words(
        train=("stack {0} on {1}", "put {0} on top of {1}", "place {0} on {1}"),
        held_out=("pile {0} on {1}", "perch {0} on {1}"),
    ),
    "plug": Words(
        train=("insert {0} into {1}", "plug {0} into {1}", "put {0} into {1}"),
        held_out=("slot {0} into {1}", "fit {0} into {1}"),
    ),
}
_RECEIVED: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "bin": ("into", ("cube", "die", "ball", "cylinder", "post", "tile")),
    "drawer": ("into", ("cube", "die", "ball", "cylinder", "tile")),
    "mat": ("onto", ("cube", "die", "cylinder", "tile")),
    "cube": ("upon", ("cube", "die", "tile")),
    "socket": ("plug", ("peg",)),
}
"""By receiver: how things get there, and which do."""
WHERE_TO = Words(
    train=("where to: {0}", "{0}; show me where it goes", "find the place for this: {0}"),
    held_out=("{0}: and what is the destination?", "point out the destination: {0}"),
)
"""Around an order with a receiver: not the thing is meant, which is named first, but the receiver."""
_WRAPPED = 0.3


def order(kind: str, open_state: int, said: str, held_out: bool, random: Random) -> str:
    """A request, an order or a bare name around ``said``; ``open_state`` as in ``envs.grounding.facts.Facts``."""
    if kind == "drawer":
        deeds = _CLOSED if open_state > 0 else _OPENED
    elif kind == "door":
        deeds = _CLOSED if open_state > 0 else _SWUNG
    else:
        deeds = _DEEDS.get(kind, _ANY)
    words = deeds if random.random() < 0.5 else _ANY
    return wrapped(random.choice(words.held_out if held_out else words.train).format(said), held_out, random)


def put(thing: str, receiver: str) -> Words | None:
    """Sentences that bring a kind of thing, ``{0}``, to a kind of receiver, ``{1}``; None if it does not belong."""
    how, kinds = _RECEIVED.get(receiver, ("", ()))
    return _PUT[how] if thing in kinds else None


def wrapped(sentence: str, held_out: bool, random: Random) -> str:
    """Sometimes with a polite form, an address or both around it; never around questions."""
    if "?" in sentence or ":" in sentence or sentence.startswith("the ") or random.random() > _WRAPPED:
        return sentence
    words = "test" if held_out else "training"
    if random.random() < 0.6:
        sentence = random.choice(POLITE[words]).format(sentence)
    return random.choice(ADDRESSED[words]).format(sentence) if random.random() < 0.4 else sentence
