"""Requests of several connections in one pass through the policy, over real sockets."""

import contextlib
import json
import threading
import time
import urllib.request

import numpy as np
import pytest
import torch
from serving_fakes import HORIZON, DepthPolicy, LinearPolicy, batched, observation

from envs.specs import TASK_KEY
from policies.serving.client import ClientConfig, PolicyClient, ServerRefusalError
from policies.serving.config import ServeConfig, ServeError
from policies.serving.server import PolicyServer, running
from policies.serving.underway import RunningChunk
from policies.serving.worker import BatchWorker, Gathering

LIMIT_S = 30.0


class Gate:
    """Added to a policy: passes through it wait while it is ``closed``; ``batches`` are the instructions of each."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def predict_chunk(self, observation):
        self.batches.append(list(observation[TASK_KEY]))
        self.entered.set()
        assert self.open.wait(LIMIT_S)
        return super().predict_chunk(observation)


class GatedPolicy(Gate, LinearPolicy):
    """Fails for the instruction ``fail``, and plans what is no number for ``nan``."""

    def predict_chunk(self, observation):
        chunk = super().predict_chunk(observation)
        if "fail" in observation[TASK_KEY]:
            raise RuntimeError("no idea")
        chunk[[text == "nan" for text in observation[TASK_KEY]]] = torch.nan
        return chunk


class GatedDepthPolicy(Gate, DepthPolicy):
    pass


class RememberingPolicy(GatedPolicy):
    """Remembers how often it was asked."""

    remembers = True

    def start(self, n):
        return torch.zeros(n)

    def plan(self, state, observation, mask):
        _, plan = super().plan(None, observation, mask)
        return state + 1, plan._replace(actions=plan.actions * 0 + state[:, None, None] / 100)


class Crowd:
    """A server and clients of which the first one occupies the policy, until ``answers`` lets all have theirs."""

    def __init__(self, policy, count, scope, **settings) -> None:
        self.policy = policy
        self.server = PolicyServer(policy, ServeConfig(port=0, **settings))
        port = scope.enter_context(running(self.server))
        url = ClientConfig(url=f"ws://127.0.0.1:{port}")
        self.metrics_url = f"http://127.0.0.1:{port}/metrics"
        self.clients = [scope.enter_context(PolicyClient(url)) for _ in range(count + 1)]
        scope.callback(policy.open.set)

    def ask(self, *observations, underway=None) -> None:
        self.policy.batches.clear()
        self.policy.entered.clear()
        self.policy.open.clear()
        self.clients[0].send({**observations[0], TASK_KEY: "first"})
        assert self.policy.entered.wait(LIMIT_S)
        for index, seen in enumerate(observations):
            self.clients[index + 1].send(seen, underway=underway[index] if underway else None)
            self.wait_for(index + 1)

    def wait_for(self, waiting) -> None:
        deadline = time.monotonic() + LIMIT_S
        while self.metrics()["waiting"] != waiting:
            assert time.monotonic() < deadline, self.metrics()
            time.sleep(0.005)

    def answers(self) -> list:
        """What each client gets: the actions, or the error."""
        self.policy.open.set()
        self.clients[0].receive(LIMIT_S)
        found = []
        for client in self.clients[1:]:
            try:
                found.append(client.receive(LIMIT_S)["actions"])
            except ServerRefusalError as refusal:
                found.append(refusal)
        return found

    def metrics(self) -> dict:
        with urllib.request.urlopen(self.metrics_url, timeout=LIMIT_S) as response:
            return json.loads(response.read())


@pytest.fixture
def crowd():
    with contextlib.ExitStack() as scope:
        yield lambda policy, count, **settings: Crowd(policy, count, scope, **settings)


def seen(seed: int, text: str, geometry: bool = True) -> dict:
    return {**observation(np.random.default_rng(seed), geometry), TASK_KEY: text}


def alone(observed: dict) -> np.ndarray:
    return LinearPolicy().predict_chunk(batched([observed]))[0].numpy()


def test_what_comes_while_the_policy_is_busy_is_answered_in_one_pass_and_each_gets_its_own(crowd):
    here = crowd(GatedPolicy(), 3)
    asked = [seen(seed, text) for seed, text in enumerate(("a", "bb", "ccc"))]
    here.ask(*asked)
    for actions, one in zip(here.answers(), asked, strict=True):
        np.testing.assert_allclose(actions, alone(one), rtol=1e-5)
    assert here.policy.batches == [["first"], ["a", "bb", "ccc"]]
    deadline = time.monotonic() + LIMIT_S  # a request is counted once its answer has left
    while (metrics := here.metrics())["requests"] < 4 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert metrics["batch"] == {"1": 1.0, "3": 3.0}


def test_the_largest_batch_bounds_each_pass_and_the_oldest_go_first(crowd):
    here = crowd(GatedPolicy(), 5, max_batch=2)
    here.ask(*(seen(seed, text) for seed, text in enumerate("abcde")))
    here.answers()
    assert here.policy.batches == [["first"], ["a", "b"], ["c", "d"], ["e"]]


def test_a_request_that_fails_or_may_not_be_answered_harms_none_of_its_batch(crowd):
    here = crowd(GatedPolicy(), 4)
    asked = [seen(seed, text) for seed, text in enumerate(("good", "fail", "nan", "fine"))]
    here.ask(*asked)
    good, failed, refused, fine = here.answers()
    np.testing.assert_allclose(good, alone(asked[0]), rtol=1e-5)
    np.testing.assert_allclose(fine, alone(asked[3]), rtol=1e-5)
    assert (failed.code, refused.code) == ("internal_error", "invalid_actions")
    assert here.policy.batches[1:] == [["good", "fail", "nan", "fine"], ["good"], ["fail"], ["nan"], ["fine"]]


def test_actions_that_are_no_numbers_cost_the_others_nothing(crowd):
    here = crowd(GatedPolicy(), 2)
    asked = [seen(0, "nan"), seen(1, "fine")]
    here.ask(*asked)
    refused, fine = here.answers()
    assert refused.code == "invalid_actions"
    np.testing.assert_allclose(fine, alone(asked[1]), rtol=1e-5)
    assert here.policy.batches == [["first"], ["nan", "fine"]]


def test_observations_of_other_keys_are_never_stacked(crowd):
    here = crowd(GatedDepthPolicy(), 3)
    here.ask(seen(0, "a"), seen(1, "blind", geometry=False), seen(2, "c"))
    first, blind, last = here.answers()
    assert (blind.code, here.policy.batches) == ("invalid_observation", [["first"], ["a", "c"], ["blind"]])
    np.testing.assert_allclose(first, alone(seen(0, "a")), rtol=1e-5)
    np.testing.assert_allclose(last, alone(seen(2, "c")), rtol=1e-5)


def test_who_leaves_while_waiting_is_not_asked_for(crowd):
    here = crowd(GatedPolicy(), 3)
    here.ask(*(seen(seed, text) for seed, text in enumerate("abc")))
    here.clients.pop(2).close()
    here.wait_for(2)
    assert len(here.answers()) == 2
    assert here.policy.batches == [["first"], ["a", "c"]]


def test_a_policy_that_remembers_is_asked_by_each_connection_alone(crowd):
    here = crowd(RememberingPolicy(), 2)
    for turn in range(3):
        here.ask(seen(0, "a"), seen(1, "b"))
        for actions in here.answers():
            np.testing.assert_allclose(actions, turn / 100)
        assert here.policy.batches == [["first"], ["a"], ["b"]]


# ---- the bounded wait


@pytest.mark.parametrize(
    ("waiting", "clients", "waited_s", "left_s"),
    [
        (1, 1, 0.0, 0.0),  # a single robot
        (1, 0, 0.0, 0.0),  # nobody is connected: the warm-up
        (1, 3, 0.0, 0.5),
        (2, 3, 0.2, 0.3),
        (2, 3, 0.7, 0.0),
        (3, 3, 0.0, 0.0),  # all have asked
        (4, 9, 0.0, 0.0),  # the batch is full
    ],
)
def test_a_request_waits_only_while_another_may_still_join_it(waiting, clients, waited_s, left_s):
    gathering = Gathering(largest=4, wait_s=0.5)
    assert gathering.left_s(waiting, clients, waited_s) == pytest.approx(left_s)
    assert Gathering(largest=4).left_s(waiting, clients, waited_s) == 0.0


@pytest.mark.parametrize("settings", [{"largest": 0}, {"wait_s": -1.0}, {"wait_s": float("inf")}])
def test_gathering_that_cannot_be_is_refused(settings):
    with pytest.raises(ValueError, match="expected largest at least 1"):
        Gathering(**settings)


def test_a_request_waits_for_those_who_are_there_and_for_nobody_who_has_left():
    batches = []

    def work(batch):
        batches.append(batch)
        return [text.upper() for text in batch]

    worker = BatchWorker("test", work, Gathering(largest=8, wait_s=3600.0))
    worker.expect(2)
    first = worker.submit("a")
    assert not first.done() and worker.waiting == 1
    assert [worker.submit("b").result(LIMIT_S), first.result(LIMIT_S)] == ["B", "A"]
    lone = worker.submit("c")
    worker.expect(-1)
    assert lone.result(LIMIT_S) == "C"
    worker.expect(1)
    dropped = worker.submit("d")
    assert dropped.cancel()
    kept = worker.submit("e")
    worker.close()
    assert kept.result(LIMIT_S) == "E"
    assert batches == [["a", "b"], ["c"], ["e"]]


def test_a_client_that_leaves_during_its_inference_does_not_make_the_server_look_stuck(crowd):
    here = crowd(GatedPolicy(), 1)
    here.ask(seen(0, "a"))
    here.clients[0].close()
    deadline = time.monotonic() + LIMIT_S
    while here.server._thread._abandoned is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    with urllib.request.urlopen(here.metrics_url.replace("metrics", "readyz"), timeout=LIMIT_S) as response:
        assert response.status == 200
    here.policy.open.set()
    assert here.clients[1].receive(LIMIT_S)["actions"].shape[0] == HORIZON


def test_what_those_who_left_asked_is_forgotten_while_the_work_is_stuck():
    opened = threading.Event()
    worker = BatchWorker("test", lambda batch: [opened.wait(LIMIT_S) for _ in batch], Gathering())
    first = worker.submit("a")
    for _ in range(5):
        worker.submit("b").cancel()
    last = worker.submit("c")
    assert len(worker._waiting) <= 2  # the one that waits, and one that was begun or is about to be
    opened.set()
    assert first.result(LIMIT_S) and last.result(LIMIT_S)
    worker.close()


def test_an_error_of_the_work_is_every_requests_and_the_thread_goes_on():
    def work(batch):
        if "stop" in batch:
            raise SystemExit("stop")
        return [ValueError(text) if text == "bad" else text for text in batch]

    worker = BatchWorker("test", work, Gathering(largest=8, wait_s=3600.0))
    worker.expect(2)
    answers = [worker.submit(text) for text in ("bad", "good")]
    assert str(answers[0].exception(LIMIT_S)) == "bad" and answers[1].result(LIMIT_S) == "good"
    for answer in [worker.submit(text) for text in ("stop", "good")]:
        assert isinstance(answer.exception(LIMIT_S), SystemExit)
    worker.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_batch": 0}, "max_batch must be positive"),
        ({"batch_wait_ms": -1.0}, "batch_wait_ms must be at least 0"),
        ({"batch_wait_ms": 2000.0, "inference_timeout_s": 1.0}, "less than inference_timeout_s"),
        ({"batch_wait_ms": 5.0, "max_batch": 1}, "answers each request alone"),
    ],
)
def test_settings_of_batches_that_cannot_work_are_named(settings, says):
    with pytest.raises(ServeError, match=says):
        ServeConfig(port=0, **settings).check()


# ---- what is under way


class ContinuingPolicy(GatedPolicy):
    """Begins with what is under way, in real-time chunking's way, and goes on with its delay."""

    continues = True

    def plan_on(self, state, observation, mask, underway):
        _, plan = self.plan(state, observation, mask)
        actions = plan.actions.clone()
        for row, kept, length, delay in zip(actions, *underway, strict=True):
            row[:length] = kept[:length]
            row[length:] = delay / 100
        return None, plan._replace(actions=actions)


def test_a_policy_that_continues_is_told_what_each_of_a_batch_goes_on_doing(crowd):
    here = crowd(ContinuingPolicy(), 3)
    assert all(client.continues for client in here.clients)
    chunks = [
        None,
        RunningChunk(actions=np.full((2, 3), 0.1, np.float32), delay_steps=1),
        RunningChunk(actions=np.full((HORIZON - 1, 3), 0.2, np.float32), delay_steps=3),
    ]
    here.ask(*(seen(seed, text) for seed, text in enumerate("abc")), underway=chunks)
    fresh, short, long = here.answers()
    assert here.policy.batches == [["first"], ["a"], ["b", "c"]]
    np.testing.assert_allclose(fresh, alone(seen(0, "a")), rtol=1e-5)
    np.testing.assert_allclose(short[:, 0], [0.1, 0.1, 0.01, 0.01, 0.01], rtol=1e-6)
    np.testing.assert_allclose(long[:, 0], [0.2, 0.2, 0.2, 0.2, 0.03], rtol=1e-6)


def test_a_policy_that_does_not_continue_says_so_and_pays_no_heed(client):
    assert not client.continues
    chunk = RunningChunk(actions=np.zeros((2, 3), np.float32), delay_steps=1)
    np.testing.assert_allclose(client.infer(seen(0, "a"), underway=chunk)["actions"], alone(seen(0, "a")), rtol=1e-5)


@pytest.mark.parametrize(
    ("actions", "delay_steps", "says"),
    [
        (np.zeros((2, 4), np.float32), 1, r"underway must be float of shape \(1 … 5, 3\), got float32 array"),
        (np.zeros((6, 3), np.float32), 1, r"\(6, 3\)"),
        (np.full((2, 3), np.nan, np.float32), 1, "underway must be finite"),
        (np.zeros((2, 3), np.float32), 3, "delay_steps must be a whole number of 1 … 2 steps, got 3"),
        (np.zeros((2, 3), np.float32), 0, "got 0"),
    ],
)
def test_what_cannot_be_under_way_is_refused(client, actions, delay_steps, says):
    with pytest.raises(ServerRefusalError, match=says):
        client.infer(seen(0, "a"), underway=RunningChunk(actions=actions, delay_steps=delay_steps))
    client.infer(seen(0, "a"))
