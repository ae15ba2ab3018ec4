"""Schedule values, decay groups and the weight average."""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import nn

from policies.imitation.config import TrainConfig
from policies.imitation.stages import Stage, stages_for
from policies.training.optimizer import WeightAverage, build_optimizer, learning_rate
from policies.training.schedule import lay_out, span_at


def rates(config, legs=()):
    spans = lay_out(stages_for(config.stages, locates=True), legs or (config.steps,))
    return [learning_rate(step, span_at(spans, step), config) for step in range(spans[-1].end)]


def test_the_schedule_rises_then_falls_to_its_floor():
    config = TrainConfig(steps=100, stages=(Stage(warmup_steps=10),), lr=2.0, min_lr_ratio=0.1)
    found = rates(config)
    assert found[0] == pytest.approx(0.2) and found[4] == pytest.approx(1.0)
    assert found[9] == found[10] == 2.0
    assert found[99] == pytest.approx(0.2)
    halfway = 10 + (99 - 10) / 2
    assert found[int(halfway)] == pytest.approx(2 * 0.55, rel=0.02)
    assert all(a > b for a, b in pairwise(found[10:]))


def test_the_schedule_agrees_with_torchs_cosine():
    config = TrainConfig(steps=51, stages=(Stage(warmup_steps=0),), lr=1.0, min_lr_ratio=0.0)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50)
    for found in rates(config):
        assert found == pytest.approx(cosine.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        cosine.step()


def test_every_stage_warms_up_on_the_one_cosine():
    one = TrainConfig(steps=100, stages=(Stage(warmup_steps=10),))
    two = replace(one, stages=(Stage(share=0.4, warmup_steps=10), Stage(share=0.6, warmup_steps=5, rate=0.5)))
    plain, staged = rates(one), rates(two)
    assert staged[:40] == plain[:40]
    ratios = [s / p for s, p in zip(staged[40:46], plain[40:46], strict=True)]
    assert ratios == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])
    assert staged[99] == pytest.approx(0.5 * plain[99])


def test_a_later_leg_is_a_warm_restart():
    config = TrainConfig(steps=80, stages=(Stage(warmup_steps=10),))
    found = rates(config, legs=(50, 80))
    assert found[:50] == rates(replace(config, steps=50)) and found[50:] == rates(replace(config, steps=30))


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_run_shorter_than_its_warm_up_has_rates(steps):
    found = rates(TrainConfig(steps=steps, stages=(Stage(share=0.39), Stage(share=0.61))))
    assert len(found) == steps and all(math.isfinite(rate) and rate > 0 for rate in found)


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
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.decay_at(0) == 0.1 and average.decay_at(100) == 0.5
    with average.applied():
        assert model.weight.item() == pytest.approx(expected, rel=1e-6)
    assert model.weight.item() == 89.0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"precision": "bf16"}, "needs a CUDA device"),
        ({"batch_size": 10, "accumulate": 4}, "does not divide"),
        ({"steps": 0}, "steps must be at least 1"),
        ({"stages": (Stage(share=0.3), Stage(share=0.6))}, r"add up to 1, got 0.3 \+ 0.6 = 0.9"),
        ({"stages": ()}, "add up to 1, got no stage"),
        ({"ema_decay": 1.0}, "ema_decay"),
        ({"lr": 0.0}, "must be positive"),
        ({"lr": math.nan}, "must be positive"),
        ({"min_lr_ratio": 1.5}, "min_lr_ratio must lie in 0…1"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)
