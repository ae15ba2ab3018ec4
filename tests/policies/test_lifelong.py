"""Tasks learned one after the other: what is drawn and measured, exact resume, plain policies, clear refusals."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from demonstrations import tiny_network, tiny_policy, tiny_training
from killing import kill_until_done
from point_mass import PointMassEnv
from stopping import stopped_before

from policies.collect import ExecutionNoise, collect
from policies.expert import ExpertPolicy
from policies.imitation.lifelong.config import LifelongConfig
from policies.imitation.lifelong.drawing import TaskFrames
from policies.imitation.lifelong.learner import LifelongLearner
from policies.imitation.lifelong.measures import (
    average_success,
    forgetting,
    forward_transfer,
    learned,
    retention_percent,
)
from policies.imitation.lifelong.methods import plain, soft_threshold, threshold
from policies.imitation.stages import Stage
from policies.imitation.starting import Start
from policies.imitation.trainer import train
from policies.training.processes import in_processes
from policies.vla_policy import VLAPolicy
from vla.adapters.low_rank import updated
from vla.heads.bridge import BridgeConfig

TASKS = ("reach-a", "reach-b", "reach-c")
STEPS = 12


def record_tasks(path):
    for number, task in enumerate(TASKS):
        env = PointMassEnv(3)
        env.task_name = task
        seeds = range(10 * number, 10 * number + 3)
        collect(env, ExpertPolicy(env), path / task, seeds, noise=ExecutionNoise(std=0.3), show_progress=False)
    tiny_policy(head=BridgeConfig(heads=2)).save(path / "start")
    return path


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """A store for each task, and a policy to start from."""
    return record_tasks(tmp_path_factory.mktemp("sequence"))


def sequence(method="full", **fields):
    return LifelongConfig(tasks=TASKS, **{"method": method, "pool": 6, "rank": 2, **fields})


def network(lifelong):
    return replace(tiny_network(head=BridgeConfig(heads=2)), pool=lifelong.pool_config)


def learn(run_dir, there, lifelong, resume=False, evaluator=None, **fields):
    return train(
        run_dir,
        tiny_training(**{"steps": STEPS, "save_every": 4, **fields}),
        network(lifelong),
        [there / task for task in TASKS],
        resume=resume,
        start=Start(policy=there / "start"),
        evaluator=evaluator,
        lifelong=lifelong,
        show_progress=False,
    )


def learner(there, lifelong, legs=(), **fields):
    start = VLAPolicy.load(there / "start")
    stores = [there / task for task in TASKS]
    return LifelongLearner(
        tiny_training(steps=STEPS, **fields), network(lifelong), stores, lifelong, legs=legs, start=start
    )


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    checkpoint = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(checkpoint.rglob("*.safetensors"))]
    return [path.read_bytes() for path in files]


class Counting:
    """Tries a policy out by counting how often that was asked for; the first task is forgotten in the end."""

    every, about = 0, "nothing"

    def __init__(self):
        self.asked = 0

    def outcomes(self, policy):
        self.asked += 1
        return {task: [True, self.asked < 4 or task != TASKS[0]] for task in TASKS}


def test_a_step_draws_from_its_own_task_and_as_much_from_those_before_as_replay_says(there):
    demonstrations = learner(there, sequence()).demonstrations
    task_of = {int(frame): task for task in TASKS for frame in demonstrations.frames_of(task)}
    assert sorted(task_of) == list(range(len(demonstrations)))
    drawing = TaskFrames(demonstrations, TASKS, replay=0.25)
    for task, shares in enumerate(({0: 8}, {0: 2, 1: 6}, {2: 6})):
        drawn = [TASKS.index(task_of[int(frame)]) for frame in drawing.draw(0, 3, 8, task=task)]
        assert {number: drawn.count(number) for number in shares} == shares
        assert all(number <= task for number in drawn)
    epoch = np.concatenate(
        [drawing.draw(0, step, 8, task=0) for step in range(len(demonstrations.frames_of(TASKS[0])))]
    )
    assert set(epoch) == set(demonstrations.frames_of(TASKS[0]))


@pytest.mark.parametrize(("replay", "batch", "own"), [(0.95, 8, 1), (0.01, 8, 7), (0.5, 1, 1), (0.0, 8, 8)])
def test_shares_that_round_to_nothing_or_all_leave_a_frame_of_either(there, replay, batch, own):
    demonstrations = learner(there, sequence()).demonstrations
    drawn = TaskFrames(demonstrations, TASKS, replay=replay).draw(0, 3, batch, task=1)
    assert len(drawn) == batch
    assert np.isin(drawn, demonstrations.frames_of(TASKS[1])).sum() == own


@pytest.mark.parametrize(
    ("method", "save_every", "stop", "resumed_from"),
    [
        ("full", 4, 6, 4),
        pytest.param("lora", 3, 5, 3, marks=pytest.mark.slow),
        ("codyra", 4, 6, 4),
        pytest.param("l2m", 3, 7, 6, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_ends_as_an_undisturbed_one_and_as_an_ordinary_policy(
    tmp_path, there, method, save_every, stop, resumed_from
):
    """Between two tasks (4) or within one."""
    lifelong, whole, run_dir = sequence(method, replay=0.25), tmp_path / "whole", tmp_path / "stopped"
    learn(whole, there, lifelong, save_every=save_every)
    with stopped_before(stop, LifelongLearner):
        learn(run_dir, there, lifelong, save_every=save_every)
    assert learn(run_dir, there, lifelong, resume=True, save_every=save_every).resumed_from == resumed_from
    assert result(run_dir) == result(whole)
    before, after = (VLAPolicy.load(path).vla.state_dict() for path in (there / "start", whole))
    assert any(name.startswith("pool.") for name in after) == (method == "l2m")
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert (not changed) if method == "l2m" else "backbone.blocks.0.qkv.weight" in changed
    if method in ("lora", "codyra"):
        assert not {name for name in changed if "norm" in name or "queries" in name}


@pytest.mark.slow
def test_a_sequence_that_is_killed_at_random_ends_as_an_undisturbed_one(tmp_path):
    record_tasks(tmp_path / "work")
    learn(tmp_path / "whole", tmp_path / "work", sequence("codyra"))
    same = result(tmp_path / "whole")

    def check():
        assert result(tmp_path / "work" / "run") == same

    kill_until_done(_learn_some, tmp_path / "work", kills=3, seed=0, check=check)


def _learn_some(path: Path) -> None:
    learn(path / "run", path, sequence("codyra"), resume=True)


@pytest.mark.parametrize("method", ["lora", "codyra"])
def test_updates_that_end_with_their_task_leave_a_network_that_acts_as_before(there, method):
    learning = learner(there, sequence(method))
    for step in range(4):
        learning.step(step)
    observation, _ = learning.inputs(learning.demonstrations.sample(np.arange(5)), 0, learning.normalization)
    vla = learning.vla.eval()
    with learning.average.applied():
        acted = vla.act(observation)
        with plain(vla):
            assert not updated(vla)
            torch.testing.assert_close(vla.act(observation), acted, rtol=1e-4, atol=1e-5)
    own = vla.act(observation)
    assert not torch.allclose(own, acted)
    learning._turn(4)
    torch.testing.assert_close(vla.act(observation), acted, rtol=1e-4, atol=1e-5)
    assert all(not layer.change().any() for layer in updated(vla).values())
    assert not learning.optimizer.state


def test_the_proximal_step_is_that_of_the_l1_norm_and_ranks_that_come_to_nothing_stay_out_of_the_policy(there):
    weights, by = torch.linspace(-1, 1, 41), 0.3
    grid = torch.linspace(-1.5, 1.5, 3001)
    cost = 0.5 * (grid - weights[:, None]) ** 2 + by * grid.abs()
    torch.testing.assert_close(soft_threshold(weights, by), grid[cost.argmin(dim=1)], rtol=0, atol=1e-3)
    shrunk = [threshold(step, 500, 0.6) for step in range(500)]
    assert not any(shrunk[:250])
    assert math.fsum(shrunk) == pytest.approx(0.6)
    assert shrunk[-1] == pytest.approx(0.005, rel=0.05)  # the authors' greatest

    learning = learner(there, sequence("codyra", shrink=1.0))
    for step in range(4):
        learning.step(step)
    with learning.average.applied():
        shares = [(layer.importance == 0).float().mean() for layer in updated(learning.vla).values()]
    assert 0.3 < torch.stack(shares).mean() < 0.9


def test_the_learning_rate_rises_anew_with_every_task_or_once(there):
    rates = {}
    for rewarm in (0.5, 0.0):
        learning = learner(there, sequence(rewarm=rewarm), stages=(Stage(warmup_steps=2),))
        rates[rewarm] = [learning.step(step)["lr"] for step in range(STEPS)]
    assert rates[0.5][:4] == rates[0.5][4:8] == rates[0.5][8:]
    assert rates[0.5][3] < rates[0.5][0] < rates[0.5][1]
    assert rates[0.0].index(max(rates[0.0])) < 4 < STEPS
    assert sorted(rates[0.0][4:], reverse=True) == rates[0.0][4:]


def test_success_is_tried_out_before_the_first_task_and_after_each_and_kept_by_a_stopped_run(tmp_path, there):
    with stopped_before(9, LifelongLearner):
        learn(tmp_path, there, sequence(), evaluator=(counting := Counting()))
    assert counting.asked == 3
    trials = learn(tmp_path, there, sequence(), resume=True, evaluator=counting).trials
    assert counting.asked == 4
    assert len(trials) == 4
    assert forgetting(TASKS, trials).value == 0.25


def test_measures_of_a_sequence_by_hand():
    def trial(*shares):
        return {task: [number < 10 * share for number in range(10)] for task, share in zip(TASKS, shares, strict=True)}

    trials = [trial(0.1, 0.0, 0.2), trial(0.8, 0.3, 0.2), trial(1.0, 0.5, 0.4), trial(0.6, 0.3, 0.9)]
    assert average_success(TASKS, trials).value == pytest.approx(0.6)
    assert [sum(each.best) for each in learned(TASKS, trials)] == [10, 5]
    assert forgetting(TASKS, trials).value == pytest.approx((0.4 + 0.2) / 2)
    assert retention_percent(TASKS, trials) == pytest.approx(100 * 0.9 / 1.5)
    assert forward_transfer(TASKS, trials) == pytest.approx(((0.3 - 0.0) + (0.4 - 0.2)) / 2)
    assert forward_transfer(TASKS, [{}, *trials[1:]]) is None
    with pytest.raises(ValueError, match="before 3 tasks and one after each, got 3"):
        average_success(TASKS, trials[1:])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tasks": ("reach",)}, r"two tasks or more, each once, got \['reach'\]"),
        ({"tasks": ("reach", "pick", "reach")}, "each once"),
        ({"replay": 1.0}, "replay is a share: expected 0 or more and less than 1, got 1.0"),
        ({"replay": -0.1}, "got -0.1"),
        ({"pool": 0}, "pool must hold at least 1 update, got 0"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        LifelongConfig(**{"tasks": TASKS, **fields})


@pytest.mark.slow
def test_what_words_choose_counts_in_all_processes(there):
    """Of two processes one learns from what is replayed alone."""
    steps, lifelong = range(STEPS // 3, 2 * STEPS // 3), sequence("l2m", replay=0.5)
    alone = chosen_after(there, lifelong, steps)
    assert sum(alone) == 8 * len(steps)
    assert in_processes(2, "cpu", chosen_after, there, lifelong, steps) == alone


def chosen_after(there, lifelong, steps):
    """How often each modulator was chosen in these steps, which all processes agree on."""
    torch.set_num_threads(1)
    one = learner(there, lifelong, threads=1)
    counts = one.vla.pool.get_buffer("present").zero_()
    for step in steps:
        one.step(step)
    one.group.agree("choices", [counts])
    return counts.tolist()


def test_what_does_not_fit_data_or_run_is_refused(tmp_path, there):
    with pytest.raises(ValueError, match="a step for each of 3 tasks, got 2 steps"):
        learn(tmp_path / "short", there, sequence(), steps=2)
    with pytest.raises(
        ValueError, match="names reach-x, of which the data have no demonstration; their tasks are reach-a"
    ):
        learn(tmp_path / "unknown", there, replace(sequence(), tasks=("reach-a", "reach-x")))
    with pytest.raises(ValueError, match=r"not lengthened, got legs \[6, 12\]"):
        learner(there, sequence(), legs=(6, 12))
    in_a_row = learner(there, sequence())
    in_a_row.check_scale()
    action = in_a_row.normalization.action
    still = replace(action.stats, min=[-0.8, 0.0], max=[0.8, 0.0], mean=[0.0, 0.0], std=[0.4, 0.0])
    in_a_row.normalization = replace(in_a_row.normalization, action=replace(action, stats=still))
    with pytest.raises(ValueError, match=r"reach-a, by whose numbers actions are scaled, never moves \w+, which"):
        in_a_row.check_scale()
