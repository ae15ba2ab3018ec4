"""A policy is tried out while it learns: that changes nothing of what it learns, and the best checkpoint stays."""

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from demonstrations import record, tiny_network, tiny_training
from point_mass import PointMassEnv
from stopping import stopped_before
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policies.evaluation import evaluate
from policies.imitation.evaluating import Best, report_of
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage
from policies.imitation.trainer import train
from policies.intervals import wilson
from policies.training.checkpoint import checkpoints
from policies.training.metrics import read_metrics
from policies.vla_policy import VLAPolicy


@dataclass
class PointEvaluator:
    """Runs the policy in the point-mass world, and spoils whatever a training could depend on."""

    every: int = 5
    about: str = "points"
    seen: list = field(default_factory=list)

    def outcomes(self, policy):
        result = evaluate(PointMassEnv(4, stream="evaluate"), policy, range(6), show_progress=False)
        self.seen.append([p.detach().clone() for p in policy.vla.parameters()])
        assert not policy.vla.training
        random.seed(9), np.random.seed(9), torch.manual_seed(9)
        return {"point": result.outcomes}


@dataclass
class Scripted:
    """Successes of ten episodes, evaluation by evaluation."""

    wins: list
    every: int = 2
    about: str = "ten"

    def outcomes(self, policy):
        won = self.wins.pop(0)
        return {"point": [index < won for index in range(10)]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


def run(run_dir, store, evaluator=None, resume=False, **fields):
    return train(
        run_dir,
        tiny_training(**fields),
        tiny_network(),
        [store],
        resume=resume,
        evaluator=evaluator,
        show_progress=False,
    )


def names(run_dir):
    return [path.name for path in checkpoints(run_dir / "checkpoints")]


def link(run_dir, name):
    return (run_dir / "checkpoints" / name).readlink().as_posix()


def test_an_evaluation_changes_nothing_that_is_learned(store, tmp_path):
    run(tmp_path / "without", store)
    evaluator = PointEvaluator(every=5)
    run(tmp_path / "with", store, evaluator)
    assert len(evaluator.seen) == 4
    lines = [line for line in read_metrics(tmp_path / "with") if "loss" in line]
    assert lines == read_metrics(tmp_path / "without")
    kinds = ("policy/model.safetensors", "training_state/tensors.safetensors")
    ours, theirs = (
        [(tmp_path / name / "checkpoints/last" / kind).read_bytes() for kind in kinds] for name in ("with", "without")
    )
    assert ours == theirs


def test_a_network_that_is_shared_out_is_not_tried_out(store, tmp_path):
    with pytest.raises(ValueError, match="is not tried out while it learns"):
        run(tmp_path / "run", store, PointEvaluator(every=2), shard=True, stages=(Stage(),))


def test_generators_are_as_if_nobody_had_tried_anything_out(store):
    learner = ImitationLearner(tiny_training(), tiny_network(), [store], evaluator=PointEvaluator())
    learner.step(0)
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert learner.examine(5) and not learner.examine(6)
    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())


def test_it_is_the_averaged_policy_that_is_tried_out(store, tmp_path):
    evaluator = PointEvaluator(every=20)
    run(tmp_path / "run", store, evaluator)
    (seen,) = evaluator.seen
    saved = VLAPolicy.load(tmp_path / "run").vla.parameters()
    assert all(torch.equal(a, b) for a, b in zip(seen, saved, strict=True))


def test_success_is_written_down_with_its_interval_at_the_step(store, tmp_path):
    run(tmp_path / "run", store, Scripted([1, 4, 2], every=8))
    lines = {line["step"]: line for line in read_metrics(tmp_path / "run") if "success/point" in line}
    assert list(lines) == [8, 16, 20], "every eight steps and at the end"
    rate = wilson(4, 10)
    found = [lines[16][f"success/point{suffix}"] for suffix in ("", "_lo", "_hi")]
    assert found == [rate.value, rate.lo, rate.hi] and lines[16]["success/all"] == rate.value
    events = EventAccumulator(str(tmp_path / "run/tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("success/point")] == [
        (step, pytest.approx(line["success/point"])) for step, line in lines.items()
    ]


def test_all_tasks_together_are_pooled():
    report = report_of({"a": [True] * 4, "b": [False] * 2})
    assert (report["success/a"], report["success/b"], report["success/all"]) == (1, 0, 4 / 6)
    assert report["success/all_lo"] == wilson(4, 6).lo and len(report) == 9


def test_the_best_checkpoint_stays_and_so_does_the_last(store, tmp_path):
    summary = run(tmp_path / "run", store, Scripted([1, 5, 3, 3, 2, 4, 1, 0, 2, 1]), keep_last=2)
    assert (summary.best.step, summary.best.success) == (4, 0.5)
    assert names(tmp_path / "run") == ["000004", "000015", "000020"]
    assert link(tmp_path / "run", "best") == "000004" and link(tmp_path / "run", "last") == "000020"
    assert VLAPolicy.load(tmp_path / "run/checkpoints/best").vla.config == tiny_network()
    assert summary.checkpoint.name == "000020"


def test_of_equals_the_one_that_has_learned_longer_is_the_best(store, tmp_path):
    run(tmp_path / "run", store, Scripted([5, 5, 4, 5, 0], every=4), keep_last=1)
    assert link(tmp_path / "run", "best") == "000016" and names(tmp_path / "run") == ["000016", "000020"]


def test_a_run_without_evaluation_has_no_best(store, tmp_path):
    assert run(tmp_path / "run", store).best is None
    assert not (tmp_path / "run/checkpoints/best").is_symlink()


def test_a_stopped_run_knows_its_best_and_ends_as_an_undisturbed_one(store, tmp_path):
    wins = [1, 5, 3, 3, 2, 4, 1, 0, 2, 1]
    run(tmp_path / "whole", store, Scripted(list(wins)))
    with stopped_before(13, ImitationLearner):
        run(tmp_path / "run", store, Scripted(list(wins)))
    assert names(tmp_path / "run") == ["000004", "000005", "000010"]
    summary = run(tmp_path / "run", store, Scripted(wins[5:]), resume=True)
    assert summary.resumed_from == 10 and summary.best.step == 4
    assert names(tmp_path / "run") == names(tmp_path / "whole")
    same = [path.relative_to(tmp_path / "run") for path in (tmp_path / "run/checkpoints").rglob("*") if path.is_file()]
    assert same and all((tmp_path / "run" / p).read_bytes() == (tmp_path / "whole" / p).read_bytes() for p in same)
    assert (tmp_path / "run/metrics.jsonl").read_bytes() == (tmp_path / "whole/metrics.jsonl").read_bytes()


def test_a_lengthened_run_may_be_tried_out_otherwise_and_compares_only_what_can_be(store, tmp_path):
    run(tmp_path / "run", store, Scripted([9], every=20))
    summary = run(tmp_path / "run", store, Scripted([2, 3, 1], about="other", every=3), resume=True, steps=25)
    assert (summary.best.step, summary.best.success, summary.best.about) == (24, 0.3, "other")
    again = run(tmp_path / "run", store, resume=True, steps=30)
    assert again.best == summary.best and "000024" in names(tmp_path / "run")


def test_what_was_measured_otherwise_does_not_hold_the_best_back():
    earlier, other = Best(step=5, success=0.9, about="a"), Best(step=9, success=0.2, about="b")
    assert other.unless(earlier) is other and Best(step=9, success=0.2, about="a").unless(earlier) is earlier
