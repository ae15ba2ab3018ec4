"""Scores are made by their names, and what does not fit the robot is refused before any work."""

import pytest
import torch
from point_mass import PointMassEnv, point_mass_embodiment
from tiny_checkpoints import tiny_checkpoint
from tiny_rewards import point_mass_base, tiny_towers

from envs.specs import TASK_KEY
from rl.rewards.classifier import SuccessClassifier, train_classifier
from rl.rewards.config import HeadConfig, ScorerConfig
from rl.rewards.failures import record_kinds
from rl.rewards.features import FrozenFeatures
from rl.rewards.making import make_scorer
from vla.base import load_base, save_base
from vla.checkpoint import CheckpointError

ROBOT = {"cameras": ("front",), "image_size_px": (16, 16)}


def test_each_name_makes_its_score(tmp_path):
    observation = PointMassEnv(3).reset([0, 1, 2])
    base = point_mass_base(tmp_path / "base")
    features = FrozenFeatures(base)
    saved = train_classifier(record_kinds(PointMassEnv(4), range(4), 3), features, HeadConfig(steps=3))
    saved.save(tmp_path / "reward")
    names = {
        str(tmp_path / "reward"): "classifier",
        str(tiny_towers(tmp_path / "clip", "clip")): "clip-cosine",
        f"ask:{tiny_checkpoint(tmp_path / 'smolvlm', 'smolvlm')}": "asked",
    }
    for given, name in names.items():
        scorer = make_scorer(given, ScorerConfig(), **ROBOT)
        scores = scorer(observation, observation[TASK_KEY])
        assert scorer.name == name and scores.shape == (3,) and bool(scores.isfinite().all())
    projected = make_scorer(str(tmp_path / "clip"), ScorerConfig(baseline="a table"), **ROBOT)
    assert projected.name == "clip-projected"
    direct = SuccessClassifier(features, saved.head)(observation, observation[TASK_KEY])
    torch.testing.assert_close(
        make_scorer(str(tmp_path / "reward"), ScorerConfig(), **ROBOT)(observation, observation[TASK_KEY]), direct
    )
    with pytest.raises(CheckpointError, match="no such folder"):
        make_scorer(str(tmp_path / "nothing"), ScorerConfig(), **ROBOT)


def test_features_that_would_be_others_each_time_are_refused(tmp_path):
    base = load_base(point_mass_base(tmp_path / "base"))
    kept = {name: weight for name, weight in base.weights.items() if not name.startswith("blocks.1")}
    save_base(base.config, kept, tmp_path / "half")
    with pytest.raises(ValueError, match="lacks blocks"):
        FrozenFeatures(tmp_path / "half")
    with pytest.raises(ValueError, match="the backbone knows cameras"):
        FrozenFeatures(tmp_path / "base").check(point_mass_embodiment(cameras=("top",)))


def test_features_do_not_depend_on_the_rows_beside(tmp_path):
    features = FrozenFeatures(point_mass_base(tmp_path / "base"))
    observation = PointMassEnv(5).reset(list(range(5)))
    goals = observation.pop(TASK_KEY)
    whole = features(observation, goals)
    for world in range(5):
        alone = features(
            {key: tensor[world : world + 1] for key, tensor in observation.items()}, goals[world : world + 1]
        )
        torch.testing.assert_close(alone[0], whole[world], atol=1e-5, rtol=1e-5)
    other = features(observation, [goals[0]] * 5)
    changed = [goal != goals[0] for goal in goals]
    assert any(changed) and [not torch.allclose(a, b) for a, b in zip(other, whole, strict=True)] == changed
