"""A VLA learns with the very network and processing that it acts with."""

from dataclasses import replace

import pytest
import torch
from demonstrations import FAST, TINY_HEADS, tiny_policy
from following import FollowingEnv
from point_mass import PointMassEnv

from rl.config import CriticConfig, RLConfig
from rl.learner import RLLearner
from rl.levels import evaluate
from rl.rollout import Stopwatch
from rl.vla_agent import VLAAgent, with_distribution
from vla.heads.bridge import BridgeConfig


def learner(head, env=None, **fields):
    env = env or PointMassEnv(4, max_episode_steps=7, stream="learn")
    settings = {"num_envs": 4, "decisions": 4, "minibatches": 2, "epochs": 1, "target_kl": None, **fields}
    config = RLConfig(critic=CriticConfig(width=16, warmup=0), **settings)
    policy = with_distribution(tiny_policy(head=head), 0.3)
    return RLLearner(config, VLAAgent(policy, frozen=config.frozen), env)


HEADS = {
    "bridge": (TINY_HEADS["bridge"], "action"),
    "gaussian": (TINY_HEADS["gaussian"], "number"),
    "tokens": (TINY_HEADS["tokens"], "action"),
    "fast": (FAST, "chunk"),
    "flow": (TINY_HEADS["flow"], "chunk"),
}


@pytest.mark.parametrize("frozen", [("backbone",), ()], ids=["frozen", "whole"])
@pytest.mark.parametrize("name", HEADS)
def test_probabilities_are_the_same_when_learning_as_when_acting(name, frozen):
    """In other batches, from what was kept; and the learner makes sure of it, and learns."""
    head, level = HEADS[name]
    learning = learner(head, level=level, frozen=frozen)
    agent = learning.agent
    assert agent.keeps_features == (bool(frozen) and name not in ("tokens", "fast"))
    rollout = learning.collector.collect(4, [torch.Generator().manual_seed(0)], 0, Stopwatch(torch.device("cpu")))
    rows = torch.tensor([3, 14, 0, 7, 9])
    batch = rollout.rows(rows)
    distribution = agent.distribution(agent.see(batch.looked))
    now = distribution.log_prob(batch.latent)
    torch.testing.assert_close(now, rollout.log_prob.flatten(0, 1)[rows], rtol=1e-5, atol=1e-5)
    entropies = evaluate(distribution, batch.latent, level, batch.steps).entropy
    assert entropies.shape[0] == 5
    before = {name: weight.clone() for name, weight in agent.named_parameters()}
    found = learning.step(0)
    assert found["updates"] == 2 and found["decisions"] == 16
    changed = {name.split(".")[1] for name, weight in agent.named_parameters() if not torch.equal(weight, before[name])}
    assert changed == ({"head"} if frozen else {"head", "backbone"})


def test_what_is_kept_of_fewer_tokens_serves_in_other_batches():
    """Where merged tokens stand is of one batch alone; what heads read of them is of each sample."""
    policy = tiny_policy(head=TINY_HEADS["gaussian"])
    config = policy.vla.config
    policy.vla = replace(config, backbone=replace(config.backbone, merged_tokens=2)).build().eval()
    agent = VLAAgent(policy)
    looked = agent.look(PointMassEnv(3).reset([1, 2, 3]))
    rows = torch.tensor([2, 0])
    some = agent.see({name: kept[rows] for name, kept in looked.items()})
    assert some.by_the_head.at(torch.tensor([1])).layout.position is None
    one, all_of_them = (agent.distribution(seen).mode().actions for seen in (some, agent.see(looked)))
    torch.testing.assert_close(one, all_of_them[rows])


@pytest.mark.parametrize("name", ["bridge", "mlp"])
def test_a_gaussian_about_a_learned_chunk_acts_as_before(name, tmp_path):
    observation = PointMassEnv(3).reset([1, 2, 3])
    policy = tiny_policy(head=TINY_HEADS[name])
    before = policy.predict_chunk(observation)
    given = with_distribution(policy, 0.2)
    assert torch.equal(given.predict_chunk(observation), before)
    agent = VLAAgent(given)
    distribution = agent.distribution(agent.see(agent.look(observation)))
    assert torch.allclose(distribution.log_std.exp(), torch.tensor(0.2))
    torch.testing.assert_close(agent.executable(distribution.mode().actions), before)
    agent.save(tmp_path)
    assert torch.equal(type(policy).load(tmp_path).predict_chunk(observation), before)


def test_a_reference_stays_while_the_policy_learns():
    learning = learner(TINY_HEADS["gaussian"], reference_kl=0.1, lr=1e-2, level="number")
    first = {name: weight.clone() for name, weight in learning.reference.named_parameters()}
    assert learning.step(0)["reference_kl"] >= 0
    assert learning.step(1)["reference_kl"] > 0
    assert all(torch.equal(weight, first[name]) for name, weight in learning.reference.named_parameters())
    shared = dict(learning.reference.named_parameters())["vla.backbone.queries"]
    assert shared is learning.agent.vla.backbone.queries


def test_what_does_not_fit_is_refused_before_anything_is_learned():
    with pytest.raises(ValueError, match=r"the policy is for point_mass .*; the environment is follower"):
        learner(TINY_HEADS["gaussian"], FollowingEnv(4))
    with pytest.raises(ValueError, match="distribution over chunks; a Gaussian can be put about"):
        learner(BridgeConfig(heads=2, conditions="raw"))
    with pytest.raises(TypeError, match="MLPHead has no distribution"):
        VLAAgent(tiny_policy(head=TINY_HEADS["mlp"]))
    with pytest.raises(ValueError, match="expected level 'chunk'"):
        learner(FAST, level="action")
    with pytest.raises(ValueError, match="everything of the policy is frozen"):
        learner(TINY_HEADS["gaussian"], frozen=("backbone", "head"))
