"""What every policy must do, whatever it is made of."""

import pytest
import torch
from point_mass import PointMassEnv

from envs.specs import image_key
from policies.execution import Execution

EVERY_WORLD = torch.ones(3, dtype=torch.bool)


class Scene:
    """Worlds of the point-mass environment that are moved by fixed actions, and a policy that looks on."""

    def __init__(self, seeds, make_policy):
        self.env = PointMassEnv(len(seeds), max_episode_steps=1000)
        self.observation = self.env.reset(seeds)
        self.policy = make_policy(self.env)
        self.execution = Execution(self.policy, len(seeds))
        self.step = 0

    def act(self):
        """The policy's action now; then the worlds move on, whatever it was."""
        action = self.execution.act(self.observation)
        self.drift()
        return action

    def drift(self):
        drift = 0.05 * torch.tensor([[(-1.0) ** self.step, 0.5]])
        self.observation = self.env.step(drift.repeat(self.env.num_envs, 1)).observation
        self.step += 1


class PolicyContract:
    """Subclasses give ``make_policy``, a fixture that holds a function from an environment to a policy."""

    seeds = (11, 12, 13)

    @pytest.fixture
    def scene(self, make_policy):
        return lambda seeds=self.seeds: Scene(seeds, make_policy)

    def test_a_plan_has_its_shape_and_lies_within_bounds(self, scene):
        policy, observation = (here := scene()).policy, here.observation
        _, plan = policy.plan(policy.start(3), observation, EVERY_WORLD)
        actions, length = plan.actions, plan.length
        assert actions.shape == (3, policy.horizon, policy.embodiment.action_dim) and actions.dtype == torch.float32
        assert bool(actions.isfinite().all())
        assert bool((actions >= torch.tensor(policy.embodiment.action_low)).all())
        assert bool((actions <= torch.tensor(policy.embodiment.action_high)).all())
        assert length.tolist() == [policy.replan_interval] * 3

    def test_plans_can_be_changed_in_place(self, scene):
        policy, observation = (here := scene()).policy, here.observation
        policy.plan(policy.start(3), observation, EVERY_WORLD)[1].actions.add_(1)

    def test_a_plan_is_executed_and_then_the_policy_looks_again(self, scene, make_policy):
        acting = scene()
        twin = make_policy(acting.env)
        state = twin.start(3)
        for _ in range(2):
            state, plan = twin.plan(state, acting.observation, EVERY_WORLD)
            for k in range(acting.policy.replan_interval):
                torch.testing.assert_close(acting.act(), plan.actions[:, k])

    def test_interleaved_states_do_not_disturb_each_other(self, scene):
        here, twin = scene(), scene()
        theirs, ours, alone = here.policy.start(3), here.policy.start(3), twin.policy.start(3)
        for step in range(4):
            ours, plan = here.policy.plan(ours, here.observation, EVERY_WORLD)
            alone, expected = twin.policy.plan(alone, twin.observation, EVERY_WORLD)
            torch.testing.assert_close(plan.actions, expected.actions)
            if step % 2:
                theirs, _ = here.policy.plan(theirs, here.observation, EVERY_WORLD)
            here.drift()
            twin.drift()

    def test_a_state_can_be_gone_back_to(self, scene):
        here = scene()
        state, _ = here.policy.plan(here.policy.start(3), here.observation, EVERY_WORLD)
        once, again = (here.policy.plan(state, here.observation, EVERY_WORLD)[1] for _ in range(2))
        torch.testing.assert_close(once.actions, again.actions)

    def test_worlds_that_are_not_asked_for_get_nothing_and_remember_nothing(self, scene):
        partly, never = scene(), scene()
        first, only = torch.tensor([True, True, False]), torch.tensor([False, False, True])
        ours, theirs = partly.policy.start(3), never.policy.start(3)
        for mask in (first, first, only):
            ours, plan = partly.policy.plan(ours, partly.observation, mask)
            assert bool((plan.actions[~mask] == 0).all()) and plan.length[~mask].tolist() == [0] * int((~mask).sum())
            if mask is only:
                theirs, expected = never.policy.plan(theirs, never.observation, EVERY_WORLD)
                torch.testing.assert_close(plan.actions[2], expected.actions[2])
            partly.drift()
            never.drift()
        # Worlds 0 and 1 go on where they were, as if world 2 had not been planned for meanwhile.
        straight = scene()
        state = straight.policy.start(3)
        for _ in range(2):
            state, _ = straight.policy.plan(state, straight.observation, first)
            straight.drift()
        straight.drift()
        _, expected = straight.policy.plan(state, straight.observation, first)
        _, plan = partly.policy.plan(ours, partly.observation, first)
        torch.testing.assert_close(plan.actions[:2], expected.actions[:2])

    def test_worlds_do_not_see_each_other(self, scene):
        together = scene()
        alone = [scene((seed,)) for seed in self.seeds]
        for _ in range(6):
            expected = torch.cat([one.act() for one in alone])
            torch.testing.assert_close(together.act(), expected, rtol=1e-4, atol=1e-5)

    def test_the_observation_is_not_changed(self, scene):
        here = scene()
        before = {key: value.clone() for key, value in here.observation.items() if isinstance(value, torch.Tensor)}
        here.policy.plan(here.policy.start(3), here.observation, EVERY_WORLD)
        assert image_key("front") in before
        assert all(torch.equal(here.observation[key], value) for key, value in before.items())
