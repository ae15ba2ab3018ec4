"""The same request in other words, by rules."""

import re

from envs.perturbations.spec import Rewrite

_POLITE = ("please {0}", "kindly {0}", "{0}, please", "would you {0}")
_ADDRESSED = ("robot, {0} now", "as your next step, {0}", "all right, now {0}", "the next thing to do is this, {0}")
_WORDY = (
    "here is what i would like to see done next, and there is no need to hurry, {0}",
    "look closely at everything that lies on the table in front of you, and then {0}",
    "there may be other things around, which you can leave alone, so {0}",
)
_THINGS = {
    "cubes": ("little blocks", "dice"),
    "cube": ("little block", "die"),
    "ball": ("sphere", "orb"),
    "cylinder": ("can", "tin"),
    "bins": ("trays", "containers"),
    "bin": ("tray", "container"),
    "mat": ("square patch", "pad"),
    "drawer": ("sliding tray", "pull-out"),
    "button": ("push switch", "key"),
    "knob": ("handle", "grip"),
    "socket": ("holder", "receptacle"),
    "peg": ("pin", "rod"),
    "door": ("hatch", "panel"),
    "table": ("tabletop", "desk"),
}
_DEEDS = {
    "pick up": ("fetch", "collect"),
    "pick": ("fetch", "collect"),
    "lift up": ("hoist", "elevate"),
    "lift": ("hoist", "elevate"),
    "raise": ("hoist", "elevate"),
    "grasp": ("grip", "seize"),
    "take": ("grab", "get hold of"),
    "place": ("deposit", "set down"),
    "put": ("deposit", "set down"),
    "drop": ("deposit", "let go of"),
    "move": ("transfer", "bring"),
    "push": ("press", "nudge"),
    "slide": ("shift", "glide"),
    "touch": ("tap", "make contact with"),
    "reach": ("get to", "go up to"),
    "stack": ("pile", "heap"),
    "open": ("pull out", "unclose"),
    "close": ("shut", "push to"),
    "insert": ("fit", "plug"),
}


def rewrite(sentence: str, config: Rewrite, draws: tuple[float, float, float]) -> str:
    """``sentence`` reworded; each level does what the ones below do, and more. ``draws`` are in [0, 1).

    1 polite; 2 addressed to the robot as well; 3 other nouns; 4 other verbs; 5 much talk instead of the address.
    """
    if config.level >= 3:
        sentence = _replaced(sentence, _THINGS, draws[0])
    if config.level >= 4:
        sentence = _replaced(sentence, _DEEDS, draws[0])
    request = sentence.removeprefix("please ")
    sentence = _pick(_POLITE if request == sentence else _POLITE[1:], draws[1]).format(request)
    if config.level == 1:
        return sentence
    return _pick(_ADDRESSED if config.level < 5 else _WORDY, draws[2]).format(sentence)


def _pick(choices: tuple[str, ...], drawn: float) -> str:
    return choices[int(drawn * len(choices))]


def _replaced(sentence: str, words: dict[str, tuple[str, ...]], drawn: float) -> str:
    """Every whole word, or pair of words, of the table by one of its synonyms."""
    pattern = re.compile(r"\b(" + "|".join(sorted(words, key=len, reverse=True)) + r")\b")
    return pattern.sub(lambda found: _pick(words[found[0]], drawn), sentence)
