"""Policies that are shown the past, in depth: the same moments in training and acting, per world and per connection."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from demonstrations import tiny_network, tiny_training
from point_mass import PointMassEnv
from policy_contract import PolicyContract

from envs.specs import depth_key, image_key, intrinsics_key
from policies.collect import collect
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.data.windows import WindowConfig
from policies.ensemble import TemporalEnsemble
from policies.evaluation import evaluate
from policies.execution import Execution
from policies.expert import ExpertPolicy
from policies.history_policy import HistoryPolicy
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.inputs import TrainingInputs
from policies.imitation.starting import Start
from policies.imitation.trainer import prepare, train
from policies.keyframe_policy import load_vla_policy
from policies.processors import Normalization, NormalizationMode
from policies.remote import RemotePolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.control import ActionStream
from policies.serving.server import PolicyServer, running
from policies.training.augment import AugmentConfig, Disturbance
from policies.vla_policy import VLAPolicy

HISTORY = {"frames": 3, "frame_gap": 2, "use_points": True, "use_times": True}
BANK = {**HISTORY, "frame_sampling": "memory_bank", "frame_memory": 5}
STILL = AugmentConfig(shift_fraction=0, brightness=0, contrast=0, saturation=0, channel_gain=0)


class DepthPointMass(PointMassEnv):
    """The camera, a metre above the plane, sees in depth: dots are discs that stand out by a tenth of a metre.

    Its expert is slow, so that there is a past.
    """

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        cameras = tuple(replace(camera, depth=True) for camera in self.embodiment.cameras)
        self.embodiment = replace(self.embodiment, cameras=cameras)

    def expert_action(self):
        return 0.3 * super().expert_action()

    def _observe(self):
        seen = super()._observe()
        ground = (seen[image_key("front")] == 90).all(dim=-1)
        return {**seen, depth_key("front"): torch.where(ground, 1.0, 0.9)}


def looking_back(**fields):
    network = tiny_network()
    return replace(network, backbone=replace(network.backbone, **{**HISTORY, **fields}))


def woken(vla):
    """Gates that are 0 at first are opened, so that depth and the past count."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in (vla.backbone.points, vla.backbone.moments):
            for weight in module.parameters():
                weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return vla


def random_policy(replan_interval=2, **fields):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    robot = DepthPointMass(1).embodiment
    numbers = FieldStatistics.of(rng.normal(size=(50, 2))), FieldStatistics.of(rng.uniform(-0.8, 0.8, size=(50, 2)))
    statistics = DatasetStatistics(episodes=1, frames=50, state=numbers[0], action=numbers[1])
    modes = {"state": NormalizationMode.MEAN_STD, "action": NormalizationMode.MIN_MAX}
    normalization = Normalization.from_statistics(statistics, robot, **modes)
    return HistoryPolicy(woken(looking_back(**fields).build()), normalization, robot, replan_interval)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    env, path = DepthPointMass(4), tmp_path_factory.mktemp("data") / "store"
    collect(env, ExpertPolicy(env), path, range(8), show_progress=False)
    return path


@pytest.fixture(scope="module", params=["last", "memory_bank"])
def run_dir(request, store, tmp_path_factory):
    network = looking_back(**(BANK if request.param == "memory_bank" else HISTORY))
    run_dir = tmp_path_factory.mktemp("runs") / "run"
    train(run_dir, tiny_training(), network, [store], show_progress=False)
    return run_dir


@pytest.fixture
def with_depth(monkeypatch):
    """The contract's worlds see in depth."""
    monkeypatch.setattr("policy_contract.PointMassEnv", DepthPointMass)


@pytest.mark.usefixtures("with_depth")
class TestTheLastMoments(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: random_policy()


@pytest.mark.usefixtures("with_depth")
class TestAMemoryBank(PolicyContract):
    @pytest.fixture
    def make_policy(self):
        return lambda env: random_policy(replan_interval=1, **BANK)


@pytest.mark.parametrize("interval", [1, 2])
@pytest.mark.parametrize("fields", [HISTORY, BANK], ids=["last", "memory_bank"])
def test_training_and_acting_are_shown_the_same(store, interval, fields):
    """What the network gets at every plan of an episode is what it got for that frame of the recording."""
    policy = random_policy(interval, **fields)
    config = WindowConfig(horizon=4, geometry=True, depth=True, history=policy.vla.config.history)
    demonstrations = Demonstrations([store], config)
    inputs = TrainingInputs(policy.vla, demonstrations.instructions, STILL, 0, demonstrations.embodiment)
    frames = np.arange(0, len(demonstrations.datasets[0].episode(0)), interval)
    learned, _ = inputs(demonstrations.sample(frames), 0, policy.normalization)
    env = DepthPointMass(1)
    observation, state = env.reset([int(demonstrations.datasets[0].records[0].seed)]), policy.start(1)
    actions = torch.from_numpy(demonstrations.datasets[0].episode(0).actions)
    assert len(frames) > 3
    for row, frame in enumerate(frames):
        state, seen = policy._look(state, observation, torch.ones(1, dtype=torch.bool))
        assert torch.equal(seen.view_mask[0], learned.view_mask[row])
        there = seen.view_mask[0, :, 0]
        for name in ("images", "depth", "intrinsics", "T_world_cam", "age_s"):
            assert torch.equal(getattr(seen, name)[0, there], getattr(learned, name)[row, there]), (name, frame)
        observation = env.step_chunk(actions[None, frame : frame + interval]).observation


def test_the_past_decides_and_so_does_depth():
    policy, env = random_policy(), DepthPointMass(1)
    first = env.reset([1])
    second = env.step_chunk(torch.ones(1, 2, 2)).observation
    asked = torch.ones(1, dtype=torch.bool)
    state, _ = policy.plan(policy.start(1), first, asked)
    _, after = policy.plan(state, second, asked)
    _, anew = policy.plan(policy.start(1), second, asked)
    assert torch.equal(anew.actions, policy.predict_chunk(second))
    assert not torch.allclose(after.actions, anew.actions, atol=1e-4)
    near = {**second, depth_key("front"): 0.8 * second[depth_key("front")]}
    assert not torch.allclose(policy.predict_chunk(near), anew.actions, atol=1e-4)


def test_a_trained_policy_acts_alike_here_and_behind_a_server(run_dir, monkeypatch):
    """Over whole episodes, each connection remembering its own."""
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
    policy = load_vla_policy(run_dir, blocks=(1,))
    assert isinstance(policy, HistoryPolicy) and policy.remembers and policy.replan_interval == 2
    assert any(weight.abs().sum() > 0 for weight in policy.vla.backbone.points.patches.parameters())
    result = evaluate(DepthPointMass(2, max_episode_steps=8), policy, range(2), show_progress=False)
    assert len(result.episodes) == 2
    with running(PolicyServer(load_vla_policy(run_dir, blocks=(1,)), ServeConfig(port=0))) as port:
        remote = RemotePolicy([PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) for _ in range(2)])
        assert remote.remembers and remote.paced
        env = DepthPointMass(2)
        observation, here, there = env.reset([5, 6]), Execution(policy, 2), Execution(remote, 2)
        for _ in range(7):
            action = here.act(observation)
            assert torch.equal(action, there.act(observation))
            observation = env.step(action).observation
        remote.close()


def test_a_server_that_tells_time_by_its_plans_is_asked_in_time(monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)
    with running(PolicyServer(random_policy(), ServeConfig(port=0))) as port:
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"))
        with pytest.raises(ValueError, match=r"must be asked every 2 control steps, in turn; .* every 3 steps"):
            RemotePolicy([client], replan_interval=3)
        with pytest.raises(ValueError, match="to be asked ahead of need"):
            ActionStream(client, ahead=True)
        assert ActionStream(client).replan_interval == 2
        client.close()


def test_intervals_that_do_not_meet_the_moments_are_refused():
    with pytest.raises(ValueError, match="expected a replan_interval that divides 2, got 3"):
        random_policy(replan_interval=3)
    assert random_policy(replan_interval=None, frame_gap=3).replan_interval == 1
    with pytest.raises(ValueError, match="expected one with a replan_interval of 1, got 2"):
        TemporalEnsemble(random_policy())
    assert TemporalEnsemble(random_policy(replan_interval=1)).horizon == 1


def test_who_acts_on_the_present_alone_cannot_have_such_a_network():
    policy = random_policy()
    with pytest.raises(ValueError, match="is shown 3 frames of a history"):
        VLAPolicy(policy.vla, policy.normalization, policy.embodiment)


@pytest.mark.parametrize(
    ("key", "change", "message"),
    [
        (depth_key("front"), lambda depth: 1000 * depth, r"observation.depth.front in metres, .* in millimetres\?"),
        (depth_key("front"), lambda depth: None, "this policy sees in depth: expected 'observation.depth.front'"),
        (intrinsics_key("front"), lambda matrix: None, "this policy must know its cameras"),
    ],
)
def test_observations_that_cannot_be_right_are_refused(key, change, message):
    observation = DepthPointMass(2).reset([0, 1])
    with pytest.raises(ValueError, match=message):
        random_policy().predict_chunk({**observation, key: change(observation[key])})


def test_readings_that_are_not_finite_are_none():
    policy, observation = random_policy(), DepthPointMass(2).reset([0, 1])
    hole, broken = observation[depth_key("front")].clone(), observation[depth_key("front")].clone()
    hole[:, :8], broken[:, :8] = 0.0, float("nan")
    broken[:, 3] = float("inf")
    found = [policy.predict_chunk({**observation, depth_key("front"): depth}) for depth in (hole, broken)]
    assert torch.equal(*found) and found[0].isfinite().all()


def test_demonstrations_in_millimetres_are_refused(store):
    policy = random_policy()
    config = WindowConfig(horizon=4, geometry=True, depth=True, history=policy.vla.config.history)
    demonstrations = Demonstrations([store], config)
    inputs = TrainingInputs(policy.vla, demonstrations.instructions, STILL, 0, demonstrations.embodiment)
    batch = demonstrations.sample(np.arange(2))
    with pytest.raises(ValueError, match=r"the demonstrations' depth in metres, up to 100, got 1000: .*millimetres"):
        inputs(replace(batch, depth=1000 * batch.depth), 0, policy.normalization)


def test_a_store_without_depth_is_refused_before_the_first_step(tmp_path):
    env = PointMassEnv(2)
    collect(env, ExpertPolicy(env), tmp_path / "store", range(2), show_progress=False)
    with pytest.raises(ValueError, match="depth was asked for, but camera 'front'"):
        train(tmp_path / "run", tiny_training(), looking_back(), [tmp_path / "store"], show_progress=False)


def test_all_moments_of_a_view_are_disturbed_alike(store):
    """One draw for pictures, depth and intrinsics; of a history of one it is what it was."""
    augment = AugmentConfig(shift_fraction=0.2)
    drawn = Disturbance.draw(augment, 6, 0, 0)
    spread = drawn.over_times(3, 4)
    for name, value in vars(drawn).items():
        of_times = getattr(spread, name).unflatten(0, (3, 4, 2))
        assert all(torch.equal(of_times[:, t], value.unflatten(0, (3, 2))) for t in range(4)), name
    policy = random_policy()
    config = WindowConfig(horizon=4, geometry=True, depth=True, history=policy.vla.config.history)
    demonstrations = Demonstrations([store], config)
    inputs = TrainingInputs(policy.vla, demonstrations.instructions, augment, 0, demonstrations.embodiment)
    learned, _ = inputs(demonstrations.sample(np.arange(12)), 7, policy.normalization)
    middle = learned.intrinsics[:, :, 0, :2, 2]
    assert len(middle[:, 0].unique(dim=0)) > 3 and torch.equal(middle, middle[:, :1].expand_as(middle))
    colour, depth_m = learned.images[:, :, 0].std(dim=2), learned.depth[:, :, 0]
    assert bool(((colour > 0.05) == (depth_m < 0.95)).float().mean() > 0.97)


def test_a_policy_that_saw_the_colours_of_the_present_is_gone_on_with(store, tmp_path, caplog):
    """What it is told beyond adds nothing at first; what is new is said, and what else differs is refused as ever."""
    train(tmp_path / "first", tiny_training(), tiny_network(), [store], show_progress=False)
    old, start = load_vla_policy(tmp_path / "first"), Start(policy=tmp_path / "first")
    told = looking_back(frames=1, frame_gap=1)
    learner = prepare(tmp_path / "told", tiny_training(), told, [store], start=start).learner
    assert "new to the network that this starts from: use_points, use_times" in caplog.text
    observation = DepthPointMass(3).reset([0, 1, 2])
    new = VLAPolicy(learner.vla, learner.normalization, old.embodiment)
    assert torch.equal(new.predict_chunk(observation), old.predict_chunk(observation))
    learner = prepare(tmp_path / "shown", tiny_training(), looking_back(), [store], start=start).learner
    assert "use_times, frames, frame_gap" in caplog.text
    assert torch.equal(learner.vla.backbone.time_embedding[-1], old.vla.backbone.time_embedding[0])
    with pytest.raises(ValueError, match=r"network\.backbone\.width: 16 there, 32 now"):
        start.load(looking_back(width=32), old.embodiment)
