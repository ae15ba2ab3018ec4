"""What a policy says of its actions reaches whoever asked: through the server, the robot's loop and `vla rollout`."""

import torch
from serving_fakes import EMBODIMENT, LinearPolicy, PointEnv, batched, observation

from configs.commands.rollout import _runs
from envs.specs import TASK_KEY
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.rollout import run_episode
from policies.serving.server import PolicyServer, running


class SpeakingPolicy(LinearPolicy):
    """Says what it was told to do, unless that is nothing."""

    def plan(self, state, observation, mask):
        _, plan = super().plan(state, observation, mask)
        texts = [text and f"I {text}" for text in observation[TASK_KEY]]
        return None, plan._replace(answers=tuple(texts)) if any(texts) else plan


def connected(policy):
    return running(PolicyServer(policy, ServeConfig(port=0)))


def test_a_reply_holds_what_is_said_and_nothing_where_nothing_is(rng):
    with connected(SpeakingPolicy()) as port, PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
        replies = [client.infer({**observation(rng), TASK_KEY: text}).get("answer") for text in ("wave", "", "push")]
    assert replies == ["I wave", None, "I push"]


def test_a_remote_policy_says_what_the_served_one_says(rng):
    seen = batched([{**observation(rng), TASK_KEY: text} for text in ("wave", "push", "")])
    mask = torch.tensor([False, True, True])
    with connected(SpeakingPolicy()) as port, PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
        remote = RemotePolicy([client])
        _, plan = remote.plan(remote.start(3), seen, mask)
        assert plan.answers == ("", "I push", "")
        _, quiet = remote.plan(remote.start(3), seen, torch.tensor([False, False, True]))
        assert quiet.answers == () and remote.embodiment == EMBODIMENT


def test_an_episode_reports_what_was_said_of_each_chunk():
    with connected(SpeakingPolicy()) as port, PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
        report = run_episode(PointEnv(), client, seed=3, realtime=False, watchdog_s=20.0)
    assert len(report.answers) == report.requests > 0
    assert all(answer.startswith("I ") for answer in report.answers)
    assert _runs(("a", "a", "b", "a")) == [("a", 2), ("b", 1), ("a", 1)]
