"""Every head in a whole policy: trained, saved, loaded and acting; what it measures of the data survives all of it."""

import pytest
import torch
from demonstrations import FAST, TINY_HEADS, record, tiny_network, tiny_policy, tiny_training
from point_mass import PointMassEnv
from stopping import stopped_before

from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.vla_policy import VLAPolicy
from vla.config import HEADS
from vla.heads.tokens import TokensConfig

ALL = {**TINY_HEADS, "parallel": TokensConfig(bins=16, decoding="parallel"), "fast": FAST}


def test_every_kind_of_head_is_tried_here():
    acting = {name: kind for name, kind in HEADS.items() if name != "heatmap"}  # it aims: test_keyframe_policy.py
    assert {name: type(head) for name, head in TINY_HEADS.items()} == acting


@pytest.mark.parametrize("head", ALL)
def test_a_policy_acts_as_before_when_it_is_saved_and_loaded(tmp_path, head):
    policy = tiny_policy(head=ALL[head])
    observation = PointMassEnv(3).reset([1, 2, 3])
    before = policy.predict_chunk(observation)
    policy.save(tmp_path)
    loaded = VLAPolicy.load(tmp_path)
    assert loaded.vla.config.head == ALL[head]
    assert loaded.predict_chunk(observation).equal(before) and before.isfinite().all()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


def learn(run_dir, store, head, **how):
    config = tiny_training(steps=4, save_every=2, log_every=2, stages=(Stage(),), batch_size=4)
    return train(run_dir, config, tiny_network(head=ALL[head]), [store], show_progress=False, **how)


def result(run_dir):
    last = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(last.rglob("*.safetensors")), last / "policy/policy.json"]
    return [path.read_bytes() for path in files]


@pytest.mark.parametrize("head", ["fast", "flow"])
def test_a_run_that_is_interrupted_ends_as_one_that_was_not(tmp_path, store, head):
    learn(tmp_path / "whole", store, head)
    with stopped_before(3, ImitationLearner):
        learn(tmp_path / "stopped", store, head)
    assert learn(tmp_path / "stopped", store, head, resume=True).resumed_from == 2
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")
    policy = VLAPolicy.load(tmp_path / "stopped")
    assert policy.predict_chunk(PointMassEnv(2).reset([1, 2])).isfinite().all()


def test_a_head_is_fitted_to_the_normalised_chunks_of_the_data(store):
    learner = ImitationLearner(tiny_training(), tiny_network(head=FAST), [store])
    demonstrations = learner.demonstrations
    actions, valid = demonstrations.chunks(10**6)
    assert len(actions) == len(demonstrations)
    batch = demonstrations.sample(torch.arange(len(demonstrations)).numpy())
    assert actions.equal(batch.actions) and valid.equal(batch.valid)
    few, _ = demonstrations.chunks(5)
    assert len(few) == 5 and few[-1].equal(actions[-1])
    normalised = learner.normalization.action.normalize(actions[valid.all(dim=1)])
    code = learner.vla.head.code
    error = code.decode(code.encode(normalised)) - normalised
    assert error.square().sum(dim=1).sqrt().max() <= 0.5 / 3.0 * 2 + 1e-5  # half a step in each of 4 coefficients
