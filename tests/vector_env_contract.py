"""What every vector environment owes to policies and learners: subclass, and say how one is made."""

import pytest
import torch

from envs.specs import (
    CAPABILITIES,
    COMMAND_DIM,
    COMMAND_KEY,
    DETERMINISTIC,
    SNAPSHOTS,
    STATE_KEY,
    STREAMS,
    TASK_KEY,
    extrinsics_key,
    image_key,
    intrinsics_key,
)

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
    """Subclasses define ``make(num_envs, max_episode_steps=…, stream=…)``; tests close what they make.

    ``neighbours_atol`` is how much the number of worlds may change an episode, and how far one that is played again may
    be off; only an engine that adds up in another order may ask for more than nothing.
    """

    neighbours_atol = 0.0

    def make(self, num_envs, **settings):
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

    def alike(self, env, a, b):
        """Are two observations of the same episodes as equal as ``env`` promises?"""
        return same(a, b) if DETERMINISTIC in env.capabilities else close(a, b, self.neighbours_atol)

    def test_observations_have_the_promised_shapes(self):
        env = self.make(3)
        observation = env.reset(SEEDS)
        assert observation[STATE_KEY].shape == (3, env.embodiment.state_dim)
        assert COMMAND_KEY not in observation or observation[COMMAND_KEY].shape == (3, COMMAND_DIM)
        assert len(observation[TASK_KEY]) == 3 and all(observation[TASK_KEY])
        for camera in env.embodiment.cameras:
            image = observation[image_key(camera.name)]
            assert image.shape == (3, camera.height_px, camera.width_px, 3) and image.dtype == torch.uint8
            if intrinsics_key(camera.name) in observation:
                assert observation[intrinsics_key(camera.name)].shape == (3, 3, 3)
                assert observation[extrinsics_key(camera.name)].shape == (3, 4, 4)
        low, high = (torch.tensor([getattr(d, side) for d in env.embodiment.state]) for side in ("low", "high"))
        assert bool(((observation[STATE_KEY] >= low) & (observation[STATE_KEY] <= high)).all())
        assert env.capabilities <= CAPABILITIES and env.task_names == [env.task_name] * 3
        env.close()

    def test_a_chunk_equals_its_single_steps(self):
        chunk = self.expert_chunk(4)
        whole = self.run(3, SEEDS, lambda env: env.step_chunk(chunk))
        steps = self.run(3, SEEDS, lambda env: [env.step(action) for action in chunk.unbind(1)])
        assert same(whole.observation, steps[-1].observation)
        assert torch.equal(whole.rewards, torch.cat([step.rewards for step in steps], 1))
        assert torch.equal(whole.reward, whole.rewards.sum(1))
        assert torch.equal(whole.steps, sum(step.steps for step in steps))
        assert whole.ended == sorted(world for step in steps for world in step.ended)

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

    def test_no_seed_of_one_stream_gives_an_episode_of_another(self):
        starts = []
        for stream in STREAMS:
            env = self.make(3, stream=stream)
            assert env.stream == stream
            observation = env.reset(SEEDS)
            starts += [world_of(observation, world) for world in range(3)]
            env.close()
        assert not any(same(a, b) for i, a in enumerate(starts) for b in starts[:i])

    def test_reset_by_mask_touches_no_other_world(self):
        chunk, mask = self.expert_chunk(3), torch.tensor([False, True, False])

        def play(env):
            before = env.step_chunk(chunk[:, :2]).observation
            after = env.reset([0, 99, 0], mask)  # the seeds of the others mean nothing
            return before, after, env.step_chunk(chunk[:, 2:]).observation

        before, after, later = self.run(3, SEEDS, play)
        undisturbed = self.run(3, SEEDS, lambda env: env.step_chunk(chunk).observation)
        for world in (0, 2):
            assert same(world_of(before, world), world_of(after, world))
            assert same(world_of(later, world), world_of(undisturbed, world))
        env = self.make(1)
        assert same(world_of(after, 1), env.reset([99]))
        env.close()

    def test_finished_worlds_stand_still(self):
        env = self.make(2, max_episode_steps=3)
        env.reset(SEEDS[:2])
        still = torch.zeros(2, env.embodiment.action_dim)
        for step in range(3):
            last = env.step(still)
            assert last.ended == ([0, 1] if step == 2 else [])
        assert bool(last.truncated.all()) and not bool(last.terminated.any())
        moved = env.step(still + torch.tensor(env.embodiment.action_high))
        assert torch.equal(moved.steps, torch.zeros(2, dtype=torch.long)) and moved.ended == []
        assert torch.equal(moved.reward, torch.zeros(2)) and same(moved.observation, last.observation)
        env.close()

    def test_success_terminates_and_pays_once(self):
        env = self.make(3)
        env.reset(SEEDS)
        total, done = torch.zeros(3), torch.zeros(3, dtype=torch.bool)
        for _ in range(env.max_episode_steps):
            last = env.step(env.expert_action())
            total += last.reward.cpu()
            ended, done = done, (last.terminated | last.truncated).cpu()
            assert last.ended == (done & ~ended).nonzero()[:, 0].tolist()
            if bool(ended.all()):
                break  # it has been seen for a step that nothing more is paid
        assert bool(last.success.all()) and bool(last.terminated.all()) and not bool(last.truncated.any())
        assert torch.equal(total, torch.ones(3)) and bool(env.stages_done.all())
        env.close()

    def test_actions_with_gradients_are_taken_without_them(self):
        chunk = self.expert_chunk(2)
        moved = self.run(3, SEEDS, lambda env: env.step_chunk(chunk.clone().requires_grad_()))
        assert same(moved.observation, self.run(3, SEEDS, lambda env: env.step_chunk(chunk)).observation)
        assert not moved.reward.requires_grad and not moved.observation[STATE_KEY].requires_grad

    def test_actions_that_are_no_numbers_are_refused_when_the_other_worlds_have_moved(self):
        chunk = self.expert_chunk(2)
        broken = chunk.clone()
        broken[1, 0, -1] = float("nan")

        def play(env):
            with pytest.raises(ValueError, match=r"worlds \[1\] are not finite"):
                env.step(broken[:, 0])
            return env.step(chunk[:, 1]).observation

        after = self.run(3, SEEDS, play)
        both = self.run(3, SEEDS, lambda env: env.step_chunk(chunk).observation)
        second = self.run(3, SEEDS, lambda env: env.step(chunk[:, 1]).observation)
        assert all(same(world_of(after, world), world_of(both, world)) for world in (0, 2))
        assert same(world_of(after, 1), world_of(second, 1))

    def test_what_is_handed_out_belongs_to_the_caller(self):
        chunk = self.expert_chunk(2)

        def play(env):
            first = env.step(chunk[:, 0])
            kept = replace_tensors(first.observation, torch.clone)
            last = env.step(chunk[:, 1])
            assert same(first.observation, kept), "a later step wrote into an earlier observation"
            for tensor in (*last.observation.values(), last.success, last.reward, last.steps):
                if isinstance(tensor, torch.Tensor):
                    tensor.zero_()
            last.observation[TASK_KEY].clear()
            return env.reset([0, 99, 0], torch.tensor([False, True, False]))

        after = self.run(3, SEEDS, play)
        expected = self.run(3, SEEDS, lambda env: env.step_chunk(chunk).observation)
        assert all(same(world_of(after, world), world_of(expected, world)) for world in (0, 2))

    def test_a_photograph_is_where_the_episode_goes_on(self):
        chunk = self.expert_chunk(5)
        env = self.make(3)
        if SNAPSHOTS not in env.capabilities:
            pytest.skip("this environment cannot be photographed")
        env.reset(SEEDS)
        seen = env.step_chunk(chunk[:, :2]).observation
        photograph = env.snapshot()
        first = env.step_chunk(chunk[:, 2:])
        again = env.restore(photograph)
        fresh = self.make(3)
        for other, shown in ((env, again), (fresh, fresh.restore(photograph))):
            assert self.alike(env, shown, seen)
            moved = other.step_chunk(chunk[:, 2:])
            assert self.alike(env, moved.observation, first.observation)
            assert torch.equal(moved.rewards, first.rewards) and torch.equal(moved.steps, first.steps)
            other.close()

    def test_many_worlds_go_on_from_one_start(self):
        chunk = self.expert_chunk(4)
        env = self.make(3)
        if SNAPSHOTS not in env.capabilities:
            pytest.skip("this environment cannot be photographed")
        env.reset(SEEDS)
        env.step_chunk(chunk[:, :2])
        photograph = env.snapshot()
        expected = world_of(env.step_chunk(chunk[:, 2:]).observation, 1)
        env.restore(photograph.take([1, 1, 1]))
        moved = env.step_chunk(chunk[1:2, 2:].expand(3, -1, -1)).observation
        assert all(self.alike(env, world_of(moved, world), expected) for world in range(3))
        env.close()

    def test_a_photograph_remembers_how_long_the_episode_has_taken(self):
        env = self.make(2, max_episode_steps=3)
        if SNAPSHOTS not in env.capabilities:
            pytest.skip("this environment cannot be photographed")
        still = torch.zeros(2, env.embodiment.action_dim)
        env.reset(SEEDS[:2])
        env.step(still)
        photograph = env.snapshot()
        env.reset([77, 78])
        env.restore(photograph)
        assert env.step(still).ended == [] and env.step(still).ended == [0, 1]
        env.close()

    def test_closing_twice_is_harmless(self):
        env = self.make(1)
        env.close()
        env.close()


def replace_tensors(observation, change):
    """The observation with every tensor changed."""
    return {key: value if key == TASK_KEY else change(value) for key, value in observation.items()}
