"""From settings to worlds: streams, where the arm starts, what actions mean, and the memory of the other engine."""

from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch

from configs.commands import collect, quickstart
from configs.commands import eval as evaluation
from configs.environments import ARM_START_RAD, make_env, seen_as, starting_anywhere
from configs.worlds import EnvConfig
from envs.backends.capacity import Capacity
from envs.perturbations import Perturbation
from envs.perturbations.spec import RobotStart, Scaled
from envs.robots import ROBOTS, make_robot
from envs.specs import COMMAND_KEY, STATE_KEY, TASK_KEY, image_key
from policies.data.dataset import DemonstrationDataset

SMALL = EnvConfig(image_size_px=16, threads=1)
HOME_RAD = np.array(make_robot("panda").home_rad, np.float32)


def start(num_envs, **settings):
    env = make_env("reach", num_envs, **{"stream": "evaluate", "config": SMALL, **settings})
    observation = env.reset(list(range(num_envs)))
    env.close()
    return env, observation


def joints_of(state):
    return np.asarray(state)[..., -len(HOME_RAD) :]


def test_an_evaluation_is_of_none_of_the_demonstrations():
    _, demonstrated = start(20, stream="demonstrate")
    _, evaluated = start(20)
    pictures = [observation[image_key("front")].flatten(1) for observation in (demonstrated, evaluated)]
    assert not (pictures[0][:, None] == pictures[1][None]).all(-1).any()


@pytest.mark.parametrize("control", ["delta_pose", "absolute_pose", "joint_position"])
def test_what_actions_mean_is_a_setting(control):
    env, observation = start(1, config=EnvConfig(image_size_px=16, threads=1, control=control, velocities=True))
    names = [dim.name for dim in env.embodiment.action]
    assert names[0] == {"delta_pose": "dx", "absolute_pose": "tool_x", "joint_position": "joint1"}[control]
    assert observation[STATE_KEY].shape == (1, env.embodiment.state_dim)
    assert [dim.unit for dim in env.embodiment.state[-7:]] == ["rad/s"] * 7


def test_the_capacity_is_a_setting_of_the_warp_engine():
    assert EnvConfig().capacity is None
    asked = EnvConfig(engine="warp", contacts_per_world=40, rows_per_world=90)
    assert asked.capacity == Capacity(contacts_per_world=40, rows_per_world=90)
    for half in ({"contacts_per_world": 40}, {"rows_per_world": 90}, {"contacts_per_world": -1, "rows_per_world": -1}):
        with pytest.raises(ValueError, match="give contacts_per_world and rows_per_world, or neither"):
            EnvConfig(engine="warp", **half)
    with pytest.raises(ValueError, match="a capacity is for the warp engine"):
        make_env("reach", 1, stream="learn", config=EnvConfig(contacts_per_world=40, rows_per_world=90))


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"device": "cuda:0"}, "a device is for the warp engine"),
        ({"contacts_per_world": 40, "rows_per_world": 90}, "a capacity is for the warp engine"),
        ({"engine": "warp", "threads": 2}, "the warp engine has no threads to choose, got threads 2"),
        ({"engine": "warp", "render_limit_s": 5.0}, "draws in no process of its own, got render_limit_s 5"),
        ({"render_limit_s": float("nan")}, "must be positive and finite, got nan"),
        ({"perturbation": "colosseum-14"}, "means several perturbations; choose one of colosseum-14:"),
        ({"perturbation": "colosseum-14:lamp"}, "unknown axis 'lamp' of colosseum-14; expected one of"),
    ],
)
def test_settings_that_cannot_be_heeded_are_refused_before_there_are_worlds(settings, complaint):
    with pytest.raises(ValueError, match=complaint):
        EnvConfig(**settings)


def test_every_robot_can_be_chosen():
    assert get_args(get_type_hints(EnvConfig)["robot"]) == tuple(ROBOTS)


def test_cameras_that_the_policy_does_not_see_through_are_refused():
    embodiment = start(1)[0].embodiment
    assert seen_as(embodiment, EnvConfig()) == EnvConfig(image_size_px=16)
    assert seen_as(embodiment, EnvConfig(image_size_px=16)) == EnvConfig(image_size_px=16)
    with pytest.raises(ValueError, match="expects image_size_px 16, got 128; leave the setting out"):
        seen_as(embodiment, EnvConfig(image_size_px=128))
    with pytest.raises(ValueError, match="expects depth False, got True; leave the setting out"):
        seen_as(embodiment, EnvConfig(depth=True))


def test_the_arm_starts_at_home_unless_it_is_told_otherwise():
    _, usual = start(8)
    assert np.allclose(joints_of(usual[STATE_KEY]), HOME_RAD, atol=1e-6)
    _, moved = start(8, arm_start_rad=0.3)
    away_rad = np.linalg.norm(joints_of(moved[STATE_KEY]) - HOME_RAD, axis=-1)
    assert 0 < away_rad.min() < 0.15 < away_rad.max() <= 0.3 + 1e-6
    assert moved[TASK_KEY] == usual[TASK_KEY] and not torch.equal(moved[COMMAND_KEY], usual[COMMAND_KEY])


def test_a_perturbation_of_the_start_has_its_way_and_others_are_kept():
    there = Perturbation(robot_start=RobotStart(distance_rad=(0.1, 0.1)))
    assert starting_anywhere(there, ARM_START_RAD) == starting_anywhere(there, 0.0) == there
    with pytest.raises(ValueError, match=r"the perturbation says where the arm starts, and so does .* \(0\.2\)"):
        starting_anywhere(there, 0.2)
    heavy = Perturbation(mass=Scaled(factor=(2.0, 2.0)))
    both = starting_anywhere(heavy, 0.2)
    assert (both.mass, both.robot_start) == (heavy.mass, RobotStart(distance_rad=(0.0, 0.2)))
    assert starting_anywhere(None, 0.0) == Perturbation()
    with pytest.raises(ValueError, match=r"must lie in 0 … 1, got 1\.2"):
        starting_anywhere(None, 1.2)


def test_demonstrations_begin_anywhere_by_default_and_evaluations_at_home(tmp_path):
    for name, settings in (("anywhere", {}), ("home", {"arm_start_rad": 0.0})):
        config = collect.Config(tasks=("reach",), env=SMALL, **settings)
        collect.collect_tasks(config, tmp_path / name, [0, 1, 2])
    first = {
        name: np.stack([dataset.episode(index).state[0] for index in range(3)])
        for name in ("anywhere", "home")
        for dataset in [DemonstrationDataset(tmp_path / name)]
    }
    away_rad = {name: np.linalg.norm(joints_of(state) - HOME_RAD, axis=-1) for name, state in first.items()}
    assert away_rad["anywhere"].min() > 0.01 and away_rad["home"].max() < 1e-6
    assert quickstart.Config().arm_start_rad == collect.Config().arm_start_rad == ARM_START_RAD
    assert "arm_start_rad" not in evaluation.Config.__dataclass_fields__
