"""The vector environment: what ``envs.specs.VectorEnv`` promises, on the real simulator."""

import gc
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from vector_env_contract import SEEDS, VectorEnvContract, same

from envs.backends.capacity import Capacity
from envs.perturbations.felt import Distractors, RobotStart
from envs.perturbations.spec import Perturbation, Rewrite
from envs.props.block import CUBE_HALF_M
from envs.props.colours import BRIGHT, COLOUR_NAMES, COLOURS
from envs.specs import TASK_KEY, depth_key, extrinsics_key, image_key, intrinsics_key
from envs.tasks import TASKS
from envs.vector import TaskEnv


class TaskEnvContract(VectorEnvContract):
    """The contract on the real simulator, with pictures and depth."""

    task: str

    def make(self, num_envs, **settings):
        return TaskEnv(self.task, num_envs, image_size_px=(32, 32), depth=True, **settings)


class TestReach(TaskEnvContract):
    task = "reach"


class TestPick(TaskEnvContract):
    task = "pick"


class TestPlace(TaskEnvContract):
    task = "place"


NAMED_CUBE = ("reach", "pick", "place")
"""Tasks of which several cubes could be meant."""


@pytest.fixture(params=NAMED_CUBE)
def env(request):
    env = TaskEnv(request.param, 3, image_size_px=(32, 32), depth=True)
    yield env
    env.close()


@pytest.mark.parametrize("discount", [1.0, 0.9])
def test_the_return_of_dense_rewards_is_the_discounted_gain_in_potential(env, discount):
    dense = TaskEnv(env.task_name, 3, render=False, reward="dense", discount=discount)
    dense.reset(SEEDS)
    start, total = dense.task.potential(dense.sense(), dense.layout), torch.zeros(3)
    for step in range(8):
        moved = dense.step(dense.expert_action())
        total += discount**step * moved.reward
    assert not moved.success.any()
    end = dense.task.potential(dense.sense(), dense.layout)
    assert torch.allclose(total, discount**8 * end - start, atol=1e-5) and bool((end > start).all())
    dense.close()


def test_cameras_see_the_named_cube_where_geometry_says(env):
    """Projecting the cube's centre into the image hits a pixel of its colour, at its depth."""
    observation = env.reset(SEEDS)
    K, T_world_cam = (observation[key("front")] for key in (intrinsics_key, extrinsics_key))
    cube = env.layout.of(env.sense().position, "block")
    top = torch.cat((cube[:, :2], cube[:, 2:] + CUBE_HALF_M, torch.ones(3, 1)), -1)
    in_camera = torch.linalg.solve(T_world_cam, top[..., None])[:, :3]
    pixel = (K @ in_camera).squeeze(-1)
    column, row = (pixel[:, :2] / pixel[:, 2:]).long().unbind(-1)
    palette = torch.tensor([COLOURS[name] for name in BRIGHT])
    for world in range(3):
        seen = observation[image_key("front")][world, row[world], column[world]].float() / 255
        brightest = palette / palette.amax(-1, keepdim=True)
        nearest = (brightest - seen / seen.amax()).abs().sum(-1).argmin()
        assert BRIGHT[nearest] == COLOUR_NAMES[env.layout.of(env.layout.colour, "block")[world]]
        depth_m = observation[depth_key("front")][world, row[world], column[world]]
        assert abs(depth_m - in_camera[world, 2, 0]) < 0.02


def test_scenes_hold_two_to_four_cubes_and_the_instruction_names_one_of_them(env):
    many = TaskEnv(env.task_name, 200, render=False)
    observation = many.reset(list(range(200)))
    present = many.layout.present[:, :4].sum(1)
    assert set(present.tolist()) == {2, 3, 4}
    random_choice = (1 / present).mean().item() / (2 if "bin" in many.layout.roles else 1)
    assert abs(random_choice - many.task.chance) < 0.02
    assert bool(many.layout.of(many.layout.present, "block").all())
    for sentence, colour in zip(observation[TASK_KEY], many.layout.of(many.layout.colour, "block"), strict=True):
        assert f"{COLOUR_NAMES[colour]} cube" in sentence
    many.close()


def test_held_out_phrasings_never_occur_in_training(env):
    assert not set(env.task.phrasings.train) & set(env.task.phrasings.held_out)
    held_out = TaskEnv(env.task_name, 64, render=False, split="held_out")
    train = TaskEnv(env.task_name, 64, render=False)
    seeds = list(range(64))
    assert not set(held_out.reset(seeds)[TASK_KEY]) & set(train.reset(seeds)[TASK_KEY])
    held_out.close()
    train.close()


def test_bad_input_is_refused_with_what_was_expected():
    with pytest.raises(ValueError, match="unknown task 'fold'; expected one of reach, "):
        TaskEnv("fold", 1)
    with pytest.raises(ValueError, match="split must be one of train, held_out, got 'test'"):
        TaskEnv("reach", 1, split="test")
    env = TaskEnv("reach", 2, render=False)
    with pytest.raises(RuntimeError, match="call reset before stepping"):
        env.step(torch.zeros(2, 7))
    with pytest.raises(ValueError, match="expected 2 seeds"):
        env.reset([1])
    env.reset([1, 2])
    with pytest.raises(ValueError, match=r"expected actions of shape \(n=2, h ≥ 1, a=7\), got \(2, 1, 6\)"):
        env.step(torch.zeros(2, 6))
    with pytest.raises(ValueError, match=r"worlds \[1\] are not finite"):
        env.step(torch.tensor([[0.0] * 7, [float("nan")] + [0.0] * 6]))
    with pytest.raises(KeyError, match="no camera 'side'"):
        env.embodiment.camera("side")
    env.close()
    env.close()


@pytest.mark.parametrize(
    ("seeds", "named"),
    [
        (torch.tensor([3, -1]), "[-1]"),
        (torch.tensor([2**61, 0]), f"[{2**61}]"),
        ([-1, 3], "[-1]"),
        ([0, 2**70], f"[0, {2**70}]"),
        (np.array([0.5, 1.0]), "[0.5, 1.0]"),
        ([np.float64(1.5), np.float64(2.0)], "[1.5, 2.0]"),
        (torch.tensor([0.5, 1.0]), "[0.5, 1.0]"),
        ([True, False], "[True, False]"),
    ],
)
def test_what_are_no_seeds_is_refused(seeds, named):
    env = TaskEnv("reach", 2, render=False)
    with pytest.raises(ValueError, match=re.escape(f"expected seeds that are integers in 0 … 2⁶¹ − 1, got {named}")):
        env.reset(seeds)
    env.close()


@pytest.mark.parametrize("seeds", [range(3, 5), np.array([3, 4]), [np.int64(3), 4], torch.tensor([3, 4]).int()])
def test_seeds_come_in_whatever_holds_integers(seeds):
    env = TaskEnv("reach", 2, render=False)
    assert same(env.reset(seeds), env.reset([3, 4]))
    env.close()


UNDISTURBED = ("reach", "pick", "place", "recall", "press-times")
"""The experts of the others are tried in every run where they are pushed off their path, beside their tasks."""


@pytest.mark.parametrize(
    "task", [task if task in UNDISTURBED else pytest.param(task, marks=pytest.mark.slow) for task in sorted(TASKS)]
)
def test_experts_succeed(task):
    env = TaskEnv(task, 60, render=False)
    env.reset(list(range(2000, 2060)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 57
    env.close()


def test_experts_recover_from_being_pushed_off_their_path():
    env = TaskEnv("place", 40, render=False)
    env.reset(list(range(40)))
    generator = torch.Generator().manual_seed(0)
    for step in range(env.max_episode_steps):
        action = env.expert_action()
        if step % 8 == 0:
            action[:, :3] += 0.015 * torch.randn(40, 3, generator=generator)
        last = env.step(action)
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 36
    env.close()


def test_an_environment_that_is_dropped_or_closed_leaves_no_pictures():
    def canvases():
        return [line for line in Path("/proc/self/maps").read_text().splitlines() if "memfd:canvas" in line]

    gc.collect()  # of what earlier tests left
    before = canvases()
    env = TaskEnv("pick", 1, image_size_px=(16, 16))
    env.reset([0])
    assert canvases() != before
    del env
    gc.collect()
    assert canvases() == before
    env = TaskEnv("pick", 1, image_size_px=(16, 16))
    env.reset([0])
    env.close()
    assert canvases() == before
    for act in (lambda: env.reset([0]), lambda: env.step(torch.zeros(1, 7))):
        with pytest.raises(RuntimeError, match="the environment is closed"):
            act()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"device": "cuda:0"}, "the cpu engine runs on the CPU, got device 'cuda:0'; a device is for the warp engine"),
        ({"capacity": Capacity(contacts_per_world=9, rows_per_world=9)}, "a capacity is for the warp engine"),
        ({"engine": "warp", "threads": 2}, "no threads to choose, got 2; threads are for the cpu engine"),
    ],
)
def test_a_setting_of_another_engine_is_refused(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        TaskEnv("reach", 1, **settings)


def test_the_cpu_engine_may_be_told_that_it_runs_on_the_cpu():
    TaskEnv("reach", 1, render=False, device="cpu", threads=1).close()


def test_a_photograph_taken_between_the_stages_of_a_chain_ends_as_the_episode_did():
    def play(env):
        while not env.stages_done[:, -1].all():
            last = env.step(env.expert_action())
        return last.observation

    env, fresh = (TaskEnv("tabletop-long/open-press", 2, image_size_px=(16, 16)) for _ in range(2))
    env.reset([1, 2])
    while not env.stages_done[:, 0].all():
        env.step(env.expert_action())
    photograph, stages = env.snapshot(), env.stages_done
    assert not stages.all()
    end = play(env)
    for other in (env, fresh):
        other.restore(photograph)
        assert torch.equal(other.stages_done, stages)
        assert same(play(other), end)
        other.close()


def test_bad_masks_and_sizes_are_refused():
    env = TaskEnv("reach", 2, render=False)
    with pytest.raises(RuntimeError, match="first reset must start every world"):
        env.reset([1, 2], torch.tensor([True, False]))
    env.reset([1, 2])
    with pytest.raises(ValueError, match=r"expected a bool mask of shape \(2,\), got torch.int64 \(2,\)"):
        env.reset([1, 2], torch.tensor([1, 0]))
    env.close()
    for wrong in ({"max_episode_steps": 0}, {"threads": -1}, {"image_size_px": (0, 64)}):
        with pytest.raises(ValueError, match="must be at least 1"):
            TaskEnv("reach", 1, **wrong)


@pytest.mark.parametrize("task", ["pick", "slide", "tabletop-long/store", "reach+place"])
def test_goals_are_what_instructions_mean_in_whatever_words(task):
    seen = []
    for split, rewording in (("train", None), ("held_out", None), ("train", Rewrite(level=4))):
        env = TaskEnv(task, 12, render=False, split=split, perturbation=Perturbation(language=rewording))
        texts = env.reset(list(range(12)))[TASK_KEY]
        seen.append((texts, env.goals))
        env.close()
    assert seen[0][1] == seen[1][1] == seen[2][1]
    assert seen[0][0] != seen[1][0] and len(set(seen[0][1])) > 1


@pytest.mark.parametrize("task", ["place", "drawer", "recall", "tabletop-goal/open-drawer"])
@pytest.mark.parametrize("start", [None, RobotStart(distance_rad=(0.3, 0.3))])
def test_what_starting_worlds_are_said_to_be_is_what_is_read_from_them(task, start):
    env = TaskEnv(task, 8, render=False, perturbation=Perturbation(robot_start=start, distractors=Distractors(count=2)))
    env.reset(list(range(8)))
    said, read = env.sense().tensors("sensed"), env._workplace.scene.sense(env.world, env.layout).tensors("sensed")
    assert all(torch.equal(said[name], read[name]) for name in read)
    env.close()
