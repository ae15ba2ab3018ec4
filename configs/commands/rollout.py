"""Drive a simulated robot through a policy server, at the robot's real control rate.

A server's token comes from --token-file, or else from the environment variable VLA_SERVE_TOKEN; it and all observations
cross the network in clear text unless --url begins with wss:. Names that end in -s are seconds.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from configs.environments import episode_seeds, make_env, seen_as
from configs.machine import check_output_file, describe_run
from configs.run_directory import write_json
from configs.serialization import to_json
from configs.worlds import EnvConfig, Split
from policies.serving.client import ClientConfig, PolicyClient

if TYPE_CHECKING:
    from policies.serving.rollout import EpisodeReport


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which task, how many episodes, and where the server is."""

    task: Annotated[str, tyro.conf.Positional]
    """A task, such as reach, or one of a suite; an unknown name lists those there are."""
    episodes: int = 5
    """How many episodes, one after the other."""
    first_seed: int = 0
    """The first seed, of the stream evaluate."""
    split: Split = "held_out"
    """Phrasings of the instructions: those of the demonstrations or held-out ones."""
    realtime: bool = True
    """Keep the control rate and hold still when the server is late; otherwise wait for it, at most watchdog-s."""
    ahead: bool = False
    """Ask for the next actions while the present ones are carried out, so early that they are there in time: the robot
    does not wait for its policy. It acts on what it saw a moment ago."""
    replan_interval: int | None = None
    """Actions to execute before asking again; the server's own choice by default."""
    watchdog_s: float = 0.5
    """How long the server may be silent before the robot stops."""
    json: Path | None = None
    """Also write the episodes to this file."""
    env: EnvConfig = field(default_factory=EnvConfig)
    """The simulated world. Its cameras are those that the server's policy expects: leave image-size-px, depth and
    segmentation out; a value that would change them is refused."""
    client: Annotated[ClientConfig, tyro.conf.arg(name="")] = field(default_factory=ClientConfig)

    def __post_init__(self) -> None:
        if self.replan_interval is not None and self.replan_interval < 1:
            raise ValueError(f"replan_interval must be at least 1, got {self.replan_interval}")
        if self.ahead and not self.realtime:
            raise ValueError("ahead needs realtime: a simulation that waits for the server has no time to overlap")
        if not self.watchdog_s > 0:
            raise ValueError(f"watchdog_s must be positive, got {self.watchdog_s}")


def run(config: Config) -> int:
    """Print one line per episode, what the policy said meanwhile if it speaks, and the success rate; 1 if the watchdog
    stopped any of them.
    """
    from envs.suites import find_task
    from policies.intervals import wilson
    from policies.serving.rollout import run_episode

    find_task(config.task)
    seeds = episode_seeds(config.episodes, config.first_seed)
    if config.json is not None:
        check_output_file(config.json)
    reports = []
    with PolicyClient(config.client) as client:
        seen = seen_as(client.embodiment, config.env)
        env = make_env(config.task, 1, stream="evaluate", split=config.split, config=seen)
        try:
            for seed in seeds:
                reports.append(
                    run_episode(
                        env, client, seed, config.replan_interval, config.realtime, config.watchdog_s, config.ahead
                    )
                )
                print(_line(reports[-1]))
                for answer, times in _runs(reports[-1].answers):
                    print(f"    {answer}" + (f" ({times} chunks)" if times > 1 else ""))
                if reports[-1].stopped:
                    break
        finally:
            env.close()
    success = wilson(sum(report.success for report in reports), len(reports))
    print(f"{config.task}: success {success.value:.0%} [{success.lo:.0%}, {success.hi:.0%}] in {len(reports)} episodes")
    if config.json is not None:
        episodes = [asdict(report) for report in reports]
        write_json({"config": to_json(config), "machine": describe_run(), "episodes": episodes}, config.json)
    return 1 if any(report.stopped for report in reports) else 0


def _runs(answers: Sequence[str]) -> list[tuple[str, int]]:
    """What was said, one after the other, and how many times in a row."""
    return [(answer, len(list(same))) for answer, same in groupby(answers)]


def _line(report: "EpisodeReport") -> str:
    """One episode in words."""
    outcome = report.stopped or ("success" if report.success else "failure")
    latencies = report.round_trip_ms.items()
    round_trip = ", ".join(f"{name} " + ("-" if value is None else f"{value:.1f}") for name, value in latencies)
    late = f"{report.late_steps} late, {report.held_steps} held"
    return f"seed {report.seed}: {outcome}, {report.steps} steps, {late}; round trip ms: {round_trip}"
