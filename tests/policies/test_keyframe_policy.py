"""Policies that aim at keyframes, on recordings of a simulated robot with depth cameras."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from configs.acting import load_policy
from configs.commands.train import network_config
from configs.environments import make_env
from configs.training import Config
from configs.worlds import EnvConfig
from envs.specs import STATE_KEY, depth_key, intrinsics_key
from policies.collect import collect
from policies.data.dataset import DemonstrationDataset
from policies.data.windows import WindowConfig
from policies.evaluation import evaluate
from policies.execution import Execution
from policies.expert import ExpertPolicy
from policies.imitation.config import TrainConfig
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.learner import ImitationLearner
from policies.imitation.starting import Start
from policies.imitation.teachers import TeacherPolicy
from policies.imitation.trainer import train
from policies.keyframe_policy import MOTION, KeyframePolicy
from policies.keyframe_targets import KeyframeTargets, pose_dims, tool_rotation
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running
from policies.showing.aims import ANSWER, SIDE_PX
from vla.backbones.nano import NanoConfig
from vla.heads.heatmap_config import HeatmapConfig
from vla.observation import Keyframe

SEES = EnvConfig(image_size_px=32, depth=True, threads=1)
TINY = NanoConfig(
    weights="fresh",
    width=16,
    depth=1,
    heads=2,
    n_queries=2,
    channels=8,
    blocks=1,
    keypoints=2,
    keypoints_per_token=1,
    second_keypoints=2,
    patch_px=16,
)
HEAD = HeatmapConfig(side_px=32, width=16, upsampler_width=8)


def worlds(num_envs, config=SEES, task="pick", **more):
    return make_env(task, num_envs, stream="demonstrate", config=config, **more)


def config(store, **fields):
    return Config(**{"data": (store,), "backbone": TINY, "head": HEAD, "horizon": 1, **fields})


@pytest.fixture(scope="module")
def env():
    env = worlds(3)
    yield env
    env.close()


@pytest.fixture(scope="module")
def store(tmp_path_factory, env):
    path = tmp_path_factory.mktemp("data") / "store"
    collect(env, ExpertPolicy(env), path, range(3), show_progress=False)
    return path


@pytest.fixture(scope="module")
def run_dir(store, tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    settings = TrainConfig(steps=12, batch_size=8, lr=5e-3, log_every=1, save_every=12, threads=1)
    train(run_dir, settings, network_config(config(store)), [store], show_progress=False)
    return run_dir


@pytest.fixture(scope="module")
def policy(run_dir):
    return load_policy(run_dir)


@pytest.fixture
def observation(env):
    return env.reset([5, 6, 7])


def test_keyframes_are_where_the_expert_closed_the_gripper_and_where_it_ended(store):
    """Against a walk through each episode."""
    demonstrations = Demonstrations([store], WindowConfig(depth=True, geometry=True, horizon=1))
    targets = KeyframeTargets(demonstrations.embodiment)
    dataset, first, over = DemonstrationDataset(store), 0, []
    for index in range(len(dataset)):
        episode = dataset.episode(index)
        closes = int(np.flatnonzero(episode.actions[:, 6] > 0.5)[0])
        last = len(episode) - 1
        asked = [0, closes - 1, closes, last]
        aimed = targets(demonstrations.sample(first + np.array(asked)), torch.device("cpu"))
        for row, there in enumerate((closes, closes, last, last)):
            torch.testing.assert_close(aimed.position_m[row], torch.tensor(episode.state[there, :3]))
        assert aimed.gripper.tolist() == [0, 0, 1, 1] and aimed.gripper_after.tolist() == [1, 1, 1, 1]
        assert not bool(aimed.clearance[1:].any())  # at last straight down, and straight up
        over.append(bool(aimed.clearance[0]))
        first += len(episode)
    assert any(over)  # from afar over the other cubes


def test_goals_are_where_the_expert_stood_and_where_it_last_meant_to_go(store):
    """A few millimetres from where the gripper's command changed, and a step beyond an episode's last frame."""
    windows = WindowConfig(depth=True, geometry=True, horizon=1, aims=True)
    demonstrations, dataset, first = Demonstrations([store], windows), DemonstrationDataset(store), 0
    targets = KeyframeTargets(demonstrations.embodiment)
    for index in range(len(dataset)):
        episode = dataset.episode(index)
        closes, last = int(np.flatnonzero(episode.actions[:, 6] > 0.5)[0]), len(episode) - 1
        aimed = targets(demonstrations.sample(first + np.array([0, last])), torch.device("cpu"))
        stood = episode.state[closes : closes + 7, :3]
        assert np.abs(stood - aimed.position_m[0].numpy()).max(axis=1).min() < 1e-6
        meant = episode.state[last, :3] + episode.actions[last, :3]
        torch.testing.assert_close(aimed.position_m[1], torch.tensor(meant))
        assert aimed.gripper.tolist() == [0, 1] and aimed.gripper_after.tolist() == [1, 1]
        first += len(episode)


def test_the_tools_frame_is_a_rotation_with_the_axes_of_the_state(store):
    state = torch.tensor(DemonstrationDataset(store).load(STATE_KEY))
    _, axes = pose_dims(DemonstrationDataset(store).embodiment)
    rotation = tool_rotation(state, axes)
    torch.testing.assert_close(rotation @ rotation.mT, torch.eye(3).expand_as(rotation), atol=1e-5, rtol=0)
    torch.testing.assert_close(rotation[:, :, 0], state[:, list(axes[:3])], atol=1e-4, rtol=0)
    assert bool((rotation[:, 2, 2] < -0.9).all())  # it points down


def test_a_plan_takes_a_real_arm_to_its_keyframe():
    env = worlds(2, render=False)
    try:
        state = env.reset([0, 1])[STATE_KEY]
        position, axes = pose_dims(env.embodiment)
        goal_m = torch.tensor([[0.5, 0.1, 0.1], [0.42, -0.12, 0.06]])
        rotation = tool_rotation(state, axes)
        bits = {name: torch.zeros(2) for name in ("gripper", "gripper_after", "clearance")}
        keyframe = Keyframe(position_m=goal_m, rotation=rotation, **bits)
        actions, length = MOTION.plan(state[:, position], rotation, keyframe, 30)
        for step in range(int(length.max())):
            state = env.step(actions[:, step]).observation[STATE_KEY]
        assert float((state[:, position] - goal_m).norm(dim=-1).max()) < 0.005
    finally:
        env.close()


def test_training_lowers_every_loss(run_dir):
    import json

    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if "fine_heatmap" in row]
    for name in ("loss", "heatmap", "fine_heatmap", "rotation"):
        assert np.mean([row[name] for row in rows[-3:]]) < np.mean([row[name] for row in rows[:3]])


def test_plans_are_within_bounds_and_as_long_as_their_way(policy, observation):
    assert isinstance(policy, KeyframePolicy) and not policy.remembers
    before = {key: x.clone() for key, x in observation.items() if isinstance(x, torch.Tensor)}
    _, plan = policy.plan(None, observation, torch.ones(3, dtype=torch.bool))
    low, high = torch.tensor(policy.embodiment.action_low), torch.tensor(policy.embodiment.action_high)
    assert plan.actions.shape == (3, HEAD.longest_plan, 7) and plan.actions.dtype == torch.float32
    assert bool(((plan.actions >= low) & (plan.actions <= high)).all())
    assert bool(((plan.length >= 1) & (plan.length <= HEAD.longest_plan)).all())
    assert all(torch.equal(observation[key], x) for key, x in before.items())
    moved = policy.aim(observation).position_m - observation[STATE_KEY][:, :3]
    whole = plan.length < HEAD.longest_plan
    torch.testing.assert_close(plan.actions[:, :, :3].sum(1)[whole], moved[whole], atol=1e-4, rtol=0)


def test_worlds_do_not_see_each_other(policy, observation):
    mask = torch.tensor([False, True, True])
    _, together = policy.plan(None, observation, torch.ones(3, dtype=torch.bool))
    _, some = policy.plan(None, observation, mask)
    torch.testing.assert_close(some.actions[1:], together.actions[1:], atol=1e-5, rtol=1e-4)
    assert not bool(some.actions[0].any()) and some.length[0] == 0


def test_it_acts_in_the_simulation_and_looks_again_when_its_plans_end(policy, env, observation):
    execution, looks = Execution(policy, 3), 0
    for _ in range(30):
        looks += execution.plan(observation)
        observation = env.step(execution.advance(at_most=1)[:, 0]).observation
    assert 3 * 30 / HEAD.longest_plan <= looks < 3 * 30


def test_a_film_shows_what_it_looked_at_and_where_it_aimed(policy, env):
    """The camera's picture, then two looks at three views, each with a cross where its answer is."""
    film = evaluate(env, policy, [5], record_videos=1, show_progress=False).videos[0]
    height, width = 2 * SIDE_PX, 2 * SIDE_PX + 3 * SIDE_PX
    assert film.frames.shape[1:] == (height, width, 3)
    sheets = policy.shows(env.reset([5, 6, 7]))
    assert np.array_equal(film.frames[0][:, 2 * SIDE_PX :], sheets[0]) and not np.array_equal(sheets[0], sheets[1])
    crosses = (sheets[0] == ANSWER).all(axis=-1).reshape(2, SIDE_PX, 3, SIDE_PX).sum(axis=(1, 3))
    assert bool((crosses >= 7).all())


def test_a_saved_policy_plans_alike_and_a_shorter_interval_cuts_its_plans(policy, observation, tmp_path):
    policy.save(tmp_path / "policy")
    again = load_policy(tmp_path / "policy")
    assert torch.equal(again.predict_chunk(observation), policy.predict_chunk(observation))
    short = load_policy(tmp_path / "policy", replan_interval=3)
    assert int(short.plan(None, observation, torch.ones(3, dtype=torch.bool))[1].length.max()) <= 3


def test_it_is_served_with_its_depth_and_cameras(policy, observation):
    server = PolicyServer(policy, ServeConfig(port=0))
    with running(server):
        remote = RemotePolicy([PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{server.port}"))])
        try:
            _, plan = remote.plan(remote.start(3), observation, torch.ones(3, dtype=torch.bool))
        finally:
            remote.close()
    torch.testing.assert_close(plan.actions, policy.predict_chunk(observation), atol=1e-4, rtol=1e-4)


def test_an_observation_that_it_cannot_see_in_is_refused(policy, observation):
    blind = {key: x for key, x in observation.items() if key != depth_key("wrist")}
    with pytest.raises(ValueError, match=r"sees in depth: expected 'observation.depth.wrist' of shape \(3, 32, 32\)"):
        policy.predict_chunk(blind)
    lost = {key: x for key, x in observation.items() if key != intrinsics_key("front")}
    with pytest.raises(ValueError, match="must know its cameras"):
        policy.predict_chunk(lost)


def test_readings_that_are_none_are_none(policy, observation):
    key = depth_key("front")
    without = policy.predict_chunk({**observation, key: torch.zeros_like(observation[key])})
    broken = policy.predict_chunk({**observation, key: torch.full_like(observation[key], float("nan"))})
    assert torch.equal(without, broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": False}, r"cameras \['front', 'wrist'\] of panda have none: record with depth"),
        ({"control": "absolute_pose"}, r"\(control delta_pose\), panda obeys \['tool_x'"),
    ],
)
def test_data_that_it_cannot_learn_from_are_refused_before_any_work(tmp_path, change, message):
    env = worlds(1, replace(SEES, image_size_px=16, **change), task="reach")
    try:
        collect(env, ExpertPolicy(env), tmp_path / "store", [0], keep_failures=True, show_progress=False)
    finally:
        env.close()
    with pytest.raises(ValueError, match=message):
        network_config(config(tmp_path / "store"))


def test_a_longer_horizon_is_refused(store):
    with pytest.raises(ValueError, match="a horizon of 1, got 8"):
        network_config(config(store, horizon=8))


def test_it_is_told_how_far_the_gripper_is_open_and_nothing_else(store):
    network = network_config(config(store))
    names = [DemonstrationDataset(store).embodiment.state[i].name for i in network.head.state_dims]
    assert names == ["gripper_gap"] and network.waypoint_dims == ()


def test_a_run_starts_from_another_one_of_its_kind(store, run_dir):
    network = network_config(config(store))
    start = Start(policy=run_dir).load(network, DemonstrationDataset(store).embodiment)
    learner = ImitationLearner(TrainConfig(steps=1, batch_size=2, threads=1), network, [store], start=start)
    assert isinstance(start, KeyframePolicy) and learner.normalization == start.normalization
    assert all(learner.vla.state_dict()[name].equal(x) for name, x in start.vla.state_dict().items())


def test_it_cannot_teach_for_a_teacher_is_shown_no_depth(store, run_dir):
    teacher = TeacherPolicy.load(run_dir, ("front", "wrist"), "cpu")
    with pytest.raises(ValueError, match="cannot teach: it needs depth or calibrated cameras, and is shown neither"):
        teacher.check(DemonstrationDataset(store).embodiment, ("pick up the red cube",))
