"""Stages share a run's steps whatever its length, say what learns, and warm up on their own."""

import json
import math
from dataclasses import replace

import pytest
import torch
from demonstrations import look_then_move, record, tiny_network, tiny_training

from configs.presets import PRESETS
from configs.serialization import from_json, to_json
from configs.training import Config
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage, stages_for
from policies.training.metrics import RunningMean
from policies.training.run_state import capture, restore
from policies.training.schedule import lay_out, span_at
from vla.objectives import LossWeights


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


def ends(stages, *legs):
    return [(span.first, span.end) for span in lay_out(stages, legs)]


def test_shares_become_steps_of_any_run():
    stages = look_then_move()
    assert ends(stages, 20) == [(0, 7), (7, 20)] and ends(stages, 1000) == [(0, 350), (350, 1000)]
    assert ends(stages, 1) == [(0, 1)]
    assert ends((Stage(share=0.0), Stage(share=1.0)), 8) == [(0, 8)]
    with pytest.raises(IndexError, match="end before step 20, asked for step 20"):
        span_at(lay_out(stages, [20]), 20)


def test_a_later_leg_is_of_the_last_stage():
    spans = lay_out(look_then_move(), [20, 30, 31])
    assert [(span.first, span.end) for span in spans] == [(0, 7), (7, 20), (20, 30), (30, 31)]
    assert [span.stage.weights.action for span in spans] == [0, 1, 1, 1]
    with pytest.raises(ValueError, match=r"got ends \[20, 20\]"):
        lay_out(look_then_move(), [20, 20])


def test_a_network_without_waypoint_leaves_out_what_it_cannot_learn():
    (only,) = stages_for(look_then_move(), locates=False)
    assert (only.share, only.weights.action, only.frames) == (1.0, 1.0, "all")
    with pytest.raises(ValueError, match="no stage of the training has a weight on the actions"):
        stages_for([Stage(weights=LossWeights(action=0))], locates=False)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"share": 1.2}, "share of the steps must lie in 0…1, got 1.2"),
        ({"rate": 0.0}, "rate must be a positive number"),
        ({"rate": math.nan}, "rate must be a positive number"),
        ({"share": math.nan}, "got nan"),
        ({"warmup_steps": -1}, "warmup_steps must be 0 or more"),
        ({"rates": {"head": -0.1}}, "rate of a part must be a number from 0 on, got -0.1 for 'head'"),
        ({"rates": {"head": math.nan}}, "got nan for 'head'"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Stage(**fields)


@pytest.mark.parametrize("steps", [1, 7, 1000])
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains_for_any_number_of_steps(preset, steps):
    config = PRESETS[preset]()
    config = replace(config, train=replace(config.train, steps=steps))
    assert lay_out(stages_for(config.train.stages, locates=True), [steps])[-1].end == steps
    assert from_json(Config, json.loads(json.dumps(to_json(config)))) == config


def test_what_learns_later_takes_small_steps_first(store):
    """The head's first gradient comes in the second stage; its first update is a small one all the same."""
    learner = ImitationLearner(tiny_training(), tiny_network(), [store])
    for step in range(7):
        learner.step(step)
    before = [parameter.detach().clone() for parameter in learner.vla.head.parameters()]
    assert learner.optimizer.state[next(learner.vla.head.parameters())] == {}
    learner.step(7)
    after = [parameter.detach() for parameter in learner.vla.head.parameters()]
    moved = max(float((a - b).abs().max()) for a, b in zip(before, after, strict=True))
    assert 0 < moved < 0.3 * learner.config.lr


def parts_moved(learner, step):
    before = {name: value.detach().clone() for name, value in learner.vla.named_parameters()}
    learner.step(step)
    return {n.partition(".")[0] for n, value in learner.vla.named_parameters() if not torch.equal(before[n], value)}


def test_only_what_a_stage_names_learns_and_the_rest_is_in_evaluation_mode(store):
    stages = (Stage(share=0.5, learns=("head",), warmup_steps=0), Stage(share=0.5, warmup_steps=0))
    learner = ImitationLearner(tiny_training(stages=stages), tiny_network(), [store])
    assert parts_moved(learner, 0) == {"head"}
    assert learner.vla.head.training and not learner.vla.backbone.training
    assert parts_moved(learner, 10) == {"head", "backbone"}
    assert learner.vla.backbone.training


def test_a_run_whose_parts_freeze_goes_on_as_if_undisturbed(store, tmp_path):
    stages = (Stage(share=0.5, warmup_steps=2), Stage(share=0.5, learns=("head.mlp",), warmup_steps=2))
    whole = ImitationLearner(tiny_training(stages=stages), tiny_network(), [store])
    losses = [whole.step(step)["loss"] for step in range(20)]
    first = ImitationLearner(tiny_training(stages=stages), tiny_network(), [store])
    for step in range(12):
        first.step(step)
    (tmp_path / "policy").mkdir()
    first.save(tmp_path / "policy")
    assert first.step(12)["loss"] == losses[12]
    state = capture(first, 13, RunningMean())
    second = ImitationLearner(tiny_training(stages=stages), tiny_network(), [store])
    restore(second, state)
    assert [second.step(step)["loss"] for step in range(13, 20)] == losses[13:]


def test_a_metric_is_the_mean_over_the_steps_that_had_it():
    running = RunningMean()
    running.add({"loss": 1.0})
    running = RunningMean(json.loads(json.dumps(running.state())))
    running.add({"loss": 3.0, "l1": 0.5})
    assert running.take() == {"loss": 2.0, "l1": 0.5}
    running.add({"loss": 7.0})
    assert running.take() == {"loss": 7.0}
