"""Votes, thresholds and what a success classifier learns, pays and keeps."""

import math

import numpy as np
import pytest
import torch
from point_mass import PointMassEnv
from tiny_rewards import Nearness, point_mass_base, steered

from envs.specs import TASK_KEY
from rl.rewards.classifier import (
    SuccessClassifier,
    SuccessReward,
    calibrate,
    done_labels,
    false_positives,
    train_classifier,
    vote_scores,
)
from rl.rewards.config import HeadConfig
from rl.rewards.failures import record_kinds
from rl.rewards.features import FrozenFeatures
from rl.rewards.head import load_head
from rl.rewards.lab import score
from rl.rewards.measures import auc
from vla.checkpoint import CheckpointError


def recorded(rng, n, base_rate=0.3):
    """Scores of episodes that overlap, as a classifier gives them."""
    success = rng.random(n) < base_rate
    return (rng.normal(0, 1, n) + 2.0 * success).tolist(), success.tolist()


@pytest.mark.parametrize("wanted", [0.6, 0.9, 0.97])
def test_a_threshold_has_the_precision_that_was_wanted(wanted):
    scores, success = recorded(np.random.default_rng(0), 4000)
    found = calibrate(scores, success, wanted)
    assert found.reached and found.precision.value >= wanted
    lower = [s for s in sorted(scores) if s < found.threshold]
    for threshold in lower[-40:]:  # believing more costs precision
        believed = [won for s, won in zip(scores, success, strict=True) if s >= threshold]
        assert np.mean(believed) < wanted
    fresh, truth = recorded(np.random.default_rng(1), 4000)
    believed = [won for s, won in zip(fresh, truth, strict=True) if s >= found.threshold]
    assert np.mean(believed) == pytest.approx(wanted, abs=0.04)
    lost = [s for s, won in zip(fresh, truth, strict=True) if not won]
    assert false_positives(fresh, truth, found.threshold).value == np.mean([s >= found.threshold for s in lost])


def test_a_precision_out_of_reach_believes_nothing():
    found = calibrate([3.0, 2.0, 1.0], [False, True, True], 0.9)
    assert not found.reached and found.recall.value == 0
    with pytest.raises(ValueError, match="a score for each"):
        calibrate([], [], 0.9)
    with pytest.raises(ValueError, match="a precision"):
        calibrate([1.0], [True], 0.0)


@pytest.mark.parametrize("votes", [1, 2, 3, 5])
def test_a_vote_is_what_more_than_half_of_the_last_frames_reach(votes):
    scores = torch.tensor(np.random.default_rng(votes).normal(size=12))
    found = vote_scores(scores, votes)
    for frame in range(12):
        window = scores[max(0, frame - votes + 1) : frame + 1]
        if len(window) < votes:
            assert found[frame] == -math.inf
            continue
        for threshold in scores.tolist():
            assert bool(found[frame] >= threshold) == (int((window >= threshold).sum()) > votes / 2)
    assert vote_scores(scores[:2], 3).tolist() == [-math.inf] * 2


def test_success_pays_once_when_enough_decisions_agree():
    env = PointMassEnv(4, max_episode_steps=30)
    reward = SuccessReward(Nearness(env), threshold=-0.3, votes=2)
    observation = env.reset([0, 1, 2, 3])
    reward.start(observation, observation[TASK_KEY])
    paid, reached = [], []
    for _ in range(12):
        moved = env.step(env.expert_action() * torch.tensor([[0.4], [0.4], [0.4], [0.0]]))
        paid.append(reward(observation, moved))
        observation = moved.observation
        reached.append(Nearness(env)(observation, observation[TASK_KEY]) >= -0.3)
    total = torch.stack(paid).sum(dim=0)
    assert total.tolist() == [1.0, 1.0, 1.0, 0.0] and reward.succeeded.tolist() == [True, True, True, False]
    for world in range(3):
        at = int(torch.stack(paid)[:, world].argmax())
        assert reached[at][world] and reached[at - 1][world] and not reached[at - 2][world]
    again = SuccessReward(Nearness(env), threshold=-0.3, votes=2)
    again.remember(reward.memory(), observation[TASK_KEY])
    assert again.succeeded.equal(reward.succeeded)
    reward.start(observation, observation[TASK_KEY], torch.tensor([True, False, False, False]))
    assert reward.succeeded.tolist() == [False, True, True, False]


def test_what_was_learned_ranks_fresh_episodes_and_comes_back_from_disk(tmp_path):
    features = FrozenFeatures(point_mass_base(tmp_path / "base"))
    env = steered(24)
    features.check(env.embodiment)
    saved = train_classifier(record_kinds(env, range(24), 2), features, HeadConfig(steps=200, batch_size=128))
    fresh = record_kinds(steered(16, stream="evaluate"), range(16), 2)
    scores, _ = score(SuccessClassifier(features, saved.head), fresh)
    last = [float(each[-1]) for each in scores]
    won = [value for value, trace in zip(last, fresh, strict=True) if trace.success]
    lost = [value for value, trace in zip(last, fresh, strict=True) if trace.kind in ("half-way", "random")]
    assert len(won) >= 16 and auc(won, lost) > 0.8
    saved.save(tmp_path / "reward")
    loaded = load_head(tmp_path / "reward")
    again, _ = score(SuccessClassifier(FrozenFeatures(loaded.base_folder), loaded.head), fresh[:3])
    torch.testing.assert_close(again, scores[:3], atol=1e-4, rtol=1e-4)
    assert loaded.about == saved.about
    (tmp_path / "base/config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match="config"):
        load_head(tmp_path / "reward")


def test_only_what_is_known_is_learned_from():
    episode = next(trace for trace in record_kinds(PointMassEnv(2), [0, 1], 1) if trace.success)
    done, known = done_labels(episode)
    assert done.tolist() == [False] * (len(episode) - 2) + [True, True]
    assert known[-2:].all() and known[: int(0.8 * len(episode))].all()
