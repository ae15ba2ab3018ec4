"""Stores merged, filtered, thinned out and summed up; a kill in the middle loses nothing and leaves no half store."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from configs.cli import main
from policies.data.dataset import DemonstrationDataset
from policies.data.episode import ACTORS
from policies.data.left_out import LeftOut, tried_seeds
from policies.data.merging import MERGED, merge, twice
from policies.data.selection import Wanted
from policies.data.split import copy_part
from policies.data.summary import summarize
from policies.data.writer import DemonstrationWriter

EMBODIMENT = make_embodiment()
ROOT = Path(__file__).parents[2]


def filled(path, numbers, embodiment=EMBODIMENT, settings=None, **held):
    with DemonstrationWriter.create(path, embodiment, settings=settings or {"noise": 1}, **held) as writer:
        for number in numbers:
            writer.append(make_episode(number, embodiment))
    return path


def holds(path, numbers):
    dataset = DemonstrationDataset(path)
    dataset.verify()
    assert [record.seed - 1000 for record in dataset.records] == list(numbers)
    for place, number in enumerate(numbers):
        assert_same_episode(dataset.episode(place), make_episode(number, EMBODIMENT))
    return dataset


def stores(*paths):
    return [DemonstrationDataset(path) for path in paths]


def test_stores_recorded_alike_are_merged_as_if_recorded_together(tmp_path):
    a, b = filled(tmp_path / "a", [0, 1]), filled(tmp_path / "b", [2, 3, 5])
    LeftOut(failed={"pick": {9}}, elsewhere={"pick": {1003, 7}}).write(a)
    told = []
    merge(stores(a, b), tmp_path / "c", told.append)
    merged, alone = holds(tmp_path / "c", [0, 1, 2, 3, 5]), filled(tmp_path / "alone", [0, 1, 2, 3, 5])
    assert merged.fingerprint == DemonstrationDataset(alone).fingerprint and told == [1, 2, 3, 4, 5]
    assert merged.settings == {"noise": 1} and tried_seeds(merged.path)["pick"] == {1000, 1001, 1003, 9, 7}
    assert LeftOut.read(merged.path) == LeftOut(failed={"pick": {9}}, elsewhere={"pick": {7}})
    holds(a, [0, 1])
    holds(b, [2, 3, 5])


def test_stores_of_other_settings_keep_both_and_what_is_there_twice_is_told(tmp_path):
    paths = filled(tmp_path / "a", [0, 1]), filled(tmp_path / "b", [1], settings={"noise": 2})
    merge(stores(*paths), tmp_path / "c")
    assert DemonstrationDataset(tmp_path / "c").settings == {MERGED: [{"noise": 1}, {"noise": 2}]}
    assert twice(stores(*paths)) == [("pick", 1001)]


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (lambda p: filled(p, [1], replace(EMBODIMENT, control_rate_hz=20.0)), "control_rate_hz: 10.0 there, 20.0 now"),
        (lambda p: filled(p, [1], make_embodiment(depth=False)), r"cameras.front.depth: true there, false now"),
        (lambda p: filled(p, [], phase=True), r"  phase: false there, true now"),
    ],
)
def test_stores_of_other_robots_are_refused_by_what_differs(tmp_path, other, says):
    paths = filled(tmp_path / "a", [0]), other(tmp_path / "b")
    with pytest.raises(ValueError, match=says):
        merge(stores(*paths), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_episodes_are_chosen_by_all_that_is_asked(tmp_path):
    dataset = DemonstrationDataset(filled(tmp_path / "a", range(9)))
    lengths = [record.length for record in dataset.records]
    middle = sorted(lengths)[4]
    for wanted, expected in (
        (Wanted(tasks=("reach",)), [2, 5, 8]),
        (Wanted(success=False), [1, 5]),
        (Wanted(success=True, tasks=("reach",)), [2, 8]),
        (Wanted(instruction="RED"), [0, 3, 6]),
        (Wanted(min_frames=middle), [n for n, length in enumerate(lengths) if length >= middle]),
        (Wanted(max_frames=middle), [n for n, length in enumerate(lengths) if length <= middle]),
    ):
        assert wanted.choose(dataset) == expected
    for wanted, says in (
        (Wanted(tasks=("push",)), r"no episodes of \['push'\]; its tasks are \['pick', 'reach'\]"),
        (Wanted(instruction="purple"), r"none of the 9 episodes .* wanted: \{'instruction': 'purple'\}"),
        (Wanted(actor="human"), "does not say who acted"),
    ):
        with pytest.raises(ValueError, match=says):
            wanted.choose(dataset)
    with pytest.raises(ValueError, match="expected an actor out of policy, human, held, got 'robot'"):
        Wanted(actor="robot")


def test_episodes_are_chosen_by_who_acted_and_keep_it(tmp_path):
    with DemonstrationWriter.create(tmp_path / "a", EMBODIMENT, actor=True) as writer:
        for number, names in enumerate((["policy"], ["policy", "human"], ["held", "policy"])):
            episode = make_episode(number, EMBODIMENT, 6)
            writer.append(replace(episode, actor=np.resize([ACTORS.index(n) for n in names], 6).astype(np.int32)))
    dataset = DemonstrationDataset(tmp_path / "a")
    assert Wanted(actor="human").choose(dataset) == [1] and Wanted(actor="held").choose(dataset) == [2]
    copy_part(dataset, [1], tmp_path / "b")
    assert DemonstrationDataset(tmp_path / "b").episode(0).actor.tolist() == [0, 1] * 3


def test_a_summary_says_ranges_lengths_and_brightness(tmp_path):
    dataset = DemonstrationDataset(filled(tmp_path / "a", range(6)))
    found = summarize(dataset)
    action, front = dataset.load("action"), dataset.load("observation.images.front") / 255
    assert found["action"]["x1"]["min"] == action[:, 1].min() and found["action"]["x1"]["unit"] == "m"
    assert found["state"]["x4"]["q99"] == pytest.approx(np.quantile(dataset.load("observation.state")[:, 4], 0.99))
    brightness = found["cameras"]["front"]["brightness"]
    assert brightness["mean"] == pytest.approx(front.mean(), abs=1e-4)
    assert brightness["max"] == pytest.approx(front.mean((1, 2, 3)).max())
    lengths = [record.length for record in dataset.records if record.task == "reach"]
    assert found["tasks"]["reach"]["shortest"] == min(lengths) and found["tasks"]["reach"]["successes"] == 1


CALLS = {
    "merge": ["merge", "A", "B", "--into", "T"],
    "filter": ["filter", "A", "T", "--success", "True"],
    "split": ["split", "A", "--into", "T", "U", "--share", "0.5"],
}


@pytest.mark.parametrize("name", ["merge", *(pytest.param(n, marks=pytest.mark.slow) for n in ("filter", "split"))])
def test_a_kill_in_the_middle_leaves_the_sources_and_no_new_store(tmp_path, name):
    sources = {"A": range(12), "B": range(12, 24)}
    paths = {letter: filled(tmp_path / letter, numbers) for letter, numbers in sources.items()}
    words = [str(tmp_path / word) if len(word) == 1 else word for word in CALLS[name]]
    command = [
        sys.executable,
        "-c",
        "import sys; from configs.cli import main; sys.exit(main(sys.argv[1:]))",
        "dataset",
    ]
    with subprocess.Popen([*command, *words], env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        while not list(tmp_path.glob(".T.*/T/episodes/000002.json")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL and not (tmp_path / "T").exists()
    for letter, numbers in sources.items():
        holds(paths[letter], numbers)
    assert main(["dataset", *words]) == 0
    DemonstrationDataset(tmp_path / "T").verify()


def test_episodes_are_deleted_and_a_kill_leaves_all_or_the_rest(tmp_path):
    code = (
        "import sys, os, pathlib; from policies.data.writer import DemonstrationWriter as W\n"
        "unlink, left = pathlib.Path.unlink, [int(sys.argv[2])]\n"
        "def dying(self, **options):\n"
        "    left[0] -= 1\n"
        "    os.kill(os.getpid(), 9) if left[0] < 0 else unlink(self, **options)\n"
        "pathlib.Path.unlink = dying\n"
        "W.open(sys.argv[1]).remove([1, 3])\n"
    )
    for after in (0, 3):
        path = filled(tmp_path / str(after), range(5))
        run = [sys.executable, "-c", code, path, str(after)]
        done = subprocess.run(run, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False)
        assert done.returncode == -signal.SIGKILL
        holds(path, [0, 2, 4])
    path = filled(tmp_path / "last", range(5))
    assert main(["dataset", "delete", str(path), "--episodes", "0", "4"]) == 0
    holds(path, [1, 2, 3])


def test_from_the_command_line(tmp_path, capsys):
    a, b = filled(tmp_path / "a", range(4)), filled(tmp_path / "b", [4, 5])

    def vla(*words):
        status = main(["dataset", *map(str, words)])
        said = capsys.readouterr()
        return status, " ".join((said.out + said.err).split())

    assert vla("merge", a, b, "--into", tmp_path / "c")[1].endswith(f"{tmp_path / 'c'}: 6 episodes")
    status, said = vla("filter", tmp_path / "c", tmp_path / "d", "--tasks", "reach", "--success", "True")
    assert status == 0 and f"{tmp_path / 'd'}: 1 of 6 episodes" in said
    status, said = vla("stats", a)
    assert status == 0 and "pick 3 2 2" in said and "front 12×12" in said
    status, said = vla("stats", a, "--json")
    assert status == 0 and json.loads(said)["episodes"] == 4
    for words, says in (
        (("merge", a, b, "--into", b), "exist: choose other folders"),
        (("filter", a, tmp_path / "e"), "nothing is asked for"),
        (("filter", a, tmp_path / "e", "--actor", "human"), "does not say who acted"),
    ):
        status, said = vla(*words)
        assert status == 2 and says in said
    assert not (tmp_path / "e").exists()
