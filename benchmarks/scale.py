"""How many GPUs learning from reward would fill, and what would hold them up: a simulation from measured times.

    vla bench scale [--times RL.json] [--faster 100 --faster-worlds 20] [--gpus 1 8 64] [--parameters 1.6e6 5e8]

``--times`` is what ``vla bench rl --what vla --json RL.json`` has written: how long a device takes to simulate, to act
and to learn, per decision; without it, that of two cores of an AMD EPYC beside other work. Every GPU has as many worlds
as that device had, and is supposed to be ``--faster`` with the network and ``--faster-worlds`` with simulating; with as
many ``--parameters`` the network takes longer in proportion. Rollouts of GPUs differ by ``--spread``. The plans:

*together*: every GPU acts in its own worlds and then learns with the others, minibatch by minibatch, as ``vla rl`` does
under torchrun. *apart*: some only act and the others only learn, at most ``--staleness`` iterations apart, with the
division that is fastest. Gradients go around a ring within each machine and then between machines.

*acting*, *learning*, *gradients* and *waiting* are shares of all GPUs' time: what is most of it holds the others up.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from report import home_path, natural, print_table, write_json

from configs.terminal import ending_with_the_reader

BYTES = 4
"""Of a gradient."""
TWO_CORES = {
    "decisions_per_s": 17.5,
    "iteration_s": 58.6,
    "share_act": 0.629,
    "share_simulate": 0.155,
    "share_reward": 0.0,
    "share_update": 0.22,
}
"""What vla bench rl came to with nano-ppo in 64 worlds, on two cores of an AMD EPYC beside other work."""
ITERATIONS, SEEDS = 100, 20
LEARNING_SPREAD = 0.1
"""Of the time of a minibatch, as a share of that of a rollout."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one GPU: seconds of an iteration in which it collects its decisions, and of one in which it learns from them.

    ``spread`` is the standard deviation of a rollout's time, as a share of it.
    """

    decisions: float
    collect_s: float
    learn_s: float
    minibatches: int
    parameters: float
    spread: float

    def with_parameters(self, parameters: float, act_share: float) -> "Times":
        """Of a larger network; ``act_share`` of collecting is its."""
        more = parameters / self.parameters
        collect_s = self.collect_s * (1 - act_share + act_share * more)
        return replace(self, collect_s=collect_s, learn_s=self.learn_s * more, parameters=parameters)


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """GPUs, ``per_machine`` of which share a machine, and what each can send, in GB/s, within one and between two."""

    gpus: int
    per_machine: int
    within_gb_s: float
    between_gb_s: float
    latency_s: float

    def summed_s(self, gpus: int, size: float) -> float:
        """How long ``gpus`` of them take to sum so many bytes, around a ring in each machine and one between them."""
        near, far = min(gpus, self.per_machine), -(-gpus // self.per_machine)
        within = _ring_s(near, size, self.within_gb_s, self.latency_s)
        return within + _ring_s(far, size / near, self.between_gb_s, self.latency_s)


def _ring_s(members: int, size: float, gb_s: float, latency_s: float) -> float:
    """A sum over a ring (Patarasuk and Yuan 2009): every member sends 2 (n − 1) / n of what is summed."""
    return 2 * (members - 1) * (size / members / (gb_s * 1e9) + latency_s)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a plan came to: decisions per second, and shares of the time of all GPUs."""

    plan: str
    decisions_per_s: float
    acting: float
    learning: float
    gradients: float

    @property
    def waiting(self) -> float:
        return 1 - self.acting - self.learning - self.gradients


def together(times: Times, cluster: Cluster, source: np.random.Generator) -> Outcome:
    """All act and then all learn: whoever is slow keeps everyone waiting."""
    n = cluster.gpus
    collect = times.collect_s * _varied(source, times.spread, (ITERATIONS, n))
    learn_s, summed_s = _learning(times, times.learn_s, n, source), _gradients_s(times, cluster, n)
    took_s = collect.max(1).sum() + learn_s.max(-1).sum() + ITERATIONS * summed_s
    return Outcome(
        plan="together",
        decisions_per_s=ITERATIONS * n * times.decisions / took_s,
        acting=collect.sum() / n / took_s,
        learning=learn_s.sum() / n / took_s,
        gradients=ITERATIONS * summed_s / took_s,
    )


def apart(times: Times, cluster: Cluster, staleness: int, source: np.random.Generator) -> Outcome:
    """The fastest division into those that act and those that learn."""
    choices = [_divided(times, cluster, acting, staleness, source) for acting in _divisions(cluster.gpus)]
    return max(choices, key=lambda outcome: outcome.decisions_per_s)


def _divided(times: Times, cluster: Cluster, acting: int, staleness: int, source: np.random.Generator) -> Outcome:
    n, learning = cluster.gpus, cluster.gpus - acting
    collect = times.collect_s * n / acting * _varied(source, times.spread, (ITERATIONS, acting))
    learn_s = _learning(times, times.learn_s * n / learning, learning, source)
    summed_s = _gradients_s(times, cluster, learning)
    sent_s = cluster.summed_s(n, BYTES * times.parameters) / 2  # weights go one way
    collected_s, learned_s = np.zeros(ITERATIONS + 1), np.zeros(ITERATIONS + 1)
    for i in range(ITERATIONS):
        known_s = learned_s[max(0, i - staleness)]
        collected_s[i + 1] = max(collected_s[i], known_s) + collect[i].max()
        learned_s[i + 1] = max(learned_s[i], collected_s[i + 1]) + learn_s[i].max(-1).sum() + summed_s + sent_s
    took_s = learned_s[-1]
    return Outcome(
        plan=f"apart, {acting} act and {learning} learn",
        decisions_per_s=ITERATIONS * n * times.decisions / took_s,
        acting=collect.sum() / n / took_s,
        learning=learn_s.sum() / n / took_s,
        gradients=ITERATIONS * (summed_s + sent_s) * learning / n / took_s,
    )


def _divisions(gpus: int) -> list[int]:
    """How many act: up to 15 ways to choose."""
    return sorted({round(gpus * share / 16) for share in range(1, 16)} & set(range(1, gpus)))


def _learning(
    times: Times, learn_s: float, gpus: int, source: np.random.Generator
) -> Float[np.ndarray, "iterations minibatches gpus"]:
    shape = (ITERATIONS, times.minibatches, gpus)
    return learn_s / times.minibatches * _varied(source, LEARNING_SPREAD * times.spread, shape)


def _gradients_s(times: Times, cluster: Cluster, gpus: int) -> float:
    """Of an iteration."""
    return times.minibatches * cluster.summed_s(gpus, BYTES * times.parameters)


def _varied(source: np.random.Generator, spread: float, shape: tuple[int, ...]) -> np.ndarray:
    """Log-normal factors with a mean of 1 and this standard deviation."""
    sigma = np.sqrt(np.log1p(spread**2))
    return source.lognormal(-(sigma**2) / 2, sigma, shape)


def measured(path: Path) -> dict[str, float]:
    """What ``vla bench rl`` has written of its first preset; ``ValueError`` for another file."""
    try:
        row = json.loads(path.read_text(encoding="utf-8"))["figures"]["vla"][0]
        return {name: row[name] for name in TWO_CORES}
    except (KeyError, IndexError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path}: expected what vla bench rl --what vla --json FILE has written: {error!r}") from error


def supposed(
    row: dict[str, float], *, faster: float, faster_worlds: float, spread: float, minibatches: int, parameters: float
) -> tuple[Times, float]:
    """What was measured, on a device that much faster, and what part of collecting is acting."""
    seconds = {name.removeprefix("share_"): row["iteration_s"] * row[name] for name in row if "share_" in name}
    act_s, learn_s = (seconds.pop(name) / faster for name in ("act", "update"))
    collect_s = act_s + sum(seconds.values()) / faster_worlds
    times = Times(
        decisions=row["decisions_per_s"] * row["iteration_s"],
        collect_s=collect_s,
        learn_s=learn_s,
        minibatches=minibatches,
        parameters=parameters,
        spread=spread,
    )
    return times, act_s / collect_s


def simulated(times: Times, cluster: Cluster, staleness: int) -> list[dict[str, Any]]:
    """A row for each plan, means over ``SEEDS`` draws with the standard error of the rate."""
    plans = [lambda source: together(times, cluster, source)]
    if cluster.gpus > 1:
        plans.append(lambda source: apart(times, cluster, staleness, source))
    rows = []
    for plan in plans:
        found = [plan(np.random.default_rng(seed)) for seed in range(SEEDS)]
        rates = [each.decisions_per_s for each in found]
        alone = times.decisions / (times.collect_s + times.learn_s)
        shares = {
            name: f"{100 * np.mean([getattr(each, name) for each in found]):.1f} %"
            for name in ("acting", "learning", "gradients", "waiting")
        }
        rows.append(
            {
                "GPUs": cluster.gpus,
                "parameters": f"{times.parameters:.3g}",
                "plan": found[0].plan,
                "decisions/s": round(np.mean(rates)),
                "±": round(np.std(rates) / SEEDS**0.5, 1),
                "of linear": f"{100 * np.mean(rates) / alone / cluster.gpus:.1f} %",
                **shares,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=home_path, help="written by vla bench rl --what vla --json")
    parser.add_argument("--faster", type=float, default=1.0, help="a GPU's network, beside the device of --times")
    parser.add_argument("--faster-worlds", type=float, default=1.0, help="likewise its simulated worlds")
    parser.add_argument("--gpus", type=natural, nargs="+", default=[1, 8, 64])
    parser.add_argument("--per-machine", type=natural, default=8)
    parser.add_argument("--parameters", type=float, nargs="+", default=[1.6e6, 5e8], help="of networks")
    parser.add_argument("--measured-parameters", type=float, default=1.6e6, help="of the network of --times")
    parser.add_argument("--minibatches", type=natural, default=32, help="of an iteration, all epochs together")
    parser.add_argument("--spread", type=float, default=0.1, help="of a rollout's time, as a share of it")
    parser.add_argument("--staleness", type=natural, default=1)
    parser.add_argument("--within-gb-s", type=float, default=450.0, help="NVLink 4, one way, by its data sheet")
    parser.add_argument("--between-gb-s", type=float, default=50.0, help="InfiniBand NDR, a card per GPU, likewise")
    parser.add_argument("--latency-us", type=float, default=10.0, help="of one message (supposed)")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    options = parser.parse_args()
    times, act_share = supposed(
        measured(options.times) if options.times else TWO_CORES,
        faster=options.faster,
        faster_worlds=options.faster_worlds,
        spread=options.spread,
        minibatches=options.minibatches,
        parameters=options.measured_parameters,
    )
    rows = [
        row
        for parameters in options.parameters
        for gpus in options.gpus
        for row in simulated(
            times.with_parameters(parameters, act_share),
            Cluster(
                gpus=gpus,
                per_machine=options.per_machine,
                within_gb_s=options.within_gb_s,
                between_gb_s=options.between_gb_s,
                latency_s=options.latency_us / 1e6,
            ),
            options.staleness,
        )
    ]
    print_table(rows)
    if options.json:
        write_json(options.json, "scale", {"rows": rows, "times": vars(times)}, seeds=list(range(SEEDS)))


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
