"""The robot's client, control loop and rollout, against our server and against one that misbehaves."""

import dataclasses
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from serving_fakes import (
    EMBODIMENT,
    HORIZON,
    BlockingPolicy,
    LinearPolicy,
    PointEnv,
    ScriptedPolicy,
    batched,
    observation,
)
from websockets.sync.server import ServerConnection, serve

from configs.commands.rollout import _line
from envs.specs import STATE_KEY, Dimension
from policies.execution import Execution
from policies.remote import RemotePolicy
from policies.serving.client import (
    ClientConfig,
    EmbodimentMismatchError,
    PolicyClient,
    ProtocolError,
    ServerRefusalError,
    ServerTimeoutError,
    ServerUnavailableError,
)
from policies.serving.codec import encode
from policies.serving.config import ServeConfig
from policies.serving.control import ActionStream, WatchdogError
from policies.serving.keys import ObservationError
from policies.serving.rollout import run_episode
from policies.serving.server import PolicyServer, running

HELLO = {"embodiment": EMBODIMENT.to_dict(), "horizon": HORIZON, "replan_interval": 3}


@contextmanager
def peer(handler: Callable[[ServerConnection], None]) -> Iterator[str]:
    """A server of the websockets library that does as ``handler`` says."""
    with serve(handler, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        finally:
            server.shutdown()
            thread.join()


def chunk(value: float) -> np.ndarray:
    return np.full((HORIZON, 3), value, np.float32)


def test_a_robots_computer_needs_no_torch_and_no_simulator():
    heavy = "torch transformers mujoco gymnasium zarr robosuite scipy"
    code = (
        "import sys, policies.serving.client, policies.serving.control\n"
        f"print([name for name in '{heavy}'.split() if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_actions_equal_the_policys_for_our_keys_and_the_wires(client, policy, rng):
    ours = observation(rng)
    expected = policy.predict_chunk(batched([ours]))[0].numpy()
    np.testing.assert_allclose(client.infer(ours)["actions"], expected, rtol=1e-6)
    np.testing.assert_allclose(client.infer(client._adapter.to_wire(ours))["actions"], expected, rtol=1e-6)


def test_a_wrong_observation_is_found_before_it_is_sent(server, client, rng):
    with pytest.raises(ObservationError, match="must be finite"):
        client.infer({**observation(rng), STATE_KEY: np.full(4, np.nan, np.float32)})
    assert server.metrics.refused == 0
    client.infer(observation(rng))


def test_another_embodiment_is_refused_field_by_field(server):
    faster = dataclasses.replace(
        EMBODIMENT, control_rate_hz=50.0, action=(Dimension(name="v", unit="m/s", low=0, high=1),)
    )
    with pytest.raises(EmbodimentMismatchError) as error:
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{server.port}"), expected=faster)
    assert "control_rate_hz: expected 50.0, the server has 20.0" in str(error.value)
    assert "m/s" in str(error.value)
    assert "cameras" not in str(error.value)


def test_no_server_is_said_at_once_with_a_hint():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"ws://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ServerUnavailableError, match="is it running"):
            PolicyClient(ClientConfig(url=url))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "ws://", "127.0.0.1:8000"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ServerUnavailableError, match="cannot connect to"):
        PolicyClient(ClientConfig(url=url))


def test_a_server_that_starts_later_is_waited_for(policy):
    server = PolicyServer(policy, ServeConfig(port=0))
    clients = []
    config = ClientConfig(url=f"ws://127.0.0.1:{server.port}", wait_s=30.0)
    thread = threading.Thread(target=lambda: clients.append(PolicyClient(config)))
    thread.start()
    time.sleep(0.3)
    assert not clients
    with running(server):
        thread.join(10)
        assert clients[0].embodiment == EMBODIMENT
        clients[0].close()


def test_a_connection_may_be_quiet_for_longer_than_its_timeouts(server, rng):
    config = ClientConfig(url=f"ws://127.0.0.1:{server.port}", connect_timeout_s=0.2, call_timeout_s=0.2)
    with PolicyClient(config) as client:
        time.sleep(0.5)
        assert client.infer(observation(rng), timeout_s=5.0)["actions"].shape == (HORIZON, 3)


def test_a_late_answer_is_a_timeout_and_never_taken_for_the_next(rng):
    policy = BlockingPolicy()
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        policy.block_s = 30.0
        with pytest.raises(ServerTimeoutError, match=r"no answer from .* within 0\.\d+ s"):
            client.infer(observation(rng), timeout_s=0.1)
        policy.block_s = 0.0
        policy.release.set()
        fresh = observation(rng)
        expected = policy.predict_chunk(batched([fresh]))[0].numpy()
        np.testing.assert_allclose(client.infer(fresh)["actions"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("hello", "error", "says"),
    [
        (encode({}), ProtocolError, "does not describe its embodiment"),
        (encode([1]), ProtocolError, "expected a map"),
        (b"\xc1", ProtocolError, "bytes that are no message"),
        ("sorry", ServerRefusalError, "sorry"),
        (None, ServerUnavailableError, "ended"),
    ],
)
def test_a_peer_that_is_no_policy_server_is_recognised(hello, error, says):
    def handler(connection: ServerConnection) -> None:
        if hello is not None:
            connection.send(hello)

    with peer(handler) as url, pytest.raises(error, match=says):
        PolicyClient(ClientConfig(url=url))


@pytest.mark.parametrize(
    ("actions", "says"),
    [
        (chunk(0.0)[:2], "expected float32 actions of shape"),
        (chunk(0.0).astype(np.float64), "expected float32 actions of shape .*, got float64 array of shape"),
        (chunk(np.nan), "not finite"),
        ("none", "expected float32 actions"),
    ],
)
def test_actions_that_no_robot_should_get_are_refused_by_the_client_too(rng, actions, says):
    def handler(connection: ServerConnection) -> None:
        connection.send(encode(HELLO))
        connection.recv()
        connection.send(encode({"actions": actions}))
        connection.recv(timeout=5)

    with peer(handler) as url:
        client = PolicyClient(ClientConfig(url=url))
        with pytest.raises(ProtocolError, match=says):
            client.infer(observation(rng))
        client.close()


# ---- a server as a policy


@pytest.mark.parametrize("connections", [1, 2, 5])
def test_a_remote_policy_acts_like_the_one_on_the_server(server, policy, rng, connections):
    config = ClientConfig(url=f"ws://127.0.0.1:{server.port}")
    remote = RemotePolicy([PolicyClient(config) for _ in range(connections)])
    assert (remote.horizon, remote.replan_interval, remote.embodiment) == (HORIZON, 3, EMBODIMENT)
    there, here = Execution(remote, 3), Execution(policy, 3)
    for _ in range(7):
        batch = batched([observation(rng) for _ in range(3)])
        torch.testing.assert_close(there.act(batch), here.act(batch))
    mask, batch = torch.tensor([True, False, True]), batched([observation(rng) for _ in range(3)])
    plans = [each.plan(each.start(3), batch, mask)[1] for each in (remote, policy)]
    torch.testing.assert_close(plans[0].actions, plans[1].actions)
    assert plans[0].length.tolist() == plans[1].length.tolist() == [3, 0, 3]
    remote.close()


# ---- the control loop


def test_a_stream_executes_each_chunk_up_to_the_replan_interval(client, policy, rng):
    stream = ActionStream(client, replan_interval=2)
    for _ in range(3):
        seen = observation(rng)
        expected = policy.predict_chunk(batched([seen]))[0].numpy()
        for row in range(2):
            assert stream.needs_observation == (row == 0)
            command = stream.step(seen if row == 0 else None, timeout_s=5.0)
            assert not command.held
            np.testing.assert_allclose(command.action, expected[row], rtol=1e-6)
    assert len(stream.timings) == 3
    assert all(timing.policy_ms <= timing.round_trip_ms for timing in stream.timings)


def test_a_slow_server_makes_the_robot_hold_and_its_answer_is_used_when_it_comes(rng):
    policy = BlockingPolicy()
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        stream = ActionStream(client, replan_interval=1, watchdog_s=30.0)
        first = stream.step(observation(rng), timeout_s=0.02)
        policy.block_s = 30.0
        seen = observation(rng)
        for _ in range(3):
            command = stream.step(seen, timeout_s=0.02)
            assert command.held
            np.testing.assert_array_equal(command.action, [0.0, 0.0, first.action[2]])
        policy.block_s = 0.0
        policy.release.set()
        late = stream.step(None, timeout_s=10.0)
        assert not late.held
        np.testing.assert_allclose(late.action, policy.predict_chunk(batched([seen]))[0, 0].numpy(), rtol=1e-6)


@pytest.mark.parametrize("moved", [True, False])
def test_a_silent_server_expires_the_watchdog(rng, moved):
    policy = BlockingPolicy()
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", call_timeout_s=0.2)) as client,
    ):
        stream = ActionStream(client, replan_interval=1, watchdog_s=0.3)
        if moved:
            stream.step(observation(rng), timeout_s=0.3)
        policy.block_s = 30.0
        begun = time.monotonic()
        with pytest.raises(WatchdogError, match=r"no actions .* for \d+ ms \(the watchdog allows 300 ms\)"):
            while True:
                assert stream.step(observation(rng), timeout_s=0.05).held
        assert time.monotonic() - begun >= 0.3
        with pytest.raises(WatchdogError, match="still busy with an earlier request"):
            ActionStream(client).step(observation(rng), timeout_s=0.05)
        policy.release.set()


def test_a_server_that_holds_repeats_what_the_stream_really_did_last(rng):
    policy = ScriptedPolicy()
    rising = np.zeros((HORIZON, 3), np.float32)
    rising[:, 2] = np.linspace(0.1, 0.5, HORIZON)
    with (
        running(PolicyServer(policy, ServeConfig(port=0, on_violation="hold"))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        for interval in (1, 2, 4):
            policy.answers = [rising, chunk(np.nan)]
            stream = ActionStream(client, replan_interval=interval, watchdog_s=5.0)
            actions = [stream.step(observation(rng), timeout_s=5.0).action for _ in range(interval + 1)]
            np.testing.assert_array_equal(actions[-1], [0.0, 0.0, rising[interval - 1, 2]])


def test_replan_intervals_beyond_the_horizon_are_refused(client):
    for interval in (0, HORIZON + 1):
        with pytest.raises(ValueError, match=r"1…5 \(the horizon\), got"):
            ActionStream(client, replan_interval=interval)


# ---- rollouts


def test_a_rollout_keeps_the_control_rate_and_applies_the_servers_actions(client, policy):
    env = PointEnv(goal_steps=12)
    begun = time.monotonic()
    report = run_episode(env, client, seed=3, replan_interval=4)
    assert time.monotonic() - begun >= 11 / EMBODIMENT.control_rate_hz
    assert (report.success, report.steps, report.requests, report.stopped) == (True, 12, 3, None)
    assert (report.task, report.stream, report.seed) == ("point", "evaluate", 3)
    assert (report.reward, report.held_steps) == (12.0, 0)
    assert 0 < report.policy_ms["p50"] <= report.round_trip_ms["p50"] <= report.round_trip_ms["p99"]
    start = batched([observation(np.random.default_rng([3, 0]))])
    np.testing.assert_allclose(np.stack(env.actions[:4]), policy.predict_chunk(start)[0, :4].numpy(), rtol=1e-6)


def test_a_rollout_counts_the_steps_that_come_late(client):
    assert run_episode(PointEnv(goal_steps=4, step_s=0.08), client, seed=0).late_steps == 3
    assert run_episode(PointEnv(goal_steps=4, step_s=0.08), client, seed=0, realtime=False).late_steps == 0


def test_a_rollout_without_real_time_is_the_same_episode(client):
    fast, slow = PointEnv(goal_steps=6), PointEnv(goal_steps=6)
    assert run_episode(fast, client, seed=1, realtime=False).success
    assert run_episode(slow, client, seed=1).success
    np.testing.assert_array_equal(np.stack(fast.actions), np.stack(slow.actions))


def test_a_rollout_whose_server_dies_stops_and_says_so():
    server = PolicyServer(LinearPolicy(), ServeConfig(port=0))
    with running(server) as port:
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        env = PointEnv(goal_steps=30)
        threading.Timer(0.3, server.stop).start()
        report = run_episode(env, client, seed=0, replan_interval=1)
    assert report.stopped is not None
    assert "server is gone" in report.stopped
    assert not report.success
    assert 0 < report.steps < 30


def test_a_rollout_whose_server_falls_silent_holds_then_stops():
    policy = BlockingPolicy()
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        env = PointEnv(goal_steps=30)
        threading.Timer(0.2, lambda: setattr(policy, "block_s", 30.0)).start()
        report = run_episode(env, client, seed=0, replan_interval=1, watchdog_s=0.4)
        policy.release.set()
    assert report.stopped is not None
    assert "no actions from the policy server" in report.stopped
    assert report.held_steps >= 5
    held = np.stack(env.actions)[-report.held_steps :]
    np.testing.assert_array_equal(held[:, :2], 0.0)
    np.testing.assert_array_equal(held[:, 2], env.actions[-report.held_steps - 1][2])


def test_a_rollout_that_is_refused_stops_and_says_why():
    policy = ScriptedPolicy()
    with (
        running(PolicyServer(policy, ServeConfig(port=0, on_violation="error"))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        policy.answers = [chunk(0.1), chunk(7.0)]
        report = run_episode(PointEnv(), client, seed=0)
        assert (report.steps, report.success) == (3, False)
        assert "invalid_actions" in report.stopped
        assert run_episode(PointEnv(), client, seed=0).success


def test_a_rollout_drives_one_world_of_the_right_embodiment(client):
    env = PointEnv()
    env.num_envs = 2
    with pytest.raises(ValueError, match="single world, got an environment of 2"):
        run_episode(env, client, seed=0)
    other = PointEnv()
    other.embodiment = dataclasses.replace(EMBODIMENT, name="otherarm")
    with pytest.raises(EmbodimentMismatchError, match="otherarm"):
        run_episode(other, client, seed=0)


@pytest.mark.parametrize("timing", [None, "fast", {"infer_ms": float("nan")}, {"infer_ms": "1"}, {"infer_ms": 2.5}])
def test_a_report_is_strict_json_whatever_a_server_tells_of_its_time(timing):
    def handler(connection: ServerConnection) -> None:
        connection.send(encode(HELLO))
        for _ in connection:
            connection.send(encode({"actions": chunk(0.1), **({} if timing is None else {"policy_timing": timing})}))

    with peer(handler) as url, PolicyClient(ClientConfig(url=url)) as client:
        report = run_episode(PointEnv(goal_steps=4), client, seed=0, realtime=False, watchdog_s=5.0)
    told = json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))
    assert told["policy_ms"]["p50"] == (2.5 if timing == {"infer_ms": 2.5} else None)
    assert told["round_trip_ms"]["p50"] > 0


def test_a_report_without_an_answer_is_strict_json_and_still_a_line():
    def handler(connection: ServerConnection) -> None:
        connection.send(encode(HELLO))
        connection.recv()

    with peer(handler) as url, PolicyClient(ClientConfig(url=url)) as client:
        report = run_episode(PointEnv(), client, seed=0)
    assert json.loads(json.dumps(dataclasses.asdict(report), allow_nan=False))["round_trip_ms"]["p99"] is None
    assert "round trip ms: p50 -, p95 -, p99 -" in _line(report)
