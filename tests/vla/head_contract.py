"""What every head must do, and every distribution of one."""

from dataclasses import replace

import pytest
import torch
from vla_inputs import ACTION_DIM, HORIZON, STATE_DIM, random_observation, random_target, tiny_nano

from vla.observation import rows


class HeadContract:
    """What every head promises; subclasses give ``config``.

    ``unused`` are the beginnings of names of parameters, of the backbone or of the head, that its loss does not reach.
    """

    config = None
    unused = ()
    steps, copies, within = 100, 1, 0.15

    def make(self):
        backbone = tiny_nano()
        head = self.config.build(backbone=backbone, state_dim=STATE_DIM, horizon=HORIZON, action_dim=ACTION_DIM)
        head.fit(random_target(200))
        return backbone, head

    def target(self, batch, **sizes):
        return random_target(batch, **sizes)

    def test_a_chunk_has_the_promised_shape(self):
        backbone, head = self.make()
        seen = head.perceive(backbone, random_observation(backbone))
        actions = head.act(seen)
        assert actions.shape == (2, head.horizon, head.action_dim) == (2, HORIZON, ACTION_DIM)
        assert actions.isfinite().all() and head.act(seen).equal(actions)

    def test_the_loss_is_a_mean_over_valid_actions(self):
        """So that a batch in pieces, each counted by its valid actions, has the loss of the whole."""
        backbone, head = self.make()
        observation, target = random_observation(backbone), self.target(2)
        target.valid[0, 1:] = False

        def loss(part):
            torch.manual_seed(0)
            return head.loss(head.perceive(backbone, rows(observation, part)), rows(target, part))

        pieces = [loss(torch.tensor([row]))[0] for row in (0, 1)]
        whole, numbers = loss(torch.tensor([0, 1]))
        self.check_mean(whole, (pieces[0] + HORIZON * pieces[1]) / (1 + HORIZON))
        assert not any(value.requires_grad for value in numbers.values())

    def check_mean(self, whole, expected):
        torch.testing.assert_close(whole, expected)

    def test_what_padding_holds_does_not_matter(self):
        backbone, head = self.make()
        seen, target = head.perceive(backbone, random_observation(backbone)), self.target(2)
        target.valid[:, -1] = False
        other = replace(target, actions=target.actions.masked_fill(~target.valid[..., None], float("nan")))
        losses = []
        for each in (target, other):
            torch.manual_seed(0)
            losses.append(head.loss(seen, each)[0])
        assert losses[0].equal(losses[1])
        losses[1].backward()
        assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)

    def test_no_valid_step_at_all_gives_zero(self):
        backbone, head = self.make()
        target = self.target(2)
        target.valid[:] = False
        loss, _ = head.loss(head.perceive(backbone, random_observation(backbone)), target)
        assert loss == 0

    def test_a_target_of_another_shape_is_refused(self):
        backbone, head = self.make()
        with pytest.raises(ValueError, match=r"expected target actions of shape \(2, 4, 3\), got \(2, 5, 3\)"):
            head.loss(head.perceive(backbone, random_observation(backbone)), self.target(2, horizon=HORIZON + 1))

    def test_gradient_reaches_every_parameter(self):
        backbone, head = self.make()
        self.open_gates(head)
        loss, _ = head.loss(head.perceive(backbone, random_observation(backbone)), self.target(2))
        loss.backward()
        dead = [
            name
            for module in (backbone, head)
            for name, p in module.named_parameters()
            if (p.grad is None or p.grad.abs().max() == 0) and not name.startswith(self.unused)
        ]
        assert dead == []

    def test_state_and_instruction_change_the_loss(self):
        backbone, head = self.make()
        observation, target = random_observation(backbone), self.target(2)
        texts = {"text": observation.text.flip(0), "text_mask": observation.text_mask.flip(0)}

        def loss(**changed):
            torch.manual_seed(0)
            return head.loss(head.perceive(backbone, replace(observation, **changed)), target)[0].item()

        assert abs(loss() - loss(state=observation.state + 1)) > 1e-5
        assert abs(loss() - loss(**texts)) > 1e-5

    def test_it_learns_what_to_do(self):
        """Two instructions, two chunks, no two numbers of which are alike."""
        backbone, head = self.make()
        observation = random_observation(backbone)
        along = torch.linspace(-0.7, 0.7, HORIZON * ACTION_DIM).view(1, HORIZON, ACTION_DIM)
        target = replace(self.target(2), actions=torch.cat([along, -along]))
        head.fit(target)
        seen = head.perceive(backbone, observation)
        several = torch.arange(2).repeat(self.copies)
        given = _detached(seen.at(several))
        optimiser = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(self.steps):
            optimiser.zero_grad()
            head.loss(given, rows(target, several))[0].backward()
            optimiser.step()
        assert (head.act(seen) - target.actions).abs().max() < self.within

    def open_gates(self, head):
        """Set what starts closed to something open."""


class DistributionContract(HeadContract):
    """What heads promise that have a distribution."""

    def given(self):
        backbone, head = self.make()
        return head.distribution(head.perceive(backbone, random_observation(backbone))), head

    def test_samples_depend_on_their_generator_alone(self):
        distribution, _ = self.given()
        one, again, other = (distribution.sample(torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert one.actions.equal(again.actions) and one.latent.equal(again.latent)
        assert not one.latent.equal(other.latent) and not one.actions.requires_grad
        assert one.actions.shape == (2, HORIZON, ACTION_DIM)

    def test_the_mode_is_what_the_head_acts_with(self):
        backbone, head = self.make()
        seen = head.perceive(backbone, random_observation(backbone))
        torch.testing.assert_close(head.distribution(seen).mode().actions, head.act(seen))

    def test_parts_belong_to_the_actions_along_their_axis(self):
        """Another last number of the last action changes the probability of that action, and of none before it."""
        distribution, head = self.given()
        latent = distribution.sample(torch.Generator().manual_seed(0)).latent
        axis, before = distribution.action_axis, distribution.log_prob(latent)
        if axis is None:
            assert head.code.end_id is not None
            return
        other = latent.clone()
        other.view(len(other), -1)[:, -1] += 1 if latent.is_floating_point() else 1 - 2 * (other.flatten(1)[:, -1] > 0)
        away = (distribution.log_prob(other) - before).abs().movedim(axis, 1).flatten(2).amax(dim=2)
        assert away.shape == (2, HORIZON) and away[:, -1].min() > 1e-5
        assert away[:, :-1].max() < 1e-5

    def test_probabilities_can_be_learned_from(self):
        """A step along the gradient of a sample's log-probability makes that sample likelier, and no other row's."""
        backbone, head = self.make()
        observation = random_observation(backbone)

        def distribution():
            return head.distribution(head.perceive(backbone, observation))

        latent = distribution().sample(torch.Generator().manual_seed(0)).latent
        before, entropy = distribution().evaluate(latent)
        assert before.shape == entropy.shape and before.dtype == torch.float32 and bool(before.isfinite().all())
        before.sum().backward()
        with torch.no_grad():
            for parameter in head.parameters():
                if parameter.grad is not None:
                    parameter += 1e-4 * parameter.grad
        assert distribution().log_prob(latent).sum() > before.sum()


def _detached(seen):
    """The same without a way back into the backbone."""
    if hasattr(seen, "hidden"):
        return replace(seen, hidden=seen.hidden.detach())
    cache = seen.prefix.cache
    kept = replace(cache, keys_values=tuple((k.detach(), v.detach()) for k, v in cache.keys_values))
    return replace(seen, prefix=replace(seen.prefix, cache=kept))
