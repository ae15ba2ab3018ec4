"""Things and the arm elsewhere: clear of everything, as far as they say, and still the same request."""

import math

import pytest
import torch
from perturbed_worlds import start

from envs.perturbations import Perturbation, axes
from envs.perturbations.perturber import Perturber
from envs.perturbations.placing import radius_m
from envs.perturbations.spec import (
    Displacement,
    Distractors,
    RobotStart,
)
from envs.random import EpisodeRandom
from envs.robots.panda import PANDA
from envs.scenes.tabletop import Tabletop
from envs.tasks import TASKS, make_task
from envs.vector import TaskEnv

COLOSSEUM, LIBERO = axes("colosseum-14"), axes("libero-plus-7")


@pytest.mark.parametrize("task", sorted(TASKS))
def test_distractors_stand_clear_of_everything(task):
    made = make_task(task)
    perturber = Perturber(Perturbation(distractors=Distractors(count=4)), made.props)
    scene = Tabletop(PANDA, perturber.props, perturber.build)
    scene.home_rad = torch.tensor(PANDA.home_rad)
    perturber.bind(scene, ())
    seeds = torch.arange(200)
    plain = made.sample(EpisodeRandom(seeds))
    layout = perturber.arrange(plain, EpisodeRandom(seeds))
    k = len(made.props)
    assert torch.equal(layout.position[:, :k], plain.position) and layout.names[:k] == plain.names
    assert bool(layout.present[:, k:].all())
    radii = torch.tensor([radius_m(scene.model, prop) for prop in scene.props])
    apart = torch.cdist(layout.position[..., :2], layout.position[..., :2]) - radii - radii[:, None]
    for i in range(k, len(scene.props)):
        others = [j for j in range(len(scene.props)) if j != i]
        gaps = apart[:, i, others].masked_fill(~layout.present[:, others], math.inf)
        assert gaps.min() > 0


def test_displaced_things_stay_clear_and_keep_their_meaning():
    for name in ("place", "tabletop-spatial/leftmost", "tabletop-spatial/by-bin"):
        env, _ = start(None, task=name, seeds=list(range(60)), render=False)
        moved, _ = start(
            Perturbation(layout=Displacement(distance_m=(0.04, 0.06))), task=name, seeds=list(range(60)), render=False
        )
        before, after = env.layout, moved.layout
        way = (after.position - before.position)[..., :2].norm(dim=-1)
        assert bool(((way < 1e-6) | ((way > 0.0399) & (way < 0.0601))).all())
        block = torch.take_along_dim(way, before.roles["block"][:, None], 1)
        assert (block > 0).float().mean() > 0.7
        assert torch.equal(after.roles["block"], before.roles["block"])
        if name != "place":
            measure = env.task._measure
            flat = after.position[..., :2]
            assert torch.equal(measure(flat[:, :3], flat[:, 3, None], flat[:, 4, None]).argmin(1), after.roles["block"])
        else:
            radii = torch.tensor([radius_m(moved._workplace.scene.model, prop) for prop in moved.task.props])
            apart = torch.cdist(after.position[..., :2], after.position[..., :2]) - radii - radii[:, None]
            both = after.present[:, :, None] & after.present[:, None]
            apart = apart.masked_fill(~both | torch.eye(len(radii), dtype=torch.bool), math.inf)
            assert apart.min() > 0
        env.close()
        moved.close()


def test_starts_of_the_arm_are_as_far_as_they_say_and_above_the_table():
    for level in (1, 5):
        env, _ = start(LIBERO[f"robot_start/{level}"], seeds=list(range(50)), render=False)
        sensed = env.sense()
        away = (sensed.joints_rad - env._workplace.scene.home_rad).norm(dim=-1)
        assert torch.allclose(away, torch.full((50,), 0.1 * level), atol=1e-3)
        assert sensed.tool_position[:, 2].min() > 0.1
        assert torch.allclose(env.world.command[:, :-1], sensed.joints_rad, atol=1e-6)
        env.close()


def test_a_far_start_of_the_arm_is_reached_from():
    env = TaskEnv("pick", 20, render=False, perturbation=Perturbation(robot_start=RobotStart(distance_rad=(0.5, 0.5))))
    env.reset(list(range(20)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 17
    env.close()
