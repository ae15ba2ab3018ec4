"""A curriculum at work in whole runs: what it draws, and that a run which is gone on with draws the same."""

import json
import math

import pytest
import torch
from following import FollowingEnv
from stopping import stopped_before

from envs.specs import Snapshot
from policies.state_policy import StateNetworkConfig
from policies.training.metrics import read_metrics
from rl.config import CriticConfig, RLConfig
from rl.curriculum import CurriculumConfig
from rl.learner import RLLearner
from rl.state_agent import StateAgent, fresh_policy
from rl.trainer import finish, prepare

TASKS, NEAR = ("easy", "hard"), torch.tensor([1.2, 0.01])
"""Whoever acts at random comes as near as the first about every other time, and as the second next to never."""
WORLDS, LENGTH, ITERATIONS = 32, 4, 10
TEMPERATURE = 0.2
CONFIG = RLConfig(
    iterations=ITERATIONS,
    num_envs=WORLDS,
    decisions=2 * LENGTH,
    minibatches=1,
    epochs=1,
    lr=1e-6,
    adapt_lr=False,
    critic=CriticConfig(width=8, warmup=0),
    weigh_tasks=True,
    curriculum=CurriculumConfig(temperature=TEMPERATURE),
    save_every=1,
    keep_last=ITERATIONS,
    threads=1,
)
RESETS_BEFORE, RESETS = 2, 2
"""Of all worlds: to see what they show and to look at them, then two in each iteration, where they all end together."""


class TwoTasks(FollowingEnv):
    """An episode's seed and the weights at its start decide which of the two it is; ``drawn`` tells of each reset."""

    def __init__(self):
        super().__init__(WORLDS, LENGTH)
        self.task_name, self.weights = "+".join(TASKS), (0.5, 0.5)
        self.task = torch.zeros(WORLDS, dtype=torch.long)
        self.drawn: list[list[int]] = []

    def reset(self, seeds, mask=None):
        chosen = torch.ones_like(self.done) if mask is None else mask
        drawn = [torch.rand((), generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        self.task = torch.where(chosen, (torch.stack(drawn) >= self.weights[0]).long(), self.task)
        self.drawn.append(self.task[chosen].tolist())
        self._take_up()
        return super().reset(seeds, mask)

    def weigh(self, weights):
        self.weights = tuple(weights)

    def snapshot(self):
        kept = super().snapshot()
        return Snapshot({**kept.tensors, "task": self.task.clone()}, kept.instructions)

    def restore(self, snapshot):
        self.task = snapshot.tensors["task"].clone()
        self._take_up()
        return super().restore(snapshot)

    def _take_up(self):
        self.near, self.task_names = NEAR[self.task], [TASKS[i] for i in self.task.tolist()]


def learn(run_dir, resume=False):
    """Returns the worlds."""
    env = TwoTasks()

    def make(legs, state):
        torch.manual_seed(0)
        agent = StateAgent(fresh_policy(StateNetworkConfig(width=8), env))
        return RLLearner(CONFIG, agent, env, tasks=TASKS, legs=legs, weigh=env.weigh)

    finish(prepare(run_dir, CONFIG, make, resume=resume), show_progress=False)
    return env


def curricula(run_dir):
    """What each checkpoint remembers of the curriculum, as it is written down."""
    states = sorted(run_dir.glob("checkpoints/0*/training_state/progress.json"))
    return [json.loads(path.read_text(encoding="utf-8"))["curriculum"] for path in states]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, learn(run_dir)


def test_draws_shift_towards_what_succeeds_every_other_time(whole):
    run_dir, env = whole
    shares = [1 - torch.tensor(each).float().mean().item() for each in env.drawn[RESETS_BEFORE:]]
    metrics = read_metrics(run_dir)
    assert metrics[0]["drawn/easy"] == metrics[0]["drawn/hard"] == 0.5
    assert 0.25 < sum(shares[:RESETS]) / RESETS < 0.75
    later = sum(shares[-8:]) / 8
    assert later > 0.8
    assert later == pytest.approx(sum(line["drawn/easy"] for line in metrics[-4:]) / 4, abs=4 * math.sqrt(0.25 / 256))
    success = curricula(run_dir)[-2]["success"]  # that the last iteration was collected by
    assert 0.3 < success["easy"] < 0.7 and success["hard"] < 0.1
    preferred = {task: math.exp(-abs(rate - 0.5) / TEMPERATURE) for task, rate in success.items()}
    assert metrics[-1]["drawn/easy"] == pytest.approx(preferred["easy"] / sum(preferred.values()))


def test_a_run_that_goes_on_draws_what_one_that_never_stopped_does(whole, tmp_path):
    run_dir, env = whole
    done = ITERATIONS // 2
    with stopped_before(done, RLLearner):
        learn(tmp_path)
    resumed = learn(tmp_path, resume=True)
    assert resumed.drawn[RESETS_BEFORE:] == env.drawn[RESETS_BEFORE + RESETS * done :]
    assert curricula(tmp_path) == curricula(run_dir) and len(curricula(run_dir)) == ITERATIONS
    assert (tmp_path / "metrics.jsonl").read_bytes() == (run_dir / "metrics.jsonl").read_bytes()
