"""Drive one simulated robot through a policy server at the robot's real control rate."""

from dataclasses import dataclass
from typing import Any

import torch

from envs.specs import Stream, VectorEnv
from policies.serving.batching import world_of
from policies.serving.client import PolicyClient, ServerRefusalError, check_embodiment
from policies.serving.control import ActionStream, WatchdogError
from policies.serving.metrics import percentiles
from policies.serving.pace import Pace


@dataclass(frozen=True, kw_only=True)
class EpisodeReport:
    """One episode, a ``seed`` of a ``stream``, through a server. ``success`` only if it was not ``stopped`` (the
    watchdog's reason, or None).

    ``late_steps`` missed the end of their control period, ``held_steps`` stood still because the
    server was late. Latencies are p50/p95/p99 over the requests, ms; None where no request was answered or the server
    does not tell. ``warnings`` is what the policy could not take in of the instruction, also logged; ``answers`` what
    it said of its chunks, if it speaks. A report is JSON-ready: what is no finite number is None.
    """

    task: str
    stream: Stream
    seed: int
    success: bool
    steps: int
    reward: float | None
    requests: int
    late_steps: int
    held_steps: int
    stopped: str | None
    warnings: tuple[str, ...]
    round_trip_ms: dict[str, float | None]
    policy_ms: dict[str, float | None]
    answers: tuple[str, ...] = ()


def run_episode(
    env: VectorEnv,
    client: PolicyClient,
    seed: int,
    replan_interval: int | None = None,
    realtime: bool = True,
    watchdog_s: float = 0.5,
    ahead: bool = False,
) -> EpisodeReport:
    """One episode of ``env`` (a single world) with actions from ``client``'s server.

    In real time, every step takes at least one control period, and an answer that is later than its period makes the
    robot hold; ``ahead`` asks while the present actions are carried out. Otherwise the simulation waits for the server
    (at most ``watchdog_s``). A silent, lost or refusing server ends the episode with ``stopped`` set.
    """
    if env.num_envs != 1:
        raise ValueError(f"run_episode drives a single world, got an environment of {env.num_envs}")
    if ahead and not realtime:
        raise ValueError("asking ahead needs real time: a simulation that waits has no time to overlap")
    check_embodiment(env.embodiment, client.embodiment)
    stream = ActionStream(client, replan_interval, watchdog_s, ahead)
    pace = Pace(1.0 / env.embodiment.control_rate_hz, realtime)
    observation = env.reset([seed])
    reward, success = torch.zeros(1, device=env.device), torch.zeros(1, dtype=torch.bool)
    held, steps, stopped = 0, 0, None
    pace.start()
    while steps < env.max_episode_steps:
        timeout_s = pace.left_s() if realtime else watchdog_s
        try:
            command = stream.step(_first_world(stream, observation), timeout_s)
        except (WatchdogError, ServerRefusalError) as reason:
            stopped = str(reason)
            break
        held += command.held
        moved = env.step(torch.from_numpy(command.action.copy())[None].to(env.device))
        observation, success, reward = moved.observation, moved.success, reward + moved.reward
        steps += 1
        if moved.ended:
            break
        pace.wait()
    return EpisodeReport(
        task=env.task_name,
        stream=env.stream,
        seed=seed,
        success=bool(success),
        steps=steps,
        reward=float(reward) if reward.isfinite() else None,
        requests=len(stream.timings),
        late_steps=pace.late,
        held_steps=held,
        stopped=stopped,
        warnings=tuple(stream.warnings),
        round_trip_ms=percentiles([timing.round_trip_ms for timing in stream.timings]),
        policy_ms=percentiles([timing.policy_ms for timing in stream.timings]),
        answers=tuple(stream.answers),
    )


def _first_world(stream: ActionStream, observation: dict[str, Any]) -> dict[str, Any] | None:
    return world_of(observation, 0) if stream.needs_observation else None
