"""Schedule values, decay groups and the weight average."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from policies.imitation.config import TrainConfig
from policies.imitation.optimizer import WeightAverage, build_optimizer, learning_rate


def test_the_schedule_rises_then_falls_to_its_floor():
    config = TrainConfig(steps=100, warmup_steps=10, lr=2.0, min_lr_ratio=0.1)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2) and rates[4] == pytest.approx(1.0)
    assert rates[9] == rates[10] == 2.0
    assert rates[99] == pytest.approx(0.2)
    halfway = 10 + (99 - 10) / 2
    assert learning_rate(int(halfway), config) == pytest.approx(2 * 0.55, rel=0.02)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_the_schedule_agrees_with_torchs_cosine():
    config = TrainConfig(steps=51, warmup_steps=0, lr=1.0, min_lr_ratio=0.0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for step in range(51):
        assert learning_rate(step, config) == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()


def test_a_run_of_one_step_has_a_rate():
    assert math.isfinite(learning_rate(0, TrainConfig(steps=1, warmup_steps=0)))


def test_norms_biases_embeddings_and_frozen_weights_do_not_decay():
    model = nn.ModuleDict(
        {"embed": nn.Embedding(3, 4), "linear": nn.Linear(4, 4), "norm": nn.LayerNorm(4), "frozen": nn.Linear(4, 4)}
    )
    model["frozen"].requires_grad_(False)
    decayed, plain = build_optimizer(model, TrainConfig(weight_decay=0.3)).param_groups
    assert [p is model["linear"].weight for p in decayed["params"]] == [True]
    assert decayed["weight_decay"] == 0.3 and plain["weight_decay"] == 0
    assert len(plain["params"]) == 4


def test_the_average_follows_its_formula():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.5)
    expected = model.weight.item()
    for step, value in enumerate([1.0, -2.0, 3.0, 5.0, 8.0, 13.0, 21.0, 34.0, 55.0, 89.0]):
        model.weight.data.fill_(value)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.decay_at(0) == 0.1 and average.decay_at(100) == 0.5
    with average.applied_to(model):
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 89.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": "bf16"}, "needs a CUDA device"),
        ({"batch_size": 10, "accumulate": 4}, "does not divide"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"warmup_steps": 50, "steps": 10}, "warmup_steps"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"lr": 0.0}, "must be positive"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)
