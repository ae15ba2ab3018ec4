"""Meta-World behind the contract, and what is said of suites without loading any simulator."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import torch
from vector_env_contract import VectorEnvContract

from configs.environments import ARM_START_RAD, acts_in, expand_tasks, make_env, make_task_env, usual_start_rad
from configs.wording import sentences
from configs.worlds import EnvConfig
from envs.rendering import FAST
from envs.simulators import SIMULATORS, find_simulated
from envs.simulators.base import DivergedError
from envs.simulators.seeing import Seeing
from envs.simulators.vector import SimulatorEnv
from envs.specs import depth_key, extrinsics_key, image_key, intrinsics_key, segmentation_key

needs_metaworld = pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="needs the extra metaworld")
SMALL = EnvConfig(image_size_px=16, suite_profile="fast")


def simulated(task, num_envs, *, split="train", seeing=None, **settings):
    suite, found = find_simulated(task)
    seeing = seeing or Seeing(image_size_px=16, profile="fast", depth=True)
    return SimulatorEnv(suite.world_of(found, seeing, split), num_envs, split=split, profile=FAST, **settings)


def world_in_episode(task, seeing, seed=3):
    """A world of its own, at the start of an episode."""
    suite, found = find_simulated(task)
    world = suite.world_of(found, seeing, "train")()
    world.reset("demonstrate", seed)
    return world


def check_drawn_where_it_is(shown, camera, geom, position_m, depth_atol_m=0.03):
    """What is drawn where calibration says that a geom is, is that geom, at its depth: upright and not mirrored."""
    in_camera = np.linalg.inv(shown[extrinsics_key(camera)]) @ [*position_m, 1]
    column, row, _ = (shown[intrinsics_key(camera)] @ in_camera[:3] / in_camera[2]).astype(int)
    seen = shown[segmentation_key(camera)]
    assert geom in seen[max(0, row - 2) : row + 3, max(0, column - 2) : column + 3]
    assert abs(np.median(shown[depth_key(camera)][seen == geom]) - in_camera[2]) < depth_atol_m
    assert shown[image_key(camera)].std() > 10


@needs_metaworld
class TestDrawerClose(VectorEnvContract):
    def make(self, num_envs, **settings):
        return simulated("metaworld-mt10/drawer-close", num_envs, seeing=Seeing(render=False), **settings)

    test_no_seed_of_one_stream_gives_an_episode_of_another = None
    """The hand starts in one place: episodes differ in what is seen, which the class below looks at."""


@needs_metaworld
@pytest.mark.slow
class TestDrawerCloseSeen(VectorEnvContract):
    def make(self, num_envs, **settings):
        return simulated("metaworld-mt10/drawer-close", num_envs, **settings)


def test_suites_and_tasks_are_known_before_any_simulator_is_loaded():
    code = (
        "import sys; import envs.simulators; assert not {'mujoco', 'torch'} & set(sys.modules);"
        "from configs.environments import expand_tasks;"
        "assert len(expand_tasks(['metaworld-mt50'])) == 50 and len(expand_tasks(['metaworld-mt10'])) == 10;"
        "assert 'robosuite/Lift' in expand_tasks(['robosuite', 'reach']);"
        "assert not {'robosuite', 'metaworld', 'gymnasium'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_names_list_what_there_is():
    with pytest.raises(
        ValueError, match="unknown task 'robosuite/Lfit'; expected one of robosuite/Lift, robosuite/Stack"
    ):
        expand_tasks(["robosuite/Lfit"])
    with pytest.raises(ValueError, match=r"unknown task or suite 'metaworld'; expected one of reach.*metaworld-mt10"):
        expand_tasks(["metaworld"])
    with pytest.raises(ValueError, match=r"unknown suite 'libreo'; expected one of tabletop-spatial.*robosuite"):
        expand_tasks(["libreo/spatial"])


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla-stack\[robosuite\]'"):
        make_env("robosuite/Lift", 1, stream="learn")


@pytest.mark.parametrize(
    ("config", "settings", "named"),
    [
        (EnvConfig(robot="ur5e"), {}, "env.robot ur5e"),
        (EnvConfig(control="joint_position"), {}, "env.control joint_position"),
        (EnvConfig(perturbation="colosseum-14:light"), {}, "env.perturbation colosseum-14:light"),
        (EnvConfig(engine="warp"), {}, "env.engine warp"),
        (EnvConfig(profile="quality"), {}, "env.profile quality"),
        (EnvConfig(), {"arm_start_rad": 0.2}, "arm_start_rad 0.2"),
        (EnvConfig(), {"privileged": True}, "what only a simulator knows"),
    ],
)
def test_settings_that_mean_nothing_there_are_refused(config, settings, named):
    with pytest.raises(ValueError, match=f"leave out {named}"):
        make_env("metaworld-mt10/reach", 1, stream="learn", config=config, **settings)


def test_settings_of_other_simulators_are_refused_in_our_own():
    with pytest.raises(ValueError, match="suite_profile is for other projects' simulators"):
        make_env("reach", 1, stream="learn", config=SMALL)
    with pytest.raises(ValueError, match="in our own simulator alone"):
        make_task_env("robosuite/Lift", 1, stream="learn")
    with pytest.raises(ValueError, match="perturbations change our own scenes"):
        acts_in("colosseum-14:light", "robosuite/Lift")


def test_where_the_arm_starts_is_the_simulators_own_affair():
    assert usual_start_rad(["reach"], 0.2) == 0.2 and usual_start_rad(["robosuite/Lift"], ARM_START_RAD) == 0.0
    with pytest.raises(ValueError, match=r"leave out arm_start_rad 0\.2"):
        usual_start_rad(["robosuite/Lift"], 0.2)
    with pytest.raises(ValueError, match="a dataset is of one robot"):
        usual_start_rad(["robosuite/Lift", "reach"], ARM_START_RAD)


@pytest.mark.parametrize("suite", ["robosuite", "metaworld-mt50"])
def test_sentences_tell_tasks_apart_and_held_out_ones_are_never_taught(suite):
    said = [set(sentences(task, [split])) for task in SIMULATORS[suite].task_names for split in ("train", "held_out")]
    assert all(len(each) >= 2 for each in said) and len(set.union(*said)) == sum(map(len, said))


@needs_metaworld
def test_cameras_see_the_fingers_where_geometry_says():
    seeing = Seeing(image_size_px=128, depth=True, segmentation=True, profile="fast")
    world = world_in_episode("metaworld-mt10/door-open", seeing)
    shown, data = world.observe(), world._env.data
    for camera, pads in (("corner2", ("leftpad_geom", "rightpad_geom")), ("wrist", ("leftpad_geom",))):
        for pad in pads:
            check_drawn_where_it_is(shown, camera, world._env.model.geom(pad).id, data.geom(pad).xpos)
    world.close()


@needs_metaworld
def test_the_same_actions_do_what_they_do_in_stock_metaworld():
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    env = simulated("metaworld-mt10/push", 1, seeing=Seeing(render=False), reward="dense")
    env.reset([5])
    theirs = env._worlds[0]._env
    stock = ALL_V3_ENVIRONMENTS["push-v3"]()
    stock._partially_observable, stock._freeze_rand_vec, stock._set_task_called = False, True, True
    vars(stock).pop("sawyer_observation_space", None)
    stock._last_rand_vec = theirs._last_rand_vec.copy()
    stock.reset()
    for _ in range(20):
        action = env.expert_action()
        moved = env.step(action)
        units = np.array([*(action[0, :3].double().numpy() / 0.01), 2 * float(action[0, 3]) - 1])
        _, reward, *_ = stock.step(units.clip(-1, 1))
        assert np.isclose(moved.reward[0], reward, atol=1e-5)
    assert np.allclose(stock.data.qpos, theirs.data.qpos, atol=1e-9)
    env.close()


@needs_metaworld
def test_a_world_that_blows_up_costs_its_own_episode(monkeypatch):
    env = simulated("metaworld-mt10/reach", 2, seeing=Seeing(render=False))
    env.reset([1, 2])

    def diverge(action):
        raise DivergedError("boom")

    monkeypatch.setattr(env._worlds[1], "step", diverge)
    moved = env.step(torch.zeros(2, 4))
    assert moved.ended == [1] and moved.truncated.tolist() == [False, True] and not moved.success.any()
    assert [(noted.kind, noted.seed) for noted in env.incidents] == [("diverged", 2)]
    monkeypatch.undo()
    env.reset([0, 7], torch.tensor([False, True]))
    assert env.step(torch.zeros(2, 4)).steps.tolist() == [1, 1]
    env.close()


EVERY_TASK = SIMULATORS["metaworld-mt50"].task_names
LIVE = {f"metaworld-mt50/{name}" for name in ("push-back", "sweep")}
"""Tasks that keep an array of the simulator's own, which others do too."""


@needs_metaworld
@pytest.mark.parametrize("task", [pytest.param(x, marks=[] if x in LIVE else pytest.mark.slow) for x in EVERY_TASK])
def test_every_photograph_is_where_the_episode_goes_on(task):
    env, fresh = (simulated(task, 1, seeing=Seeing(render=False), reward="dense") for _ in range(2))
    env.reset([4])
    for _ in range(25):
        env.step(env.expert_action())
    photograph, went = env.snapshot(), []
    for world in (env, fresh, env):
        moves = [world.step(world.expert_action()) for _ in range(15)]
        went.append((torch.stack([m.reward for m in moves]), moves[-1].observation["observation.state"]))
        for other in (env, fresh):
            other.restore(photograph)
    assert all(torch.equal(a, b) for again in went[1:] for a, b in zip(went[0], again, strict=True))
    env.close()
    fresh.close()
