"""Learning from a teacher: in stages, from what is kept as from what is asked anew, stopped and gone on with."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from picture_encoders import make_picture_encoder
from point_mass import PointMassEnv
from sentence_encoders import make_encoder
from stopping import stopped_before
from tiny_checkpoints import checkpoints

from configs.cli import main
from configs.run_directory import load_config
from configs.training import Config
from policies.data.features import FEATURES_DIR
from policies.evaluation import evaluate
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.further import TeachersConfig, objectives_in
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.vla_policy import VLAPolicy
from vla.backbones.vlm.config import VLMConfig
from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.mapper import MapperConfig
from vla.model import VLA
from vla.objectives import LossWeights
from vla.objectives.embedding import CosineConfig, LayersConfig
from vla.objectives.surprise import SurpriseConfig
from vla.saving import load_vla

LEADS = ("backbone.queries", "backbone.state_encoder", "head.mapper")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, store):
    """A run of a small policy with the bridge head."""
    path = tmp_path_factory.mktemp("teacher")
    train(path, tiny_training(), tiny_network(head=BridgeConfig(heads=2)), [store], show_progress=False)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_picture_encoder(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return checkpoints(tmp_path_factory)


def student(folder, width=16, tuning="full"):
    """A SmolVLM with the mapper head."""
    return VLAConfig(
        backbone=VLMConfig(
            checkpoint=str(folder), tuning=tuning, n_queries=4, max_text_tokens=64, prompt="{instruction}"
        ),
        head=MapperConfig(width=width),
        cameras=("front",),
        image_size_px=(16, 16),
        state_dim=2,
        action_dim=2,
        horizon=4,
    )


def align_then_tune(share=0.5):
    weights = LossWeights(action=0, waypoint=0, objectives={"align": 1.0})
    return Stage(share=share, weights=weights, learns=LEADS, warmup_steps=2), Stage(share=1 - share, warmup_steps=2)


def with_objectives(**weights):
    return (Stage(weights=LossWeights(objectives=weights), warmup_steps=2),)


def settings(stages, teachers, **fields):
    return tiny_training(**{"steps": 6, "save_every": 3, "lr": 3e-3, **fields}, stages=stages, teachers=teachers)


def every_objective(teacher, clip, online=False, share=0.5):
    """Stages with all of them, and their teachers."""
    teachers = TeachersConfig(
        policy=teacher,
        encoder=clip,
        online=online,
        layers=LayersConfig(layers=(-1,), heads=2),
        cosine=CosineConfig(pictures=share),
        surprise=SurpriseConfig(history=2, width=8),
    )
    return with_objectives(align=0.3, layers=0.5, cosine=1.0, surprise=0.5), teachers


def mapper_network():
    return tiny_network(head=MapperConfig(width=16))


def test_the_first_stage_leads_to_the_teachers_hidden_states_and_leaves_the_rest(store, teacher, checkpoint):
    config = settings(align_then_tune(), TeachersConfig(policy=teacher), steps=24, lr=1e-2)
    learner = ImitationLearner(config, student(checkpoint("smolvlm")), [store])
    theirs = VLAPolicy.load(teacher)
    for name, weight in theirs.vla.head.last.state_dict().items():
        assert learner.vla.head.last.state_dict()[name].equal(weight)
    assert learner.normalization == theirs.normalization
    first = {name: weight.detach().clone() for name, weight in learner.vla.named_parameters()}
    distances = [learner.step(step)["align_mse"] for step in range(12)]
    assert distances[-1] < 0.7 * distances[0]
    moved = {name for name, weight in learner.vla.named_parameters() if not weight.equal(first[name])}
    assert moved and all(name.startswith(LEADS) for name in moved)
    found = learner.step(12)
    assert "align_mse" not in found and found["l1"] > 0
    moved = {name for name, weight in learner.vla.named_parameters() if not weight.equal(first[name])}
    assert any(name.startswith("backbone.model") for name in moved) and "head.output.1.weight" in moved


def test_both_stages_give_a_policy_that_acts_without_its_teacher(tmp_path, store, teacher, checkpoint):
    config = settings(align_then_tune(), TeachersConfig(policy=teacher))
    summary = train(tmp_path, config, student(checkpoint("smolvlm"), tuning="frozen"), [store], show_progress=False)
    policy = VLAPolicy.load(summary.checkpoint)
    assert len(policy.vla.objectives) == 0
    assert len(evaluate(PointMassEnv(2), policy, seeds=[1, 2]).episodes) == 2


def test_what_is_kept_teaches_as_what_is_asked_anew(store, teacher, clip):
    losses = []
    for online in (False, True):
        stages, teachers = every_objective(teacher, clip, online)
        learner = ImitationLearner(settings(stages, teachers, accumulate=2), mapper_network(), [store])
        losses.append([learner.step(step) for step in range(3)])
    for kept, anew in zip(*losses, strict=True):
        assert kept == pytest.approx(anew, rel=1e-4)
    assert {"align_mse", "layers_info_nce", "cosine_picture", "cosine_sentence", "blind_l1"} <= set(losses[0][0])


def test_a_teacher_is_asked_once(store, teacher, clip, monkeypatch):
    stages, teachers = every_objective(teacher, clip)
    ImitationLearner(settings(stages, teachers), mapper_network(), [store])
    kept = {path: path.stat().st_mtime_ns for path in (store / FEATURES_DIR).rglob("*.npy")}
    monkeypatch.setattr(VLAPolicy, "ask", lambda *_: pytest.fail("the teacher was asked again"))
    learner = ImitationLearner(settings(stages, teachers), mapper_network(), [store])
    learner.step(0)
    assert kept == {path: path.stat().st_mtime_ns for path in (store / FEATURES_DIR).rglob("*.npy")}


def test_a_run_with_parameters_of_objectives_goes_on_to_the_same_numbers(tmp_path, store, teacher, clip):
    stages, teachers = every_objective(teacher, clip)
    config = settings(stages, teachers, validation_share=0.3, validate_every=3)

    def run(name, **resumed):
        return train(tmp_path / name, config, mapper_network(), [store], show_progress=False, **resumed).checkpoint

    whole = run("whole")
    with stopped_before(4, ImitationLearner):
        run("stopped")
    gone_on = run("stopped", resume=True)
    for name in ("policy/model.safetensors", "training_state/tensors.safetensors"):
        assert (whole / name).read_bytes() == (gone_on / name).read_bytes()
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "stopped/metrics.jsonl").read_text()
    load_vla(whole / "policy")
    other = replace(teachers, surprise=SurpriseConfig(history=1, width=8))
    config = replace(config, teachers=other, steps=9)
    with pytest.raises(CheckpointError, match=r"teaching\.surprise"):
        run("whole", resume=True)


def test_a_run_starts_from_a_policy_and_learns_further_objectives(store, teacher):
    config = settings(with_objectives(surprise=1.0), TeachersConfig())
    start = VLAPolicy.load(teacher)
    learner = ImitationLearner(config, start.vla.config, [store], start=start)
    assert learner.vla.head.slots.equal(start.vla.head.slots) and "surprise" in learner.vla.objectives
    learner.step(0)


def test_the_history_is_of_the_episode_alone(store):
    learner = ImitationLearner(tiny_training(), tiny_network(), [store])
    demonstrations: Demonstrations = learner.demonstrations
    (windows,) = demonstrations.windows
    states = torch.from_numpy(windows.dataset.load("observation.state"))
    end = int(windows.dataset.end_frames[0])
    last = int(windows.dataset.end_frames[-1]) - 1
    history = demonstrations.history(np.array([end + 1, last, 0]), 3)
    assert history[0].equal(states[[end, end, end, end + 1]]) and history[2].equal(states[[0, 0, 0, 0]])
    assert history[1].equal(states[last - 3 :])


def test_a_stage_may_learn_what_an_objective_owns_alone(store, clip):
    near = LossWeights(action=0, waypoint=0, objectives={"cosine": 1.0})
    stages = (Stage(weights=near, learns=("objectives.cosine",), warmup_steps=0),)
    learner = ImitationLearner(settings(stages, TeachersConfig(encoder=clip)), tiny_network(), [store])
    first = {name: weight.detach().clone() for name, weight in learner.vla.named_parameters()}
    cosines = [learner.step(step)["cosine_picture"] for step in range(6)]
    moved = {name for name, weight in learner.vla.named_parameters() if not weight.equal(first[name])}
    assert moved == {"objectives.cosine.out.weight", "objectives.cosine.out.bias"} and cosines[-1] > cosines[0]


def test_a_policy_may_teach_what_it_sees(store, teacher):
    stages = with_objectives(layers=1.0, cosine=1.0)
    layers, cosine = LayersConfig(layers=(-1,), heads=2, grid=1), CosineConfig(pictures=1.0)
    teachers = TeachersConfig(encoder=teacher, layers=layers, cosine=cosine)
    learner = ImitationLearner(settings(stages, teachers), tiny_network(), [store])
    found = learner.step(0)
    assert found["layers_smooth_l1"] > 0 and -1 <= found["cosine_picture"] <= 1
    (cells,) = (x for path in (store / FEATURES_DIR).rglob("*.npy") if (x := np.load(path)).shape[1:] == (1, 1, 16))
    assert np.abs(cells.mean(axis=-1)).max() < 0.02 and np.abs(cells.std(axis=-1) - 1).max() < 0.02


def test_a_policy_whose_image_tokens_were_made_fewer_cannot_teach_what_it_sees(store, teacher, tmp_path):
    policy = VLAPolicy.load(teacher)
    config = policy.vla.config
    policy.vla = VLA(replace(config, backbone=replace(config.backbone, merged_tokens=1)))
    policy.save(tmp_path)
    config = settings(with_objectives(layers=1.0), TeachersConfig(encoder=tmp_path))
    with pytest.raises(ValueError, match="cannot teach pictures: its tokens of them were made fewer"):
        ImitationLearner(config, tiny_network(), [store])


def test_an_encoder_of_sentences_may_teach_what_they_mean(tmp_path, store):
    teachers = TeachersConfig(encoder=make_encoder(tmp_path), cosine=CosineConfig(pictures=0.0))
    learner = ImitationLearner(settings(with_objectives(cosine=1.0), teachers), tiny_network(), [store])
    assert -1 <= learner.step(0)["cosine_sentence"] <= 1


REFUSED = {
    "no teacher": (lambda t, c: TeachersConfig(), {}, "align.*--train.teachers.policy RUN"),
    "width": (lambda t, c: TeachersConfig(policy=t), {"head": MapperConfig(width=24)}, "16 numbers, this one's of 24"),
    "horizon": (
        lambda t, c: TeachersConfig(policy=t),
        {"head": MapperConfig(width=16), "horizon": 3},
        "horizon of 4 actions, this network of 3",
    ),
    "head": (lambda t, c: TeachersConfig(policy=t), {"head": FlowConfig(width=16, heads=2)}, "FlowHead has no hidden"),
    "folder": (lambda t, c: TeachersConfig(policy=c), {}, "no policy.json in any of"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_teacher_that_does_not_fit_is_refused(store, teacher, clip, case):
    make, network, message = REFUSED[case]
    config = settings(align_then_tune(), make(teacher, clip))
    stages = (replace(config.stages[0], learns=()), config.stages[1])
    vla_config = tiny_network(**{"head": MapperConfig(width=16), **network})
    with pytest.raises(ValueError, match=message):
        ImitationLearner(replace(config, stages=stages), vla_config, [store])


def test_a_teacher_with_another_robot_is_refused(store, teacher, tmp_path):
    policy = VLAPolicy.load(teacher)
    policy.embodiment = replace(policy.embodiment, control_rate_hz=99.0)
    policy.save(tmp_path)
    config = settings(align_then_tune(), TeachersConfig(policy=tmp_path))
    with pytest.raises(ValueError, match=r"cannot teach, its robot is another .*\n.*control_rate_hz: 99.0 there"):
        ImitationLearner(config, mapper_network(), [store])


def test_an_encoder_that_lacks_what_is_to_be_learned_is_refused(store, tmp_path):
    words, dino = make_encoder(tmp_path / "words"), make_picture_encoder(tmp_path / "dino", "dinov2")
    cases = (
        (None, {"layers": 1.0}, "layers, which needs an encoder as teacher"),
        (tmp_path / "nothing", {"layers": 1.0}, "there is no such folder"),
        (words, {"layers": 1.0}, "sees no pictures"),
        (dino, {"cosine": 1.0}, r"has no embedding of texts: take .*pictures 1"),
    )
    for encoder, weights, message in cases:
        config = settings(with_objectives(**weights), TeachersConfig(encoder=encoder))
        with pytest.raises(ValueError, match=message):
            ImitationLearner(config, tiny_network(), [store])


def test_an_objective_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="no objective 'allign' to weigh; there are align, layers, cosine, surprise"):
        tiny_training(stages=with_objectives(allign=1.0))
    assert objectives_in(with_objectives(align=0.0)) == ()


def test_the_command_line_weighs_objectives_and_refuses_a_missing_teacher_before_any_work(
    store, teacher, tmp_path, capsys
):
    outputs = tmp_path / "outputs"
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--outputs", str(outputs)]
    weigh = [*command, "--train.steps", "2", "--train.stages.1.weights.objectives"]
    assert main([*weigh, "align", "1"]) == 2
    assert "align, which needs a policy as teacher: --train.teachers.policy RUN" in capsys.readouterr().err
    assert main([*weigh, "align", "1", "--train.teachers.policy", str(teacher)]) == 2
    assert "a horizon of 4 actions, this network of 8" in capsys.readouterr().err
    assert main([*weigh, "align", "1", "--train.teachers.policy", str(tmp_path)]) == 2
    assert "no policy.json in any of" in capsys.readouterr().err
    assert not outputs.exists()
    assert main([*weigh, "surprise", "1", "--train.teachers.surprise.width", "8"]) == 0
    (run_dir,) = outputs.glob("train/*/*")
    assert load_config(Config, run_dir).train.stages[1].weights.objectives == {"surprise": 1.0}
