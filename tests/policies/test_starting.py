"""Policies that start from a backbone which has learned to look."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from discs import DiscScenes, tiny_backbone, tiny_pretraining
from stopping import stopped_before

from configs.cli import main
from policies.imitation.learner import ImitationLearner
from policies.imitation.starting import Start
from policies.imitation.trainer import train
from policies.pretraining.trainer import pretrain
from policies.training.checkpoint import CheckpointError
from policies.vla_policy import VLAPolicy, find_policy
from vla import shipped
from vla.base import load_base


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def looked(tmp_path_factory):
    """A run that has learned to look, for a robot with other numbers in its state."""
    run_dir = tmp_path_factory.mktemp("runs") / "looked"
    pretrain(run_dir, tiny_pretraining(steps=4), tiny_backbone(), DiscScenes(), show_progress=False)
    return run_dir


@pytest.fixture
def backbone(looked):
    return load_base(looked / "checkpoints/last/backbone")


@pytest.fixture
def package(looked, tmp_path, monkeypatch):
    """The package's own backbone is that of ``looked``."""
    folder = shutil.copytree(looked / "checkpoints/last/backbone", tmp_path / "package")
    monkeypatch.setattr(shipped, "FOLDER", folder)
    return folder


def network(**fields):
    return replace(tiny_network(), backbone=tiny_backbone(**fields), image_size_px=(32, 32))


def run(run_dir, store, *, resume=False, **start):
    options = {"resume": resume, "start": Start(**start), "show_progress": False}
    return train(run_dir, tiny_training(), network(max_text_tokens=40), [store], **options)


def sizes():
    """Those of ``tiny_backbone`` for the command line."""
    return [
        f"--backbone.{name.replace('_', '-')}={value}"
        for name, value in vars(tiny_backbone()).items()
        if isinstance(value, int) and not isinstance(value, bool) and name != "max_text_tokens"
    ]


def base_of(run_dir):
    return json.loads((find_policy(run_dir) / "policy.json").read_text())["base"]


def test_a_policy_looks_as_its_backbone_and_says_what_it_did_not_take(store, backbone):
    learner = ImitationLearner(tiny_training(), network(max_text_tokens=40), [store], start=backbone)
    weights = learner.vla.backbone.state_dict()
    for name in ("image_encoder.layers.0.weight", "keypoint_encoder.log_sharpness", "text_encoder.token.weight"):
        assert torch.equal(weights[name], backbone.weights[name])
    assert torch.equal(weights["text_encoder.position"][:24], backbone.weights["text_encoder.position"])
    assert set(learner.adoption.left) == {"waypoint", "state_encoder"}
    assert "state ['tool_x', 'tool_y', 'tool_z'] there, ['x', 'y'] now" in learner.adoption.left["waypoint"]
    fresh = ImitationLearner(tiny_training(), network(max_text_tokens=40), [store])
    assert fresh.adoption is None and fresh.normalization == learner.normalization
    assert torch.equal(weights["waypoint.0.weight"], fresh.vla.backbone.waypoint[0].weight)
    assert torch.equal(learner.average.values["backbone.camera_embedding"], weights["camera_embedding"])


def test_the_hash_of_the_backbone_stays_with_every_policy_that_came_of_it(store, looked, backbone, tmp_path):
    run(tmp_path / "tuned", store, backbone=looked)
    run(tmp_path / "again", store, policy=tmp_path / "tuned")
    run(tmp_path / "fresh", store)
    assert base_of(tmp_path / "tuned") == base_of(tmp_path / "again") == backbone.sha256
    assert VLAPolicy.load(tmp_path / "tuned").base == backbone.sha256 and base_of(tmp_path / "fresh") is None


def test_a_started_run_goes_on_without_the_backbone(store, looked, tmp_path):
    gone = shutil.copytree(looked, tmp_path / "looked", symlinks=True)
    run(tmp_path / "undisturbed", store, backbone=gone)
    with stopped_before(12, ImitationLearner):
        run(tmp_path / "stopped", store, backbone=gone)
    shutil.rmtree(gone)
    assert run(tmp_path / "stopped", store, backbone=gone, resume=True).resumed_from == 10
    for name in ("model.safetensors", "policy.json"):
        a, b = (find_policy(tmp_path / which) / name for which in ("stopped", "undisturbed"))
        assert a.read_bytes() == b.read_bytes()


def test_a_learner_starts_from_the_shipped_backbone_and_says_so(store, backbone, package):
    learner = ImitationLearner(tiny_training(), network(weights="shipped", max_text_tokens=40), [store])
    assert learner.base == backbone.sha256 and set(learner.adoption.left) == {"waypoint", "state_encoder"}
    weights = learner.vla.backbone.state_dict()
    assert torch.equal(weights["camera_embedding"][0], backbone.weights["camera_embedding"][0])
    other = ImitationLearner(tiny_training(), network(max_text_tokens=40), [store])
    assert other.base is None and other.adoption is None


def test_a_run_from_the_shipped_backbone_goes_on_and_acts_without_it(store, backbone, package, tmp_path):
    options = {"show_progress": False}
    vla_config = network(weights="shipped", max_text_tokens=40)
    train(tmp_path / "run", tiny_training(steps=10), vla_config, [store], **options)
    shutil.rmtree(package)
    longer = train(tmp_path / "run", tiny_training(steps=12), vla_config, [store], resume=True, **options)
    assert longer.resumed_from == 10 and VLAPolicy.load(tmp_path / "run").base == backbone.sha256
    train(tmp_path / "next", tiny_training(), vla_config, [store], start=Start(policy=tmp_path / "run"), **options)
    assert base_of(tmp_path / "next") == backbone.sha256
    with pytest.raises(CheckpointError, match="lacks its pre-trained backbone"):
        train(tmp_path / "fresh", tiny_training(), vla_config, [store], **options)


def test_the_command_line_starts_from_the_package(store, package, tmp_path, capsys):
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--outputs", str(tmp_path / "out")]
    command += ["--train.steps", "2", "--backbone.weights", "shipped"]
    assert main(command) == 2
    assert "  channels: 16 there, 8 now" in capsys.readouterr().err and not (tmp_path / "out").exists()
    assert main([*command, *sizes()]) == 0
    assert "from the shipped backbone: taken over: " in capsys.readouterr().out
    (package / "config.json").unlink()
    assert main([*command, *sizes()]) == 2
    assert "lacks its pre-trained backbone: no config.json in" in capsys.readouterr().err


def test_a_quickstart_without_its_backbone_is_refused_at_once(package, tmp_path, capsys):
    command = ["quickstart", "--tasks", "reach", "--num-envs", "1", "--outputs", str(tmp_path / "out")]
    command += ["--training.init-from", "None"]
    assert main([*command, "--training.backbone.weights", "shipped"]) == 2
    assert "cannot start from the shipped weights" in capsys.readouterr().err
    assert main([*command, "--training.init-backbone", str(tmp_path)]) == 2
    assert "no model.safetensors in any of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_does_not_fit_is_refused_before_any_work(store, looked, tmp_path, capsys):
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--outputs", str(tmp_path / "out")]
    assert main([*command, "--init-backbone", str(looked)]) == 2
    assert "channels: 16 there, 8 now" in capsys.readouterr().err
    assert main([*command, "--init-backbone", str(looked), "--init-from", str(looked)]) == 2
    assert "starts from a whole policy or from a backbone, got both" in capsys.readouterr().err
    assert main([*command, "--init-from", str(looked)]) == 2
    assert "holds no policy; it holds backbone" in capsys.readouterr().err
    assert main([*command, "--init-backbone", str(tmp_path)]) == 2
    assert "no model.safetensors in any of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    run(tmp_path / "policy", store)
    with pytest.raises(CheckpointError, match="expected a backbone's config"):
        run(tmp_path / "wrong", store, backbone=find_policy(tmp_path / "policy"))


def test_the_command_line_says_what_was_taken_over(store, looked, tmp_path, capsys):
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--train.steps", "2", *sizes()]
    assert main([*command, "--outputs", str(tmp_path / "out"), "--init-backbone", str(looked)]) == 0
    said = capsys.readouterr().out
    taken = next(line for line in said.splitlines() if "taken over: " in line).partition("taken over: ")[2]
    assert {"camera_embedding", "image_encoder", "keypoint_encoder", "text_encoder"} <= set(taken.split(", "))
    assert "not taken over: waypoint: cameras ['front', 'side'] there, ['front'] now" in said
