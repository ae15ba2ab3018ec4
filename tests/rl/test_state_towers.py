"""Towers that learn states from episodes that succeed and fail."""

import pytest
import torch
from point_mass import PointMassEnv
from tiny_rewards import point_mass_base, steered

from envs.specs import image_key
from rl.rewards.clip import GoalSimilarity
from rl.rewards.config import HeadConfig, ScorerConfig
from rl.rewards.failures import record_kinds
from rl.rewards.head import HEAD_FILE
from rl.rewards.lab import score
from rl.rewards.learning_states import OTHER_GOAL, train_towers
from rl.rewards.making import SHIPPED_STATES, STATES, make_scorer
from rl.rewards.measures import auc
from rl.rewards.nano_towers import FrozenTokens
from rl.rewards.state_towers import LearnedTowers, load_towers
from vla.checkpoint import CheckpointError

ROBOT = {"cameras": ("front",), "image_size_px": (16, 16)}


def said(goal):
    """What is to be seen, of the colour alone."""
    return f"on the {'red' if 'red' in goal else 'blue'} dot"


@pytest.mark.slow
def test_they_rank_fresh_episodes_and_come_back_from_disk(tmp_path):
    """On a backbone of random weights: what they know of states is all their own."""
    tokens = FrozenTokens(point_mass_base(tmp_path / "base"))
    config = HeadConfig(width=64, steps=200, batch_size=128, lr=2e-3)
    saved = train_towers(record_kinds(steered(24), range(24), 2), tokens, said, config)
    fresh = record_kinds(steered(16, stream="evaluate"), range(16), 2)
    scorer = GoalSimilarity(LearnedTowers(tokens, saved.towers), tokens.cameras, describe=said)
    last = [float(each[-1]) for each in score(scorer, fresh)[0]]
    won = [value for value, trace in zip(last, fresh, strict=True) if trace.success]
    lost = [value for value, trace in zip(last, fresh, strict=True) if trace.kind in ("half-way", "random")]
    assert len(won) >= 16 and auc(won, lost) > 0.8
    assert saved.about["episodes"] > saved.about["done"] and saved.about["sentences"] == [said("blue"), said("red")]
    saved.save(tmp_path / "reward")
    again = make_scorer(str(tmp_path / "reward"), ScorerConfig(), describe=said, **ROBOT)
    assert again.name == "state-towers-cosine"
    batch = fresh[0]
    observation, goals = batch.shown, [batch.goal] * len(batch)
    torch.testing.assert_close(again(observation, goals), scorer(observation, goals))
    assert load_towers(tmp_path / "reward").about == saved.about
    projected = make_scorer(str(tmp_path / "reward"), ScorerConfig(baseline="dots"), describe=said, **ROBOT)
    assert projected.name == "state-towers-projected"
    (tmp_path / "reward" / HEAD_FILE).write_text('{"format_version": 1}', encoding="utf-8")
    with pytest.raises(CheckpointError, match="expected a learned reward"):
        load_towers(tmp_path / "reward")


def test_the_packages_own_see_tables_and_tell_sentences_apart():
    scorer = make_scorer(STATES, ScorerConfig(), cameras=("front", "wrist"), image_size_px=(64, 64))
    generator = torch.Generator().manual_seed(0)
    keys = [image_key(camera) for camera in ("front", "wrist")]
    shown = {key: torch.randint(256, (2, 64, 64, 3), generator=generator, dtype=torch.uint8) for key in keys}
    scores = scorer(shown, ["the gripper touches the red cube", "the gripper touches the blue cube"])
    assert scores.abs().max() <= 1 + 1e-5
    towers = load_towers(SHIPPED_STATES)
    texts = LearnedTowers(FrozenTokens(), towers.towers).embed_texts(towers.about["sentences"])
    alike = texts @ texts.T - torch.eye(len(texts))
    assert alike.max() < 0.95  # those of the pre-training hear a gripper that touches and one that holds alike


def test_there_must_be_successes_and_failures(tmp_path):
    tokens = FrozenTokens(point_mass_base(tmp_path / "base"))
    lost = [trace for trace in record_kinds(PointMassEnv(2), [0, 1], 1) if not trace.success]
    lost = [trace for trace in lost if trace.kind != OTHER_GOAL]
    with pytest.raises(ValueError, match="frames that are done and frames that are not, got 0"):
        train_towers(lost, tokens, said, HeadConfig(steps=1))
