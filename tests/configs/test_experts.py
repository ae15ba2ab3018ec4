"""``vla collect --expert``: who demonstrates acts in what is recorded, is kept, and is refused where it cannot act."""

import json

import numpy as np
import pytest
import torch

from configs.cli import main
from configs.commands.collect import Config
from configs.environments import make_env
from configs.experts import find_demonstrator, try_out
from configs.worlds import EnvConfig
from envs.specs import ACTION_KEY, STATE_KEY
from envs.vector import TaskEnv
from policies.data.dataset import DemonstrationDataset
from policies.data.left_out import LeftOut
from policies.shipped import SHIPPED
from policies.state_policy import StateNetworkConfig
from rl.state_agent import fresh_policy

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecExtractDictObs

from envs.sb3 import StableBaselinesEnv

SMALL = ["--env.image-size-px", "16", "--env.threads", "1", "--noise.std", "0"]


def collect(path, expert, *flags):
    return main(["collect", "reach", "--path", str(path), "--expert", str(expert), *SMALL, *flags])


@pytest.fixture(scope="module")
def experts(tmp_path_factory):
    """A PPO of stable-baselines3 and a policy of ours, which see the state, and a PPO that sees all there is."""
    folder = tmp_path_factory.mktemp("experts")
    env = TaskEnv("reach", 1, stream="learn", render=False, privileged=True, language=False)
    worlds = StableBaselinesEnv(env)
    feeling = PPO("MlpPolicy", VecExtractDictObs(worlds, "observation_state"), n_steps=2, batch_size=2, device="cpu")
    knowing = PPO("MultiInputPolicy", worlds, n_steps=2, batch_size=2, device="cpu")
    torch.manual_seed(0)
    ours = fresh_policy(StateNetworkConfig(), env, [STATE_KEY])
    with torch.no_grad():
        for weight in (*feeling.policy.parameters(), *ours.network.parameters()):
            weight += 0.1 * torch.randn_like(weight)
    feeling.save(folder / "feeling.zip")
    knowing.save(folder / "knowing.zip")
    (folder / "ours").mkdir()
    ours.save(folder / "ours")
    yield folder, feeling, ours, worlds
    worlds.close()


@pytest.fixture(scope="module")
def recorded(experts, tmp_path_factory):
    """What the PPO that sees the state recorded."""
    path = tmp_path_factory.mktemp("data") / "ppo"
    assert collect(path, f"sb3:{experts[0] / 'feeling.zip'}", "--episodes", "2", "--keep-failures") == 0
    return path


def test_the_actions_are_those_of_stable_baselines3(experts, recorded):
    _, ppo, _, worlds = experts
    dataset = DemonstrationDataset(recorded)
    chosen, _ = ppo.predict(dataset.load(STATE_KEY), deterministic=True)
    np.testing.assert_allclose(dataset.load(ACTION_KEY), worlds.unscaled(chosen), atol=1e-5)
    assert len(dataset) == 2 and dataset.load(ACTION_KEY).std(axis=0).max() > 1e-3


def test_a_folder_of_ours_demonstrates_and_failures_are_left_out(experts, tmp_path):
    folder, _, ours, _ = experts
    assert collect(tmp_path / "all", folder / "ours", "--episodes", "1", "--keep-failures") == 0
    dataset = DemonstrationDataset(tmp_path / "all")
    expected = ours.predict_chunk({STATE_KEY: torch.from_numpy(dataset.load(STATE_KEY))})[:, 0]
    np.testing.assert_allclose(dataset.load(ACTION_KEY), expected, atol=1e-5)
    assert not dataset.records[0].success
    assert collect(tmp_path / "good", folder / "ours", "--episodes", "1") == 0
    assert len(DemonstrationDataset(tmp_path / "good")) == 0
    assert LeftOut.read(tmp_path / "good").failed == {"reach": {0}}


def test_one_that_knows_what_the_simulator_knows(experts, tmp_path):
    path = tmp_path / "store"
    assert collect(path, f"sb3:{experts[0] / 'knowing.zip'}", "--episodes", "1", "--keep-failures") == 0
    dataset = DemonstrationDataset(path)
    assert len(dataset) == 1 and not any("environment_state" in key for key in dataset.keys)


def test_recordings_of_different_experts_do_not_mix(experts, recorded, tmp_path, capsys):
    folder = experts[0]
    flags = ["--episodes", "3", "--keep-failures"]
    for other in ("scripted", folder / "ours", f"sb3:{folder / 'knowing.zip'}"):
        assert collect(recorded, other, *flags) == 2
        said = capsys.readouterr().err
        assert 'settings.policy: "sb3 ' in said and len(DemonstrationDataset(recorded)) == 2
    moved = tmp_path / "moved.zip"
    moved.write_bytes((folder / "feeling.zip").read_bytes())
    assert collect(recorded, f"sb3:{moved}", *flags) == 0, "the same expert from elsewhere"
    assert [record.seed for record in DemonstrationDataset(recorded).records] == [0, 1, 2]


@pytest.mark.parametrize(
    ("expert", "flags", "said"),
    [
        ("{}/nowhere", [], "no policy.json in any of"),
        ("sb3:{}/ours/policy.json", [], "expected a zip of stable-baselines3 at"),
        ("sb3:{}/nowhere.zip", [], "expected a zip of stable-baselines3 at"),
        ("ws://localhost:1", [], "expected scripted, a policy's folder or sb3:FILE.zip, got the server"),
        ("{}/ours", ["--env.robot", "ur5e"], "the policy is for panda"),
        ("sb3:{}/knowing.zip", ["--env.velocities"], "expected 40 numbers in"),
        ("sb3:{}/feeling.zip", ["--env.robot", "so100"], "expected 17 numbers in"),
        ("sb3:{}/feeling.zip", ["--env.control", "joint_position"], "the network has 7 actions, panda has 8"),
    ],
)
def test_who_cannot_act_is_refused_before_anything_is_recorded(experts, tmp_path, capsys, expert, flags, said):
    assert collect(tmp_path / "store", expert.format(experts[0]), *flags) == 2
    assert said in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_films_are_of_the_scripted_expert_alone():
    with pytest.raises(ValueError, match="films show the scripted expert alone, got render 1 of RUN"):
        Config(expert="RUN", render=1)


def test_a_policy_of_pictures_decides_what_cameras_look_like(tmp_path):
    config = EnvConfig(threads=1)
    shipped = find_demonstrator(SHIPPED, config)
    env = make_env("reach", 1, stream="demonstrate", config=shipped.env)
    try:
        try_out(shipped, env, seed=0)
        assert shipped.name.startswith("policy ") and not shipped.privileged
    finally:
        env.close()
    with pytest.raises(ValueError, match="expects image_size_px"):
        find_demonstrator(SHIPPED, EnvConfig(image_size_px=96))


def test_a_damaged_policy_is_refused(experts, tmp_path, capsys):
    broken = tmp_path / "policy"
    broken.mkdir()
    (broken / "policy.json").write_text(json.dumps({"kind": "state"}, allow_nan=False), encoding="utf-8")
    assert collect(tmp_path / "store", broken) == 2
    assert "is damaged" in capsys.readouterr().err and not (tmp_path / "store").exists()
