"""Imitation training: golden losses, exact resume whatever kills it, clear refusals."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from killing import kill_until_done, train_some
from point_mass import PointMassEnv
from safetensors.torch import load_file
from stopping import stopped_before
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policies.data.layout import DatasetError
from policies.evaluation import evaluate
from policies.imitation.inputs import TrainingInputs
from policies.imitation.learner import ImitationLearner
from policies.imitation.trainer import train
from policies.processors import NormalizationMode
from policies.training.augment import AugmentConfig
from policies.training.learner import NonFiniteLossError
from policies.training.metrics import read_metrics
from policies.vla_policy import VLAPolicy
from vla.checkpoint import CheckpointError
from vla.heads.mlp import MLPConfig

GOLDEN = Path(__file__).with_name("golden_losses.json")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, store):
    """A run that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    run(run_dir, store)
    return run_dir


def run(run_dir, store, resume=False, network=None, **fields):
    return train(
        run_dir, tiny_training(**fields), network or tiny_network(), [store], resume=resume, show_progress=False
    )


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    checkpoint = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(checkpoint.rglob("*.safetensors")), checkpoint / "policy/policy.json"]
    return [path.read_bytes() for path in files]


def test_20_losses_are_the_golden_ones(store):
    learner = ImitationLearner(tiny_training(), tiny_network(), [store])
    losses = [learner.step(step)["loss"] for step in range(20)]
    assert losses == pytest.approx(json.loads(GOLDEN.read_text()), rel=1e-5)


def test_two_runs_agree_bit_by_bit(tmp_path, store, whole):
    torch.manual_seed(12345)
    run(tmp_path / "same", store)
    run(tmp_path / "other", store, seed=1)
    assert result(whole) == result(tmp_path / "same") != result(tmp_path / "other")


@pytest.mark.parametrize("step", [2, 13])
def test_an_interrupted_run_ends_as_an_undisturbed_one(tmp_path, store, whole, step):
    with stopped_before(step, ImitationLearner):
        run(tmp_path, store)
    summary = run(tmp_path, store, resume=True)
    assert summary.resumed_from == step // 5 * 5
    assert result(tmp_path) == result(whole)


def kill_trainings(tmp_path, store, kills, seed):
    run(tmp_path / "whole", store, save_every=2)
    path = tmp_path / "killed"
    path.mkdir()
    (path / "store").symlink_to(store)

    def check():
        assert result(path / "run") == result(tmp_path / "whole")

    kill_until_done(train_some, path, kills=kills, seed=seed, check=check)


def test_a_run_killed_at_random_moments_ends_as_an_undisturbed_one(tmp_path, store):
    kill_trainings(tmp_path, store, kills=4, seed=0)


@pytest.mark.slow
def test_a_run_killed_20_times_ends_as_an_undisturbed_one(tmp_path, store):
    kill_trainings(tmp_path, store, kills=20, seed=1)


@pytest.fixture
def finished(tmp_path, whole):
    """A copy of the undisturbed run, to do something to."""
    return Path(shutil.copytree(whole, tmp_path / "finished", symlinks=True))


def test_an_instruction_beyond_the_window_is_refused_before_the_first_step(tmp_path, store):
    network = tiny_network()
    network = replace(network, backbone=replace(network.backbone, max_text_tokens=3))
    with pytest.raises(ValueError, match=r"at most 3 tokens .* got \d+ tokens: '"):
        run(tmp_path, store, network=network)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_what_hardly_moves_in_the_data_is_named(store, caplog, monkeypatch):
    with caplog.at_level(logging.WARNING):
        ImitationLearner(tiny_training(), tiny_network(), [store])
        assert caplog.text == ""
        monkeypatch.setattr("policies.processors.RANGE_SHARE", 0.9)
        ImitationLearner(tiny_training(), tiny_network(), [store])
    (record,) = caplog.records
    assert "hardly moves in the data" in record.message and "state x (" in record.message


def test_a_damaged_checkpoint_is_skipped_with_a_word(finished, store, whole, caplog):
    tensors = finished / "checkpoints/last/training_state/tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-10])
    with caplog.at_level(logging.WARNING):
        summary = run(finished, store, resume=True)
    assert summary.resumed_from == 15 and "000020" in caplog.text and "corrupt" in caplog.text
    assert result(finished) == result(whole)


def test_a_finished_run_resumes_to_itself(finished, store, whole):
    again = run(finished, store, resume=True)
    assert (again.resumed_from, again.loss) == (20, read_metrics(whole)[-1]["loss"])
    assert result(finished) == result(whole)


def test_a_batch_in_pieces_gives_the_gradient_of_the_whole(store):
    whole, pieces = (
        ImitationLearner(tiny_training(accumulate=n, grad_clip=1e9), tiny_network(horizon=6), [store]) for n in (1, 4)
    )
    values = whole.step(0), pieces.step(0)
    assert values[0]["loss"] == pytest.approx(values[1]["loss"], rel=1e-5)
    assert values[0]["grad_norm"] == pytest.approx(values[1]["grad_norm"], rel=1e-4)
    for (name, a), b in zip(whole.vla.named_parameters(), pieces.vla.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(tmp_path, store, monkeypatch):
    original = TrainingInputs.__call__

    def spoiled(self, batch, step, *how):
        observation, target = original(self, batch, step, *how)
        return (replace(observation, state=observation.state * float("nan")) if step == 7 else observation), target

    monkeypatch.setattr(TrainingInputs, "__call__", spoiled)
    with pytest.raises(NonFiniteLossError, match=r"step 8 gave .*'loss': nan"):
        run(tmp_path, store)
    weights = load_file(tmp_path / "checkpoints" / "last" / "policy" / "model.safetensors")
    assert (tmp_path / "checkpoints" / "last").readlink().as_posix() == "000005"
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values() if tensor.is_floating_point())
    monkeypatch.undo()
    assert run(tmp_path, store, resume=True).resumed_from == 5


def test_metrics_report_means_over_their_interval(whole):
    reports = read_metrics(whole)
    assert [report["step"] for report in reports] == [3, 6, 9, 12, 15, 18, 20]
    golden = json.loads(GOLDEN.read_text())
    assert reports[1]["loss"] == pytest.approx(sum(golden[3:6]) / 3, rel=1e-5)
    assert reports[6]["loss"] == pytest.approx(sum(golden[18:20]) / 2, rel=1e-5)


def test_tensorboard_holds_the_same_numbers(whole):
    events = EventAccumulator(str(whole / "tensorboard")).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("train/loss")]
    assert losses == [(report["step"], pytest.approx(report["loss"])) for report in read_metrics(whole)]


def test_the_policy_holds_averaged_weights_and_the_state_the_raw_ones(whole):
    checkpoint = whole / "checkpoints" / "last"
    policy = load_file(checkpoint / "policy" / "model.safetensors")
    state = load_file(checkpoint / "training_state" / "tensors.safetensors")
    averaged = {name.removeprefix("average/"): t for name, t in state.items() if name.startswith("average/")}
    assert averaged and all(torch.equal(policy[name], tensor) for name, tensor in averaged.items())
    assert any(not torch.equal(state[f"weights/{name}"], tensor) for name, tensor in averaged.items())


def test_several_stores_train_as_one(tmp_path, store):
    """Two halves of a store, joined, give the losses of the whole one."""
    halves = [record(tmp_path / "a", range(6)), record(tmp_path / "b", range(6, 12))]
    joined = ImitationLearner(tiny_training(), tiny_network(), halves)
    whole = ImitationLearner(tiny_training(), tiny_network(), [store])
    assert len(joined.demonstrations) == len(whole.demonstrations)
    assert joined.normalization == whole.normalization
    a, b = joined.demonstrations.batch(0, 3, 16), whole.demonstrations.batch(0, 3, 16)
    texts = [[d.demonstrations.instructions[i] for i in batch.text] for d, batch in ((joined, a), (whole, b))]
    assert texts[0] == texts[1]
    for name in ("images", "state", "actions", "valid"):
        assert torch.equal(getattr(a, name), getattr(b, name))


@pytest.mark.slow
def test_a_trained_policy_reaches_dots_and_an_untrained_one_does_not(tmp_path):
    store = record(tmp_path / "store", range(120), num_envs=20)
    network = replace(tiny_network(), backbone=replace(tiny_network().backbone, channels=16, keypoints=4))
    pace = {"steps": 180, "batch_size": 32, "lr": 3e-3, "save_every": 180, "ema_decay": 0.98}
    run(tmp_path / "run", store, network=network, augment=AugmentConfig(shift_fraction=0), **pace)
    trained = VLAPolicy.load(tmp_path / "run")
    torch.manual_seed(0)
    untrained = VLAPolicy(network.build(), trained.normalization, trained.embodiment)
    rates = [
        evaluate(PointMassEnv(10), p, range(1000, 1040), show_progress=False).success for p in (trained, untrained)
    ]
    assert rates[0].lo > rates[1].hi + 0.2


@pytest.mark.parametrize(
    ("fields", "network", "message"),
    [
        ({"lr": 0.5}, {}, "train.lr: 0.001 then, 0.5 now"),
        ({"steps": 19}, {}, "train.steps: 20 then, 19 now: it can be lengthened, not shortened"),
        ({"action_normalization": NormalizationMode.MEAN_STD}, {}, "train.action_normalization"),
        ({}, {"horizon": 5}, "vla.horizon: 4 then, 5 now"),
        ({}, {"head": MLPConfig(layers=3)}, "vla.head"),
    ],
)
def test_a_run_cannot_go_on_with_other_settings(finished, store, fields, network, message):
    with pytest.raises(CheckpointError, match=message):
        run(finished, store, resume=True, network=replace(tiny_network(), **network), **fields)


def test_a_run_may_go_on_with_another_pace_of_reports(finished, store):
    assert run(finished, store, resume=True, save_every=2, keep_last=1).resumed_from == 20


def test_a_run_cannot_go_on_with_other_data(tmp_path, finished):
    with pytest.raises(CheckpointError, match=r"data: .*'episodes': 12.* then, .*'episodes': 6.* now"):
        run(finished, record(tmp_path / "other", range(6)), resume=True)


def test_bad_requests_are_refused_before_any_work(tmp_path, finished, store):
    with pytest.raises(FileExistsError, match="holds checkpoints already"):
        run(finished, store)
    with pytest.raises(DatasetError):
        run(tmp_path / "a", tmp_path / "nowhere")
    with pytest.raises(KeyError, match="rear"):
        run(tmp_path / "b", store, network=tiny_network(cameras=("rear",)))
    with pytest.raises(ValueError, match="7 state dimensions, point_mass has 2"):
        run(tmp_path / "c", store, network=replace(tiny_network(), state_dim=7))
    with pytest.raises(ValueError, match="at least one demonstration store"):
        train(tmp_path / "d", tiny_training(), tiny_network(), [], show_progress=False)
