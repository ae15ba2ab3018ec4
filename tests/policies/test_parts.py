"""Parts of a network that learn at rates of their own, or not at all, which then costs nothing."""

import json
from dataclasses import replace

import pytest
import torch
from demonstrations import look_then_move, record, tiny_network, tiny_training
from torch.autograd.graph import saved_tensors_hooks

from configs.cli import main
from configs.run_directory import load_config
from configs.training import Config
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.starting import Start
from policies.imitation.trainer import train
from policies.training.metrics import RunningMean, read_metrics
from policies.training.optimizer import build_optimizer
from policies.training.run_state import capture, restore
from vla.checkpoint import CheckpointError
from vla.objectives import LossWeights

EYE = ("image_encoder", "keypoint_encoder", "text_encoder", "camera_embedding", "waypoint")


def frozen(*parts):
    return {f"backbone.{part}": 0.0 for part in parts}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


def learner_of(store, *stages, **fields):
    return ImitationLearner(tiny_training(stages=stages, **fields), tiny_network(), [store])


def weights_of(learner):
    return {name: value.detach().clone() for name, value in learner.vla.named_parameters()}


def moved(learner, step):
    before = weights_of(learner)
    learner.step(step)
    return {name for name, value in learner.vla.named_parameters() if not torch.equal(before[name], value)}


def test_the_part_named_most_closely_counts():
    stage = Stage(rates={"backbone": 0.1, "backbone.text_encoder": 0.0, "head": 2.0})
    names = {"backbone.queries": 0.1, "backbone.text_encoder.token.weight": 0.0, "head.mlp.0.bias": 2.0, "other": 1.0}
    assert {name: stage.rate_of(name) for name in names} == names
    assert stage.rate_of("backbone.text_encoder_of_another_name") == 0.1
    beside = Stage(learns=("head",), rates={"head.norm": 0.5, "backbone.waypoint": 0.2})
    rates = {"head.mlp.0.bias": 1.0, "head.norm.bias": 0.5, "backbone.waypoint.0.bias": 0.2, "backbone.queries": 0.0}
    assert {name: beside.rate_of(name) for name in rates} == rates


def test_a_rate_multiplies_the_first_step(store):
    """Adam's first step is the learning rate whatever the gradient: the lengths of the steps are the rates."""
    rates = {"backbone": 0.25, "backbone.image_encoder": 0.0}
    learner = learner_of(store, Stage(warmup_steps=0, rates=rates), weight_decay=0.0)
    before = weights_of(learner)
    values = learner.step(0)
    longest = dict.fromkeys(("backbone.image_encoder", "backbone.keypoint_encoder", "head"), 0.0)
    for name, value in learner.vla.named_parameters():
        for part in (part for part in longest if name.startswith(part)):
            longest[part] = max(longest[part], float((value.detach() - before[name]).abs().max()))
    expected = [0.0, 0.25 * learner.config.lr, learner.config.lr]
    assert list(longest.values()) == pytest.approx(expected, rel=0.02)
    assert values["lr"] == learner.config.lr, "the report is of the run's rate"


def test_a_part_that_freezes_stays_as_it_is_to_the_last_bit_whatever_moments_and_decay_it_has(store):
    stages = Stage(share=0.5, warmup_steps=0), Stage(share=0.5, warmup_steps=0, rates=frozen("image_encoder"))
    learner = learner_of(store, *stages, weight_decay=0.5)
    assert any("image_encoder" in name for name in moved(learner, 0))
    for step in range(1, 10):
        learner.step(step)
    encoder = learner.vla.backbone.image_encoder
    assert any(learner.optimizer.state[p]["exp_avg"].abs().max() > 0 for p in encoder.parameters())
    for step in range(10, 20):
        names = moved(learner, step)
        assert names and not any("image_encoder" in name for name in names)
    assert not encoder.training and learner.vla.backbone.keypoint_encoder.training


def test_what_is_frozen_throughout_is_saved_as_it_was(store, tmp_path):
    learner = learner_of(store, Stage(rates=frozen(*EYE)))
    before = weights_of(learner)
    for step in range(3):
        learner.step(step)
    learner.save(tmp_path)
    with learner.average.applied():
        after = weights_of(learner)
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same >= {name for name in before if name.split(".")[1] in EYE} and "head.mlp.0.weight" not in same


def cost_of(learner):
    """Bytes that a step keeps for its backward pass, and how many convolutions it differentiates."""
    kept = 0

    def pack(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    learner.step(0)  # the stage is entered
    with saved_tensors_hooks(pack, lambda tensor: tensor), torch.profiler.profile() as profile:
        learner.step(1)
    backward = [event for event in profile.events() if event.name == "aten::convolution_backward"]
    return kept, len(backward)


def test_the_backward_pass_of_what_is_frozen_is_not_taken(store):
    everything = cost_of(learner_of(store, Stage()))
    encoder = cost_of(learner_of(store, Stage(rates=frozen("image_encoder"))))
    eye = cost_of(learner_of(store, Stage(rates=frozen(*EYE))))
    head = cost_of(learner_of(store, Stage(learns=("head",))))
    assert everything[0] > encoder[0] > eye[0] > head[0] > 0
    assert everything[1] > encoder[1] > eye[1] == 1 and head[1] == 0, "the patch encoder's is left"


def test_what_depends_on_frozen_parts_alone_has_no_graph(store):
    learner = learner_of(store, Stage(rates=frozen("image_encoder")))
    graphs = {}
    for name in ("image_encoder", "keypoint_encoder", "text_encoder"):
        module = learner.vla.backbone.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: graphs.update({name: out[0].requires_grad}))
    learner.step(0)
    assert graphs == {"image_encoder": False, "keypoint_encoder": True, "text_encoder": True}
    learner = learner_of(store, Stage(rates=frozen("image_encoder", "text_encoder")))
    assert learner.vla.backbone.camera_embedding.requires_grad
    learner.step(0)


def test_rates_of_one_are_none(store):
    plain, named = learner_of(store, Stage()), learner_of(store, Stage(rates={"head": 1.0, "backbone": 1.0}))
    for step in range(3):
        assert plain.step(step) == named.step(step)


def test_what_is_drawn_and_never_learns_is_warned_of(store, tmp_path, caplog):
    """Of a part that learned in another run, or that learns in one stage, nothing is said; nor when a run goes on."""
    stages = (
        Stage(share=0.5, rates=frozen("image_encoder", "text_encoder")),
        Stage(share=0.5, rates=frozen("image_encoder")),
    )

    def said(name, steps=4, **more):
        caplog.clear()
        config = tiny_training(steps=steps, stages=stages, save_every=2)
        train(tmp_path / name, config, tiny_network(), [store], show_progress=False, **more)
        return [record.getMessage() for record in caplog.records if "frozen" in record.getMessage()]

    assert said("fresh") == ["drawn at random and frozen in every stage: image_encoder"]
    assert said("fresh", steps=6, resume=True) == []
    assert said("tuned", start=Start(policy=tmp_path / "fresh")) == []


def test_a_run_with_rates_goes_on_as_if_undisturbed(store):
    rates = frozen("image_encoder") | {"backbone": 0.3, "head.norm": 3.0}
    stages = Stage(share=0.5, warmup_steps=2), Stage(share=0.5, rates=rates, warmup_steps=2)
    whole = learner_of(store, *stages)
    losses = [whole.step(step)["loss"] for step in range(20)]
    for stop in (7, 13):
        first, second = learner_of(store, *stages), learner_of(store, *stages)
        for step in range(stop):
            first.step(step)
        restore(second, capture(first, stop, RunningMean()))
        assert [second.step(step)["loss"] for step in range(stop, 20)] == losses[stop:]


def test_moments_are_numbered_alike_whatever_the_rates(store):
    """So that a checkpoint from before there were rates means the same parameters."""
    learner = learner_of(store, Stage())
    orders = []
    for apart in (lambda name: None, lambda name: name.split(".")[:2], lambda name: name):
        groups = build_optimizer(learner.vla, learner.config, apart).param_groups
        orders.append([id(parameter) for group in groups for parameter in group["params"]])
        decays = [group["weight_decay"] for group in groups]
        assert decays == sorted(decays, reverse=True)
    assert orders[0] == orders[1] == orders[2] and len(set(orders[0])) == len(learner.parameters)


def test_a_checkpoint_from_before_there_were_rates_goes_on(store, tmp_path):
    def run(path, **fields):
        config = tiny_training(**{"steps": 24, **fields})
        train(path, config, tiny_network(), [store], resume=path.exists(), show_progress=False)

    run(tmp_path / "run", steps=20)
    progress = json.loads((tmp_path / "run/checkpoints/last/training_state/progress.json").read_text())
    fields = {"share", "rate", "warmup_steps", "weights", "frames", "learns"}
    assert all(set(stage) == fields for stage in progress["settings"]["train"]["stages"])
    run(tmp_path / "run")
    assert read_metrics(tmp_path / "run")[-1]["step"] == 24
    slower = tuple(replace(stage, rates={"head": 0.5}) for stage in look_then_move())
    with pytest.raises(CheckpointError, match=r"train.stages: .* then, .*'rates': {'head': 0.5}.* now"):
        run(tmp_path / "run", stages=slower)


@pytest.mark.parametrize("stage", [Stage(learns=("tail",)), Stage(rates={"tail": 0.1})])
def test_a_part_that_the_network_lacks_is_refused_by_those_there_are(store, stage):
    with pytest.raises(ValueError, match=r"names 'tail', which is no part .*: backbone, .*backbone.waypoint, head, "):
        learner_of(store, stage)


def test_a_stage_in_which_nothing_learns_is_refused(store):
    with pytest.raises(ValueError, match=r"nothing learns in a stage whose rates are {'head': 0.0, 'backbone': 0.0}"):
        learner_of(store, Stage(rates={"head": 0.0, "backbone": 0.0}))


def test_a_stage_whose_losses_do_not_reach_what_learns_is_refused(store):
    look = LossWeights(action=0)
    with pytest.raises(ValueError, match=r"to learn \['head'\], and its losses do not reach"):
        learner_of(store, Stage(share=0.5), Stage(share=0.5, learns=("head",), weights=look))
    with pytest.raises(ValueError, match=r"has the rates {'backbone': 0.0}, and its losses do not reach"):
        learner_of(store, Stage(rates={"backbone": 0.0}, weights=look))


def test_the_command_line_says_rates_and_refuses_a_part_before_any_work(store, tmp_path, capsys):
    outputs = tmp_path / "outputs"
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--outputs", str(outputs)]
    few = ["--train.steps", "2"]
    assert main([*command, *few, "--train.stages.1.rates", "backbone.eye", "0.1"]) == 2
    assert "names 'backbone.eye', which is no part of the network: backbone, " in capsys.readouterr().err
    assert not outputs.exists()
    rates = ["--train.stages.1.rates", "backbone.image_encoder", "0", "backbone", "0.1"]
    assert main([*command, *few, *rates]) == 0
    (run_dir,) = outputs.glob("train/*/*")
    assert load_config(Config, run_dir).train.stages[1].rates == {"backbone.image_encoder": 0.0, "backbone": 0.1}
