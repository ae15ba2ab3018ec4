"""Which of two policies is better, by episodes that both were evaluated on; no torch.

Every episode of one is set against the other's of the same seed under the same condition, so that what makes an
episode hard is the same for both and cancels out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple, get_args

from policies.conditions import Condition
from policies.episode_log import EpisodeRecord
from policies.intervals import Interval, PairedDifference, paired_difference, wilson

ALL = "all tasks"
A_BETTER, B_BETTER, TIE = "A is better", "B is better", "a tie within the noise"

Across = Literal["perturbation", "instructions", "without"]
"""A part of the condition in which the two may differ, as it is what is compared."""
PARTS: tuple[Across, ...] = get_args(Across)


class UnpairedError(ValueError):
    """Two evaluations whose episodes are not the same; the text names what differs."""


class Pair(NamedTuple):
    """Success of both in one episode."""

    a: bool
    b: bool


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two policies on the same episodes of a task, or of all tasks, under one condition.

    ``difference`` is A's success rate minus B's, with its 95 % interval and McNemar's exact p value. ``left_out`` pairs
    are not among the ``episodes``, since the two were not asked or not told the same in them.
    """

    condition: Condition
    episodes: int
    a: Interval
    b: Interval
    difference: PairedDifference
    left_out: int = 0

    @property
    def verdict(self) -> str:
        """Who is better; a tie where the interval of the difference holds 0, or McNemar's p is 5 % or more."""
        if not self.difference.decided:
            return TIE
        return A_BETTER if self.difference.value > 0 else B_BETTER

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            **asdict(self.condition),
            "episodes": self.episodes,
            "success_a": asdict(self.a),
            "success_b": asdict(self.b),
            "difference": asdict(self.difference),
            "verdict": self.verdict,
            "left_out": self.left_out,
        }


def compare(
    a: Sequence[EpisodeRecord],
    b: Sequence[EpisodeRecord],
    *,
    across: Sequence[Across] = (),
    common: bool = False,
) -> list[Comparison]:
    """One comparison per task and condition, and after them one over all tasks of each condition that has several.

    ``across`` says in what the two are meant to differ; everything else must be the same. With ``common`` the episodes
    that only one of them has are left out, and those in which the two were not asked or not told the same.
    :class:`UnpairedError` where there are such without ``common``, and where nothing is left.
    """
    ours, theirs = _by_episode(a, across, "A"), _by_episode(b, across, "B")
    if not common:
        _check_covered(ours, theirs)
    shared = [episode for episode in ours if episode in theirs]
    if not shared:
        raise UnpairedError(f"A and B have no episode in common: {_differing(ours, theirs)}")
    pairs: dict[Condition, list[Pair | None]] = {}
    for condition, seed in sorted(shared, key=_order):
        one, other = (side[condition, seed] for side in (ours, theirs))
        unlike = _unlike(one, other)
        if unlike and not common:
            raise UnpairedError(f"seed {seed} of {condition.task} {unlike}; --common leaves such episodes out")
        won = Pair(one.episode.result.success, other.episode.result.success)
        pairs.setdefault(condition, []).append(None if unlike else won)
    rows = [_alike(condition, found) for condition, found in {**pairs, **_over_all_tasks(pairs)}.items()]
    if not any(rows):
        raise UnpairedError(f"A and B were not asked and told the same in any of {len(shared)} episodes in common")
    return [row for row in rows if row is not None]


def _unlike(a: EpisodeRecord, b: EpisodeRecord) -> str | None:
    """What is not the same of two episodes of a seed beside how it is worded, in words; None where all is."""
    one, other = a.episode.result, b.episode.result
    if not _same(one.goal, other.goal, one.goal_means, other.goal_means):
        return f"is another episode in each: {one.goal!r} in A, {other.goal!r} in B"
    shuffled = a.condition.instructions == b.condition.instructions == "shuffled"
    told = one.instruction, other.instruction, one.instruction_means, other.instruction_means
    if shuffled and not _same(*told):
        return f"is told another thing in each: {one.instruction!r} in A, {other.instruction!r} in B"
    return None


def _same(a: str, b: str, a_means: str | None, b_means: str | None) -> bool:
    """Whether two sentences ask the same, in whatever words; of records that lack what they mean, in the same words."""
    return a == b if a_means is None or b_means is None else a_means == b_means


def _alike(condition: Condition, pairs: Sequence[Pair | None]) -> Comparison | None:
    """That of the pairs there are; nothing where all are left out."""
    alike = [pair for pair in pairs if pair is not None]
    return compared(condition, alike, len(pairs) - len(alike)) if alike else None


def compared(condition: Condition, pairs: Sequence[Pair], left_out: int = 0) -> Comparison:
    """Those of one condition; ``ValueError`` where there are none."""
    won_a, won_b = ([pair[i] for pair in pairs] for i in (0, 1))
    return Comparison(
        condition=condition,
        episodes=len(pairs),
        a=wilson(sum(won_a), len(pairs)),
        b=wilson(sum(won_b), len(pairs)),
        difference=paired_difference(won_a, won_b),
        left_out=left_out,
    )


def _over_all_tasks(pairs: Mapping[Condition, Sequence[Pair | None]]) -> dict[Condition, list[Pair | None]]:
    pooled: dict[Condition, list[Pair | None]] = {}
    tasks: dict[Condition, int] = {}
    for condition, found in pairs.items():
        whole = replace(condition, task=ALL)
        pooled.setdefault(whole, []).extend(found)
        tasks[whole] = tasks.get(whole, 0) + 1
    return {whole: found for whole, found in pooled.items() if tasks[whole] > 1}


_Episode = tuple[Condition, int]


def _by_episode(records: Iterable[EpisodeRecord], across: Sequence[Across], name: str) -> dict[_Episode, EpisodeRecord]:
    """Records by condition, without what the two are compared across, and seed; which no two records may share."""
    anything: dict[str, Any] = {"perturbation": None, "instructions": "given", "without": ()}
    given = {part: anything[part] for part in across}
    found: dict[_Episode, EpisodeRecord] = {}
    for record in records:
        condition, seed = replace(record.condition, **given), record.episode.result.seed
        if "without" in across and condition.instructions == "none":
            condition = replace(condition, instructions="given")
        if (condition, seed) in found:
            raise UnpairedError(
                f"{name} has several episodes of {condition.task}, seed {seed}, which differ in {' or '.join(across)}: "
                "evaluate them apart"
            )
        found[condition, seed] = record
    return found


def _check_covered(ours: Mapping[_Episode, EpisodeRecord], theirs: Mapping[_Episode, EpisodeRecord]) -> None:
    if ours.keys() != theirs.keys():
        raise UnpairedError(f"the episodes of A and B are not the same: {_differing(ours, theirs)}")


def _differing(ours: Mapping[_Episode, EpisodeRecord], theirs: Mapping[_Episode, EpisodeRecord]) -> str:
    sides = {"A": ours.keys() - theirs.keys(), "B": theirs.keys() - ours.keys()}
    return "; ".join(f"only {name} has {_in_words(episodes)}" for name, episodes in sides.items() if episodes)


def _in_words(episodes: Iterable[_Episode]) -> str:
    seeds: dict[Condition, list[int]] = {}
    for condition, seed in sorted(episodes, key=_order):
        seeds.setdefault(condition, []).append(seed)
    told = [f"{label(condition)} (seeds {_range(found)})" for condition, found in seeds.items()]
    return ", ".join(told[:4]) + (f" and {len(told) - 4} more" if len(told) > 4 else "")


def label(condition: Condition) -> str:
    """Task and what is not usual about the condition, in words."""
    words = [condition.task]
    words += [condition.perturbation] if condition.perturbation else []
    words += [f"{condition.instructions} instructions"] if condition.instructions == "shuffled" else []
    return ", ".join(words + [f"without {each}" for each in condition.without])


def _range(seeds: Sequence[int]) -> str:
    whole = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]} … {seeds[-1]}" if whole else ", ".join(map(str, seeds[:5])) + (" …" if len(seeds) > 5 else "")


def _order(episode: _Episode) -> tuple[Any, ...]:
    condition, seed = episode
    return condition.perturbation or "", condition.instructions, condition.without, condition.task, seed
