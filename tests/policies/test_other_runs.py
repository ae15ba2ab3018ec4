"""Runs that go on differently: lengthened, started from a policy, with other data of the same size, without a link."""

import json
import logging
import shutil
from dataclasses import replace

import pytest
import torch
from demonstrations import look_then_move, record, tiny_network, tiny_training
from killing import kill_until_done
from safetensors.torch import load_file
from stopping import stopped_before

from configs.cli import main
from configs.run_directory import load_config, save_config
from configs.training import Config
from policies.data.windows import WindowConfig
from policies.device import devices, resolve_device
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.learner import ImitationLearner
from policies.imitation.starting import Start
from policies.imitation.trainer import train
from policies.training.metrics import read_metrics
from policies.vla_policy import VLAPolicy, find_policy
from vla.checkpoint import CheckpointError
from vla.heads.mlp import MLPConfig


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, store):
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(run_dir, store)
    return run_dir


@pytest.fixture
def finished(tmp_path, whole):
    return shutil.copytree(whole, tmp_path / "finished", symlinks=True)


def run(run_dir, store, network=None, *, resume=False, init_from=None, **fields):
    options = {"resume": resume, "start": Start(policy=init_from), "show_progress": False}
    return train(run_dir, tiny_training(**fields), network or tiny_network(), [store], **options)


def weights(run_dir):
    return load_file(find_policy(run_dir) / "model.safetensors")


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def lengthen(path):
    train(
        path / "run",
        tiny_training(steps=30, save_every=2),
        tiny_network(),
        [path / "store"],
        resume=True,
        show_progress=False,
    )


def test_a_finished_run_is_lengthened_by_a_leg_of_its_own(finished, store, whole):
    summary = run(finished, store, resume=True, steps=30)
    assert (summary.resumed_from, summary.steps) == (20, 30)
    reports = read_metrics(finished)
    assert reports[: len(read_metrics(whole))] == read_metrics(whole)
    added = [report for report in reports if report["step"] > 20]
    assert added[-1]["step"] == 30 and all("l1" in report for report in added), "the last stage learns actions"
    assert max(report["lr"] for report in added) > 10 * reports[len(read_metrics(whole)) - 1]["lr"]
    assert run(finished, store, resume=True, steps=40).resumed_from == 30


@pytest.mark.slow
def test_a_lengthened_run_killed_at_random_moments_ends_as_an_undisturbed_one(finished, store, tmp_path):
    path = tmp_path / "killed"
    path.mkdir()
    (path / "store").symlink_to(store)
    shutil.copytree(finished, path / "run", symlinks=True)
    run(finished, store, resume=True, steps=30, save_every=2)

    def check():
        assert equal(weights(path / "run"), weights(finished))
        assert (path / "run/metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()

    kill_until_done(lengthen, path, kills=2, seed=0, check=check)


def test_a_run_that_was_stopped_is_finished_before_it_is_lengthened(finished, store):
    shutil.rmtree(finished / "checkpoints/000020")
    with pytest.raises(CheckpointError, match=r"train.steps: 20 then, 30 now: .* step 15; finish it first"):
        run(finished, store, resume=True, steps=30)


def test_the_command_line_lengthens_a_run_and_remembers(finished, store, capsys):
    config = Config(
        name="tiny",
        data=(store,),
        image_size_px=16,
        horizon=4,
        backbone=tiny_network().backbone,
        head=MLPConfig(),
        train=tiny_training(),
    )
    run_dir = finished.with_name("cli")
    save_config(config, run_dir / "config.json")
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert main(["train", "--resume", str(run_dir), "--train.steps", "24"]) == 0
    assert load_config(Config, run_dir).train.steps == 24
    assert main(["train", "--resume", str(run_dir)]) == 0
    assert read_metrics(run_dir)[-1]["step"] == 24
    assert main(["train", "--resume", str(run_dir), "--train.lr", "0.5"]) == 2
    assert "train.lr: 0.001 then, 0.5 now" in capsys.readouterr().err
    assert load_config(Config, run_dir).train.lr == 1e-3, "what was refused is not remembered"


@pytest.fixture(scope="module")
def other_store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "other", range(100, 112))


def test_a_run_starts_from_a_policys_weights_and_normalisation(whole, other_store, tmp_path):
    start = VLAPolicy.load(whole)
    learner = ImitationLearner(tiny_training(), tiny_network(), [other_store], start=start)
    assert equal(learner.vla.state_dict(), start.vla.state_dict())
    assert learner.normalization == start.normalization and learner.optimizer.state_dict()["state"] == {}
    run(tmp_path / "tuned", other_store, init_from=whole, seed=3)
    run(tmp_path / "fresh", other_store, seed=3)
    assert VLAPolicy.load(tmp_path / "tuned").normalization == start.normalization
    assert VLAPolicy.load(tmp_path / "fresh").normalization != start.normalization


def test_a_started_run_resumes_without_the_policy_it_started_from(finished, other_store, tmp_path):
    run(tmp_path / "undisturbed", other_store, init_from=finished)
    with stopped_before(12, ImitationLearner):
        run(tmp_path / "stopped", other_store, init_from=finished)
    normalization = VLAPolicy.load(finished).normalization
    shutil.rmtree(finished)
    assert run(tmp_path / "stopped", other_store, init_from=finished, resume=True).resumed_from == 10
    assert equal(weights(tmp_path / "stopped"), weights(tmp_path / "undisturbed"))
    assert VLAPolicy.load(tmp_path / "stopped").normalization == normalization


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"horizon": 6}, r"network.horizon: 4 there, 6 now"),
        ({"head": MLPConfig(width=32)}, r"network.head.width: 256 there, 32 now"),
        ({"image_size_px": (24, 24)}, r"network.image_size_px: \[16, 16\] there, \[24, 24\] now"),
    ],
)
def test_a_start_that_does_not_fit_is_refused_before_any_work(whole, store, tmp_path, network, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", store, replace(tiny_network(), **network), init_from=whole)
    assert not (tmp_path / "run").exists()


def test_a_start_of_another_robot_is_refused_by_the_command_line(whole, store, tmp_path, capsys):
    start = shutil.copytree(find_policy(whole), tmp_path / "policy")
    content = json.loads((start / "policy.json").read_text())
    content["embodiment"]["action"][1]["high"] = 0.25
    (start / "policy.json").write_text(json.dumps(content))
    command = [
        "train",
        "nano-mlp",
        "--data",
        str(store),
        "--image-size-px",
        "32",
        "--outputs",
        str(tmp_path / "outputs"),
    ]
    assert main([*command, "--init-from", str(start)]) == 2
    error = capsys.readouterr().err
    assert "robot.action.dy.high: 0.25 there, 1.0 now" in error and "network.horizon: 4 there, 8 now" in error
    assert not (tmp_path / "outputs").exists()


def test_pictures_from_a_decoded_file_train_to_the_same_weights(store, whole, tmp_path):
    copy = shutil.copytree(store, tmp_path / "store")
    run(tmp_path / "run", copy, pictures="decoded")
    assert list((copy / "decoded").glob("*.npy"))
    assert equal(weights(tmp_path / "run"), weights(whole))
    assert run(tmp_path / "run", copy, resume=True, steps=24, pictures="disk").resumed_from == 20


def say(store, path, text):
    """A copy of the store in which every episode is told ``text``."""
    told = shutil.copytree(store, path)
    for file in (told / "episodes").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "instruction": text}))
    return told


def test_a_start_gives_as_much_of_its_text_window_as_is_needed_and_refuses_what_it_does_not_hold(
    store, tmp_path, capsys
):
    def command(data, *more):
        size = ["--image-size-px", "32", "--train.steps", "2"]
        return ["train", "debug", "--data", str(data), *size, "--outputs", str(tmp_path / "out"), *more]

    def newest():
        return max((tmp_path / "out").glob("train/*/*"), key=lambda path: path.stat().st_mtime_ns)

    def window(run_dir):
        return VLAPolicy.load(run_dir).vla.backbone.text_window

    assert main(command(say(store, tmp_path / "long", "go to the red disc and wait there " * 3))) == 0
    start = newest()
    assert main(command(store)) == 0
    needed = window(newest())
    assert needed < window(start)

    assert main(command(store, "--init-from", str(start))) == 0
    tuned = newest()
    assert window(tuned) == needed, "no longer than the data need"
    before, after = (VLAPolicy.load(run_dir).vla.backbone.text_encoder.position for run_dir in (start, tuned))
    assert (before[:needed] - after).abs().max() < 0.01, "the first positions went on"
    too_long = say(store, tmp_path / "longer", "go to the red disc and wait there " * 20)
    assert main(command(too_long, "--init-from", str(start))) == 2
    complaint = f"cannot start from {start}, whose text window is too short: expected instructions of at most"
    assert complaint in capsys.readouterr().err
    assert newest() == tuned, "nothing was begun"

    shutil.rmtree(start)
    assert main(["train", "--resume", str(tuned), "--train.steps", "4"]) == 0
    assert window(tuned) == load_config(Config, tuned).backbone.max_text_tokens


def test_a_run_does_not_go_on_with_other_data_of_the_same_size(finished, store, tmp_path):
    other = record(tmp_path / "other", range(12))
    for episode in range(len(list((other / "episodes").glob("*.json")))):
        path = other / "episodes" / f"{episode:06d}.json"
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, "instruction": content["instruction"].replace("red", "blue") + "!"}))
    with pytest.raises(CheckpointError, match=r"data: .*fingerprint"):
        run(finished, other, resume=True)
    moved = shutil.copytree(store, tmp_path / "moved")
    assert run(finished, moved, resume=True).resumed_from == 20, "where the data lie does not matter"


def test_acting_finds_the_newest_whole_checkpoint_as_resuming_does(finished, store, caplog):
    (finished / "checkpoints/last").unlink()
    assert find_policy(finished) == finished / "checkpoints/000020/policy"
    model = finished / "checkpoints/000020/policy/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert find_policy(finished) == finished / "checkpoints/000015/policy"
    assert "skipped a checkpoint" in caplog.text and "000020" in caplog.text
    assert run(finished, store, resume=True).resumed_from == 15
    assert find_policy(finished / "checkpoints") == finished / "checkpoints/000020/policy"


def test_a_damaged_checkpoint_that_was_named_is_refused(finished):
    model = finished / "checkpoints/000015/policy/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"000015.*is corrupt"):
        VLAPolicy.load(finished / "checkpoints/000015")


@pytest.mark.parametrize("name", ["cuda", "cuda:1", "mps", "tpu", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused_with_those_that_are(name, store, whole, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    says = f"there is no device '{name}' that torch can use here; expected one of cpu"
    for work in (
        lambda: resolve_device(name),
        lambda: ImitationLearner(tiny_training(device=name), tiny_network(), [store]),
        lambda: VLAPolicy.load(whole, name),
    ):
        with pytest.raises(ValueError, match=says):
            work()
    assert devices() == ("cpu",)


def test_the_command_line_refuses_a_device_before_any_work(store, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    command = ["train", "debug", "--data", str(store), "--train.device", "cuda", "--outputs", str(tmp_path / "outputs")]
    for precision in ("fp32", "bf16"):
        assert main([*command, "--train.precision", precision]) == 2
        assert "there is no device 'cuda'" in capsys.readouterr().err
    assert not (tmp_path / "outputs").exists()


def test_the_memory_budget_is_that_of_all_stores_together(store, other_store):
    config = WindowConfig(horizon=4)
    roomy = Demonstrations([store, other_store], config)
    first, second = (config.build(dataset).picture_bytes for dataset in roomy.datasets)
    for budget, kept in (
        (first + second, [True, True]),
        (first + second - 1, [True, False]),
        (first - 1, [False, second <= first - 1]),
    ):
        tight = Demonstrations([store, other_store], replace(config, memory_budget_bytes=budget))
        assert [windows.in_memory for windows in tight.windows] == kept
        assert torch.equal(tight.batch(0, 0, 8).images, roomy.batch(0, 0, 8).images)


def test_stages_decide_the_numbers_so_a_run_keeps_its_own(finished, store):
    with pytest.raises(CheckpointError, match=r"train.stages"):
        run(finished, store, resume=True, stages=look_then_move()[::-1])
