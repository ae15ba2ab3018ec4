"""What tasks may say to a robot, so that a network is made to read all of it."""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING, get_args

from configs.worlds import Split

if TYPE_CHECKING:
    from envs.perturbations.spec import Rewrite

_SEEDS = 300
_LONGEST = 4
"""How many of a task's sentences, those with the most tokens, are reworded."""


def sentences(task: str, splits: Sequence[Split]) -> list[str]:
    """What ``task`` says in a few hundred episodes, in the phrasings of ``splits``; nothing for a task unknown here."""
    import torch

    from envs.random import EpisodeRandom
    from envs.simulators import find_simulated, is_simulated
    from envs.simulators.maniskill import find_maniskill_task, is_maniskill
    from envs.suites import find_task

    if is_simulated(task) or is_maniskill(task):
        phrasings = (find_maniskill_task(task) if is_maniskill(task) else find_simulated(task)[1]).phrasings
        return [text for split in splits for text in (phrasings.train if split == "train" else phrasings.held_out)]
    try:
        found = find_task(task)
    except ValueError:
        return []
    layout = found.sample(EpisodeRandom(torch.arange(_SEEDS)))
    return list(dict.fromkeys(text for split in splits for text in found.instructions(layout, split)))


def long_sentences(tasks: Iterable[str]) -> list[str]:
    """About the longest sentences that ``tasks`` may say: in the phrasings of training and of evaluation, and reworded
    as the perturbations of language do.
    """
    from envs.perturbations.spec import Rewrite
    from vla.backbones.tokenizer import NanoTokenizer

    tokenizer, found = NanoTokenizer(), []
    for task in dict.fromkeys(tasks):
        if said := sentences(task, get_args(Split)):
            order = tokenizer.encode(said)[1].sum(dim=1).argsort(descending=True)
            found += [said[i] for i in order[:_LONGEST].tolist()]
    return [*found, *(text for sentence in found for text in reworded(sentence, Rewrite(level=5)))]


def reworded(sentence: str, config: "Rewrite") -> set[str]:
    """As the perturbation by rewriting has it at its highest level, which talks most."""
    from envs.perturbations.wording import rewrite

    quarters, highest = (0.0, 0.25, 0.5, 0.75), 0.999
    return {
        rewrite(sentence, config, (synonym, polite, around, highest))
        for synonym, polite, around in product((0.0, 0.5), quarters, quarters)
    }
