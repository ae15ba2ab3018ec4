"""Cal-QL's losses against closed forms, on decisions of which there are only a few kinds."""

import math

import torch

from rl.conservative import actor_loss, bellman_target, cal_ql_loss, calibrated, log_sum_exp, monte_carlo
from rl.robofume.config import CalQLConfig
from rl.robofume.critics import Critics


def test_the_integral_over_actions_is_that_of_all_of_them():
    """Four actions, drawn unevenly but each as often as its probability says: the weights make up for it."""
    values = torch.tensor([0.0, 1.0, -1.0, 2.0])
    often = torch.tensor([4, 2, 1, 1])
    drawn = torch.arange(4).repeat_interleave(often)
    density = (often / often.sum()).log()
    found = log_sum_exp(values[drawn][None, None], density[drawn][None])
    assert torch.allclose(found, values.logsumexp(0).expand(1, 1))
    assert torch.allclose(log_sum_exp(values[None, None]), values.logsumexp(0).expand(1, 1))


def test_values_below_what_was_earned_are_not_pushed_down():
    chosen = torch.tensor([[[1.0, 5.0]]], requires_grad=True)
    taken, drawn = torch.zeros(1, 1, requires_grad=True), torch.tensor([[[0.5]]], requires_grad=True)
    found = cal_ql_loss(taken, torch.tensor([2.0]), drawn, chosen, torch.tensor([3.0]), weight=0.5)
    others = torch.tensor([0.5, 3.0, 5.0])
    assert torch.allclose(found.loss, 0.5 * torch.tensor(4.0) + 0.5 * others.logsumexp(0))
    assert float(found.floored) == 0.5 and torch.allclose(found.gap, -others.logsumexp(0))
    found.loss.backward()
    share = 0.5 * others.softmax(0)
    assert torch.allclose(chosen.grad, torch.tensor([[[0.0, float(share[2])]]]))  # the one below 3 is let be
    assert torch.allclose(drawn.grad, share[0].reshape(1, 1, 1))  # what nobody chose is not calibrated
    assert torch.allclose(taken.grad, torch.tensor([[-2.0 - 0.5]]))
    without = calibrated(chosen.detach(), torch.tensor([-math.inf]))
    assert torch.equal(without, chosen.detach())  # without returns it is CQL


def test_returns_of_what_is_cut_short_go_on_with_what_is_expected():
    """Three worlds: a success in the second decision, one that is cut short there, one that goes on at the end."""
    rewards = torch.tensor([[0.0, 0.0, 0.0], [10.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    terminated, ended = torch.zeros(3, 3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.bool)
    terminated[1, 0] = ended[1, 0] = ended[1, 1] = True
    discount, expected = torch.full((3, 3), 0.5), torch.full((3, 3), 8.0)
    found = monte_carlo(rewards, discount, terminated, ended, expected)
    assert torch.allclose(found, torch.tensor([[5.0, 2.0, 1.0], [10.0, 4.0, 2.0], [4.0, 4.0, 4.0]]))
    target = bellman_target(rewards[1], discount[1], terminated[1], expected[1])
    assert torch.allclose(target, torch.tensor([10.0, 4.0, 4.0]))


def test_the_policys_loss_keeps_its_proportion_whatever_rewards_are_worth():
    values, imitation = torch.tensor([1.0, 3.0]), torch.tensor(0.2)
    small, large = (actor_loss(scale * values, imitation, 2.0) for scale in (1.0, 100.0))
    assert torch.allclose(small, large) and torch.allclose(small, torch.tensor(-1.0 + 0.4))


def test_critics_say_of_many_actions_what_each_would_say_of_one():
    torch.manual_seed(0)
    critics = Critics(CalQLConfig(critics=3, width=8), seen=5, action=4)
    summary, actions = torch.randn(6, 5), torch.randn(6, 2, 4)
    both = critics(summary, actions)
    assert both.shape == (3, 6, 2)
    assert torch.allclose(both[..., 1:], critics(summary, actions[:, 1:]), atol=1e-6)
    assert not torch.allclose(both[0], both[1])
    target = critics.target()
    with torch.no_grad():
        critics.last.bias += 1.0
    target.follow(critics, 0.25)
    assert torch.allclose(target(summary, actions), both + 0.25, atol=1e-5)


def test_conservative_values_of_a_table_prefer_what_was_tried():
    """One state, three actions of which the first was tried and earned 1; critics are a table. At the optimum of CQL
    with weight w, the gradient of each entry is 0: (Q₀ − 1) = w (1 − p₀), and the others sink without bound; those
    that Cal-QL holds up by the return of 1 stop there.
    """
    table = torch.zeros(3, requires_grad=True)
    optimizer = torch.optim.SGD([table], lr=0.2)
    for _ in range(400):
        taken, chosen = table[:1][None], table[1:][None, None]
        nothing = torch.full((1, 1, 1), -1e9)
        found = cal_ql_loss(taken, torch.ones(1), nothing, chosen, torch.ones(1), weight=0.5)
        optimizer.zero_grad()
        found.loss.backward()
        optimizer.step()
    assert float(table[0].detach()) > 1 and torch.equal(table[1:].detach(), torch.zeros(2))  # below 1: never pushed
