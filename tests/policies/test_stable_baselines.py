"""Actors of stable-baselines3 read from their files: they act as its own ``predict``, and nothing pickled is run."""

import base64
import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from point_mass import point_mass_embodiment
from torch import nn

from envs.specs import COMMAND_KEY, ENVIRONMENT_STATE_KEY, STATE_KEY
from envs.vector import TaskEnv
from policies.stable_baselines import SETTINGS_PART, WEIGHTS_PART, read_actor
from vla.checkpoint import CheckpointError
from vla.heads.gaussian import log_std_of

pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import VecExtractDictObs, VecNormalize

from envs.sb3 import StableBaselinesEnv


@pytest.fixture(scope="module")
def worlds():
    env = StableBaselinesEnv(TaskEnv("reach", 1, stream="learn", render=False, privileged=True, language=False))
    yield env
    env.close()


def model(worlds, kind="MultiInputPolicy", **policy_kwargs):
    """A PPO whose weights are large enough for actions beyond −1 … 1."""
    made = PPO(kind, worlds, n_steps=2, batch_size=2, n_epochs=1, device="cpu", seed=0, policy_kwargs=policy_kwargs)
    with torch.no_grad():
        for weight in made.policy.parameters():
            weight += 0.3 * torch.randn_like(weight)
    return made


@pytest.fixture(scope="module")
def saved(worlds, tmp_path_factory):
    path = tmp_path_factory.mktemp("sb3") / "model.zip"
    model(worlds).save(path)
    return path


def rewritten(path: Path, to: Path, **parts: bytes) -> Path:
    """The file with the contents of some of its parts replaced."""
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(to, "w") as target:
        for name in source.namelist():
            target.writestr(name, parts.get(name.replace(".", "_"), source.read(name)))
    return to


class Touches:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("policy_kwargs", [{}, {"net_arch": [32] * 3, "activation_fn": nn.Tanh, "log_std_init": -1.0}])
def test_acts_as_its_own_predict(worlds, tmp_path, policy_kwargs):
    theirs = model(worlds, **policy_kwargs)
    theirs.save(tmp_path / "model.zip")
    actor = read_actor(tmp_path / "model.zip")
    assert actor.keys == (COMMAND_KEY, ENVIRONMENT_STATE_KEY, STATE_KEY) and actor.privileged
    draws = np.random.default_rng(0)
    shapes = {name: space.shape for name, space in worlds.observation_space.spaces.items()}
    seen = {name: draws.normal(size=(64, *shape)).astype(np.float32) for name, shape in shapes.items()}
    chosen, _ = theirs.predict(seen, deterministic=True)
    assert 0.1 < (np.abs(chosen) == 1).mean() < 0.9, "some are cut off, and some are not"
    ours = actor.acting(worlds.get_attr("embodiment")[0])
    acted = ours.predict_chunk({key: torch.from_numpy(seen[key.replace(".", "_")]) for key in ours.keys})
    torch.testing.assert_close(acted[:, 0], worlds.unscaled(chosen), atol=1e-5, rtol=0)
    torch.testing.assert_close(log_std_of(actor.network.spread[0]), theirs.policy.log_std.detach())


def test_one_that_sees_the_state_alone(worlds, tmp_path):
    theirs = model(VecExtractDictObs(worlds, "observation_state"), "MlpPolicy")
    theirs.save(tmp_path / "model.zip")
    actor = read_actor(tmp_path / "model.zip")
    assert actor.keys == (STATE_KEY,) and not actor.privileged
    seen = np.random.default_rng(0).normal(size=(64, actor.network.size)).astype(np.float32)
    acted = actor.acting(worlds.get_attr("embodiment")[0]).predict_chunk({STATE_KEY: torch.from_numpy(seen)})
    chosen = worlds.unscaled(theirs.predict(seen, deterministic=True)[0])
    torch.testing.assert_close(acted[:, 0], chosen, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("policy_kwargs", "said"),
    [
        ({"activation_fn": nn.ReLU}, "expected the activation .*Tanh.*, got .*ReLU"),
        ({"net_arch": [64, 32]}, r"layers of one width, and so layers\.2\.weight \(64, 64\), got \(32, 64\)"),
        ({"net_arch": []}, "expected layers mlp_extractor.policy_net and action_net"),
        ({"features_extractor_kwargs": {}}, "without features_extractor_kwargs"),
    ],
)
def test_a_network_of_another_shape_is_refused(worlds, tmp_path, policy_kwargs, said):
    model(worlds, **policy_kwargs).save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match=said):
        read_actor(tmp_path / "model.zip")


def test_one_behind_averages_is_refused(worlds, tmp_path):
    learner = model(VecNormalize(worlds))
    learner.learn(2)
    learner.save(tmp_path / "model.zip")
    with pytest.raises(CheckpointError, match="trained behind VecNormalize"):
        read_actor(tmp_path / "model.zip")


def test_a_robot_with_other_actions_is_refused(worlds, saved):
    with pytest.raises(ValueError, match="the network has 7 actions, point_mass has 2"):
        read_actor(saved).acting(point_mass_embodiment())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"action_space": {"low": "[-2.]", "high": "[2.]"}}, r"expected actions of -1 … 1.*got \{-2.0\} … \{2.0\}"),
        ({"observation_space": {"_shape": [3, 64, 64]}}, r"one row of numbers, got \[3, 64, 64\]"),
        ({"observation_space": {"spaces": "{'observation_images_front': Box()}"}}, "got observation_images_front"),
        ({"policy_class": {"__module__": "stable_baselines3.sac.policies"}}, "got one of stable_baselines3.sac"),
        ({"use_sde": True}, "without use_sde"),
        ({"policy_class": None}, "is damaged"),
    ],
)
def test_another_model_is_refused(saved, tmp_path, change, said):
    with zipfile.ZipFile(saved) as archive:
        settings = json.loads(archive.read(SETTINGS_PART)) | change
    path = rewritten(saved, tmp_path / "model.zip", data=json.dumps(settings, allow_nan=False).encode())
    with pytest.raises(CheckpointError, match=said):
        read_actor(path)


def weights(saved):
    with zipfile.ZipFile(saved) as archive:
        return torch.load(io.BytesIO(archive.read(WEIGHTS_PART)), weights_only=True)


def stored(content) -> bytes:
    part = io.BytesIO()
    torch.save(content, part)
    return part.getvalue()


def test_nothing_pickled_is_run(saved, tmp_path):
    trap = Touches(tmp_path / "ran")
    with zipfile.ZipFile(saved) as archive:
        settings = json.loads(archive.read(SETTINGS_PART))
    settings["policy_class"][":serialized:"] = base64.b64encode(pickle.dumps(trap)).decode()
    harmless = rewritten(saved, tmp_path / "a.zip", data=json.dumps(settings, allow_nan=False).encode())
    assert read_actor(harmless).keys == read_actor(saved).keys
    for content in (stored(trap), stored(weights(saved) | {"log_std": trap}), pickle.dumps(trap)):
        path = rewritten(saved, tmp_path / "b.zip", policy_pth=content)
        with pytest.raises(CheckpointError, match=r"expected plain tensors in policy\.pth"):
            read_actor(path)
    assert not trap.path.exists()
    torch.load(io.BytesIO(stored(trap)), weights_only=False)
    assert trap.path.exists(), "the trap works"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"features_extractor.cnn.0.weight": torch.zeros(3)}, "an MLP and nothing else, got features_extractor"),
        ({"action_net.bias": torch.full((7,), torch.nan)}, "expected finite numbers of 32 bits in action_net.bias"),
        ({"action_net.bias": torch.zeros(7).double()}, "got torch.float64"),
        ({"action_net.bias": torch.zeros(6)}, "got \\(6,\\)"),
        ({"log_std": None}, "expected named tensors"),
    ],
)
def test_other_tensors_are_refused(saved, tmp_path, change, said):
    path = rewritten(saved, tmp_path / "model.zip", policy_pth=stored(weights(saved) | change))
    with pytest.raises(CheckpointError, match=said):
        read_actor(path)


def test_a_file_that_is_none_of_its_is_refused(saved, tmp_path):
    (tmp_path / "text.zip").write_text("no zip", encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "empty.zip", "w") as archive:
        archive.writestr("README", "")
    (tmp_path / "cut.zip").write_bytes(saved.read_bytes()[:5000])
    for name in ("text.zip", "empty.zip", "cut.zip", "missing.zip", "."):
        with pytest.raises(CheckpointError, match="expected a zip of stable-baselines3 at"):
            read_actor(tmp_path / name)
