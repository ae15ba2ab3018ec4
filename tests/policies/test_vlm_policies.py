"""Policies on pretrained models: trained, stopped and gone on with, saved, loaded, and acting."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
import training_crews
from demonstrations import tiny_training
from point_mass import PointMassEnv
from policy_contract import PolicyContract
from safetensors.torch import load_file
from stopping import stopped_before
from tiny_checkpoints import tiny_checkpoint

from envs.specs import TASK_KEY, image_key
from policies.evaluation import evaluate
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.training.processes import in_processes
from policies.vla_policy import VLAPolicy
from vla.backbones.vlm.config import VLMConfig
from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.mlp import MLPConfig

needs_peft = pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra peft")
LORA = pytest.param("lora", marks=needs_peft)
CASES = [("smolvlm", "frozen"), ("qwen2_5_vl", "lora"), ("llava", "full")]


def network(folder, tuning="frozen", head=None):
    backbone = VLMConfig(
        checkpoint=str(folder), tuning=tuning, n_queries=4, lora_rank=4, max_text_tokens=64, prompt="{instruction}"
    )
    return VLAConfig(
        backbone=backbone,
        head=head or BridgeConfig(heads=2),
        cameras=("front",),
        image_size_px=(16, 16),
        state_dim=2,
        action_dim=2,
        horizon=4,
    )


def run(run_dir, store, vla_config, resume=False, **fields):
    settings = tiny_training(**{"steps": 6, "save_every": 3, "lr": 3e-3, **fields})
    return train(run_dir, settings, vla_config, [store], resume=resume, show_progress=False)


HEADS = {"bridge": BridgeConfig(heads=2), "mlp": MLPConfig(width=32)}
FIRST = {"frozen": "bridge", "lora": "mlp", "full": "mlp"}
"""The head that each tuning is tried with in every run; the other one is a slow test."""


@pytest.mark.parametrize(
    ("family", "tuning", "head"),
    [
        pytest.param(family, tuning, head, marks=() if head == FIRST[tuning] else pytest.mark.slow)
        for family, tuning in CASES
        for head in HEADS
    ],
)
def test_a_policy_learns_and_acts(tmp_path, store, checkpoint, family, tuning, head):
    if tuning == "lora":
        pytest.importorskip("peft", reason="needs the extra peft")
    vla_config = network(checkpoint(family), tuning, HEADS[head])
    summary = run(tmp_path, store, vla_config, steps=12)
    policy = VLAPolicy.load(summary.checkpoint)
    learned = load_file(summary.checkpoint / "policy" / "model.safetensors")
    assert learned["backbone.queries"].abs().max() > 0
    result = evaluate(PointMassEnv(2), policy, seeds=[1, 2])
    assert len(result.episodes) == 2


@pytest.mark.parametrize("tuning", ["frozen", LORA])
def test_a_run_goes_on_to_the_same_numbers(tmp_path, store, checkpoint, tuning):
    vla_config = network(checkpoint("smolvlm"), tuning)
    whole = run(tmp_path / "whole", store, vla_config).checkpoint
    with stopped_before(4, ImitationLearner):
        run(tmp_path / "stopped", store, vla_config)
    gone_on = run(tmp_path / "stopped", store, vla_config, resume=True).checkpoint
    for name in ("policy/model.safetensors", "training_state/tensors.safetensors"):
        assert (whole / name).read_bytes() == (gone_on / name).read_bytes()


@needs_peft
@pytest.mark.slow
def test_two_processes_learn_what_one_learns(store, checkpoint):
    vla_config = network(checkpoint("llava"), "lora")
    config = tiny_training(batch_size=16, steps=4, threads=1, stages=(Stage(),))
    weights, gradients, reports = training_crews.learn(store, config, range(4), vla_config)
    apart = (replace(config, processes=2), range(4), vla_config)
    theirs = in_processes(2, "cpu", training_crews.learn, store, *apart)
    np.testing.assert_allclose(theirs[1], gradients, atol=3e-6)
    assert np.mean(np.abs(theirs[0] - weights) > 1e-5) < 1e-3
    for here, there in zip(reports, theirs[2], strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-5)


def test_a_run_does_not_go_on_with_another_model(tmp_path, store, checkpoint):
    first = checkpoint("smolvlm")
    folder = tmp_path / "base"
    tiny_checkpoint(folder, "smolvlm", seed=3)
    run(tmp_path / "run", store, network(first))
    with pytest.raises(CheckpointError, match="the run cannot go on with other settings"):
        run(tmp_path / "run", store, network(folder), resume=True, steps=9)


def test_nothing_of_the_model_is_called_drawn_at_random(store, checkpoint):
    learner = ImitationLearner(tiny_training(), network(checkpoint("smolvlm")), [store])
    assert learner.drawn_and_frozen() == set()


class TestVLMPolicy(PolicyContract):
    @pytest.fixture
    def make_policy(self, checkpoint, store):
        learner = ImitationLearner(tiny_training(), network(checkpoint("llava")), [store])
        embodiment = learner.demonstrations.embodiment
        return lambda env: VLAPolicy(learner.vla, learner.normalization, embodiment, 2)


def test_the_instruction_counts(store, checkpoint):
    """What a policy says depends on the words, through the language model alone."""
    torch.manual_seed(0)
    learner = ImitationLearner(tiny_training(), network(checkpoint("qwen2_5_vl"), head=MLPConfig(width=32)), [store])
    with torch.no_grad():
        learner.vla.backbone.queries.normal_(std=0.5)
    policy = VLAPolicy(learner.vla, learner.normalization, learner.demonstrations.embodiment)
    observation = PointMassEnv(1).reset([1])
    told = [policy.predict_chunk({**observation, TASK_KEY: [text]}) for text in ("go left", "pick up the red cube")]
    assert not told[0].equal(told[1])


@pytest.mark.parametrize(
    ("change", "given"),
    [
        (lambda x: x.float() / 255, "float32"),
        (lambda x: x.permute(0, 3, 1, 2), r"\(1, 3, 16, 16\)"),
        (lambda x: x[..., :1], r"\(1, 16, 16, 1\)"),
    ],
    ids=["numbers from 0 to 1", "channels first", "grey"],
)
def test_images_of_another_range_or_layout_are_refused(store, checkpoint, change, given):
    learner = ImitationLearner(tiny_training(), network(checkpoint("llava")), [store])
    policy = VLAPolicy(learner.vla, learner.normalization, learner.demonstrations.embodiment)
    observation = PointMassEnv(1).reset([1])
    name = image_key("front")
    with pytest.raises(ValueError, match=rf"front: expected uint8 of shape \(1, h, w, 3\), got .*{given}"):
        policy.predict_chunk({**observation, name: change(observation[name])})


def test_a_longer_instruction_than_the_window_is_refused_in_training_and_remarked_when_acting(store, checkpoint):
    vla_config = network(checkpoint("llava"))
    short = replace(vla_config, backbone=replace(vla_config.backbone, max_text_tokens=1))
    with pytest.raises(ValueError, match=r"at most 1 tokens \(the network's text window\), got"):
        ImitationLearner(tiny_training(), short, [store])
    learner = ImitationLearner(tiny_training(), vla_config, [store])
    policy = VLAPolicy(learner.vla, learner.normalization, learner.demonstrations.embodiment)
    (remark,) = policy.remarks(["put the red cube into the blue bin " * 20])
    assert "is longer than the 64 tokens that the policy reads" in remark
