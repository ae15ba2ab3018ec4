"""How often ``vla compare`` finds a difference that is there, and calls a tie what is one, by simulated evaluations.

Every repeat draws two policies' successes in so many paired episodes from a seeded generator: with given success rates,
and a given correlation of the two over episodes (phi; 0 where what makes an episode hard for one says nothing of the
other). ``found`` is the share of repeats in which the better policy is called better, ``called a tie`` that in which
two policies of the same rate (B's, with the same correlation) are called a tie; both with Wilson's 95 % interval.
``episodes for 90 %`` is what Connor's formula (Biometrics 43, 1987) says is needed, ``found there`` what comes of it.
"""

import argparse
import math
from typing import NamedTuple

import numpy as np
from report import home_path, natural, print_table, write_json

from configs.terminal import ending_with_the_reader
from policies.comparison import A_BETTER, TIE, Pair, compared
from policies.conditions import Condition
from policies.intervals import paired_episodes, wilson

SEED = 0
CASES = ((0.5, 0.0), (0.5, 0.25), (0.5, 0.5), (0.5, 0.7), (0.8, 0.0), (0.8, 0.25), (0.8, 0.5))
"""B's success rate, and the correlation with A's."""
POWER = 0.9


class Joint(NamedTuple):
    """Probabilities that both succeed, A alone, B alone, and neither."""

    both: float
    only_a: float
    only_b: float
    neither: float

    @classmethod
    def of(cls, a: float, b: float, correlation: float) -> "Joint":
        """``ValueError`` for a correlation that two such rates cannot have."""
        spread = math.sqrt(max(0.0, a * (1 - a) * b * (1 - b)))
        both = a * b + correlation * spread
        joint = cls(both, a - both, b - both, 1 - a - b + both)
        if min(joint) < -1e-12 or (correlation and spread < 1e-6):
            raise ValueError(f"success rates {a} and {b} cannot correlate by {correlation}")
        return cls(*(max(0.0, share) for share in joint))

    def verdict(self, episodes: int, rng: np.random.Generator) -> str:
        """What is said of one evaluation of both."""
        drawn = rng.choice(4, size=episodes, p=np.asarray(self) / sum(self))
        pairs = [Pair(bool(kind in (0, 1)), bool(kind in (0, 2))) for kind in drawn.tolist()]
        return compared(Condition(task="simulated"), pairs).verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=natural, default=200, help="paired episodes of an evaluation")
    parser.add_argument("--points", type=natural, default=10, help="the planted difference, in points")
    parser.add_argument("--repeats", type=natural, default=1000, help="evaluations per row")
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    options = parser.parse_args()
    difference = options.points / 100
    cases = [case for case in CASES if possible(case[0] + difference, *case)]
    if not cases:
        parser.error(f"no rates are {options.points} points apart with a correlation of the table")
    rows = [row(b, difference, correlation, options.episodes, options.repeats) for b, correlation in cases]
    print_table(rows)
    if options.json:
        write_json(options.json, "compare", {**vars(options), "json": None, "rows": rows}, seeds=[SEED])


def possible(a: float, b: float, correlation: float) -> bool:
    """Whether there are two such rates that correlate so."""
    try:
        Joint.of(a, b, correlation)
    except ValueError:
        return False
    return True


def row(b: float, difference: float, correlation: float, episodes: int, repeats: int) -> dict[str, object]:
    """One line of the table; the same for the same arguments."""
    better, same = Joint.of(b + difference, b, correlation), Joint.of(b, b, correlation)
    discordant = max(difference, better.only_a + better.only_b)
    enough = paired_episodes(difference, discordant, POWER)
    return {
        "B": f"{b:.0%}",
        "A": f"{b + difference:.0%}",
        "correlation": correlation,
        "discordant": f"{discordant:.0%}",
        "episodes": episodes,
        "found": _share(better, episodes, repeats, A_BETTER),
        "called a tie": _share(same, episodes, repeats, TIE),
        "episodes for 90 %": enough,
        "found there": _share(better, enough, repeats, A_BETTER),
    }


def _share(joint: Joint, episodes: int, repeats: int, verdict: str) -> str:
    rng = np.random.default_rng([SEED, episodes])
    rate = wilson(sum(joint.verdict(episodes, rng) == verdict for _ in range(repeats)), repeats)
    return f"{rate.value:.1%} ({rate.lo:.1%} … {rate.hi:.1%})"


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
