"""The policy that is refined: it acts as before until it learns, and little of it does."""

from dataclasses import replace

import pytest
import torch
from demonstrations import TINY_HEADS, tiny_policy
from point_mass import PointMassEnv

from policies.vla_policy import VLAPolicy
from rl.robofume.agent import RefinedAgent, refined
from vla.observation import ActionChunk


@pytest.fixture
def observation():
    return PointMassEnv(3, stream="learn").reset([0, 1, 2])


@pytest.mark.parametrize("head", ["bridge", "mlp"])
def test_it_acts_as_the_policy_that_it_began_as_until_it_learns(head, observation, tmp_path):
    policy = tiny_policy(head=TINY_HEADS[head])
    before = policy.predict_chunk(observation)
    agent = RefinedAgent(refined(policy, std=0.1, width=8))
    assert torch.equal(agent.acting().predict_chunk(observation), before)
    learning = {name for name, parameter in agent.named_parameters() if parameter.requires_grad}
    assert learning and all(".refinement." in name for name in learning)
    seen = agent.see(agent.look(observation))
    assert torch.allclose(agent.executable(agent.distribution(seen).mean), before, atol=1e-6)
    assert torch.allclose(agent.normalized(agent.executable(agent.distribution(seen).mean)), seen_within(agent, seen))

    target = ActionChunk(actions=torch.zeros(3, 4, 2), valid=torch.ones(3, 4, dtype=torch.bool))
    optimizer = torch.optim.Adam([p for p in agent.parameters() if p.requires_grad], lr=0.01)
    first = agent.loss(seen, target)
    for _ in range(40):
        optimizer.zero_grad()
        loss = agent.loss(seen, target)
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.2 * float(first)
    agent.save(tmp_path)
    again = VLAPolicy.load(tmp_path).predict_chunk(observation)
    assert torch.equal(again, agent.acting().predict_chunk(observation)) and not torch.allclose(again, before)
    assert refined(VLAPolicy.load(tmp_path), std=0.1, width=8).vla.config.head.refined == 8


def seen_within(agent, seen):
    low, high = agent.bounds
    return agent.distribution(seen).mean.clamp(low, high)


def test_what_the_data_hold_constant_has_one_value():
    policy = tiny_policy(head=TINY_HEADS["mlp"])
    action = policy.normalization.action
    still = replace(action.stats, min=[-0.8, 0.1], max=[0.8, 0.1], mean=[0.0, 0.1], std=[0.4, 0.0])
    policy.normalization = replace(policy.normalization, action=replace(action, stats=still))
    agent = RefinedAgent(refined(policy, std=0.1, width=8))
    low, high = agent.bounds
    assert agent.moving.tolist() == [True, False] and low[0] < high[0] and low[1] == high[1]
    given = torch.tensor([[[0.5, 0.7]] * 4]).clamp(low, high)
    assert torch.allclose(agent.normalized(agent.executable(given)), given, atol=1e-6)


def test_a_head_without_one_chunk_to_refine_is_refused():
    with pytest.raises(ValueError, match="a Gaussian can be put about the chunk"):
        refined(tiny_policy(head=TINY_HEADS["tokens"]), std=0.1, width=8)
    with pytest.raises(TypeError, match="expected a gaussian head with a refinement"):
        RefinedAgent(tiny_policy(head=TINY_HEADS["mlp"]))
