"""The same request in other words, by rules: one pass over the sentence, which never touches what it has replaced."""

import re

from envs.perturbations.spec import Rewrite
from envs.perturbations.words import ADDRESSED, DEEDS, POLITE, THINGS, WORDY

_GAP = r"(the(?: \w+){0,3}?|it)"
"""What stands for ``…`` in a phrase: a thing with its article, and no word too many."""
_STATEMENT = re.compile(r"^(the|each)\b")


def rewrite(sentence: str, config: Rewrite, draws: tuple[float, float, float, float]) -> str:
    """``sentence`` reworded; each level does what the ones below do, and more. ``draws`` are in [0, 1).

    1 polite; 2 addressed to the robot as well; 3 other nouns; 4 other verbs; 5 much talk instead of the address.
    """
    level = config.level_of(draws[3])
    request = sentence.replace("please ", "")
    if level >= 3:
        request = _replaced(request, _THINGS if level == 3 else _WORDS, draws[0])
    if _STATEMENT.match(request):
        request = "see to it that " + request.replace("belongs in", "ends up in")
    polite = POLITE[config.words]
    if config.words == "test" and sentence.startswith(polite[0].format("")):
        polite = polite[1:]
    request = _pick(polite, draws[1]).format(request)
    if level == 1:
        return request
    return _pick(ADDRESSED[config.words] if level < 5 else WORDY, draws[2]).format(request)


def _pick(choices: tuple[str, ...], drawn: float) -> str:
    return choices[int(drawn * len(choices))]


def _compiled(words: dict[str, tuple[str, ...]]) -> tuple[re.Pattern[str], list[tuple[str, ...]]]:
    """A pattern with one group for each phrase, the longest first, and what replaces each.

    The group of phrase i is called ``p<i>``; what stands for its ``…`` is in ``g<i>``.
    """
    phrases = sorted(words, key=len, reverse=True)
    parts = [
        rf"(?P<p{i}>" + re.escape(phrase).replace("…", _GAP.replace("(the", rf"(?P<g{i}>the")) + ")"
        for i, phrase in enumerate(phrases)
    ]
    return re.compile(r"\b(?:" + "|".join(parts) + r")\b"), [words[phrase] for phrase in phrases]


def _replaced(sentence: str, words: tuple[re.Pattern[str], list[tuple[str, ...]]], drawn: float) -> str:
    """Every phrase by one of its synonyms; of the thing in the middle of a phrase only the noun changes."""
    pattern, synonyms = words

    def synonym(found: re.Match[str]) -> str:
        which = int(str(found.lastgroup)[1:])
        made = _pick(synonyms[which], drawn)
        return made.replace("…", _replaced(found[f"g{which}"], _THINGS, drawn)) if "…" in made else made

    return pattern.sub(synonym, sentence)


_THINGS = _compiled(THINGS)
_WORDS = _compiled(THINGS | DEEDS)
