"""Chunks that are asked for while the ones before are carried out: counted, by a clock of the test, and for real."""

import dataclasses

import numpy as np
import pytest
from serving_fakes import EMBODIMENT, BlockingPolicy, LinearPolicy, PointEnv, observation

from policies.serving.client import ClientConfig, PolicyClient, ServerTimeoutError
from policies.serving.config import ServeConfig
from policies.serving.control import ActionStream, WatchdogError
from policies.serving.overlap import ChunkCursor
from policies.serving.rollout import run_episode
from policies.serving.server import PolicyServer, running

HORIZON = 8


def chunk(number: int) -> np.ndarray:
    """Actions that tell their chunk and row: 2.03 is row 3 of chunk 2."""
    return (number + np.arange(HORIZON) / 100)[:, None].repeat(3, 1).astype(np.float32)


def play(cursor: ChunkCursor, delays: list[int], steps: int) -> list[float | None]:
    """What is carried out when the n-th chunk takes ``delays[n]`` steps (the last one counts for all after it)."""
    done, asked_at, number = [], None, 0
    for step in range(steps):
        if cursor.wants:
            cursor.ask()
            asked_at = step
        if asked_at is not None and step - asked_at >= delays[min(number, len(delays) - 1)]:
            cursor.arrive(chunk(number))
            number, asked_at = number + 1, None
        action = cursor.step()
        done.append(None if action is None else round(float(action[0]), 2))
    return done


def test_in_turn_a_chunk_counts_up_to_the_replan_interval_and_the_robot_stands_still_between():
    assert play(ChunkCursor(3, ahead=False), [2], 12) == [
        *(None, None, 0.0, 0.01, 0.02),
        *(None, None, 1.0, 1.01, 1.02),
        *(None, None),
    ]


def test_ahead_a_robot_never_stops_and_skips_what_is_past_when_a_chunk_comes():
    cursor = ChunkCursor(4, ahead=True)
    assert play(cursor, [2], 14) == [
        *(None, None, 0.0, 0.01, 0.02, 0.03, 0.04, 0.05),
        *(1.02, 1.03, 1.04, 1.05),  # seen before 0.04 was carried out
        *(2.02, 2.03),
    ]
    assert cursor.delay_steps == 2


def test_a_late_chunk_lets_the_old_one_go_on_to_its_end_and_then_the_robot_stands_still():
    cursor = ChunkCursor(2, ahead=True)
    done = play(cursor, [0, 10, 1], 16)
    assert done[:8] == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]
    assert done[8:13] == [None, None, None, None, 1.06]  # 6 actions were carried out since it was asked for
    assert cursor.delay_steps == 10
    assert done[13:] == [1.07, 2.01, 2.02]  # asked for at once, since it may take as long again


def test_the_longest_of_the_latest_delays_counts_and_is_forgotten():
    cursor = ChunkCursor(6, ahead=True)
    play(cursor, [4, 1], 5)
    assert cursor.delay_steps == 4
    play(cursor, [1], 80)
    assert cursor.delay_steps == 1


def test_a_chunk_that_would_not_last_until_the_next_one_comes_is_followed_up_earlier():
    cursor = ChunkCursor(6, ahead=True)
    cursor.ask()
    cursor.arrive(chunk(0), waited_steps=3)  # by the clock: no step could be taken without it
    assert cursor.delay_steps == 3
    assert [cursor.wants for _ in range(6) if cursor.step() is not None] == [False] * 4 + [True] * 2


class ScriptedClient:
    """What a stream sees of a client, whose answers come ``delay_s`` after the question on the test's clock."""

    embodiment = dataclasses.replace(EMBODIMENT, control_rate_hz=10.0)
    horizon = HORIZON
    replan_interval = 4
    continues = True
    paced = False

    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.now_s, self.sent = delay_s, 0.0, []

    def send(self, observation, reset, timeout_s, last_action, underway):
        self.sent.append((reset, last_action, underway))
        self.due_s = self.now_s + self.delay_s

    def receive(self, timeout_s):
        if self.now_s + timeout_s < self.due_s:
            self.now_s += timeout_s
            raise ServerTimeoutError("late")
        self.now_s = max(self.now_s, self.due_s)
        return {"actions": chunk(len(self.sent) - 1)}


def drive(client: ScriptedClient, steps: int, ahead: bool = True, watchdog_s: float = 1.0) -> list:
    """The commands of so many control steps of 0.1 s."""
    stream = ActionStream(client, watchdog_s=watchdog_s, ahead=ahead, clock=lambda: client.now_s)
    commands = []
    for _ in range(steps):
        ends_s = client.now_s + 0.1
        commands.append(stream.step({} if stream.needs_observation else None, 0.1))
        client.now_s = max(client.now_s, ends_s)
    return commands


def test_a_stream_that_asks_ahead_never_holds_and_tells_what_is_under_way():
    client = ScriptedClient(delay_s=0.15)
    commands = drive(client, 16)
    assert not any(command.held for command in commands)
    (reset, last, underway), second, *_ = client.sent
    assert (reset, last, underway) == (True, None, None)
    assert not second[0]
    np.testing.assert_array_equal(second[2].actions, chunk(0)[4:])
    assert second[2].delay_steps == 2
    np.testing.assert_array_equal(second[1], chunk(0)[5])  # what will be in force when the answer comes
    told = [round(float(command.action[0]), 2) for command in commands[:8]]
    assert told == [0.0, 0.01, 0.02, 0.03, 0.04, 0.05, 1.02, 1.03]


def test_in_turn_the_same_server_makes_the_robot_hold():
    commands = drive(ScriptedClient(delay_s=0.15), 16, ahead=False)
    assert sum(command.held for command in commands) == 3


def test_the_watchdog_stops_a_robot_that_still_has_actions():
    client = ScriptedClient(delay_s=0.15)
    stream = ActionStream(client, watchdog_s=0.25, ahead=True, clock=lambda: client.now_s)
    with pytest.raises(WatchdogError, match=r"no actions .* for 300 ms \(the watchdog allows 250 ms\)"):
        for _ in range(20):
            stream.step({} if stream.needs_observation else None, 0.1)
            client.now_s += 0.1
            client.delay_s = 60.0
    assert len(client.sent) == 2


# ---- over a socket


class SlowPolicy(LinearPolicy):
    """Takes longer than two control steps of 50 ms for every chunk after the warm-up's."""

    def __init__(self) -> None:
        super().__init__(horizon=24)
        self.pace = BlockingPolicy()

    def predict_chunk(self, observation):
        self.pace.release.wait(self.pace.block_s)
        return super().predict_chunk(observation)


def test_a_robot_that_asks_ahead_keeps_its_rate_where_one_that_waits_does_not():
    policy = SlowPolicy()
    policy.pace.block_s = 0.12
    held = {}
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        for ahead in (False, True):
            env = PointEnv(goal_steps=28)
            report = run_episode(env, client, seed=0, replan_interval=6, watchdog_s=20.0, ahead=ahead)
            assert report.success and report.stopped is None
            held[ahead] = report.held_steps
    assert held[False] >= 3  # a step at least for each chunk that is asked for after the first
    assert held[True] < held[False]


def test_ahead_needs_real_time(client):
    with pytest.raises(ValueError, match="needs real time"):
        run_episode(PointEnv(), client, seed=0, realtime=False, ahead=True)


def test_a_stream_of_a_real_client_asks_ahead_by_whole_steps(client, rng):
    stream = ActionStream(client, replan_interval=3, watchdog_s=20.0, ahead=True)
    awaited = []
    for _ in range(12):
        asks, answered = stream.needs_observation, len(stream.timings)
        stream.step(observation(rng) if asks else None, timeout_s=20.0)
        if asks:
            awaited.append(len(stream.timings) > answered)
    assert awaited[0] and not all(awaited[1:]), "in turn, every answer is awaited in the step that asks"
