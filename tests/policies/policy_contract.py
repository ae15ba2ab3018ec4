"""What every policy must do, whatever it is made of."""

import pytest
import torch
from point_mass import PointMassEnv

from envs.specs import image_key


class Scene:
    """Worlds of the point-mass environment that are moved by fixed actions, and a policy that looks on."""

    def __init__(self, seeds, make_policy):
        self.env = PointMassEnv(len(seeds), max_episode_steps=1000)
        self.observation = self.env.reset(seeds)
        self.policy = make_policy(self.env)
        self.policy.reset()
        self.step = 0

    def act(self):
        """The policy's action now; then the worlds move on, whatever it was."""
        action = self.policy.act(self.observation)
        drift = 0.05 * torch.tensor([[(-1.0) ** self.step, 0.5]])
        self.observation = self.env.step(drift.repeat(self.env.num_envs, 1)).observation
        self.step += 1
        return action


class PolicyContract:
    """Subclasses give ``make_policy``, a fixture that holds a function from an environment to a policy."""

    seeds = (11, 12, 13)

    @pytest.fixture
    def scene(self, make_policy):
        return lambda seeds=self.seeds: Scene(seeds, make_policy)

    def test_a_chunk_has_its_shape_and_lies_within_bounds(self, scene):
        policy, observation = (here := scene()).policy, here.observation
        chunk = policy.predict_chunk(observation)
        assert chunk.shape == (3, policy.horizon, policy.embodiment.action_dim) and chunk.dtype == torch.float32
        assert bool(chunk.isfinite().all())
        assert bool((chunk >= torch.tensor(policy.embodiment.action_low)).all())
        assert bool((chunk <= torch.tensor(policy.embodiment.action_high)).all())

    def test_chunks_can_be_changed_in_place(self, scene):
        here = scene()
        here.policy.predict_chunk(here.observation).add_(1)

    def test_act_executes_the_chunk_and_then_looks_again(self, scene, make_policy):
        acting = scene()
        twin = make_policy(acting.env)
        for _ in range(2):
            chunk = twin.predict_chunk(acting.observation)
            for k in range(acting.policy.replan_interval):
                torch.testing.assert_close(acting.act(), chunk[:, k])

    def test_a_reset_of_all_worlds_forgets_everything(self, scene, make_policy):
        used = scene()
        for _ in range(3):
            used.act()
        used.policy.reset()
        expected = make_policy(used.env).act(used.observation)
        torch.testing.assert_close(used.act(), expected)

    def test_a_reset_touches_the_masked_worlds_only(self, scene, make_policy):
        partly, never = scene(), scene()
        for _ in range(5):
            partly.act()
            never.act()
        partly.policy.reset(torch.tensor([False, True, False]))
        begun = make_policy(partly.env).act(partly.observation)
        first, kept = partly.act(), never.act()
        torch.testing.assert_close(first[[0, 2]], kept[[0, 2]])
        torch.testing.assert_close(first[1], begun[1])
        for _ in range(4):
            torch.testing.assert_close(partly.act()[[0, 2]], never.act()[[0, 2]])

    def test_worlds_do_not_see_each_other(self, scene):
        together = scene()
        alone = [scene((seed,)) for seed in self.seeds]
        for _ in range(6):
            expected = torch.cat([one.act() for one in alone])
            torch.testing.assert_close(together.act(), expected, rtol=1e-4, atol=1e-5)

    def test_the_observation_is_not_changed(self, scene):
        here = scene()
        before = {key: value.clone() for key, value in here.observation.items() if isinstance(value, torch.Tensor)}
        here.policy.predict_chunk(here.observation)
        assert image_key("front") in before
        assert all(torch.equal(here.observation[key], value) for key, value in before.items())
