"""Processes share a network out among them, learn what one learns, and leave what one leaves."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import training_crews
from demonstrations import tiny_network, tiny_training
from point_mass import PointMassEnv
from safetensors.torch import load_file
from test_vlm_policies import network as vlm_network

from policies.evaluation import evaluate
from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.stages import Stage
from policies.imitation.trainer import prepare
from policies.training.processes import ProcessError, in_processes
from policies.vla_policy import VLAPolicy
from vla.heads.bridge import BridgeConfig

ONE_STAGE = {"stages": (Stage(warmup_steps=4, rates={"head": 0.5}),)}


@pytest.mark.parametrize("family", ["nano", "llava"])
def test_a_network_that_is_shared_out_learns_what_one_process_learns(store, checkpoint, family):
    """And a process holds half of it; the bridge's gates, single numbers, are in both."""
    network = vlm_network(checkpoint(family), "full") if family != "nano" else tiny_network(head=BridgeConfig(heads=2))
    config = tiny_training(**ONE_STAGE, batch_size=32, steps=4, threads=1)
    weights, _, reports = training_crews.learn(store, config, range(4), network)
    together = replace(config, processes=2, shard=True)
    theirs, percent, told = in_processes(2, "cpu", training_crews.learn_shared_out, store, together, range(4), network)
    assert percent <= 55
    apart = np.abs(theirs - weights)
    assert np.mean(apart > 1e-5) < 2e-3 and apart.max() < 1e-3
    for here, there in zip(reports, told, strict=True):
        for name in ("loss", "grad_norm", "lr"):
            assert there[name] == pytest.approx(here[name], rel=1e-4)


def test_a_run_goes_on_to_the_same_numbers_and_its_policy_acts(tmp_path, store):
    settings = {**ONE_STAGE, "shard": True, "keep_last": 5, "ema_decay": 0.9}
    summary = training_crews.run(tmp_path / "whole", store, **settings)
    shutil.copytree(tmp_path / "whole", tmp_path / "stopped", symlinks=True)
    for step in (15, 20):
        shutil.rmtree(tmp_path / "stopped" / "checkpoints" / f"{step:06d}")
    assert training_crews.run(tmp_path / "stopped", store, resume=True, **settings).resumed_from == 10
    for name in ("policy/model.safetensors", "training_state/tensors.safetensors", "training_state/progress.json"):
        there = tmp_path / "stopped" / "checkpoints" / "000020" / name
        assert there.read_bytes() == (summary.checkpoint / name).read_bytes(), name
    policy = VLAPolicy.load(summary.checkpoint)
    averaged = load_file(summary.checkpoint / "training_state" / "tensors.safetensors")
    weights = policy.vla.state_dict()
    assert all(torch.equal(weights[name], averaged[f"average/{name}"]) for name, _ in policy.vla.named_parameters())
    assert len(evaluate(PointMassEnv(2), policy, seeds=[1, 2]).episodes) == 2


def test_a_run_that_was_shared_out_goes_on_in_one_process(tmp_path, store):
    """And the other way round: checkpoints are of the whole network."""
    training_crews.run(tmp_path, store, **ONE_STAGE, shard=True)
    assert training_crews.run(tmp_path, store, resume=True, processes=1, steps=24, **ONE_STAGE).resumed_from == 20
    together = training_crews.run(tmp_path, store, resume=True, steps=28, shard=True, **ONE_STAGE)
    assert together.resumed_from == 24 and np.isfinite(together.loss)


def test_what_cannot_be_shared_out_is_refused(tmp_path, store):
    with pytest.raises(ValueError, match=r"expected one of stages and no validation_share, got 2 and 0\.0"):
        tiny_training(shard=True)
    uneven = tiny_training(**ONE_STAGE, shard=True, processes=2, batch_size=9, accumulate=3)
    with pytest.raises(ProcessError, match="divides, got 9"):
        in_processes(2, "cpu", training_crews.run_here, tmp_path, uneven, store, False)
    in_a_row = LifelongConfig(tasks=("here", "there"))
    with pytest.raises(ValueError, match="one after the other is not shared out"):
        prepare(tmp_path, tiny_training(shard=True, **ONE_STAGE), tiny_network(), [store], lifelong=in_a_row)
