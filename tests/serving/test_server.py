"""The policy server over real sockets, with the unmodified openpi-client as the reference peer."""

import asyncio
import json
import logging
import socket
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from serving_fakes import (
    EMBODIMENT,
    HORIZON,
    BlockingPolicy,
    DepthPolicy,
    LinearPolicy,
    ScriptedPolicy,
    batched,
    observation,
    wire_observation,
)
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, image_key
from policies.serving.actions import ActionError
from policies.serving.client import ClientConfig, PolicyClient, ServerRefusalError, ServerUnavailableError
from policies.serving.codec import decode, encode
from policies.serving.config import ServeConfig, ServeError
from policies.serving.inference import InferenceThread, Question
from policies.serving.server import PolicyServer, running

TOKEN = "a-token-of-sufficient-length"


def get(port: int, path: str, headers: dict | None = None) -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers or {})
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expected_actions(policy: LinearPolicy, message: dict) -> np.ndarray:
    ours = {
        TASK_KEY: message["prompt"],
        STATE_KEY: np.float32(message["observation/state"]),
        image_key("front"): message["observation/images/front"],
    }
    return policy.predict_chunk(batched([ours]))[0].numpy()


class FrownsAtBlanks(LinearPolicy):
    """Remarks on instructions that say nothing, and counts how often it is asked."""

    asked = 0

    def remarks(self, instructions):
        self.asked += 1
        return ["there is nothing to do"] if not instructions[0] else []


def test_remarks_come_with_the_first_answer_of_an_episode(rng):
    policy = FrownsAtBlanks()
    with (
        running(PolicyServer(policy, ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        replies = [
            client.infer({**observation(rng), TASK_KEY: text}, reset=reset).get("warnings")
            for text, reset in (("", False), ("", False), ("go", False), ("", False), ("", True))
        ]
    assert replies == [["there is nothing to do"], None, None, None, ["there is nothing to do"]]
    assert policy.asked == 3
    assert client.warnings == ["there is nothing to do"]


# ---- openpi-client, unmodified


def test_openpi_client_gets_metadata_and_the_policys_actions(server, policy, rng):
    client = WebsocketClientPolicy("127.0.0.1", server.port)
    metadata = client.get_server_metadata()
    assert EmbodimentSpec.from_dict(metadata["embodiment"]) == EMBODIMENT
    assert (metadata["horizon"], metadata["replan_interval"], metadata["control_rate_hz"]) == (HORIZON, 3, 20.0)
    for index in range(3):
        message = wire_observation(rng)
        reply = client.infer(message)
        assert reply["actions"].dtype == np.float32
        np.testing.assert_allclose(reply["actions"], expected_actions(policy, message), rtol=1e-6)
        assert reply["policy_timing"]["infer_ms"] <= reply["server_timing"]["infer_ms"]
        assert ("prev_total_ms" in reply["server_timing"]) == (index > 0)


def test_openpi_action_chunk_broker_steps_through_our_chunks(server, policy, rng):
    broker = ActionChunkBroker(WebsocketClientPolicy("127.0.0.1", server.port), action_horizon=HORIZON)
    first, second = wire_observation(rng), wire_observation(rng)
    steps = [broker.infer(first)["actions"] for _ in range(HORIZON)]
    np.testing.assert_allclose(np.stack(steps), expected_actions(policy, first), rtol=1e-6)
    np.testing.assert_allclose(broker.infer(second)["actions"], expected_actions(policy, second)[0], rtol=1e-6)


def test_openpi_client_sees_bad_observations_as_errors_and_goes_on(server, rng):
    client = WebsocketClientPolicy("127.0.0.1", server.port)
    good = wire_observation(rng)
    bad = {
        "observation/images/wrist": {k: v for k, v in good.items() if k != "observation/images/wrist"},
        "uint8 RGB": {**good, "observation/images/front": np.zeros((3, 8, 12), np.uint8)},
        "must be finite, got nan": {**good, "observation/state": np.full(4, np.nan)},
    }
    for says, message in bad.items():
        with pytest.raises(RuntimeError, match=f"(?s)Error in inference server.*invalid_observation.*{says}"):
            client.infer(message)
    assert client.infer(good)["actions"].shape == (HORIZON, 3)


def test_openpi_client_presents_its_key_and_is_refused_with_a_wrong_one(policy, rng, monkeypatch):
    monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    with running(PolicyServer(policy, ServeConfig(port=0))) as port:
        for key in (None, "wrong-token-of-same-length!!", TOKEN + "x", "schlüssel"):
            with pytest.raises((InvalidStatus, UnicodeEncodeError)) as error:
                WebsocketClientPolicy("127.0.0.1", port, api_key=key)
            assert "401" in str(error.value) or key == "schlüssel"
        client = WebsocketClientPolicy("127.0.0.1", port, api_key=TOKEN)
        assert client.infer(wire_observation(rng))["actions"].shape == (HORIZON, 3)


def block(block_s: float, ping_interval_s: float, rng) -> None:
    """Serve one inference that blocks; the connection, its pings and a second client's hello must survive it."""
    policy = BlockingPolicy()
    server = PolicyServer(policy, ServeConfig(port=0, ping_interval_s=ping_interval_s))
    with running(server) as port, ThreadPoolExecutor(1) as pool:
        client = WebsocketClientPolicy("127.0.0.1", port)
        policy.block_s = block_s
        policy.entered.clear()
        answer = pool.submit(client.infer, wire_observation(rng))
        assert policy.entered.wait(10)
        assert WebsocketClientPolicy("127.0.0.1", port).get_server_metadata()["horizon"] == HORIZON
        assert get(port, "/healthz") == (200, "OK\n")
        reply = answer.result(block_s + 30)
        assert reply["policy_timing"]["infer_ms"] >= 1e3 * block_s
        policy.block_s = 0.0
        assert client.infer(wire_observation(rng))["actions"].shape == (HORIZON, 3)


def test_a_blocking_inference_outlives_several_keepalive_timeouts(rng):
    block(block_s=2.0, ping_interval_s=0.3, rng=rng)


@pytest.mark.slow
def test_a_sixty_second_inference_does_not_drop_a_stock_openpi_client(rng):
    block(block_s=60.0, ping_interval_s=20.0, rng=rng)


# ---- what the server does with actions and failures of the policy


@pytest.mark.parametrize("failure", [RuntimeError, TimeoutError], ids=lambda failure: failure.__name__)
def test_a_failing_policy_closes_the_connection_without_telling_its_secrets(rng, caplog, failure):
    policy = ScriptedPolicy()
    with running(PolicyServer(policy, ServeConfig(port=0))) as port, caplog.at_level(logging.ERROR):
        policy.answers = [failure("secret path /home/robot")]
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        with pytest.raises(ServerRefusalError, match="the server's log has the details") as refusal:
            client.infer(observation(rng))
        assert refusal.value.code == "internal_error"
        assert "secret" not in str(refusal.value)
        with pytest.raises(ServerUnavailableError, match="1011"):
            client.infer(observation(rng))
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as other:
            other.infer(observation(rng))
    assert f"incident {refusal.value.incident}" in caplog.text
    assert "secret path /home/robot" in caplog.text


@pytest.mark.parametrize(
    ("mode", "spoil", "outcome"),
    [("error", 0.9, None), ("error", np.nan, None), ("clamp", np.nan, None), ("clamp", 0.9, 0.5), ("hold", 0.9, 0.0)],
)
def test_bad_actions_are_refused_clamped_or_held_and_counted(rng, mode, spoil, outcome):
    policy = ScriptedPolicy()
    server = PolicyServer(policy, ServeConfig(port=0, on_violation=mode))
    with running(server) as port, PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
        chunk = np.full((HORIZON, 3), 0.25, np.float32)
        chunk[3, 1] = spoil
        policy.answers = [chunk]
        if outcome is None:
            with pytest.raises(ServerRefusalError, match="action 3, dimension 'dy' must lie in") as refusal:
                client.infer(observation(rng))
            assert refusal.value.code == "invalid_actions"
        else:
            reply = client.infer(observation(rng))
            assert reply["actions"][3, 1] == outcome
            assert reply["action_violations"] == 1
        assert server.metrics.summary()["action_violations"] == 1
        assert client.infer(observation(rng))["action_violations"] == 0


def test_a_policy_whose_warm_up_is_bad_never_opens_the_port():
    policy = LinearPolicy()
    policy.weight = policy.weight * float("nan")
    server = PolicyServer(policy, ServeConfig(port=0))
    with pytest.raises(ActionError), running(server):
        pytest.fail("the port opened")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=2)


def test_a_policy_that_needs_depth_says_so(rng):
    with (
        running(PolicyServer(DepthPolicy(), ServeConfig(port=0))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client,
    ):
        with pytest.raises(ServerRefusalError, match=r"needs observation\.depth\.front") as refusal:
            client.infer(observation(rng, geometry=False))
        assert refusal.value.code == "invalid_observation"
        client.infer(observation(rng))


def test_a_stuck_inference_is_reported_and_readiness_withdrawn(rng):
    policy = BlockingPolicy()
    server = PolicyServer(policy, ServeConfig(port=0, inference_timeout_s=0.3))
    with running(server) as port:
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        assert get(port, "/readyz") == (200, "OK\n")
        policy.block_s = 60.0
        with pytest.raises(ServerRefusalError, match=r"no actions within 0\.3 s") as refusal:
            client.infer(observation(rng))
        assert refusal.value.code == "inference_timeout"
        assert get(port, "/readyz")[0] == 503
        assert get(port, "/healthz")[0] == 200
        policy.block_s = 0.0
        policy.release.set()
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as other:
            other.infer(observation(rng))
        assert get(port, "/readyz")[0] == 200


def test_a_server_that_stops_during_an_inference_says_goodbye_at_once(rng, caplog):
    policy = BlockingPolicy()
    server = PolicyServer(policy, ServeConfig(port=0))
    with running(server) as port, ThreadPoolExecutor(1) as pool:
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        policy.block_s = 60.0
        policy.entered.clear()
        answer = pool.submit(client.infer, observation(rng), timeout_s=30.0)
        assert policy.entered.wait(10)
        server.stop()
        with pytest.raises(ServerUnavailableError, match="1001"):
            answer.result(20)
        assert "policy failed" not in caplog.text
        policy.release.set()


def test_reset_and_a_new_connection_begin_an_episode(rng):
    policy = ScriptedPolicy()
    bad = np.full((HORIZON, 3), np.nan, np.float32)
    good = np.full((HORIZON, 3), 0.25, np.float32)
    with running(PolicyServer(policy, ServeConfig(port=0, on_violation="hold"))) as port:
        url = ClientConfig(url=f"ws://127.0.0.1:{port}")
        with PolicyClient(url) as client, PolicyClient(url) as other:
            policy.answers = [good, bad, bad, bad, bad]
            client.infer(observation(rng))
            np.testing.assert_array_equal(client.infer(observation(rng))["actions"][:, 2], 0.25)
            with pytest.raises(ServerRefusalError):  # another connection knows nothing of the first one's gripper
                other.infer(observation(rng))
            with pytest.raises(ServerRefusalError):
                client.infer(observation(rng), reset=True)
            # the refused request began no episode
            np.testing.assert_array_equal(client.infer(observation(rng))["actions"][:, 2], 0.25)


# ---- who may connect, and how much


def test_an_address_that_others_can_reach_needs_a_token(policy, monkeypatch):
    for host in ("0.0.0.0", "", "::"):
        with pytest.raises(ServeError, match="a token is required"):
            PolicyServer(policy, ServeConfig(host=host, port=0))
    monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    with running(PolicyServer(policy, ServeConfig(host="0.0.0.0", port=0))) as port:
        assert get(port, "/healthz")[0] == 200


@pytest.mark.parametrize("token", ["", "short", "with spaces in the middle", "ünïcödé-ünïcödé-ünïcödé"])
def test_weak_tokens_are_refused(policy, tmp_path, token):
    path = tmp_path / "token"
    path.write_text(token)
    with pytest.raises(ServeError, match="at least 16 ASCII characters"):
        PolicyServer(policy, ServeConfig(port=0, token_file=path))


def test_a_missing_token_file_is_named(policy, tmp_path):
    with pytest.raises(ServeError, match=r"cannot read the token file .*none"):
        PolicyServer(policy, ServeConfig(port=0, token_file=tmp_path / "none"))


def test_health_is_open_while_metrics_and_the_policy_need_the_token(policy, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN + "\n")
    with running(PolicyServer(policy, ServeConfig(port=0, token_file=path))) as port:
        assert get(port, "/healthz") == (200, "OK\n")
        assert get(port, "/readyz") == (200, "OK\n")
        assert get(port, "/metrics")[0] == 401
        assert get(port, "/metrics", {"Authorization": f"Bearer {TOKEN}"})[0] == 401
        status, body = get(port, "/metrics", {"Authorization": f"Api-Key {TOKEN}"})
        assert (status, json.loads(body)["requests"]) == (200, 0)
        assert get(port, "/elsewhere", {"Authorization": f"Api-Key {TOKEN}"})[0] == 404
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", token_file=path)) as client:
            assert client.horizon == HORIZON
        with pytest.raises(ServerUnavailableError, match=r"401.*Api-Key"):
            PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))


def test_metrics_have_percentiles_per_stage(server, client, rng):
    for _ in range(5):
        client.infer(observation(rng))
    summary = json.loads(get(server.port, "/metrics")[1])
    assert summary["requests"] == 5
    for stage in ("decode_ms", "queue_ms", "infer_ms", "encode_ms"):
        assert 0 <= summary[stage]["p50"] <= summary[stage]["p95"] <= summary[stage]["p99"]


def test_a_web_page_cannot_connect(server):
    with pytest.raises(InvalidStatus, match="403"):
        connect(f"ws://127.0.0.1:{server.port}", origin="http://evil.example", proxy=None)


def test_a_port_in_use_is_named_with_the_way_out(server):
    with pytest.raises(ServeError, match=rf"port {server.port} on 127.0.0.1 is in use.*--port"):
        PolicyServer(LinearPolicy(), ServeConfig(port=server.port))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"port": 70_000}, "port must lie in 0 … 65535.*70000"),
        ({"host": "no-such-host.invalid"}, "host 'no-such-host.invalid' is unknown"),
        ({"idle_timeout_s": 0.0}, "idle_timeout_s must be positive"),
        ({"max_message_bytes": -1}, "max_message_bytes must be positive"),
        ({"tls_cert": "x.pem"}, "both tls_cert and tls_key"),
        ({"tls_cert": "x.pem", "tls_key": "y.pem"}, "cannot load x.pem with y.pem"),
    ],
)
def test_settings_that_cannot_work_are_named(policy, settings, says):
    with pytest.raises(ServeError, match=says):
        PolicyServer(policy, ServeConfig(**{"port": 0, **settings}))


def test_an_oversized_frame_ends_its_connection_only(policy, rng):
    with (
        running(PolicyServer(policy, ServeConfig(port=0, max_message_bytes=10_000))) as port,
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as bystander,
    ):
        big = WebsocketClientPolicy("127.0.0.1", port)
        with pytest.raises(ConnectionClosedError, match="1009"):
            big.infer({**wire_observation(rng), "extra": np.zeros(100_000, np.uint8)})
        bystander.infer(observation(rng))


def test_the_connection_limit_turns_newcomers_away(policy, rng):
    server = PolicyServer(policy, ServeConfig(port=0, max_connections=2))
    with running(server) as port:
        config = ClientConfig(url=f"ws://127.0.0.1:{port}")
        first, second = PolicyClient(config), PolicyClient(config)
        with pytest.raises(ServerUnavailableError, match=r"503.*all 2 connections are taken"):
            PolicyClient(config)
        first.close()
        while server._connections > 1:
            time.sleep(0.01)
        third = PolicyClient(config, expected=EMBODIMENT)
        third.infer(observation(rng))
        second.infer(observation(rng))


def test_an_idle_connection_is_closed(policy, rng):
    with running(PolicyServer(policy, ServeConfig(port=0, idle_timeout_s=0.2))) as port:
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        client.infer(observation(rng))
        with pytest.raises(ServerUnavailableError, match=r"idle for 0\.2 s"):
            client._receive_frame(5.0)


def test_concurrent_clients_each_get_their_own_answers(server, policy):
    def talk(seed: int) -> int:
        rng = np.random.default_rng(seed)
        client = WebsocketClientPolicy("127.0.0.1", server.port)
        for _ in range(20):
            message = wire_observation(rng)
            np.testing.assert_allclose(
                client.infer(message)["actions"], expected_actions(policy, message), rtol=1e-5, atol=1e-6
            )
        return seed

    torch.set_num_threads(1)
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(talk, range(6))) == list(range(6))
    deadline = time.monotonic() + 5.0  # a request is counted once its answer has left, which its client may outrun
    while server.metrics.summary()["requests"] < 120 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert server.metrics.summary()["requests"] == 120


def test_fragmented_and_text_frames(server, rng):
    with connect(f"ws://127.0.0.1:{server.port}", proxy=None) as raw:
        raw.recv()
        data = encode(wire_observation(rng))
        raw.send([data[i : i + 50] for i in range(0, len(data), 50)])
        assert decode(raw.recv(timeout=5))["actions"].shape == (HORIZON, 3)
        raw.send("infer, please")
        assert "expected a binary frame" in raw.recv(timeout=5)


# ---- what connections share


class OneChunkPolicy(LinearPolicy):
    """Returns the same memory every time, as a captured CUDA graph does."""

    def __init__(self) -> None:
        super().__init__()
        self.chunk = torch.zeros(1, HORIZON, EMBODIMENT.action_dim)

    def predict_chunk(self, observation):
        return self.chunk.copy_(super().predict_chunk(observation))


def test_a_chunk_does_not_change_while_the_next_connection_is_answered(rng):
    async def two() -> tuple[np.ndarray, np.ndarray]:
        thread = InferenceThread(OneChunkPolicy())
        first = await thread.run(Question(observation=observation(rng)), 30.0)
        then = first.actions.copy()
        await thread.run(Question(observation=observation(rng)), 30.0)
        thread.close()
        return then, first.actions

    np.testing.assert_array_equal(*asyncio.run(two()))
