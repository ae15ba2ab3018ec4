"""Several processes learn as one does, go on as if never killed, and end together, whoever ends first."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import crews
import numpy as np
import pytest
import torch
import training_crews
from demonstrations import record, tiny_network, tiny_training
from discs import DiscScenes, tiny_pretraining

from configs.presets import debug
from policies.imitation.demonstrations import Demonstrations
from policies.imitation.learner import ImitationLearner
from policies.imitation.trainer import prepare
from policies.training.augment import AugmentConfig, Disturbance
from policies.training.group import Group
from policies.training.metrics import read_metrics
from policies.training.processes import ProcessError, in_processes
from vla.objectives.objective import ObjectiveWeights

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, store):
    """A run in two processes that nothing disturbed."""
    run_dir = tmp_path_factory.mktemp("runs") / "whole"
    training_crews.run(run_dir, store)
    return run_dir


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    last = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", *sorted(last.rglob("*.safetensors")), last / "policy/policy.json"]
    return [path.read_bytes() for path in files]


def eventually(what):
    """Whether ``what`` comes true; waits longer than it takes on a machine that has other things to do."""
    end_s = time.monotonic() + PATIENCE_S
    while not what() and time.monotonic() < end_s:
        time.sleep(0.02)
    return what()


def pids(folder):
    """Of both ranks, when both have left them; a file may be there and still empty."""
    found = [path.read_text() for path in folder.glob("*.pid")]
    return [int(text) for text in found if text] if len(found) == 2 else []


def gone(pid):
    """Whether no process has this id, or only a dead one that nobody has asked about."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_two_processes_learn_what_one_learns(store):
    """Weights that have no gradient but for rounding are moved by it: AdamW divides a gradient by its own size."""
    config = replace(debug().train, batch_size=64, steps=5, threads=1)
    weights, gradients, reports = training_crews.learn(store, config, range(5))
    theirs = in_processes(2, "cpu", training_crews.learn, store, replace(config, processes=2), range(5))
    np.testing.assert_allclose(theirs[1], gradients, atol=3e-6)
    apart = np.abs(theirs[0] - weights)
    assert np.mean(apart > 1e-5) < 1e-3 and apart.max() < 3e-4
    for here, there in zip(reports, theirs[2], strict=True):
        assert there["loss"] == pytest.approx(here["loss"], rel=1e-5)


@pytest.mark.parametrize("scenes", [DiscScenes, training_crews.HalfTold])
def test_two_processes_learn_to_look_as_one_does(scenes):
    """Also where nothing is told about the tables of one of them."""
    every_process_matches_its_own_tables = ObjectiveWeights(matching=0)
    config = tiny_pretraining(tables=8, threads=1, weights=every_process_matches_its_own_tables)
    weights, gradients, reports, held_out = training_crews.look(config, range(5), scenes)
    theirs = in_processes(2, "cpu", training_crews.look, replace(config, processes=2), range(5), scenes)
    np.testing.assert_allclose(theirs[1], gradients, atol=3e-6)
    assert np.mean(np.abs(theirs[0] - weights) > 1e-5) < 1e-3
    for here, there in zip([*reports, held_out], [*theirs[2], theirs[3]], strict=True):
        assert there == {name: pytest.approx(value, rel=1e-4) for name, value in here.items()}


def test_halves_of_a_batch_do_not_count_alike(store):
    """So that a mean of the halves' means would fail the test above."""
    learner = ImitationLearner(replace(debug().train, batch_size=64), training_crews.debug_network(), [store])
    counts = [learner.demonstrations.batch(0, step, 64).valid.view(2, -1).sum(dim=1).tolist() for step in range(2, 5)]
    assert all(a != b for a, b in counts)


def test_a_process_reads_its_own_rows_alone(store):
    learner = ImitationLearner(tiny_training(), tiny_network(), [store])
    read = []
    windows = learner.demonstrations.windows[0]
    original = windows.sample
    windows.sample = lambda frames: (read.append(len(frames)), original(frames))[1]
    part = Group(rank=1, size=3).part(8)
    drawn: Demonstrations = learner.demonstrations
    whole = drawn.batch(0, 3, 8, frames="motion_starts")
    mine = drawn.batch(0, 3, 8, frames="motion_starts", rows=part.rows)
    assert read == [8, len(part)] == [8, 3]
    assert torch.equal(mine.images, whole.images[2:5]) and torch.equal(mine.actions, whole.actions[2:5])


def test_a_part_of_a_batch_is_disturbed_as_in_the_whole():
    images = torch.rand(12, 3, 8, 8)
    part = Group(rank=1, size=2).part(4).of_each(3)
    whole = Disturbance.draw(AugmentConfig(shift_fraction=0.3), 12, 0, 5)
    assert torch.equal(whole.of(part.rows).apply(images[part.rows]), whole.apply(images)[6:])


@pytest.mark.parametrize(("rows", "size"), [(8, 1), (8, 2), (7, 3), (5, 5)])
def test_parts_make_up_the_batch(rows, size):
    parts = [Group(rank=rank, size=size).part(rows) for rank in range(size)]
    assert [row for part in parts for row in range(rows)[part.rows]] == list(range(rows))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_more_processes_than_rows_are_refused(tmp_path, store):
    with pytest.raises(ValueError, match="a batch of 2 cannot be shared by 3 processes"):
        Group(size=3).part(2)


def test_the_group_leaves_what_one_process_leaves_and_no_more(whole):
    assert sorted(path.name for path in whole.iterdir()) == [
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
        "timings.jsonl",
    ]
    assert len(list((whole / "tensorboard").iterdir())) == 1
    assert [report["step"] for report in read_metrics(whole)] == [3, 6, 9, 12, 15, 18, 20]


def test_a_group_that_is_killed_goes_on_to_the_same_numbers(tmp_path, store, whole):
    with started(training_crews, "train_until_killed", tmp_path, store) as parent:
        assert eventually(lambda: pids(tmp_path))
        os.killpg(parent.pid, signal.SIGKILL)
    assert eventually(lambda: all(map(gone, pids(tmp_path))))
    assert training_crews.run(tmp_path / "run", store, resume=True).resumed_from == 5
    assert result(tmp_path / "run") == result(whole)


@contextmanager
def started(module, work, *args):
    """``work`` in two processes whose parent is a process of its own and leads a process group."""
    paths = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, crews.__file__, module.__name__, work, *map(str, args)]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, start_new_session=True) as parent:
        try:
            yield parent
        finally:
            parent.kill()


def test_a_run_may_go_on_in_another_number_of_processes(tmp_path, store, whole):
    training_crews.run(tmp_path, store, processes=1, steps=20)
    alone, together = (read_metrics(path)[-1]["loss"] for path in (tmp_path, whole))
    assert together == pytest.approx(alone, rel=1e-3)
    assert training_crews.run(tmp_path, store, resume=True, steps=24).resumed_from == 20


def test_a_process_that_fails_ends_all_and_is_named(tmp_path):
    with pytest.raises(
        ProcessError, match="rank 1 of 2 processes failed: ValueError: this picture cannot be read"
    ) as told:
        in_processes(2, "cpu", crews.fail_in_rank_1, tmp_path)
    assert "fail_in_rank_1" in "".join(told.value.__notes__), "the traceback goes with it"
    assert len(pids(tmp_path)) == 2 and all(map(gone, pids(tmp_path)))


def test_a_process_that_is_killed_ends_all_and_is_named(tmp_path):
    began_s = time.monotonic()
    with pytest.raises(ProcessError, match="rank 1 of 2 processes was killed by SIGKILL"):
        in_processes(2, "cpu", crews.die_in_rank_1, tmp_path)
    assert time.monotonic() - began_s < crews.FOREVER_S / 2
    assert len(pids(tmp_path)) == 2 and all(map(gone, pids(tmp_path)))


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) for name in ("SIGINT", "SIGTERM")] + ["SIGKILL"]
)
def test_whatever_ends_the_parent_ends_all(tmp_path, name):
    with started(crews, "wait_for_each_other", tmp_path) as parent:
        assert eventually(lambda: pids(tmp_path))
        family = [pid for pid in children(parent.pid) if not gone(pid)]
        assert set(pids(tmp_path)) <= set(family)
        if name == "SIGINT":
            os.killpg(parent.pid, signal.SIGINT)  # as a terminal does
        else:
            parent.send_signal(signal.Signals[name])
        assert eventually(lambda: all(map(gone, family)))
        said = parent.communicate(timeout=PATIENCE_S)[1].decode()
    assert parent.returncode != 0 and said.count("Traceback") == (1 if name == "SIGINT" else 0), said


def children(pid):
    """All descendants of a process."""
    found = [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]
    return found + [each for child in found for each in children(child)]


def test_processes_that_do_not_agree_do_not_learn(tmp_path, store):
    with pytest.raises(ProcessError, match=r"rank 1 of 2 .*(?s:.*)train\.lr: 0\.001 there, 0\.5 now"):
        in_processes(2, "cpu", training_crews.disagree, "lr", tmp_path, store)
    with pytest.raises(ProcessError, match="the first weights differ between rank 0 and rank 1"):
        in_processes(2, "cpu", training_crews.disagree, "weights", tmp_path, store)


def test_several_processes_need_to_be_started(tmp_path, store):
    with pytest.raises(ValueError, match="the settings say 2 processes, and there are 1"):
        prepare(tmp_path, tiny_training(processes=2), tiny_network(), [store])
    with pytest.raises(ValueError, match="2 processes compute on cpu or cuda, where each has a GPU, got device 'mps'"):
        in_processes(2, "mps", training_crews.run_here)


TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.mark.slow
def test_a_process_that_fails_under_torchrun_ends_all(tmp_path):
    command = [*TORCHRUN, crews.__file__, "crews", "fail_in_rank_1", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode != 0 and "this picture cannot be read" in done.stderr
    assert len(pids(tmp_path)) == 2 and all(map(gone, pids(tmp_path)))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "--train.processes"])
def test_the_command_learns_in_two_processes(tmp_path, store, how):
    """The point mass's pictures are of 16 pixels, and its cameras one."""
    settings = ["train", "debug", "--data", str(store), "--outputs", str(tmp_path), "--backbone.patch-px", "8"]
    if how == "torchrun":
        command = [*TORCHRUN, "-m", "configs.cli", *settings]
    else:
        command = [sys.executable, "-m", "configs.cli", *settings, "--train.processes", "2"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    (run_dir,) = tmp_path.glob("train/*/*")
    assert done.stdout.count("20 steps") == 1 and len(re.findall("^run: ", done.stdout, re.MULTILINE)) == 1
    assert {"config.json", "report.html", "metrics.jsonl", "checkpoints"} <= {path.name for path in run_dir.iterdir()}
