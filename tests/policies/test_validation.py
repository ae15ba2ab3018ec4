"""Episodes that are never learned from: which, what is found on them, and that it changes nothing else."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from stopping import stopped_before

from policies.data.dataset import DemonstrationDataset
from policies.data.layout import EpisodeRecord
from policies.data.windows import WindowConfig
from policies.data.writer import DemonstrationWriter
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.learner import ImitationLearner
from policies.imitation.trainer import train
from policies.imitation.validation import Validation, held_out, learned_from
from policies.training.metrics import read_metrics
from policies.training.seeding import random_state_kept
from vla.checkpoint import CheckpointError
from vla.heads.regression import masked_l1
from vla.objectives import LossWeights

SHARE = 0.3
WINDOWS = WindowConfig(horizon=4)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


def seeds_of(demonstrations):
    return [record.seed for dataset in demonstrations.datasets for record in dataset.records]


def config(**fields):
    return tiny_training(**{"validation_share": SHARE, "validate_every": 5, **fields})


def run(run_dir, store, resume=False, **fields):
    return train(run_dir, config(**fields), tiny_network(), [store], resume=resume, show_progress=False)


def record_of(seed, task="pick", **fields):
    about = {"index": 0, "first_row": 0, "length": 9, "instruction": "", "success": True, "stored_bytes": {}}
    return EpisodeRecord(**{**about, **fields}, task=task, seed=seed)


def test_the_share_is_drawn_by_task_and_seed_alone():
    seeds = range(2000)
    out = {seed for seed in seeds if held_out(record_of(seed), 0.1)}
    assert 140 < len(out) < 260
    assert out < {seed for seed in seeds if held_out(record_of(seed), 0.2)}
    assert out != {seed for seed in seeds if held_out(record_of(seed, task="place"), 0.1)}
    again = record_of(max(out), index=7, first_row=640, length=3, instruction="other words", success=False)
    assert held_out(again, 0.1)
    assert not any(held_out(record_of(seed), 0.0) for seed in seeds)


def test_every_episode_is_learned_from_or_held_out_and_stays_there(tmp_path, store):
    more = record(tmp_path / "more", range(20))
    for paths in ([store], [more]):
        learned = learned_from(paths, config(), WINDOWS)
        validation = Validation(paths, tiny_network().build(), config(), WINDOWS)
        out = [record.seed for dataset in validation.datasets for record in dataset.records]
        everything = [record.seed for record in DemonstrationDataset(paths[0]).records]
        assert sorted(seeds_of(learned) + out) == sorted(everything) and out and seeds_of(learned)
        assert set(out) == {seed for seed in everything if held_out(record_of(seed, task="point"), SHARE)}
        assert learned.statistics().episodes == len(seeds_of(learned)), "the normalisation is not fitted to them"


def test_what_is_held_out_decides_no_loss(tmp_path, store):
    """Spoiled held-out episodes change what validation finds, and no step."""
    dataset, spoiled = DemonstrationDataset(store), tmp_path / "spoiled"
    with DemonstrationWriter.create(spoiled, dataset.embodiment, geometry=True) as writer:
        for number, about in enumerate(dataset.records):
            episode = dataset.episode(number)
            sign = -1 if held_out(about, SHARE) else 1
            writer.append(replace(episode, actions=sign * episode.actions))
    usual, other = (ImitationLearner(config(), tiny_network(), [path]) for path in (store, spoiled))
    assert [usual.step(step) for step in range(9)] == [other.step(step) for step in range(9)]
    assert usual.examine(10)["validation_l1"] != other.examine(10)["validation_l1"]


def test_the_numbers_are_those_of_the_averaged_weights_on_all_windows_at_once(store):
    """Against the losses computed anew from the frames of the held-out episodes, in one batch."""
    learner = ImitationLearner(config(batch_size=8, validation_windows=10_000), tiny_network(), [store])
    for step in range(10):
        learner.step(step)
    found = learner.examine(10)

    out = Demonstrations([store], WINDOWS, keep=lambda episode: held_out(episode, SHARE))
    batch = out.sample(np.arange(len(out)))
    assert not bool(batch.valid.all()) and len(out) % 8
    learner.vla.eval()
    with learner.average.applied(), torch.no_grad():
        observation, target = learner.validation._inputs(batch, 0, learner.normalization)
        loss, _ = learner.vla.loss(observation, target, LossWeights())
        predicted = learner.vla.head.act(learner.vla.backbone(observation))
    errors = (predicted - target.actions).abs().mean(-1)
    assert found["validation_loss"] == pytest.approx(float(loss), rel=1e-5)
    assert found["validation_l1"] == pytest.approx(float(errors[target.valid].mean()), rel=1e-5)
    assert found["validation_l1_first"] == pytest.approx(float(errors[:, 0].mean()), rel=1e-5)
    waypoints = found["validation_loss"] - found["validation_l1"]
    assert found["validation_waypoint_l1"] == pytest.approx(waypoints, rel=1e-4)
    assert float(masked_l1(predicted, target)[0]) == pytest.approx(found["validation_l1"], rel=1e-5)


@pytest.mark.parametrize("fields", [{"batch_size": 6}, {"batch_size": 64}, {"accumulate": 4}])
def test_the_means_do_not_depend_on_how_the_windows_are_cut(store, fields):
    usual, cut = (ImitationLearner(config(**more), tiny_network(), [store]) for more in ({}, fields))
    assert cut.examine(5) == pytest.approx(usual.examine(5), rel=1e-5)


def test_windows_are_fixed_and_spread_over_the_episodes(store):
    learner = ImitationLearner(config(validation_windows=7), tiny_network(), [store])
    out = Demonstrations([store], WINDOWS, keep=lambda episode: held_out(episode, SHARE))
    (piece,) = learner.validation._pieces
    assert torch.equal(piece.state[0], out.sample(np.array([0])).state[0]) and len(piece.state) == 7
    assert torch.equal(piece.state[-1], out.sample(np.array([len(out) - 1])).state[0])
    assert learner.examine(5) == learner.examine(5) != {}
    assert learner.examine(4) == {} != learner.examine(20), "when due, and at the end"


@pytest.mark.slow
def test_a_run_that_validates_learns_the_same_and_resumes_to_the_same_numbers(store, tmp_path):
    run(tmp_path / "often", store, validate_every=2)
    run(tmp_path / "seldom", store, validate_every=20)
    often, seldom = (read_metrics(tmp_path / name) for name in ("often", "seldom"))
    assert [line["step"] for line in often if "validation_loss" in line] == list(range(2, 21, 2))
    assert [line for line in often if "loss" in line] == [line for line in seldom if "loss" in line]
    assert often[-2]["validation_loss"] == seldom[-2]["validation_loss"] != often[0]["validation_loss"]

    with stopped_before(13, ImitationLearner):
        run(tmp_path / "stopped", store, validate_every=2)
    summary = run(tmp_path / "stopped", store, validate_every=2, resume=True)
    assert summary.resumed_from == 10 and summary.episodes + summary.held_out == 12 and 0 < summary.held_out < 12
    assert (tmp_path / "stopped/metrics.jsonl").read_bytes() == (tmp_path / "often/metrics.jsonl").read_bytes()


def test_a_run_cannot_go_on_with_others_held_out(store, tmp_path):
    run(tmp_path / "run", store)
    with pytest.raises(CheckpointError, match=r"train.validation_share: 0.3 then, 0.5 now"):
        run(tmp_path / "run", store, validation_share=0.5, resume=True)
    train(tmp_path / "all", tiny_training(), tiny_network(), [store], show_progress=False)
    settings = json.loads((tmp_path / "all/checkpoints/last/training_state/progress.json").read_text())["settings"]
    assert "validation_share" not in settings["train"] and "validation" not in settings, "as it was before"


@pytest.mark.parametrize(("share", "what"), [(1e-9, "to validate on"), (1 - 1e-9, "to learn from")])
def test_a_share_that_leaves_nothing_is_refused_before_any_work(store, tmp_path, share, what):
    with pytest.raises(ValueError, match=f"leaves no episode {what}: none of the episodes of .*choose another share"):
        run(tmp_path / "run", store, validation_share=share)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"validation_share": 1.0}, r"validation_share must lie in \[0, 1\), got 1.0"),
        ({"validation_share": float("nan")}, "got nan"),
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"validation_windows": 0}, "validation_windows must be at least 1"),
    ],
)
def test_bad_settings_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(tiny_training(), **fields)


def test_generators_are_put_back():
    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    undisturbed = draw()
    random.seed(3), np.random.seed(3), torch.manual_seed(3)
    with pytest.raises(KeyError), random_state_kept(torch.device("cpu")):
        random.seed(9), np.random.seed(9), torch.manual_seed(9)
        assert draw() != undisturbed
        raise KeyError
    assert draw() == undisturbed
