"""The tokens head: bins, what decodes given what, and probabilities that agree however they are computed."""

from dataclasses import replace

import pytest
import torch
from head_contract import DistributionContract
from vla_inputs import ACTION_DIM, HORIZON, random_observation, random_target

from vla.heads.binning import UniformBins
from vla.heads.tokens import TokensConfig

QUERIES = ("queries", "query_position")
"""Parts of a backbone that decoding heads have no use for."""


class TestAutoregressive(DistributionContract):
    config = TokensConfig(bins=16)
    unused = QUERIES


class TestParallel(DistributionContract):
    config = TokensConfig(bins=16, decoding="parallel")
    unused = QUERIES


class TestFast(DistributionContract):
    config = TokensConfig(binning="fast", vocabulary=80, scale=3.0)
    unused = QUERIES

    def test_a_head_that_is_not_fitted_says_so(self):
        backbone, _ = self.make()
        head = self.config.build(backbone=backbone, state_dim=5, horizon=HORIZON, action_dim=ACTION_DIM)
        with pytest.raises(RuntimeError, match="vocabulary of this FAST head is not fitted"):
            head.act(head.perceive(backbone, random_observation(backbone)))


def test_bins_are_equal_parts_and_come_back_as_their_middles():
    code = UniformBins(4, horizon=1, action_dim=2)
    actions = torch.tensor([[[-1.0, -0.51]], [[-0.49, 0.0]], [[0.99, 1.0]], [[-7.0, 7.0]]])
    assert code.encode(actions).tolist() == [[0, 0], [1, 2], [3, 3], [0, 3]]
    assert code.decode(torch.tensor([[0, 3]])).tolist() == [[[-0.75, 0.75]]]


def test_bins_act_by_the_median():
    """The likeliest one is a point mass that two thirds of the probability lie beyond."""
    code = UniformBins(6, horizon=1, action_dim=1)
    log_p = torch.tensor([[[0.05, 0.3, 0.1, 0.2, 0.2, 0.15], [1.0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1.0]]]).log()
    assert code.choose(log_p).tolist() == [[3, 0, 5]]


def test_bins_reach_as_far_as_the_data():
    code, target = UniformBins(256, horizon=HORIZON, action_dim=ACTION_DIM), random_target(100)
    target.actions[..., 0] *= 0.1
    target.valid[:, 3] = False
    target.actions[:, 3] = float("nan")
    code.fit(target)
    back = code.decode(code.encode(target.actions[:, :3].repeat(1, 2, 1)[:, :4]))
    error = (back[:, :3] - target.actions[:, :3]).abs().amax(dim=(0, 1))
    assert code.low[0] == -1 and code.high[0] == 1 and code.low[1] < -1
    assert (error <= 0.5001 * (code.high - code.low) / 256).all()


def drawn(kind, seed=0):
    backbone, head = kind().make()
    seen = head.perceive(backbone, random_observation(backbone))
    distribution = head.distribution(seen)
    return distribution, distribution.sample(torch.Generator().manual_seed(seed)), head, seen


@torch.no_grad()
@pytest.mark.parametrize("kind", [TestAutoregressive, TestFast])
def test_tokens_drawn_step_by_step_have_the_probability_that_teacher_forcing_gives(kind):
    """What the cached steps drew by, summed, is what one pass over all tokens says."""
    distribution, sample, head, seen = drawn(kind)
    ids = sample.latent.flatten(1)
    hidden, decoder = seen.decode(head.first(seen), causal=True)
    stepwise = []
    for at in range(ids.shape[1]):
        log_p = head.normalised(head.out(hidden), ids[:, :at])
        stepwise.append(log_p[:, 0].gather(1, ids[:, at : at + 1])[:, 0])
        if at + 1 < ids.shape[1]:
            hidden, decoder = decoder.decode(head.embed(ids[:, at : at + 1], at=at + 1), causal=True)
    stepwise = torch.stack(stepwise, dim=1)
    told = head.told(ids) if head.code.end_id is not None else torch.ones_like(ids).bool()
    expected = stepwise.masked_fill(~told, 0.0).sum(dim=1)
    torch.testing.assert_close(distribution.log_prob(sample.latent).flatten(1).sum(dim=1), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", [TestAutoregressive, TestParallel, TestFast])
def test_each_token_depends_on_those_before_it_alone(kind):
    distribution, sample, *_ = drawn(kind)
    latent = sample.latent.flatten(1).clone()
    before = distribution.log_prob(sample.latent).flatten(1)
    latent[:, 2] = (latent[:, 2] + 1) % 16
    after = distribution.log_prob(latent.view_as(sample.latent)).flatten(1)
    assert after[:, :2].equal(before[:, :2])
    assert after[:, 3:].equal(before[:, 3:]) == (kind is TestParallel)


@torch.no_grad()
@pytest.mark.parametrize("kind", [TestAutoregressive, TestParallel])
def test_entropy_is_the_mean_surprise(kind):
    """Of the first number, which is drawn given nothing but what is seen."""
    backbone, head = kind().make()
    seen = head.perceive(backbone, random_observation(backbone)).at(torch.zeros(3000, dtype=torch.long))
    distribution = head.distribution(seen)
    sample = distribution.sample(torch.Generator().manual_seed(0))
    log_prob, entropy = distribution.evaluate(sample.latent)
    assert log_prob.shape == entropy.shape == (3000, HORIZON, ACTION_DIM)
    assert -log_prob[:, 0, 0].mean() == pytest.approx(float(entropy[0, 0, 0]), abs=0.05)


@torch.no_grad()
def test_fast_tells_whole_chunks_and_nothing_after_the_end():
    distribution, sample, head, _ = drawn(TestFast)
    for row in sample.latent.tolist():
        numbers = [len(head.code.vocabulary.expansions[x]) for x in row if x != head.code.end_id]
        assert sum(numbers) <= HORIZON * ACTION_DIM
        end = row.index(head.code.end_id) if head.code.end_id in row else len(row)
        assert set(row[end:]) <= {head.code.end_id} and 0 not in numbers
    log_prob, entropy = distribution.evaluate(sample.latent)
    ended = ~head.told(sample.latent)
    assert (log_prob[ended] == 0).all() and (entropy[ended] == 0).all()
    longer = torch.cat([sample.latent, torch.full((2, 1), head.code.end_id)], dim=1)[:, : head.code.length]
    torch.testing.assert_close(distribution.log_prob(longer).sum(1), log_prob.sum(1))


@torch.no_grad()
def test_the_loss_is_the_mean_surprise_of_the_target():
    distribution, _, head, seen = drawn(TestAutoregressive)
    target = random_target(2)
    target.valid[0, 2:] = False
    filled = replace(target, actions=target.actions.masked_fill(~target.valid[..., None], 0.0))
    loss, numbers = head.loss(seen, filled)
    surprise = -distribution.log_prob(head.code.encode(filled.actions).view(2, HORIZON, ACTION_DIM))
    torch.testing.assert_close(loss, torch.cat([surprise[0, :2], surprise[1]]).mean(), atol=1e-5, rtol=1e-4)
    assert set(numbers) == {"nll", "accuracy", "l1", "l1_first"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"binning": "fast", "decoding": "parallel"}, "decode them autoregressively"),
        ({"decoding": "beam"}, "out of autoregressive, parallel, got 'beam'"),
        ({"bins": 1}, "at least 2 bins"),
        ({"folder": "somewhere"}, "folder for FAST alone, got 'somewhere' for uniform"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TokensConfig(**fields)
