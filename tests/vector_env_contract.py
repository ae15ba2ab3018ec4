"""What every vector environment owes to policies and learners: subclass, and say how one is made."""

import torch

from envs.specs import STATE_KEY, TASK_KEY, extrinsics_key, image_key, intrinsics_key

SEEDS = [11, 12, 13]


def same(a, b):
    """Two observations, equal to the last bit."""
    return a.keys() == b.keys() and all(a[k] == b[k] if k == TASK_KEY else torch.equal(a[k], b[k]) for k in a)


def close(a, b, atol):
    """Two observations, equal up to ``atol``."""
    return a.keys() == b.keys() and all(
        a[k] == b[k] if k == TASK_KEY else torch.allclose(a[k].double(), b[k].double(), rtol=0, atol=atol) for k in a
    )


def world_of(observation, world):
    """One world's part of an observation, still batched."""
    return {key: value[world : world + 1] for key, value in observation.items()}


class VectorEnvContract:
    """Subclasses define ``make(num_envs, max_episode_steps=None)``; tests close what they make.

    ``neighbours_atol`` is how much the number of worlds may change an episode; only an engine that adds up in another
    order may ask for more than nothing.
    """

    neighbours_atol = 0.0

    def make(self, num_envs, max_episode_steps=None):
        raise NotImplementedError

    def run(self, num_envs, seeds, play):
        """``play`` an environment that has been reset with ``seeds``, and close it."""
        env = self.make(num_envs)
        env.reset(seeds)
        try:
            return play(env)
        finally:
            env.close()

    def expert_chunk(self, horizon):
        """What the expert does in the next ``horizon`` steps, played on a twin."""

        def play(env):
            actions = []
            for _ in range(horizon):
                actions.append(env.expert_action())
                env.step(actions[-1])
            return torch.stack(actions, 1)

        return self.run(3, SEEDS, play)

    def test_observations_have_the_promised_shapes(self):
        env = self.make(3)
        observation = env.reset(SEEDS)
        assert observation[STATE_KEY].shape == (3, env.embodiment.state_dim)
        assert len(observation[TASK_KEY]) == 3 and all(observation[TASK_KEY])
        for camera in env.embodiment.cameras:
            image = observation[image_key(camera.name)]
            assert image.shape == (3, camera.height_px, camera.width_px, 3) and image.dtype == torch.uint8
            if intrinsics_key(camera.name) in observation:
                assert observation[intrinsics_key(camera.name)].shape == (3, 3, 3)
                assert observation[extrinsics_key(camera.name)].shape == (3, 4, 4)
        low, high = (torch.tensor([getattr(d, side) for d in env.embodiment.state]) for side in ("low", "high"))
        assert bool(((observation[STATE_KEY] >= low) & (observation[STATE_KEY] <= high)).all())
        env.close()

    def test_a_chunk_equals_its_single_steps(self):
        chunk = self.expert_chunk(4)
        whole = self.run(3, SEEDS, lambda env: env.step_chunk(chunk))

        def one_by_one(env):
            transitions = [env.step(action) for action in chunk.unbind(1)]
            return transitions[-1], sum(t.reward for t in transitions), sum(t.steps for t in transitions)

        last, reward, steps = self.run(3, SEEDS, one_by_one)
        assert same(whole.observation, last.observation)
        assert torch.equal(whole.reward, reward) and torch.equal(whole.steps, steps)

    def test_an_episode_does_not_depend_on_its_neighbours(self):
        chunk = self.expert_chunk(5)
        together = self.run(3, SEEDS, lambda env: env.step_chunk(chunk).observation)
        alone = self.run(1, SEEDS[1:2], lambda env: env.step_chunk(chunk[1:2]).observation)
        assert close(world_of(together, 1), alone, self.neighbours_atol)

    def test_the_same_seed_gives_the_same_episode_again(self):
        chunk = self.expert_chunk(4)

        def twice(env):
            first = env.step_chunk(chunk).observation
            env.reset(SEEDS)
            return first, env.step_chunk(chunk).observation

        assert same(*self.run(3, SEEDS, twice))

    def test_reset_by_mask_touches_no_other_world(self):
        chunk, mask = self.expert_chunk(3), torch.tensor([False, True, False])

        def play(env):
            return env.step_chunk(chunk).observation, env.reset([0, 99, 0], mask)

        before, after = self.run(3, SEEDS, play)
        assert all(same(world_of(before, world), world_of(after, world)) for world in (0, 2))
        env = self.make(1)
        assert same(world_of(after, 1), env.reset([99]))
        env.close()

    def test_finished_worlds_stand_still(self):
        env = self.make(2, max_episode_steps=3)
        env.reset(SEEDS[:2])
        still = torch.zeros(2, env.embodiment.action_dim)
        for _ in range(3):
            last = env.step(still)
        assert bool(last.truncated.all()) and not bool(last.terminated.any())
        moved = env.step(still + torch.tensor(env.embodiment.action_high))
        assert torch.equal(moved.steps, torch.zeros(2, dtype=torch.long))
        assert torch.equal(moved.reward, torch.zeros(2)) and same(moved.observation, last.observation)
        env.close()

    def test_success_terminates_and_pays_once(self):
        env = self.make(3)
        env.reset(SEEDS)
        total = torch.zeros(3)
        for _ in range(env.max_episode_steps):
            last = env.step(env.expert_action())
            total += last.reward
        assert bool(last.success.all()) and bool(last.terminated.all()) and not bool(last.truncated.any())
        assert torch.equal(total, torch.ones(3)) and bool(env.stages_done.all())
        env.close()

    def test_closing_twice_is_harmless(self):
        env = self.make(1)
        env.close()
        env.close()
