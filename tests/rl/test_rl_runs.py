"""Runs of learning from reward: gone on with exactly, in one process or in several."""

import numpy as np
import pytest
import rl_crews
import torch
from point_mass import PointMassEnv
from safetensors.torch import load_file
from stopping import stopped_before

from policies.evaluation import evaluate
from policies.training.group import Part
from policies.training.metrics import read_metrics
from policies.vla_policy import VLAPolicy
from rl.episodes import Episodes, decoded, encoded
from rl.learner import RLLearner


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    last = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(last.rglob("*.safetensors")), last / "policy/policy.json"]
    return [path.read_bytes() for path in files]


@pytest.mark.parametrize("advantages", ["gae", "grpo"])
def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, advantages):
    fields = {"advantages": advantages, "group_size": 2}
    rl_crews.run(tmp_path / "whole", **fields)
    with stopped_before(3, RLLearner):
        rl_crews.run(tmp_path / "stopped", **fields)
    summary = rl_crews.run(tmp_path / "stopped", resume=True, **fields)
    assert summary.resumed_from == 2
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")
    policy = VLAPolicy.load(tmp_path / "whole")
    assert len(evaluate(PointMassEnv(2, stream="evaluate"), policy, [0, 1], show_progress=False).episodes) == 2


def test_a_run_killed_after_its_last_checkpoint_settles_what_was_left(tmp_path):
    rl_crews.run(tmp_path)
    before = result(tmp_path)
    (tmp_path / "checkpoints/last").unlink()
    (tmp_path / "checkpoints/.writing-last").symlink_to("000004")
    (tmp_path / "metrics.jsonl.4711.tmp").touch()
    assert rl_crews.run(tmp_path, resume=True).resumed_from == 4
    assert result(tmp_path) == before
    assert not [*tmp_path.glob("*.tmp"), *tmp_path.glob("checkpoints/.*")]


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    """One process deals its worlds to two shards, so that random numbers are those of two processes."""
    rl_crews.run(tmp_path / "one", shards=2)
    rl_crews.run(tmp_path / "two", processes=2)
    one, two = (
        load_file(path / "checkpoints/last/training_state/tensors.safetensors")
        for path in (tmp_path / "one", tmp_path / "two")
    )
    assert one.keys() == two.keys()
    for name in one:
        if name.startswith(("weights/", "carried/")):
            torch.testing.assert_close(two[name].float(), one[name].float(), rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(*(read_metrics(path) for path in (tmp_path / "one", tmp_path / "two")), strict=True):
        np.testing.assert_allclose([theirs[name] for name in ours], list(ours.values()), rtol=1e-2, atol=1e-2)


def test_worlds_and_texts_come_back_as_they_were():
    env, part = PointMassEnv(3, max_episode_steps=5, stream="learn"), Part(0, 3, 3)
    ours = Episodes(env, part, seed=0)
    ours.start()
    push = torch.full((3, 2, 2), 0.4)
    for _ in range(4):
        ours.step_chunk(push)
    kept = ours.tensors()
    expected = [ours.step_chunk(push) for _ in range(3)]
    theirs = Episodes(PointMassEnv(3, max_episode_steps=5, stream="learn"), part, seed=0)
    theirs.restore(kept)
    for moved in expected:
        again = theirs.step_chunk(push)
        assert torch.equal(again.rewards, moved.rewards) and again.ended == moved.ended
        assert all(torch.equal(again.observation[k], x) for k, x in moved.observation.items() if k != "task")
    texts = ["schieb den grünen Würfel", "", "a"]
    assert decoded(encoded(texts)) == texts
